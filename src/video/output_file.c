/* Temporary names, syncing, renaming; write errors with their reason. */
#include "video/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libavutil/avstring.h>
#include <libavutil/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IO_BUFFER = 1 << 18, MAX_TRIES = 1000 };

/* ---- names -------------------------------------------------------------------------------------------------------- */

/* The folder of a path with its slash, "./" where it names none. */
static char *folder_of(const char *path)
{
    const char *name = oas_media_base_name(path);
    return name == path ? av_strdup("./") : av_strndup(path, (size_t)(name - path));
}

static char *temporary_name(const char *target, int try)
{
    char *folder = folder_of(target);
    const char *name = oas_media_base_name(target), *ending = oas_media_extension(target);
    char *path = folder ? av_asprintf("%s.%s.oasis-tmp-%d-%d%s%s", folder, name, (int)getpid(), try,
                                      ending[0] ? "." : "", ending)
                        : NULL;
    av_free(folder);
    return path;
}

static void sync_folder(const char *path)
{
    char *folder = folder_of(path);
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    av_free(folder);
    if (fd < 0)
        return; /* some file systems cannot; the data themselves are on the disk */
    fsync(fd);
    close(fd);
}

/* Renames; without `overwrite` never onto an existing file, also when it appeared since.  0 or errno. */
static int move_into_place(const char *from, const char *to, bool overwrite)
{
    if (overwrite)
        return rename(from, to) == 0 ? 0 : errno;
    if (link(from, to) == 0)
        return unlink(from) == 0 ? 0 : errno;
    if (errno == EEXIST)
        return errno;
    struct stat s; /* a file system without links */
    if (lstat(to, &s) == 0)
        return EEXIST;
    return rename(from, to) == 0 ? 0 : errno;
}

static oasis_status refuse_existing(const char *path, oasis_message *message)
{
    return oas_media_fail(message, OASIS_E_IO, "'%s' exists already; -y replaces it", path);
}

/* ---- one file ----------------------------------------------------------------------------------------------------- */

static int write_bytes(void *opaque, uint8_t *bytes, int n)
{
    oas_output *o = opaque;
    for (int done = 0; done < n;) {
        ssize_t wrote = write(o->fd, bytes + done, (size_t)(n - done));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            o->error = o->error ? o->error : wrote < 0 ? errno : ENOSPC;
            return AVERROR(o->error);
        }
        done += (int)wrote;
    }
    return n;
}

static int64_t seek_bytes(void *opaque, int64_t offset, int whence)
{
    oas_output *o = opaque;
    struct stat s;
    if (whence & AVSEEK_SIZE)
        return fstat(o->fd, &s) == 0 ? (int64_t)s.st_size : AVERROR(errno);
    off_t at = lseek(o->fd, (off_t)offset, whence & ~AVSEEK_FORCE);
    return at < 0 ? AVERROR(errno) : (int64_t)at;
}

oasis_status oas_output_fail(const oas_output *o, int code, oasis_message *message)
{
    const char *name = o->target ? o->target : "standard output";
    if (o->error)
        return oas_media_fail(message, OASIS_E_IO, "cannot write '%s': %s", name, strerror(o->error));
    oas_media_fail_av(message, code, "cannot write '%s'", name);
    return code == AVERROR(ENOMEM) ? OASIS_E_MEMORY : OASIS_E_IO;
}

static oasis_status create_temporary(oas_output *o, oasis_message *message)
{
    for (int try = 0; try < MAX_TRIES; try++) {
        o->temporary = temporary_name(o->target, try);
        if (!o->temporary)
            return oas_media_fail_memory(message, "a file name");
        o->fd = open(o->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (o->fd >= 0)
            return OASIS_OK;
        int reason = errno;
        av_freep(&o->temporary);
        if (reason != EEXIST)
            return oas_media_fail(message, OASIS_E_IO, "cannot create a file for '%s': %s", o->target,
                                  strerror(reason));
    }
    return oas_media_fail(message, OASIS_E_IO, "cannot create a file for '%s': %d temporary names are taken", o->target,
                          MAX_TRIES);
}

/* Looks at what is there under the target's name. */
static oasis_status check_target(oas_output *o, const char *input, oasis_message *message)
{
    struct stat s, in;
    if (stat(o->target, &s) != 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? OASIS_OK
                   : oas_media_fail(message, OASIS_E_IO, "cannot look at '%s': %s", o->target, strerror(errno));
    if (S_ISDIR(s.st_mode))
        return oas_media_fail(message, OASIS_E_IO, "'%s' is a folder; expected the name of a file", o->target);
    if (input && stat(input, &in) == 0 && in.st_dev == s.st_dev && in.st_ino == s.st_ino)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "'%s' is the input itself; write to another name", o->target);
    o->direct = !S_ISREG(s.st_mode);
    if (!o->direct && !o->overwrite)
        return refuse_existing(o->target, message);
    if (!o->direct) { /* replace the file that a link leads to, not the link */
        char *real = realpath(o->target, NULL), *copy = real ? av_strdup(real) : NULL;
        free(real);
        if (copy) {
            av_free(o->target);
            o->target = copy;
        }
    }
    return OASIS_OK;
}

oasis_status oas_output_open(oas_output *o, const char *path, const char *input, bool overwrite, oasis_message *message)
{
    *o = (oas_output){.fd = -1, .overwrite = overwrite};
    if (strcmp(path, "-") == 0) {
        o->direct = true;
        o->fd = dup(STDOUT_FILENO);
    } else {
        o->target = av_strdup(path);
        if (!o->target)
            return oas_media_fail_memory(message, "a file name");
        OAS_TRY(check_target(o, input, message));
        if (o->direct)
            o->fd = open(o->target, O_WRONLY | O_CLOEXEC);
        else
            OAS_TRY(create_temporary(o, message));
    }
    if (o->fd < 0)
        return oas_media_fail(message, OASIS_E_IO, "cannot open '%s' for writing: %s", path, strerror(errno));
    uint8_t *buffer = av_malloc(IO_BUFFER);
    o->io =
        buffer ? avio_alloc_context(buffer, IO_BUFFER, 1, o, NULL, write_bytes, o->direct ? NULL : seek_bytes) : NULL;
    if (!o->io) {
        av_free(buffer);
        return oas_media_fail_memory(message, "an output file");
    }
    return OASIS_OK;
}

oasis_status oas_output_commit(oas_output *o, oasis_message *message)
{
    avio_flush(o->io);
    if (o->error || o->io->error < 0)
        return oas_output_fail(o, o->io->error, message);
    bool synced = o->direct || fsync(o->fd) == 0;
    int reason = synced ? 0 : errno;
    if (close(o->fd) != 0 && !reason)
        reason = errno;
    o->fd = -1;
    if (!reason && o->temporary)
        reason = move_into_place(o->temporary, o->target, o->overwrite);
    if (reason == EEXIST)
        return refuse_existing(o->target, message);
    if (reason) {
        o->error = reason;
        return oas_output_fail(o, 0, message);
    }
    if (o->temporary)
        sync_folder(o->target);
    av_freep(&o->temporary);
    return OASIS_OK;
}

void oas_output_close(oas_output *o)
{
    if (o->io)
        av_freep(&o->io->buffer);
    avio_context_free(&o->io);
    if (o->fd >= 0 && (o->temporary || o->direct))
        close(o->fd);
    if (o->temporary)
        unlink(o->temporary);
    av_freep(&o->temporary);
    av_freep(&o->target);
    o->fd = -1;
}

/* ---- many files --------------------------------------------------------------------------------------------------- */

static bool is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

oasis_status oas_output_set_open(oas_output_set *set, const char *folder, bool overwrite, oasis_message *message)
{
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    *set = (oas_output_set){.overwrite = overwrite, .folder = av_strndup(folder, n)};
    if (!set->folder)
        return oas_media_fail_memory(message, "a folder name");
    struct stat s;
    if (stat(set->folder, &s) == 0 && !S_ISDIR(s.st_mode))
        return oas_media_fail(message, OASIS_E_IO, "'%s' is a file; expected a folder for pictures", set->folder);
    for (int try = 0; try < MAX_TRIES; try++) {
        char *inside = is_folder(set->folder) ? av_asprintf("%s/pictures", set->folder) : NULL;
        set->temporary = temporary_name(inside ? inside : set->folder, try);
        av_free(inside);
        if (!set->temporary)
            return oas_media_fail_memory(message, "a folder name");
        if (mkdir(set->temporary, 0777) == 0)
            return OASIS_OK;
        int reason = errno;
        av_freep(&set->temporary);
        if (reason != EEXIST)
            return oas_media_fail(message, OASIS_E_IO, "cannot make a folder for '%s': %s", set->folder,
                                  strerror(reason));
    }
    return oas_media_fail(message, OASIS_E_IO, "cannot make a folder for '%s': %d temporary names are taken",
                          set->folder, MAX_TRIES);
}

/* Remembers a name; takes it over. */
static bool remember(oas_output_set *set, char *name)
{
    if (name && (set->count & (set->count - 1)) == 0) {
        char **names = av_realloc_array(set->names, set->count ? 2 * set->count : 1, sizeof *names);
        if (!names)
            av_freep(&name);
        else
            set->names = names;
    }
    if (name)
        set->names[set->count++] = name;
    return name != NULL;
}

/* Creates, writes and syncs; 0 or errno. */
static int write_file(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno;
    int reason = 0;
    for (size_t done = 0; done < size && !reason;) {
        ssize_t wrote = write(fd, data + done, size - done);
        if (wrote > 0)
            done += (size_t)wrote;
        else if (wrote == 0 || errno != EINTR)
            reason = wrote < 0 ? errno : ENOSPC;
    }
    if (!reason && fsync(fd) != 0)
        reason = errno;
    if (close(fd) != 0 && !reason)
        reason = errno;
    return reason;
}

oasis_status oas_output_set_write(oas_output_set *set, const char *name, const uint8_t *data, size_t size,
                                  oasis_message *message)
{
    char *final = av_asprintf("%s/%s", set->folder, name), *path = av_asprintf("%s/%s", set->temporary, name);
    struct stat s;
    oasis_status status = OASIS_OK;
    if (!final || !path || !remember(set, av_strdup(name))) {
        status = oas_media_fail_memory(message, "a file name");
    } else if (!set->overwrite && lstat(final, &s) == 0) {
        status = refuse_existing(final, message);
    } else {
        int reason = write_file(path, data, size);
        if (reason)
            status = oas_media_fail(message, OASIS_E_IO, "cannot write '%s': %s", final, strerror(reason));
    }
    av_free(final);
    av_free(path);
    return status;
}

oasis_status oas_output_set_commit(oas_output_set *set, oasis_message *message)
{
    if (!is_folder(set->folder)) { /* the temporary folder becomes the folder */
        if (rename(set->temporary, set->folder) != 0)
            return oas_media_fail(message, OASIS_E_IO, "cannot make the folder '%s': %s", set->folder, strerror(errno));
        sync_folder(set->folder);
        av_freep(&set->temporary);
        return OASIS_OK;
    }
    for (size_t i = 0; i < set->count; i++) {
        char *from = av_asprintf("%s/%s", set->temporary, set->names[i]);
        char *to = av_asprintf("%s/%s", set->folder, set->names[i]);
        int reason = from && to ? move_into_place(from, to, set->overwrite) : ENOMEM;
        oasis_status status = OASIS_OK;
        if (reason)
            status = oas_media_fail(message, OASIS_E_IO, "cannot write '%s/%s': %s", set->folder, set->names[i],
                                    strerror(reason));
        else if (i + 1 == set->count)
            sync_folder(to);
        av_free(from);
        av_free(to);
        OAS_TRY(status);
    }
    return OASIS_OK;
}

void oas_output_set_close(oas_output_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        char *path = set->temporary ? av_asprintf("%s/%s", set->temporary, set->names[i]) : NULL;
        if (path)
            unlink(path);
        av_free(path);
        av_free(set->names[i]);
    }
    if (set->temporary)
        rmdir(set->temporary);
    av_free(set->names);
    av_free(set->temporary);
    av_free(set->folder);
    *set = (oas_output_set){0};
}

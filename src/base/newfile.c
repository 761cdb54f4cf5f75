/* Writing beside, syncing, renaming. */
#include "base/newfile.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct newfile {
    char *path, *part; /* final and temporary name */
    size_t written;
    int fd;
    bool created; /* `part` exists and is ours */
};

enum { NAME_ATTEMPTS = 100, SUFFIX_BYTES = 48 };

oasis_status oas_newfile_open(newfile **file, const char *path, oasis_message *message)
{
    *file = NULL;
    newfile *f = oas_alloc(1, sizeof *f);
    if (!f)
        return oas_fail_memory(message, sizeof *f, "a file to be written");
    f->fd = -1;
    size_t part_bytes = strlen(path) + SUFFIX_BYTES;
    f->path = oas_text_copy(path);
    f->part = oas_alloc(part_bytes, 1);
    if (!f->path || !f->part) {
        oas_newfile_close(&f);
        return oas_fail_memory(message, part_bytes, "a file name");
    }
    int error = EEXIST;
    for (int i = 0; i < NAME_ATTEMPTS && error == EEXIST; i++) {
        snprintf(f->part, part_bytes, "%s.part-%ld-%d", path, (long)getpid(), i);
        f->fd = open(f->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        error = f->fd < 0 ? errno : 0;
    }
    if (f->fd < 0) {
        oas_newfile_close(&f);
        return oas_fail(message, OASIS_E_IO, "%s: cannot be created: %s", path, strerror(error));
    }
    f->created = true;
    *file = f;
    return OASIS_OK;
}

oasis_status oas_newfile_write(newfile *file, const void *data, size_t size, oasis_message *message)
{
    const unsigned char *from = data;
    for (size_t done = 0; done < size;) {
        ssize_t n = write(file->fd, from + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return oas_fail(message, OASIS_E_IO, "%s: writing stopped after %zu bytes: %s", file->path, file->written,
                            n == 0 ? "nothing was taken" : strerror(errno));
        done += (size_t)n;
        file->written += (size_t)n;
    }
    return OASIS_OK;
}

oasis_status oas_newfile_patch(newfile *file, size_t offset, const void *data, size_t size, oasis_message *message)
{
    const unsigned char *from = data;
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(file->fd, from + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return oas_fail(message, OASIS_E_IO, "%s: rewriting byte %zu failed: %s", file->path, offset + done,
                            n == 0 ? "nothing was taken" : strerror(errno));
        done += (size_t)n;
    }
    return OASIS_OK;
}

/* The rename itself must reach the disk.  Some file systems cannot sync a folder; the file is complete all the same. */
static void sync_folder(const char *path, char *scratch)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    memcpy(scratch, path, n);
    scratch[n] = '\0';
    int fd = open(slash ? (n ? scratch : "/") : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

oasis_status oas_newfile_finish(newfile *file, oasis_message *message)
{
    if (fsync(file->fd) != 0)
        return oas_fail(message, OASIS_E_IO, "%s: cannot be brought to the disk: %s", file->path, strerror(errno));
    int fd = file->fd;
    file->fd = -1;
    if (close(fd) != 0)
        return oas_fail(message, OASIS_E_IO, "%s: cannot be closed: %s", file->path, strerror(errno));
    if (rename(file->part, file->path) != 0)
        return oas_fail(message, OASIS_E_IO, "%s: cannot be given its name: %s", file->path, strerror(errno));
    file->created = false;
    sync_folder(file->path, file->part);
    return OASIS_OK;
}

void oas_newfile_close(newfile **file)
{
    newfile *f = *file;
    *file = NULL;
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    if (f->created)
        unlink(f->part);
    oas_free(f->path);
    oas_free(f->part);
    oas_free(f);
}

oasis_status oas_newfile_put(const char *path, const void *data, size_t size, oasis_message *message)
{
    newfile *file = NULL;
    oasis_status s = oas_newfile_open(&file, path, message);
    if (s == OASIS_OK)
        s = oas_newfile_write(file, data, size, message);
    if (s == OASIS_OK)
        s = oas_newfile_finish(file, message);
    oas_newfile_close(&file);
    return s;
}

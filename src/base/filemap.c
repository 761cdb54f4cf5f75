/* A file as memory, through mmap. */
#include "base/filemap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static oasis_status map_descriptor(filemap *map, int fd, const char *path, oasis_message *message)
{
    struct stat about;
    if (fstat(fd, &about) != 0)
        return oas_fail(message, OASIS_E_IO, "%s: cannot be examined: %s", path, strerror(errno));
    if (S_ISDIR(about.st_mode))
        return oas_fail(message, OASIS_E_IO, "%s: is a folder, expected a file", path);
    if (!S_ISREG(about.st_mode))
        return oas_fail(message, OASIS_E_IO, "%s: is a pipe or device, expected a regular file", path);
    if (about.st_size <= 0)
        return oas_fail(message, OASIS_E_FORMAT, "%s: the file is empty", path);
    if ((uintmax_t)about.st_size > SIZE_MAX / 2)
        return oas_fail(message, OASIS_E_MEMORY, "%s: %jd bytes are more than this machine can address", path,
                        (intmax_t)about.st_size);
    void *data = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return oas_fail(message, errno == ENOMEM ? OASIS_E_MEMORY : OASIS_E_IO, "%s: cannot be mapped: %s", path,
                        strerror(errno));
    *map = (filemap){.data = data, .size = (size_t)about.st_size};
    return OASIS_OK;
}

oasis_status oas_filemap_open(filemap *map, const char *path, oasis_message *message)
{
    *map = (filemap){0};
    /* Without O_NONBLOCK, opening a named pipe would wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return oas_fail(message, OASIS_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    oasis_status status = map_descriptor(map, fd, path, message);
    close(fd);
    return status;
}

void oas_filemap_drop(const void *data, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)data + size) / page * page;
    if (end > begin)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void oas_filemap_close(filemap *map)
{
    if (map->data)
        munmap((void *)map->data, map->size);
    *map = (filemap){0};
}

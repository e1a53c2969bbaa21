/* mapping.c - see mapping.h. */
#include "model/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum status mapping_open(struct mapping *mapping, const char *path, struct error *error)
{
    /* O_NONBLOCK: a named pipe must not make us wait for its writer. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (fd < 0)
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                         "%s: cannot open: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    if (fstat(fd, &info) != 0)
        status = error_set(error, STATUS_IO, "%s: cannot look at it: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = error_set(error, STATUS_INVALID, "%s: not a regular file", path);
    else if (info.st_size == 0)
        status = error_set(error, STATUS_INVALID, "%s: the file is empty", path);
    if (status == STATUS_OK) {
        void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
            status = error_set(error, STATUS_IO, "%s: cannot map %llu bytes: %s", path,
                               (unsigned long long)info.st_size, strerror(errno));
        else
            *mapping = (struct mapping){map, (uint64_t)info.st_size};
    }
    close(fd);
    return status;
}

void mapping_close(struct mapping *mapping)
{
    if (mapping->data != NULL)
        munmap((void *)mapping->data, mapping->n_bytes);
    *mapping = (struct mapping){0};
}

static void advise(const void *data, uint64_t n_bytes, int advice)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t at = (uintptr_t)data, begin = at / page * page;
    madvise((void *)begin, at - begin + n_bytes, advice);
}

void mapping_expect(const void *data, uint64_t n_bytes)
{
    advise(data, n_bytes, MADV_WILLNEED);
}

void mapping_release(const void *data, uint64_t n_bytes)
{
    advise(data, n_bytes, MADV_DONTNEED);
}

/* file.c - see file.h. */
#include "sys/file.h"

#include "sys/array.h"
#include "sys/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    LONGEST_TEMPORARY_PATH = 70, /* see file.h */
    DEEPEST_TEMPORARY_TREE = 16, /* ours are five deep, Open MPI's being there; each level holds a
                                     descriptor */
    FIRST_READ_BYTES = 64 * 1024
};

/* A pipe may have no writer for ever: a signal ends whoever waits, also one that the caller blocked. */
static void wait_readable(int fd)
{
    sigset_t none;
    sigemptyset(&none);
    ppoll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, NULL, &none);
}

enum status file_read(const char *path, uint64_t max_bytes, char **data, size_t *size,
                      struct error *error)
{
    enum status status = STATUS_OK;
    char *bytes = NULL;
    size_t used = 0, capacity = 0, wanted;
    struct stat info;
    /* Not /dev/stdin: that would read a file from its beginning again, and fails on a socket. */
    const bool named = path != NULL;
    const int fd = named ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
                         : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (path == NULL)
        path = "standard input";
    if (fd < 0)
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                         "cannot open %s: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0 || S_ISDIR(info.st_mode)) {
        status = error_set(error, STATUS_INVALID, "%s is a directory, a file is needed", path);
        goto out;
    }
    /* One byte more than the size tells: the read that finds the end needs no growth. */
    wanted = info.st_size > 0 ? (size_t)info.st_size + 2 : FIRST_READ_BYTES;
    for (;;) {
        if (used > max_bytes || (S_ISREG(info.st_mode) && (uint64_t)info.st_size > max_bytes)) {
            status = error_set(error, STATUS_INVALID, "%s is larger than the %llu bytes allowed",
                               path, (unsigned long long)max_bytes);
            goto out;
        }
        if (!array_grow(&bytes, &capacity, wanted, 1)) {
            status =
                error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu bytes", path, wanted);
            goto out;
        }
        if (named && !S_ISREG(info.st_mode))
            wait_readable(fd);
        const ssize_t n = read(fd, bytes + used, capacity - used - 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0) {
            status = error_set(error, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
            goto out;
        }
        if (n == 0)
            break;
        used += (size_t)n;
        wanted = used + 2; /* one more, and the NUL */
    }
    bytes[used] = '\0';
    *data = bytes;
    *size = used;
    bytes = NULL;
out:
    free(bytes);
    close(fd);
    return status;
}

static bool write_all(int fd, const char *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

enum status file_not_made(const char *path, int reason, struct error *error)
{
    switch (reason) {
    case ENOENT:
    case ENOTDIR:
        return error_set(error, STATUS_INVALID,
                         "cannot write %s: its folder does not exist: make it, or name another",
                         path);
    case EACCES:
    case EPERM:
    case EROFS:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return error_set(error, STATUS_INVALID, "cannot write %s: %s: name another file", path,
                         strerror(reason));
    default:
        return error_set(error, STATUS_IO, "cannot write %s: %s", path,
                         strerror(reason != 0 ? reason : EIO));
    }
}

/* A new file beside `path`, open for writing, whose name is `temporary`. */
static enum status open_beside(int *fd, char temporary[FILE_PATH_BYTES], const char *path,
                               unsigned mode, struct error *error)
{
    uint64_t unique;
    struct stat old;
    if (stat(path, &old) == 0 && !S_ISREG(old.st_mode) && !S_ISDIR(old.st_mode))
        return error_set(error, STATUS_INVALID,
                         "cannot write %s: it exists and is no file: it would be replaced", path);
    const enum status status = random_unique(&unique, sizeof(unique), error);
    if (status != STATUS_OK)
        return status;
    if (snprintf(temporary, FILE_PATH_BYTES, "%s.%016llx", path, (unsigned long long)unique) >=
        FILE_PATH_BYTES)
        return error_set(error, STATUS_INVALID, "cannot write a file with a name of %zu bytes",
                         strlen(path));
    *fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    return *fd >= 0 ? STATUS_OK : file_not_made(path, errno, error);
}

enum status file_try_write(const char *path, struct error *error)
{
    char temporary[FILE_PATH_BYTES];
    struct stat old;
    int fd = -1;
    if (stat(path, &old) == 0 && S_ISDIR(old.st_mode))
        return error_set(error, STATUS_INVALID, "cannot write %s: it is a directory", path);
    const enum status status = open_beside(&fd, temporary, path, 0600, error);
    if (status != STATUS_OK)
        return status;
    close(fd);
    unlink(temporary);
    return STATUS_OK;
}

enum status file_write(const char *path, const void *data, size_t size, unsigned mode,
                       struct error *error)
{
    char temporary[FILE_PATH_BYTES];
    int fd = -1;
    const enum status status = open_beside(&fd, temporary, path, mode, error);
    if (status != STATUS_OK)
        return status;

    bool good = write_all(fd, data, size) && fsync(fd) == 0;
    int reason = errno;
    if (close(fd) != 0 && good) {
        good = false;
        reason = errno;
    }
    if (good && rename(temporary, path) != 0) {
        good = false;
        reason = errno;
    }
    if (good)
        return STATUS_OK;
    unlink(temporary);
    return error_set(error, STATUS_IO, "cannot write %s: %s", path, strerror(reason));
}

enum status file_room(const char *directory, uint64_t *free_bytes, struct error *error)
{
    struct statvfs disk;
    if (statvfs(directory, &disk) != 0)
        return error_set(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    *free_bytes = disk.f_blocks == 0 ? UINT64_MAX : (uint64_t)disk.f_bavail * disk.f_frsize;
    return STATUS_OK;
}

enum status file_make_temporary_in(const char *parent, char path[FILE_PATH_BYTES],
                                   struct error *error)
{
    char name[LONGEST_TEMPORARY_PATH + 1];
    const int length = snprintf(name, sizeof(name), "%s/" FILE_TEMPORARY_PREFIX "XXXXXX", parent);
    if (length > LONGEST_TEMPORARY_PATH)
        return error_set(error, STATUS_INVALID,
                         "TMPDIR %.200s is too long for sockets in it: set a shorter one", parent);
    if (mkdtemp(name) == NULL) /* with mode 0700 */
        return error_set(error, STATUS_IO,
                         "cannot make a directory in %s: %s; set TMPDIR to one "
                         "that can be written",
                         parent, strerror(errno));
    memcpy(path, name, (size_t)length + 1);
    return STATUS_OK;
}

const char *file_temporary_parent(void)
{
    const char *parent = getenv("TMPDIR");
    return parent != NULL && parent[0] == '/' ? parent : "/tmp";
}

enum status file_make_temporary(char path[FILE_PATH_BYTES], struct error *error)
{
    return file_make_temporary_in(file_temporary_parent(), path, error);
}

/* Empties the directory open as `fd`, and closes it. False, with errno, if something is left. */
static bool remove_content(int fd, int depth)
{
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        close(fd);
        return false;
    }
    int reason = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || unlinkat(fd, name, 0) == 0)
            continue;
        const int inner = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inner >= 0 && depth >= DEEPEST_TEMPORARY_TREE) {
            close(inner);
            reason = ELOOP;
        } else if (inner < 0 || !remove_content(inner, depth + 1) ||
                   unlinkat(fd, name, AT_REMOVEDIR) != 0) {
            reason = errno;
        }
    }
    closedir(directory);
    errno = reason;
    return reason == 0;
}

enum status file_remove_temporary(const char *path)
{
    const char *name = strrchr(path, '/');
    if (name == NULL ||
        strncmp(name + 1, FILE_TEMPORARY_PREFIX, strlen(FILE_TEMPORARY_PREFIX)) != 0)
        return STATUS_INVALID;
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return STATUS_OK;
    return fd >= 0 && remove_content(fd, 0) && rmdir(path) == 0 ? STATUS_OK : STATUS_IO;
}

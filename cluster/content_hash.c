/* content_hash.c - see content_hash.h. */
#include "cluster/content_hash.h"

#include "sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20, MEMORY_BYTES = 256 };

void content_hash_text(char hash[CONTENT_HASH_TEXT_BYTES], const uint8_t digest[SHA256_BYTES])
{
    for (size_t i = 0; i < SHA256_BYTES; i++)
        snprintf(hash + 2 * i, 3, "%02x", digest[i]);
}

bool content_hash_is_text(const char *text)
{
    return strlen(text) == CONTENT_HASH_TEXT_BYTES - 1 &&
           strspn(text, "0123456789abcdef") == CONTENT_HASH_TEXT_BYTES - 1;
}

/* What stands behind the hash: another size or time is another content. */
static void describe(char text[MEMORY_BYTES], const char *hash, const struct stat *info)
{
    snprintf(text, MEMORY_BYTES, "%s %" PRIu64 " %" PRIu64 " %ld\n", hash, (uint64_t)info->st_size,
             (uint64_t)info->st_mtim.tv_sec, info->st_mtim.tv_nsec);
}

static bool recall(char hash[CONTENT_HASH_TEXT_BYTES], const struct stat *info, const char *memory)
{
    char *text = NULL, expected[MEMORY_BYTES];
    size_t size;
    if (memory == NULL || file_read(memory, MEMORY_BYTES, &text, &size, NULL) != STATUS_OK)
        return false;
    char *blank = strchr(text, ' ');
    bool known = blank != NULL;
    if (known) {
        *blank = '\0';
        known = content_hash_is_text(text);
        describe(expected, text, info);
        *blank = ' ';
        known = known && strcmp(text, expected) == 0;
    }
    if (known)
        snprintf(hash, CONTENT_HASH_TEXT_BYTES, "%.*s", CONTENT_HASH_TEXT_BYTES - 1, text);
    free(text);
    return known;
}

static enum status read_all(char hash[CONTENT_HASH_TEXT_BYTES], int file, const char *path,
                            struct write_progress *progress, struct error *error)
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 state;
    uint8_t *buffer = malloc(READ_BYTES);
    ssize_t got = -1;
    sha256_init(&state);
    errno = ENOMEM;
    while (buffer != NULL &&
           ((got = read(file, buffer, READ_BYTES)) > 0 || (got < 0 && errno == EINTR))) {
        if (got < 0)
            continue;
        sha256_update(&state, buffer, (size_t)got);
        if (progress != NULL)
            write_progress_add(progress, (uint64_t)got);
    }
    const int code = errno;
    free(buffer);
    if (got != 0)
        return error_set(error, STATUS_IO, "%s: %s", path, strerror(code));
    sha256_final(&state, digest);
    content_hash_text(hash, digest);
    return STATUS_OK;
}

enum status content_hash_file(char hash[CONTENT_HASH_TEXT_BYTES], const char *path,
                              const char *memory, struct write_progress *progress,
                              struct error *error)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (file < 0)
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path,
                         strerror(errno));
    enum status status = STATUS_OK;
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode))
        status = error_set(error, STATUS_IO, "%s: not a regular file", path);
    else if (recall(hash, &info, memory)) {
        if (progress != NULL)
            write_progress_add(progress, (uint64_t)info.st_size);
    } else if ((status = read_all(hash, file, path, progress, error)) == STATUS_OK &&
               memory != NULL) {
        char text[MEMORY_BYTES];
        describe(text, hash, &info);
        file_write(memory, text, strlen(text), 0600, NULL);
    }
    close(file);
    return status;
}

void content_hash_remember(const char *hash, const char *path, const char *memory)
{
    struct stat info;
    char text[MEMORY_BYTES];
    if (stat(path, &info) != 0)
        return;
    describe(text, hash, &info);
    file_write(memory, text, strlen(text), 0600, NULL);
}

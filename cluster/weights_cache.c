/* weights_cache.c - a folder that is filled under another name, then renamed. */
#include "cluster/weights_cache.h"

#include "sys/size.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NEW ".new-"

enum {
    CHUNK_BYTES = 1 << 20,
    LEFTOVER_S = 60,
    FOLDER_BYTES = FILE_PATH_BYTES + 128, /* with an id */
    LONGEST_BYTES = FOLDER_BYTES + 2 * WEIGHTS_SET_NAME_BYTES,
};

/* ---- folders --------------------------------------------------------------------------------- */

/* With all above it. */
static enum status make_folder(char *path, struct error *error)
{
    for (char *slash = path; (slash = strchr(slash + 1, '/')) != NULL; *slash = '/') {
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            const int code = errno;
            const enum status status = error_set(error, STATUS_IO, "%s: %s", path, strerror(code));
            *slash = '/';
            return status;
        }
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status weights_cache_folder(char folder[FILE_PATH_BYTES], const char *wanted, const char *kind,
                                 struct error *error)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[FILE_PATH_BYTES];
    int length = -1;
    if (wanted != NULL)
        length = snprintf(path, sizeof(path), "%s", wanted);
    else if (cache != NULL && cache[0] == '/')
        length = snprintf(path, sizeof(path), "%s/longspan/%s", cache, kind);
    else if (home != NULL && home[0] == '/')
        length = snprintf(path, sizeof(path), "%s/.cache/longspan/%s", home, kind);
    if (length < 0)
        return error_set(error, STATUS_IO,
                         "HOME is not set: say weights: {dir: FOLDER} in the cluster file");
    if ((size_t)length >= sizeof(path) - WEIGHTS_SET_NAME_BYTES)
        return error_set(error, STATUS_IO, "the name of the folder for %s is too long", kind);
    const enum status status = make_folder(path, error);
    if (status == STATUS_OK)
        memcpy(folder, path, FILE_PATH_BYTES);
    return status;
}

/* A folder without folders in it. */
static void remove_folder(const char *path)
{
    char name[LONGEST_BYTES];
    DIR *entries = opendir(path);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlink(name);
    }
    if (entries != NULL)
        closedir(entries);
    rmdir(path);
}

/* What earlier pushes left that were cut off: nobody has its lock, and it is not being made just
 * now. */
static void remove_leftovers(const char *folder)
{
    char path[LONGEST_BYTES];
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        if (strncmp(entry->d_name, NEW, strlen(NEW)) != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        const int lock = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat info;
        if (lock >= 0 && fstat(lock, &info) == 0 && info.st_mtime + LEFTOVER_S < time(NULL) &&
            flock(lock, LOCK_EX | LOCK_NB) == 0)
            remove_folder(path);
        if (lock >= 0)
            close(lock);
    }
    if (entries != NULL)
        closedir(entries);
}

/* ---- find ------------------------------------------------------------------------------------ */

static void name_opened(char path[FILE_PATH_BYTES], const char *folder,
                        const struct weights_set *set)
{
    snprintf(path, FILE_PATH_BYTES, "%.*s/%s%s%s", FILE_PATH_BYTES - 2 * WEIGHTS_SET_NAME_BYTES,
             folder, set->id, set->open[0] != '\0' ? "/" : "", set->open);
}

static bool is_right(const char *folder, const struct weights_file *file)
{
    char path[LONGEST_BYTES], memory[LONGEST_BYTES], hash[CONTENT_HASH_TEXT_BYTES];
    struct stat info;
    snprintf(path, sizeof(path), "%s/%s", folder, file->name);
    snprintf(memory, sizeof(memory), "%s/.%s.seen", folder, file->name);
    return stat(path, &info) == 0 && (uint64_t)info.st_size == file->n_bytes &&
           content_hash_file(hash, path, memory, NULL, NULL) == STATUS_OK &&
           strcmp(hash, file->hash) == 0;
}

enum status weights_cache_find(bool *found, char path[FILE_PATH_BYTES], const char *folder,
                               const struct weights_set *set, struct error *error)
{
    char there[FOLDER_BYTES];
    snprintf(there, sizeof(there), "%s/%s", folder, set->id);
    *found = access(there, F_OK) == 0;
    bool right = *found;
    for (uint32_t i = 0; right && i < set->n; i++)
        right = is_right(there, &set->files[i]);
    if (*found && !right) {
        *found = false;
        remove_folder(there);
        if (access(there, F_OK) == 0)
            return error_set(error, STATUS_IO,
                             "%s: is not what its name says, and cannot be removed: %s", there,
                             strerror(errno));
    }
    name_opened(path, folder, set);
    return STATUS_OK;
}

/* ---- take ------------------------------------------------------------------------------------ */

static enum status check_room(const char *folder, uint64_t n_bytes, struct error *error)
{
    uint64_t free_bytes;
    char needed[SIZE_TEXT_BYTES], there[SIZE_TEXT_BYTES];
    const enum status status = file_room(folder, &free_bytes, error);
    if (status != STATUS_OK || free_bytes >= n_bytes)
        return status;
    return error_set(error, STATUS_EXHAUSTED,
                     "%s: the model needs %s, the disk has %s: say weights: {dir: FOLDER} in the "
                     "cluster file, or remove models there that are not used any more",
                     folder, size_format(n_bytes, needed), size_format(free_bytes, there));
}

static bool write_all(int file, const uint8_t *data, size_t n_bytes)
{
    while (n_bytes > 0) {
        const ssize_t put = write(file, data, n_bytes);
        if (put < 0 && errno != EINTR)
            return false;
        data += put > 0 ? put : 0;
        n_bytes -= put > 0 ? (size_t)put : 0;
    }
    return true;
}

static enum status take_bytes(int out, const char *path, const struct weights_file *file,
                              weights_cache_source *source, void *context, struct error *error)
{
    struct sha256 state;
    uint8_t digest[SHA256_BYTES];
    char hash[CONTENT_HASH_TEXT_BYTES];
    uint8_t *chunk = malloc(CHUNK_BYTES);
    enum status status =
        chunk != NULL ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory for a transfer");
    sha256_init(&state);
    for (uint64_t left = file->n_bytes; status == STATUS_OK && left > 0;) {
        const size_t n = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        if (!source(context, chunk, n))
            status = error_set(error, STATUS_PROTOCOL, "%s: the connection ended within it", path);
        else if (!write_all(out, chunk, n))
            status = error_set(error, errno == ENOSPC ? STATUS_EXHAUSTED : STATUS_IO, "%s: %s",
                               path, strerror(errno));
        else
            sha256_update(&state, chunk, n);
        left -= n;
    }
    free(chunk);
    if (status != STATUS_OK)
        return status;
    sha256_final(&state, digest);
    content_hash_text(hash, digest);
    if (strcmp(hash, file->hash) != 0)
        return error_set(error, STATUS_PROTOCOL,
                         "%s: other bytes came than were announced: does somebody write to the "
                         "model's file?",
                         file->name);
    if (fsync(out) != 0)
        return error_set(error, errno == ENOSPC ? STATUS_EXHAUSTED : STATUS_IO, "%s: %s", path,
                         strerror(errno));
    return STATUS_OK;
}

static enum status take_file(const char *folder, const struct weights_file *file,
                             weights_cache_source *source, void *context, struct error *error)
{
    char path[LONGEST_BYTES], memory[LONGEST_BYTES];
    snprintf(path, sizeof(path), "%s/%s", folder, file->name);
    snprintf(memory, sizeof(memory), "%s/.%s.seen", folder, file->name);
    const int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
    const enum status status = take_bytes(out, path, file, source, context, error);
    close(out);
    if (status == STATUS_OK)
        content_hash_remember(file->hash, path, memory);
    return status;
}

enum status weights_cache_take(char path[FILE_PATH_BYTES], const char *folder,
                               const struct weights_set *set, weights_cache_source *source,
                               void *context, struct error *error)
{
    char made[FOLDER_BYTES], final[FOLDER_BYTES];
    remove_leftovers(folder);
    enum status status = check_room(folder, set->n_bytes, error);
    if (status != STATUS_OK)
        return status;
    snprintf(made, sizeof(made), "%s/" NEW "XXXXXX", folder);
    snprintf(final, sizeof(final), "%s/%s", folder, set->id);
    if (mkdtemp(made) == NULL)
        return error_set(error, STATUS_IO, "%s: %s", folder, strerror(errno));
    const int lock = open(made, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock >= 0)
        flock(lock, LOCK_EX);
    for (uint32_t i = 0; status == STATUS_OK && i < set->n; i++)
        status = take_file(made, &set->files[i], source, context, error);
    /* Somebody else may have pushed the same meanwhile: its files are as good. */
    if (status == STATUS_OK && rename(made, final) != 0 && errno != EEXIST && errno != ENOTEMPTY)
        status = error_set(error, STATUS_IO, "%s: %s", final, strerror(errno));
    if (status == STATUS_OK && lock >= 0)
        fsync(lock);
    remove_folder(made);
    if (lock >= 0)
        close(lock);
    if (status == STATUS_OK)
        name_opened(path, folder, set);
    return status;
}

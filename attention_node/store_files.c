/* store_files.c - an array without holes, and a hash table of its indices. */
#include "attention_node/store_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_FILE UINT32_MAX

static const char ENDING[] = ".kv";

void store_files_text(const uint8_t name[STORE_NAME_BYTES], char text[STORE_FILE_NAME_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < STORE_NAME_BYTES; i++) {
        text[2 * i] = digits[name[i] >> 4];
        text[2 * i + 1] = digits[name[i] & 15];
    }
    memcpy(text + 2 * STORE_NAME_BYTES, ENDING, sizeof(ENDING));
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The other way; false when it is not the name of a page with that ending. */
static bool parse(const char *text, const char *ending, uint8_t name[STORE_NAME_BYTES])
{
    if (strlen(text) != 2 * STORE_NAME_BYTES + strlen(ending) ||
        strcmp(text + 2 * STORE_NAME_BYTES, ending) != 0)
        return false;
    for (size_t i = 0; i < STORE_NAME_BYTES; i++) {
        const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        name[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* ---- the directory --------------------------------------------------------------------------- */

static enum status take_entry(struct store_files *files, const char *text, struct error *error)
{
    uint8_t name[STORE_NAME_BYTES];
    struct stat about;
    if (parse(text, STORE_FILES_UNFINISHED, name))
        unlinkat(files->directory, text, 0);
    if (!parse(text, ENDING, name) ||
        fstatat(files->directory, text, &about, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(about.st_mode) || about.st_size < 0)
        return STATUS_OK; /* none of ours */
    const uint64_t used =
        (uint64_t)about.st_mtim.tv_sec * 1000000000u + (uint64_t)about.st_mtim.tv_nsec;
    return store_files_add(files, name, (uint64_t)about.st_size, used, false, error);
}

enum status store_files_open(struct store_files *files, int directory, struct error *error)
{
    *files = (struct store_files){.directory = directory};
    const int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    if (list == NULL) {
        if (copy >= 0)
            close(copy);
        return error_set(error, STATUS_IO, "the KV store cannot be read: %s", strerror(errno));
    }
    enum status status = STATUS_OK;
    const struct dirent *entry;
    while (status == STATUS_OK && (entry = readdir(list)) != NULL)
        status = take_entry(files, entry->d_name, error);
    closedir(list);
    if (status != STATUS_OK)
        store_files_close(files);
    return status;
}

void store_files_close(struct store_files *files)
{
    free(files->files);
    free(files->buckets);
    *files = (struct store_files){.directory = -1};
}

/* ---- the table ------------------------------------------------------------------------------- */

/* The names are hashes: any of their bytes will do. */
static uint32_t *bucket_of(const struct store_files *files, const uint8_t *name)
{
    uint32_t hash;
    memcpy(&hash, name, sizeof(hash));
    return &files->buckets[hash & (files->capacity - 1)];
}

struct store_file *store_files_find(const struct store_files *files,
                                    const uint8_t name[STORE_NAME_BYTES])
{
    for (uint32_t i = files->capacity > 0 ? *bucket_of(files, name) : NO_FILE; i != NO_FILE;
         i = files->files[i].next)
        if (memcmp(files->files[i].name, name, STORE_NAME_BYTES) == 0)
            return &files->files[i];
    return NULL;
}

static enum status grow(struct store_files *files, struct error *error)
{
    const uint32_t capacity = files->capacity == 0 ? 1024 : files->capacity * 2;
    if (capacity == 0)
        return error_set(error, STATUS_NO_MEMORY, "a KV store has at most %u files", files->n);
    struct store_file *grown = realloc(files->files, capacity * sizeof(*grown));
    uint32_t *buckets = malloc(capacity * sizeof(*buckets));
    if (grown != NULL)
        files->files = grown;
    if (grown == NULL || buckets == NULL) {
        free(buckets);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a KV store of %u files", capacity);
    }
    free(files->buckets);
    files->buckets = buckets;
    files->capacity = capacity;
    for (uint32_t i = 0; i < capacity; i++)
        buckets[i] = NO_FILE;
    for (uint32_t i = 0; i < files->n; i++) {
        uint32_t *bucket = bucket_of(files, files->files[i].name);
        files->files[i].next = *bucket;
        *bucket = i;
    }
    return STATUS_OK;
}

enum status store_files_add(struct store_files *files, const uint8_t name[STORE_NAME_BYTES],
                            uint64_t bytes, uint64_t used, bool ours, struct error *error)
{
    const enum status status = files->n == files->capacity ? grow(files, error) : STATUS_OK;
    if (status != STATUS_OK)
        return status;
    uint32_t *bucket = bucket_of(files, name);
    struct store_file *file = &files->files[files->n];
    *file = (struct store_file){.bytes = bytes, .used = used, .ours = ours, .next = *bucket};
    memcpy(file->name, name, STORE_NAME_BYTES);
    *bucket = files->n++;
    files->bytes += bytes;
    return STATUS_OK;
}

/* The link that points at file i. */
static uint32_t *link_to(struct store_files *files, uint32_t i)
{
    uint32_t *link = bucket_of(files, files->files[i].name);
    while (*link != i)
        link = &files->files[*link].next;
    return link;
}

void store_files_remove(struct store_files *files, struct store_file *file)
{
    char text[STORE_FILE_NAME_BYTES];
    const uint32_t i = (uint32_t)(file - files->files), last = files->n - 1;
    store_files_text(file->name, text);
    unlinkat(files->directory, text, 0);
    files->bytes -= file->bytes;
    *link_to(files, i) = file->next;
    if (i != last) { /* the last one takes its place */
        *link_to(files, last) = i;
        files->files[i] = files->files[last];
    }
    files->n--;
}

struct store_file *store_files_oldest(const struct store_files *files)
{
    struct store_file *oldest = NULL;
    for (uint32_t i = 0; i < files->n; i++)
        if (oldest == NULL || files->files[i].used < oldest->used)
            oldest = &files->files[i];
    return oldest;
}

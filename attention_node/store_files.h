/* attention_node/store_files.h - which pages the store's directory has; which go when there are too
 * many.
 *
 * A table of the files, found by name. Part of the store (store.h). */
#ifndef LONGSPAN_ATTENTION_NODE_STORE_FILES_H
#define LONGSPAN_ATTENTION_NODE_STORE_FILES_H

#include "attention_node/store.h"

enum { STORE_FILE_NAME_BYTES = 2 * STORE_NAME_BYTES + 8 };
#define STORE_FILES_UNFINISHED ".part" /* behind the name of a page that is not whole yet */

struct store_file {
    uint8_t name[STORE_NAME_BYTES];
    uint64_t bytes, used; /* used: the file's time of change in ns, or later */
    bool ours;            /* of this job */
    uint32_t next;        /* of the bucket */
};

struct store_files {
    int directory; /* a descriptor */
    struct store_file *files;
    uint32_t n, capacity;
    uint32_t *buckets; /* [capacity] */
    uint64_t bytes;    /* of all files */
};

/* A name as text, with ".kv" behind it. */
void store_files_text(const uint8_t name[STORE_NAME_BYTES], char text[STORE_FILE_NAME_BYTES]);

/* Reads the directory; takes away pages that were not finished, and nothing else. STATUS_IO,
 * STATUS_NO_MEMORY. */
enum status store_files_open(struct store_files *files, int directory, struct error *error);
void store_files_close(struct store_files *files);

/* NULL: there is none. */
struct store_file *store_files_find(const struct store_files *files,
                                    const uint8_t name[STORE_NAME_BYTES]);

/* STATUS_NO_MEMORY. */
enum status store_files_add(struct store_files *files, const uint8_t name[STORE_NAME_BYTES],
                            uint64_t bytes, uint64_t used, bool ours, struct error *error);

/* Deletes the file, and forgets it. */
void store_files_remove(struct store_files *files, struct store_file *file);

/* The file that was used longest ago; NULL: there is none. */
struct store_file *store_files_oldest(const struct store_files *files);

#endif

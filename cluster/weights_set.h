/* cluster/weights_set.h - the files that make up a model, by content: what is pushed to other
 * machines.
 *
 * The id of one file is its SHA-256; of several, that of the lines "HASH NAME\n" in the order of
 * their names, which is what `sha256sum * | sha256sum` says in their folder. */
#ifndef LONGSPAN_CLUSTER_WEIGHTS_SET_H
#define LONGSPAN_CLUSTER_WEIGHTS_SET_H

#include "cluster/content_hash.h"
#include "sys/status.h"

#include <jansson.h>
#include <stdint.h>

enum { WEIGHTS_SET_MOST = 65536, WEIGHTS_SET_NAME_BYTES = 256 };

struct weights_file {
    char name[WEIGHTS_SET_NAME_BYTES]; /* in its folder: no slash, no dot in front */
    char *path;                        /* here; NULL in a set that came by JSON */
    uint64_t n_bytes;
    char hash[CONTENT_HASH_TEXT_BYTES];
};

struct weights_set {
    char id[CONTENT_HASH_TEXT_BYTES];
    char open[WEIGHTS_SET_NAME_BYTES]; /* the file to open; "": their folder */
    struct weights_file *files;        /* by name */
    uint32_t n;
    uint64_t n_bytes; /* of all */
};

/* The files of a model, hashed. `show` NULL: no progress line. The caller ends *set with
 * weights_set_free. Fails as model_open and content_hash_file; STATUS_UNSUPPORTED: a name that
 * cannot be kept. */
enum status weights_set_read(struct weights_set *set, const char *model, FILE *show,
                             struct error *error);

/* A set as it travels: {"id", "open", "files": [{"name", "bytes", "hash"}]}. NULL: no memory. */
json_t *weights_set_json(const struct weights_set *set);

/* And back; nothing of it is believed. STATUS_PROTOCOL: not such an object, or names, sizes or
 * hashes that cannot be. */
enum status weights_set_parse(struct weights_set *set, const json_t *json, struct error *error);

void weights_set_free(struct weights_set *set);

#endif

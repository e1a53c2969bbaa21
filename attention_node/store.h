/* attention_node/store.h - KV pages on disk, so that prefixes are found again after a restart.
 *
 * A directory of files, one for each page of tokens with all layers and KV heads of this node
 * (store_page.h). A file is called after the prefix whose last page it is
 * (coordinator/prefix_index.h): 64 hexadecimal digits and ".kv". One that does not fit its header,
 * its name, or the job, is not used; one whose sum is wrong is removed.
 *
 * All files together have at most so many bytes as the options say; those that were used longest
 * ago go first, also those of other models. One process uses a directory at a time.
 *
 * Reading and writing goes piece by piece, between the loop's messages (store_work): a piece is a
 * page of one plane. What is to be written waits until there is nothing else to do.
 *
 * One thread. Names are 32 bytes each, one after the other. */
#ifndef LONGSPAN_ATTENTION_NODE_STORE_H
#define LONGSPAN_ATTENTION_NODE_STORE_H

#include "kernels/attention/kv_holder.h"
#include "sys/log.h"
#include "sys/sha256.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_NAME_BYTES = SHA256_BYTES, STORE_DEVICE_BYTES = 16 };

struct store; /* opaque */

/* What pages belong to. */
struct store_job {
    uint8_t fingerprint[SHA256_BYTES]; /* of the model's file */
    struct kv_holder_shape shape;
    char device[STORE_DEVICE_BYTES]; /* whose layout pages have; "" is the host's */
};

struct store_config {
    const char *directory; /* made if it is not there */
    uint64_t most_bytes;   /* of all files */
    const struct log *log;
};

/* STATUS_IO: the directory cannot be made, read or written. STATUS_FAILED: another process uses it.
 * STATUS_NO_MEMORY. */
enum status store_create(struct store **store, const struct store_config *config,
                         struct error *error);
/* NULL is fine. */
void store_destroy(struct store *store);

/* A job begins; `holder` outlives it. */
void store_begin(struct store *store, const struct store_job *job, struct kv_holder *holder);

/* A job ends. What waits to be written is written for at most `most_ms`, the rest forgotten. */
void store_end(struct store *store, uint32_t most_ms);

/* The names of the job's pages that can be restored; *n of them. Until the next call. */
const uint8_t *store_names(struct store *store, size_t *n);

/* The sequence is kept: its page i is the last one of the prefix names[i]. Those that are held here
 * and not stored yet will be. Without memory they will not. */
void store_keep(struct store *store, uint64_t sequence, uint32_t incarnation, const uint8_t *names,
                size_t n_names);

/* The pages of a sequence that was reserved: those of its spans, in order, have these names. */
struct store_wanted {
    uint64_t sequence;
    uint32_t incarnation;
    const struct span *spans;
    size_t n_spans;
    const uint8_t *names;
    size_t n_names;
};

/* Reads them later; store_restored tells when `request` is done. Nothing of `wanted` is kept.
 * STATUS_INVALID: another number of names than pages. STATUS_NO_MEMORY. */
enum status store_restore(struct store *store, uint64_t request, const struct store_wanted *wanted,
                          struct error *error);

/* One piece, of what is to be read first; when `idle` of what is to be written. False: there is
 * nothing to do. */
bool store_work(struct store *store, bool idle);

/* A restore that has ended: true, its request, and *error when it failed (else STATUS_OK). */
bool store_restored(struct store *store, uint64_t *request, struct error *error);

/* Names that were added, or are gone, since the last call; until the next call. False: none. */
bool store_changed(struct store *store, const uint8_t **added, size_t *n_added,
                   const uint8_t **gone, size_t *n_gone);

#endif

/* worker/load_progress.h - the pieces of a model's file that make up a rank's shard, in the order
 * in which they are loaded: listed first, so that their bytes are known and the kernel can be told
 * ahead, then loaded one after the other. */
#ifndef LONGSPAN_WORKER_LOAD_PROGRESS_H
#define LONGSPAN_WORKER_LOAD_PROGRESS_H

#include "sys/log.h"
#include "sys/status.h"
#include "worker/read_ahead.h"

#include <stddef.h>
#include <stdint.h>

/* Zeroed, but for what the caller sets; ends with load_progress_end. */
struct load_progress {
    /* Set by the caller, NULL is fine: told of the bytes that are loaded, of all. */
    void (*tick)(void *context, uint64_t n_loaded, uint64_t n_all);
    void *context;
    const struct log *log; /* a line every two seconds */

    struct read_ahead_piece *pieces; /* [n] */
    size_t n, capacity;
    uint64_t n_bytes;   /* of all pieces */
    uint64_t n_loaded;  /* of those that are done */
    uint64_t n_reached; /* of those that have begun */
    uint64_t began_us, logged_us;
    struct read_ahead *ahead;
};

/* One more piece. STATUS_NO_MEMORY. */
enum status load_progress_add(struct load_progress *progress, struct read_ahead_piece piece,
                              struct error *error);

/* All pieces are listed: reading begins. Fails as read_ahead_start. */
enum status load_progress_begin(struct load_progress *progress, struct error *error);

/* A piece as it was listed will now be loaded; and is. */
void load_progress_reach(struct load_progress *progress, struct read_ahead_piece piece);
void load_progress_done(struct load_progress *progress, struct read_ahead_piece piece);

void load_progress_end(struct load_progress *progress);

#endif

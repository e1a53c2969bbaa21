/* worker/read_ahead.h - tells the kernel what of a mapped file will be read next.
 *
 * A thread of its own walks the pieces, some hundred MiB before the reader: asking for pages waits
 * for the disk once its queue is full, and the reader has better things to do. It only gives
 * advice; whoever reads a page that is not there yet waits for it as ever. */
#ifndef LONGSPAN_WORKER_READ_AHEAD_H
#define LONGSPAN_WORKER_READ_AHEAD_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

enum { READ_AHEAD_BYTES = 256 << 20 };

/* A part of a mapping. */
struct read_ahead_piece {
    const void *data;
    uint64_t n_bytes;
};

struct read_ahead; /* opaque */

/* `pieces` in the order in which they are read; they and their mapping outlive *ahead, which the
 * caller ends with read_ahead_stop. STATUS_NO_MEMORY: no thread. */
enum status read_ahead_start(struct read_ahead **ahead, const struct read_ahead_piece *pieces,
                             size_t n, struct error *error);

/* The reader works on the bytes before `position`, counted over all pieces: those, and
 * READ_AHEAD_BYTES more, are asked for. Never waits. */
void read_ahead_reach(struct read_ahead *ahead, uint64_t position);

/* Waits for what it is asking for at the moment. NULL is fine. */
void read_ahead_stop(struct read_ahead *ahead);

#endif

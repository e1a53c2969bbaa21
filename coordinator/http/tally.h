/* coordinator/http/tally.h - what the HTTP server has answered, and what is open, for /metrics.
 *
 * Counted by MHD's threads, read by any: atomics, of which each is true for itself. */
#ifndef LONGSPAN_COORDINATOR_HTTP_TALLY_H
#define LONGSPAN_COORDINATOR_HTTP_TALLY_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    TALLY_PLACES = 64, /* routes, at most; the last place is for what is none */
    TALLY_CODES = 600, /* HTTP's; 0: the client had gone before there was an answer */
};

/* Zeros are a beginning. */
struct tally {
    atomic_ullong answers[TALLY_PLACES][TALLY_CODES];
    atomic_uint connections, streams; /* that are open */
};

struct route; /* routes.h */

/* `route` NULL: there was none. */
void tally_answer(struct tally *tally, const struct route *route, unsigned code);

/* Calls `each` for every path and code that has a number, and for those of which zero is worth
 * knowing: 200 and 429 (the queue is full) of routes that need the model. */
void tally_walk(const struct tally *tally,
                void (*each)(const char *path, unsigned code, uint64_t n, void *context),
                void *context);

#endif

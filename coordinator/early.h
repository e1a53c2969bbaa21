/* coordinator/early.h - requests that come before they can be served: kept as they came, in order.
 * Either the cluster is not ready, or the JSON schema of an answer is not worked out. */
#ifndef LONGSPAN_COORDINATOR_EARLY_H
#define LONGSPAN_COORDINATOR_EARLY_H

#include "coordinator/control.h"

#include <stdbool.h>
#include <stdint.h>

enum { EARLY_MAX_REQUESTS = 64 };
#define EARLY_MAX_BYTES ((size_t)256 << 20) /* of all; one is kept whatever it has */

struct early_request {
    struct early_request *next;
    struct frames_peer client;
    uint64_t number, heard_us;
    size_t n_bytes;
    uint8_t bytes[]; /* a packed Control */
};

/* Zeroed: empty. */
struct early {
    struct early_request *first;
    uint32_t n;
    size_t n_bytes;
};

/* Copies the message. `what`: they wait for. STATUS_EXHAUSTED: EARLY_MAX_REQUESTS are waiting, or it
 * would be more than EARLY_MAX_BYTES with them. STATUS_NO_MEMORY. */
enum status early_add(struct early *early, const struct frames_peer *client, uint64_t number,
                      const void *bytes, size_t n_bytes, uint64_t now_us, const char *what,
                      struct error *error);

/* The oldest, which is the caller's (free); NULL: none. */
struct early_request *early_take(struct early *early);

void early_heard(struct early *early, const struct frames_peer *client, uint64_t now_us);

/* Drops the request `number` of a client; or all of its requests. */
void early_drop(struct early *early, const struct frames_peer *client, bool all, uint64_t number);

/* Drops one whose client was not heard of since `since_us`, and says whose it was. False: there is
 * none. */
bool early_drop_silent(struct early *early, uint64_t since_us, struct frames_peer *client,
                       uint64_t *number);

#endif

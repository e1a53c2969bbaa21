/* attention_node/rings.h - the ranks of this host that talk to the node through shared memory.
 *
 * A rank offers a ring in its Hello (proto/wire_ring.h). If it can be opened here, its messages
 * come and its answers go that way, but for Hello and HelloReply, which settle it; otherwise
 * everything stays on the socket. A ring ends with the job, with its rank, with a Hello that does
 * not name it any more, or by breaking a rule. Belongs to the thread of the loop. */
#ifndef LONGSPAN_ATTENTION_NODE_RINGS_H
#define LONGSPAN_ATTENTION_NODE_RINGS_H

#include "proto/longspan.pb-c.h"
#include "proto/wire_ring.h"
#include "sys/log.h"

#include <stdbool.h>

enum { RINGS_MAX = 128 }; /* ranks of one host; those after stay on the socket */

struct rings_entry {
    struct wire_ring *ring;
    bool ended; /* until rings_sweep: what reads from it may be what has ended it */
};

struct rings {
    struct rings_entry entries[RINGS_MAX];
    uint32_t n;
    bool refuse; /* --exchange zeromq */
    char boot[NEIGHBOUR_BOOT_BYTES];
    const struct log *log;
};

void rings_open(struct rings *rings, bool refuse, const struct log *log);

/* Ends all of them. */
void rings_end(struct rings *rings);

/* Gives back those that have ended; no ring is being read from. */
void rings_sweep(struct rings *rings);

/* A Hello of the peer of `hello`, with an offer or without (NULL). True: the ring of the offer is
 * in use from now on, or was already. */
bool rings_offer(struct rings *rings, const struct frames *hello, const Longspan__Ring *offer);

/* The ring of the peer of `frames`; NULL: none. */
struct wire_ring *rings_find(struct rings *rings, const struct frames *frames);

#endif

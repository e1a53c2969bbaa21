/* coordinator/reservations.h - pages at attention nodes: asked for before tokens come, freed after.
 *
 * A node promises pages by count and cannot run out while appending (kv_holder.h); so no step with
 * new spans is sent before every node concerned has said yes. */
#ifndef LONGSPAN_COORDINATOR_RESERVATIONS_H
#define LONGSPAN_COORDINATOR_RESERVATIONS_H

#include "coordinator/cluster.h"
#include "coordinator/placement.h"
#include "coordinator/scheduler.h"

struct reservations {
    const struct cluster *cluster;
    struct control *control;
    const struct placement *placement;
    const struct log *log;
    uint32_t n_holders;
    uint64_t next_number;
};

/* One that is under way; one per sequence at a time. */
struct reservation {
    uint64_t number; /* 0: none */
    uint64_t deadline_us;
    uint32_t n_awaited;
    bool *awaited; /* [n_holders], the owner's memory */
};

/* Asks every node that has tokens of [begin, q->n_asked) for their pages. Fails like control_send.
 */
enum status reservations_ask(struct reservations *reservations, const struct scheduler_sequence *q,
                             uint32_t begin, struct reservation *reservation, uint64_t now_us,
                             struct error *error);

/* An answer of `node`; *complete: it was the last one. With a failure, the node's status and text.
 */
enum status reservations_answered(const struct reservations *reservations,
                                  struct reservation *reservation, uint32_t node,
                                  const Longspan__Failure *failure, bool *complete,
                                  struct error *error);

/* STATUS_TIMEOUT: its deadline has passed; names a node that did not answer. */
enum status reservations_check(const struct reservations *reservations,
                               const struct reservation *reservation, uint64_t now_us,
                               struct error *error);

/* Tells all nodes that have pages of it that the sequence is closed, but for its kept tokens; nodes
 * that store pages also how these are called. */
void reservations_free(const struct reservations *reservations, const struct scheduler_sequence *q);

#endif

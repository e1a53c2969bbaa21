/* worker/join.h - how the ranks of the MPI job become workers of a coordinator.
 *
 * Every rank tells rank 0 about itself (a card); rank 0 sends WorkersJoin until the coordinator
 * answers; the answer, WorkerSetup or Refusal, goes to all ranks. What prevents a join (a rank
 * without the asked kernels, a coordinator that nobody reaches) becomes a Refusal of rank 0's own,
 * so that all ranks end in the same way. */
#ifndef LONGSPAN_WORKER_JOIN_H
#define LONGSPAN_WORKER_JOIN_H

#include "sys/log.h"
#include "sys/status.h"
#include "worker/group.h"
#include "worker/link.h"

#include <stdint.h>

enum { JOIN_HOST_BYTES = 64, JOIN_NAME_BYTES = 32 };

/* Of fixed size, as it goes through MPI. */
struct join_card {
    struct error error; /* of this rank; STATUS_OK: it can join */
    char host[JOIN_HOST_BYTES], device[JOIN_NAME_BYTES], kernels[JOIN_NAME_BYTES];
    char processors[JOIN_HOST_BYTES]; /* that it may use */
    uint32_t lanes, pid;
    uint64_t memory_bytes;
    double started; /* in seconds since 1970 */
};

/* Who joins whom. */
struct join {
    struct group *group;
    struct link *link; /* NULL is fine where the rank's card has an error */
    const char *coordinator;
    uint64_t patience_us; /* to reach the coordinator; and then for its first answer */
    const struct log *log;
};

/* Collective. On every rank *answer is a Control with worker_setup or refusal, which the caller
 * ends with longspan__control__free_unpacked. A failure is of MPI or memory. */
enum status join_cluster(Longspan__Control **answer, const struct join *join,
                         const struct join_card *card, struct error *error);

/* Rank 0: tells all others that the job ends with this failure. */
enum status join_refuse(struct group *group, const struct error *failure, struct error *error);

#endif

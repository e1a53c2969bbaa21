/* worker/group.h - the ranks of the MPI job, and what they say to each other.
 *
 * Three kinds of traffic, each in the order of the steps:
 *   control   rank 0 sends what came from the coordinator to all others (group_broadcast,
 *             group_receive)
 *   rows      activations go from a stage to the next one, between equal shards; two buffers, so
 *             that a stage computes the next step while the last one is still leaving
 *   sums      the shards of a stage add their parts of a product (group_sum), and collect
 *             candidates
 * A stage's shards form one tensor-parallel group; rank = stage * tensor + shard.
 *
 * Every wait is a test in a loop with proto/waiting.h: a blocked MPI call burns a core, however
 * long it takes, and answers no ping. While waiting, `tick` is called again and again; a failure of
 * it ends the wait.
 *
 * Before MPI_Init the group is this process alone, and nothing here calls MPI: for tests.
 * Failures are of MPI and end the job: STATUS_FAILED with MPI's own text. One thread. */
#ifndef LONGSPAN_WORKER_GROUP_H
#define LONGSPAN_WORKER_GROUP_H

#include "kernels/kernels.h"
#include "sys/status.h"
#include "sys/trace.h"

#include <stddef.h>
#include <stdint.h>

struct group; /* opaque */

/* All ranks of MPI_COMM_WORLD together; `tick` may be NULL. The caller ends *group with
 * group_destroy, before MPI_Finalize. */
enum status group_create(struct group **group,
                         enum status (*tick)(void *context, struct error *error), void *context,
                         struct error *error);
void group_destroy(struct group *group);

/* From now on waits and sums are recorded on `track`, of the thread that uses the group. */
void group_trace(struct group *group, struct trace_track *track);

uint32_t group_rank(const struct group *group);
uint32_t group_ranks(const struct group *group);

/* The ranks on this rank's host, and its number among them. */
struct group_local {
    uint32_t n_ranks, rank;
};

/* Lanes for this rank when nobody says how many: the processors that it may use, divided by the
 * ranks on this host that may use some of the same; at least 1. Collective. */
enum status group_lanes(struct group *group, uint32_t *n_lanes, struct group_local *local,
                        struct error *error);

/* The ranks on this host that have a device of that name, this one too. Collective. */
enum status group_sharers(struct group *group, const char *device, uint32_t *n_sharers,
                          struct error *error);

/* `n_bytes` from every rank to rank 0, where `all` has room for them in the order of ranks.
 * Collective. */
enum status group_gather(struct group *group, const void *mine, void *all, size_t n_bytes,
                         struct error *error);

/* The largest `value` of all ranks, on all of them. Collective. */
enum status group_largest(struct group *group, uint32_t *value, struct error *error);

/* Rank 0: starts sending a copy of these bytes to all others. Waits only when several earlier ones
 * are still leaving. */
enum status group_broadcast(struct group *group, const void *bytes, size_t n_bytes,
                            struct error *error);

/* The others: waits for the next one, without deadline (`tick` watches the coordinator). *bytes
 * is valid until the next call. */
enum status group_receive(struct group *group, const uint8_t **bytes, size_t *n_bytes,
                          struct error *error);

/* Whether something is still leaving. */
bool group_is_sending(const struct group *group);

/* Progresses the sends under way, and calls `tick`: for a rank that computes, between layers. */
enum status group_progress(struct group *group, struct error *error);

/* Waits until all that was started has left. */
enum status group_flush(struct group *group, struct error *error);

/* ---- after the setup ------------------------------------------------------------------------- */

/* Arranges the ranks, ranks = n_stages * tensor, and allocates for sums and rows of up to
 * `n_floats` floats, below 2^31. Sums run on `device`; rows and x below are its memory, which MPI
 * is given where it can take it, and which goes through host memory where it cannot. Ended by
 * group_disperse, before the device is closed. */
enum status group_arrange(struct group *group, uint32_t n_stages, uint32_t tensor, size_t n_floats,
                          const struct kernels *kernels, struct device *device,
                          struct error *error);
void group_disperse(struct group *group);
uint32_t group_shard(const struct group *group);
uint32_t group_tensor(const struct group *group);

/* x becomes the sum of the shards' x, the same bits on every shard: for each element the binary
 * tree ((x0 + x1) + (x2 + x3)) + ..., whatever n, so that bits do not depend on how many rows share
 * a step, nor, where shards are aligned segments (kernels.h), on how many shards there are. */
enum status group_sum(struct group *group, float *x, size_t n, struct error *error);

/* From the same shard of the stage before. */
enum status group_receive_rows(struct group *group, float *rows, size_t n, struct error *error);

/* To the same shard of the next stage; `rows` stay untouched until group_rows_sent(slot) has
 * returned. `slot` is 0 or 1. */
enum status group_send_rows(struct group *group, float *rows, size_t n, uint32_t slot,
                            struct error *error);
enum status group_rows_sent(struct group *group, uint32_t slot, struct error *error);

/* `n_bytes` from every shard of this stage to its shard 0, where `all` takes tensor * n_bytes. */
enum status group_collect(struct group *group, const void *mine, void *all, size_t n_bytes,
                          struct error *error);

#endif

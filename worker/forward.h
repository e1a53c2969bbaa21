/* worker/forward.h - one step through the layers of one rank.
 *
 * Rows come from the embedding (first stage) or from the stage before, go through the layers, and
 * leave to the next stage or become logits (last stage). Per layer, in Lamina's order, so that the
 * KV holders work while this rank computes k and v: q is made and turned, the query leaves;  k and
 * v, the append leaves;  finish;  what was attended to goes into the stream, then the feed-forward
 * part does, with the two products that are split by columns summed over the stage's shards. The
 * equations are those of model/hparams.h; a layer does the parts that its shard has. The model's
 * last layer makes k and v of all rows, and the rest of those whose logits are wanted
 * (worker/needed_rows.h). A step that fills does none of this: each rank fills its own layers
 * (worker/fill.h).
 *
 * All memory is taken at creation. */
#ifndef LONGSPAN_WORKER_FORWARD_H
#define LONGSPAN_WORKER_FORWARD_H

#include "kernels/kernels.h"
#include "sys/status.h"
#include "sys/thread_pool.h"
#include "sys/trace.h"
#include "worker/attention.h"
#include "worker/group.h"
#include "worker/load.h"
#include "worker/results.h"
#include "worker/step.h"

#include <stdint.h>

struct forward; /* opaque */

/* What a device records of decode steps, where it can (recordings.h); same bits. */
enum forward_records {
    FORWARD_RECORDS_NOTHING,
    FORWARD_RECORDS_PRODUCTS, /* what lies between attentions */
    FORWARD_RECORDS_ALL
};

/* Everything is borrowed and outlives the forward. */

struct forward_config {
    struct thread_pool *pool;
    const struct shard *shard; /* with its kernels and device */
    struct attention *attention;
    struct group *group;     /* arranged */
    struct results *results; /* used on the last stage */
    uint32_t max_rows;
    enum forward_records records;
    struct trace_track *trace; /* of this thread, or NULL */
};

/* What the environment says. STATUS_INVALID: a word that means nothing. */
enum status forward_records_wanted(enum forward_records *records, struct error *error);

/* STATUS_NO_MEMORY, with the bytes. */
enum status forward_create(struct forward **forward, const struct forward_config *config,
                           struct error *error);
void forward_destroy(struct forward *forward);

/* Runs the rows of a step; segments of which attention fails have zeros there and go on. On
 * the last stage the results are made. Failures are those of the group, and STATUS_NO_MEMORY for
 * results; all end the job. */
enum status forward_run(struct forward *forward, const struct step *step, struct error *error);

/* Device memory that its activations and what goes through its experts have
 * (plan/working_size.h). */
uint64_t forward_working_bytes(const struct forward *forward);

/* Pieces of steps that the device did as one call, so far (worker/recordings.h). */
uint64_t forward_replayed(const struct forward *forward);

/* Microseconds of the last run, without waiting for the stage before. */
uint64_t forward_compute_us(const struct forward *forward);

#endif

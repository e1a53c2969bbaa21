/* worker/experts.h - the feed-forward part of a layer with experts: each row by the few of them
 * that its router chooses.
 *
 *     logits = Wrouter n;  a row's experts and weights: routing.h
 *     product = sum of weight[e] Wdown[e] (act(Wgate[e] n) * Wup[e] n),  over the row's experts here
 * What ranks with the other experts add comes after (group_sum). An expert's weights are read once
 * a step, but for one that has more rows than a block; one without rows is not touched.
 *
 * Where device memory is not the host's, the logits are brought to the host, once a layer: these
 * calls cannot be recorded. All memory is taken at creation. */
#ifndef LONGSPAN_WORKER_EXPERTS_H
#define LONGSPAN_WORKER_EXPERTS_H

#include "kernels/kernels.h"
#include "sys/status.h"
#include "sys/trace.h"
#include "worker/load.h"
#include "worker/routing.h"

#include <stdint.h>

struct experts; /* opaque */

struct experts_config {
    struct routing_shape routing;
    uint32_t hidden, ffn; /* columns of an expert */
    /* swiglu or geglu */
    void (*activate)(struct device *device, float *gate, const float *up, size_t n);
    const struct kernels *kernels;
    struct device *device; /* outlives it */
    struct trace_track *trace;
};

/* Also reserves the device's workspace for blocks; the caller does it for max_rows of `hidden`.
 * STATUS_NO_MEMORY, with the bytes. The caller ends *experts with experts_destroy. */
enum status experts_create(struct experts **experts, const struct experts_config *config,
                           struct error *error);
void experts_destroy(struct experts *experts);

/* Device memory that it has taken. NULL: none. */
uint64_t experts_bytes(const struct experts *experts);

/* normed and product: [n_rows][hidden], which may be the same. Fails as `finish`. */
enum status experts_run(struct experts *experts, const struct shard_layer *weights,
                        const float *normed, uint32_t n_rows, float *product, struct error *error);

#endif

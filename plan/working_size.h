/* plan/working_size.h - what a rank computes in, beside its weights and the KV cache: activations,
 * what goes through its experts, and an open tile of each sequence, layer and KV head
 * (worker/attention_tiles.h).
 *
 * A worker takes as much and says so when it is ready (WorkerReady.working_bytes). Not counted,
 * because they are the device's own or grow with what is asked for: what products are prepared in
 * (workspace_reserve of kernels/kernels.h), the logits of the rows whose tokens are asked for,
 * buffers of messages. Pure. */
#ifndef LONGSPAN_PLAN_WORKING_SIZE_H
#define LONGSPAN_PLAN_WORKING_SIZE_H

#include "kernels/quant/kv_type.h"
#include "model/hparams.h"
#include "plan/shard_part.h"

#include <stdbool.h>
#include <stdint.h>

struct working_limits {
    uint32_t max_rows, max_sequences; /* of a step; at once */
    enum kv_type kv_type;
};

/* Of a rank of a stage of so many layers; `last`: of the last stage. UINT64_MAX: more than can be
 * said. */
uint64_t working_size_of(const struct hparams *hparams, const struct shard_part *part,
                         uint32_t n_layers, bool last, const struct working_limits *limits);

#endif

/* plan/shard_part.h - what one rank of a tensor-parallel group holds of each layer, and therefore
 * of each tensor.
 *
 * The coordinator cuts, the workers load, and `longspan plan` counts by it. Pure. */
#ifndef LONGSPAN_PLAN_SHARD_PART_H
#define LONGSPAN_PLAN_SHARD_PART_H

#include "model/hparams.h"
#include "model/weights.h"

#include <stdint.h>

/* Ranges [begin, end): of each layer, and of the embedding and the output. */
struct shard_part {
    uint32_t kv_head_begin, kv_head_end;
    uint32_t ffn_begin, ffn_end; /* 0, 0: the model has experts */
    uint32_t vocab_begin, vocab_end;
    uint32_t expert_begin, expert_end; /* 0, 0: it has none */
};

/* A piece of a tensor, or of the matrix of each of these experts, in elements. A vector has one
 * row. */
struct shard_cut {
    uint32_t row_begin, row_end, column_begin, column_end;
};
struct shard_cut shard_cut_of(const struct shard_part *part, const struct hparams *hparams,
                              enum weights_id id);

#endif

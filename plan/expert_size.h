/* plan/expert_size.h - how much memory the rows of a step take that go through the experts of a
 * rank.
 *
 * worker/experts.h says what it is for and takes it; `longspan plan` counts it. Pure. */
#ifndef LONGSPAN_PLAN_EXPERT_SIZE_H
#define LONGSPAN_PLAN_EXPERT_SIZE_H

#include "model/hparams.h"
#include "plan/shard_part.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct expert_shape {
    uint32_t max_rows;          /* of a step */
    uint32_t n_experts, n_used; /* of the model: all, and those of a row */
    uint32_t n_here;            /* of this rank */
    uint32_t hidden, ffn;       /* columns: of a row, of an expert */
};

/* Of a rank with this part of its layers, of a model that has experts. */
struct expert_shape expert_shape_of(const struct hparams *hparams, const struct shard_part *part,
                                    uint32_t max_rows);

/* Numbers of floats, but for the last three. */
struct expert_size {
    size_t logits;       /* of the router: [max_rows][n_experts] */
    size_t pairs;        /* [most_pairs][hidden] */
    size_t ffn;          /* [block_rows][ffn], twice */
    uint64_t most_pairs; /* of a row and an expert, that a step can have here */
    uint32_t block_rows; /* pairs that go through the experts' columns at once */
    size_t bytes;        /* of all */
};

/* False: it has no size. */
bool expert_size_of(struct expert_size *size, const struct expert_shape *shape);

/* most_pairs alone. */
uint64_t expert_size_pairs(uint32_t max_rows, uint32_t n_used, uint32_t n_here);

#endif

/* plan/shard_cost.h - what a rank's part of a model weighs, and what a step asks of it.
 *
 * A step multiplies every weight with every row, but of the embedding, of which it reads rows, of
 * experts, of which a row uses a few, and of the model's last layer, where rows whose token nobody asks
 * for end as keys and values (worker/needed_rows.h). Pure. */
#ifndef LONGSPAN_PLAN_SHARD_COST_H
#define LONGSPAN_PLAN_SHARD_COST_H

#include "model/hparams.h"
#include "model/model_file.h"
#include "plan/shard_part.h"

#include <stdint.h>

/* Of products, by the arithmetic that they need: of blocks with 8-bit integers, of floats (F32, F16
 * and BF16 weights) in f32. A multiplication and an addition are two. */
struct shard_operations {
    double f32, int8;
};

struct shard_cost {
    uint64_t
        weight_bytes;    /* held: as in the file, but vectors in f32; a device adds some padding */
    uint64_t read_bytes; /* of them: read by every step */
    uint64_t expert_bytes;             /* of them: of all experts that are held */
    double expert_share;               /* of the experts, that a row uses; 0: there are none */
    struct shard_operations rows;      /* of one row */
    struct shard_operations predicted; /* besides, of one row whose token is predicted */
};

/* Layers [first_layer, first_layer + n_layers), with the embedding where the first of all is among
 * them, with the output where the last is. `file` passed weights_check. */
void shard_cost_of(struct shard_cost *cost, const struct hparams *hparams,
                   const struct model_file *file, const struct shard_part *part,
                   uint32_t first_layer, uint32_t n_layers);

/* The same of a whole model. */
void shard_cost_whole(struct shard_cost *cost, const struct hparams *hparams,
                      const struct model_file *file);

/* Of the experts that are held, how many a step of n rows meets: of E of which a row uses k, if
 * each choice is as likely as another, 1 - (1 - k / E)^n. For one row it is k of E. */
double shard_cost_experts_met(const struct shard_cost *cost, double n_rows);

#endif

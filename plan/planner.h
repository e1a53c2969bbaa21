/* plan/planner.h - which rank computes what.
 *
 * `pipeline` stages of consecutive layers, dealt so that the stages read equally many bytes of
 * weights: as evenly as possible, earlier stages take the odd layers, and the last one, which also
 * has the output matrix, fewer where that matrix is as large as a layer or more; in each stage
 * `tensor` shards (Megatron-LM, Shoeybi et al. 2019, section 3): whole KV-head groups, FFN columns
 * or whole experts, vocabulary rows. A shard may be unequal to its neighbours; it is cut where the
 * blocks of the tensors' quantized formats end, because ffn_down and attn_output are cut along
 * their rows.
 *
 * Over 2, 4 or 8 ranks that divide the model's segments (model/weights.h) the cuts are at segments,
 * so that the sums over the ranks have the bits of one rank.
 *
 * Pure: it looks at shapes only. */
#ifndef LONGSPAN_PLAN_PLANNER_H
#define LONGSPAN_PLAN_PLANNER_H

#include "kernels/quant/kv_type.h"
#include "model/hparams.h"
#include "model/weights.h"
#include "plan/shard_part.h"
#include "sys/status.h"

#include <stdint.h>

/* What planning needs to know of a model. */
struct planner_model {
    uint32_t n_layers, n_heads, n_kv_heads, head_dim, vocab;
    uint32_t ffn, n_experts; /* one of them is 0 */
    uint32_t n_experts_used; /* by one row */
    uint32_t ffn_block;      /* elements of a block in ffn_down, over all layers the largest */
    uint32_t attn_block;     /* likewise attn_output */
    struct weights_segments segments; /* where a cut keeps the bits of one rank */
    /* bytes in the file, of the largest layer where layers differ */
    uint64_t heads_bytes;  /* of one layer: attn_q, k, v, output, biases: cut by KV heads */
    uint64_t ffn_bytes;    /* of one layer: gate, up, down: cut by FFN columns, or by experts */
    uint64_t whole_bytes;  /* of one layer: norms and router: whole in each shard */
    uint64_t output_bytes; /* output (token_embd when tied): cut by rows, in the last stage */
};

/* Takes the shapes and types out of a file that passed weights_check. */
void planner_model_read(struct planner_model *model, const struct hparams *hparams,
                        const struct model_file *file);

struct planner_stage {
    uint32_t first_layer, n_layers;
};

struct planner_plan {
    uint32_t pipeline, tensor; /* MPI rank = stage * tensor + shard */
    struct planner_stage *stages;
    struct shard_part *shards;
};

/* pipeline 0: workers / tensor. The caller ends *plan with planner_plan_free.
 * STATUS_INVALID: pipeline * tensor is not `workers`, or an impossible split; the text lists the
 * possible ones. STATUS_NO_MEMORY. */
enum status planner_plan(struct planner_plan *plan, const struct planner_model *model,
                         uint32_t workers, uint32_t pipeline, uint32_t tensor, struct error *error);
void planner_plan_free(struct planner_plan *plan);

/* Bytes of K and V of one token: on that rank (its layers and heads), and of the whole model.
 * head_dim: whole blocks of the type (tile_check). */
uint64_t planner_rank_kv_bytes(const struct planner_plan *plan, const struct planner_model *model,
                               uint32_t rank, enum kv_type type);
uint64_t planner_kv_bytes(const struct planner_model *model, enum kv_type type);

#endif

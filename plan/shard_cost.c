/* shard_cost.c - a sum over the tensors of a shard, each as it is cut. */
#include "plan/shard_cost.h"

#include "kernels/quant/types.h"

#include <math.h>

struct piece {
    double columns, rows; /* of one matrix */
    uint64_t bytes;       /* of all matrices */
};

static struct piece piece_of(const struct model_tensor *tensor, const struct hparams *hparams,
                             const struct shard_part *part, enum weights_id id)
{
    const struct shard_cut cut = shard_cut_of(part, hparams, id);
    const uint32_t columns = cut.column_end - cut.column_begin, rows = cut.row_end - cut.row_begin;
    if (tensor->n_dims == 1)
        return (struct piece){.columns = columns, .bytes = columns * (uint64_t)sizeof(float)};
    const uint64_t n = tensor->n_dims == 3 ? part->expert_end - part->expert_begin : 1;
    return (struct piece){columns, rows,
                          n * rows * weight_row_bytes((enum weight_type)tensor->type, columns)};
}

/* A row of a step is multiplied with `used` matrices of this shape. */
static void add_products(struct shard_operations *sum, const struct model_tensor *tensor,
                         const struct piece *piece, double used)
{
    const double operations = 2.0 * piece->columns * piece->rows * used;
    if (tensor->type == GGUF_TYPE_F32 || tensor->type == GGUF_TYPE_F16 ||
        tensor->type == GGUF_TYPE_BF16)
        sum->f32 += operations;
    else
        sum->int8 += operations;
}

/* What k and v are made of: rows whose token nobody asks for need no more of the model's last layer. */
static bool makes_key_value(enum weights_id id)
{
    return id == WEIGHTS_ATTN_NORM || id == WEIGHTS_ATTN_K || id == WEIGHTS_ATTN_V ||
           id == WEIGHTS_ATTN_K_BIAS || id == WEIGHTS_ATTN_V_BIAS || id == WEIGHTS_ATTN_K_NORM;
}

static void add_layer(struct shard_cost *cost, const struct hparams *hparams,
                      const struct model_file *file, const struct shard_part *part, uint32_t layer)
{
    const bool last = layer + 1 == hparams->n_layers;
    for (int i = WEIGHTS_FIRST_OF_LAYER; i < WEIGHTS_COUNT; i++) {
        const enum weights_id id = (enum weights_id)i;
        const struct model_tensor *tensor =
            weights_has(hparams, id) ? weights_find(file, layer, id) : NULL;
        if (tensor == NULL)
            continue;
        const bool experts = i >= WEIGHTS_FIRST_OF_EXPERTS;
        const struct piece piece = piece_of(tensor, hparams, part, id);
        cost->weight_bytes += piece.bytes;
        *(experts ? &cost->expert_bytes : &cost->read_bytes) += piece.bytes;
        add_products(last && !makes_key_value(id) ? &cost->predicted : &cost->rows, tensor, &piece,
                     experts ? cost->expert_share * (part->expert_end - part->expert_begin) : 1);
    }
}

static void add_output(struct shard_cost *cost, const struct hparams *hparams,
                       const struct model_file *file, const struct shard_part *part, bool has_it)
{
    const struct model_tensor *norm = weights_find(file, 0, WEIGHTS_OUTPUT_NORM);
    const struct model_tensor *output = weights_find(file, 0, WEIGHTS_OUTPUT);
    if (norm != NULL) {
        const struct piece piece = piece_of(norm, hparams, part, WEIGHTS_OUTPUT_NORM);
        cost->weight_bytes += piece.bytes;
        cost->read_bytes += piece.bytes;
    }
    if (output == NULL)
        return;
    const struct piece piece = piece_of(output, hparams, part, WEIGHTS_OUTPUT);
    cost->weight_bytes += has_it ? 0 : piece.bytes;
    cost->read_bytes += piece.bytes;
    add_products(&cost->predicted, output, &piece, 1);
}

void shard_cost_of(struct shard_cost *cost, const struct hparams *hparams,
                   const struct model_file *file, const struct shard_part *part,
                   uint32_t first_layer, uint32_t n_layers)
{
    const bool first = first_layer == 0, last = first_layer + n_layers == hparams->n_layers;
    *cost = (struct shard_cost){
        .expert_share =
            hparams->n_experts > 0 ? (double)hparams->n_experts_used / hparams->n_experts : 0};
    const struct model_tensor *embedding = weights_find(file, 0, WEIGHTS_TOKEN_EMBD);
    if (first && embedding != NULL)
        cost->weight_bytes += piece_of(embedding, hparams, part, WEIGHTS_TOKEN_EMBD).bytes;
    for (uint32_t i = 0; i < n_layers; i++)
        add_layer(cost, hparams, file, part, first_layer + i);
    if (last)
        add_output(cost, hparams, file, part, first && hparams->tied);
}

void shard_cost_whole(struct shard_cost *cost, const struct hparams *hparams,
                      const struct model_file *file)
{
    const struct shard_part whole = {.kv_head_end = hparams->n_kv_heads,
                                     .ffn_end = hparams->ffn,
                                     .vocab_end = hparams->vocab,
                                     .expert_end = hparams->n_experts};
    shard_cost_of(cost, hparams, file, &whole, 0, hparams->n_layers);
}

double shard_cost_experts_met(const struct shard_cost *cost, double n_rows)
{
    return 1 - pow(1 - cost->expert_share, n_rows);
}

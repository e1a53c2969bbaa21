/* shard_part.c - see shard_part.h. */
#include "plan/shard_part.h"

/* This part of what one dimension runs over. */
static void extent_range(const struct shard_part *part, const struct hparams *h, enum weights_id id,
                         uint32_t dim, uint32_t *begin, uint32_t *end)
{
    const uint32_t group = h->n_heads / h->n_kv_heads;
    uint64_t dims[WEIGHTS_DIMS];
    weights_shape(h, id, dims);
    *begin = 0;
    *end = (uint32_t)dims[dim];
    switch (weights_extent(id, dim)) {
    case WEIGHTS_VOCAB:
        *begin = part->vocab_begin;
        *end = part->vocab_end;
        break;
    case WEIGHTS_FFN:
        *begin = part->ffn_begin;
        *end = part->ffn_end;
        break;
    case WEIGHTS_HEADS:
        *begin = part->kv_head_begin * group * h->head_dim;
        *end = part->kv_head_end * group * h->head_dim;
        break;
    case WEIGHTS_KV_HEADS:
        *begin = part->kv_head_begin * h->head_dim;
        *end = part->kv_head_end * h->head_dim;
        break;
    default:
        break; /* whole */
    }
}

struct shard_cut shard_cut_of(const struct shard_part *part, const struct hparams *hparams,
                              enum weights_id id)
{
    struct shard_cut cut;
    extent_range(part, hparams, id, 0, &cut.column_begin, &cut.column_end);
    extent_range(part, hparams, id, 1, &cut.row_begin, &cut.row_end);
    return cut;
}

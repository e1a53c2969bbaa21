/* working_size.c - see working_size.h. */
#include "plan/working_size.h"

#include "kernels/attention/attend.h"
#include "plan/activation_size.h"
#include "plan/expert_size.h"

uint64_t working_size_of(const struct hparams *h, const struct shard_part *part, uint32_t n_layers,
                         bool last, const struct working_limits *limits)
{
    const uint32_t n_kv_heads = part->kv_head_end - part->kv_head_begin;
    const struct activation_shape shape = activation_shape_of(h, part, limits->max_rows, last);
    const struct expert_shape experts = expert_shape_of(h, part, limits->max_rows);
    struct activation_size activations;
    struct expert_size through_experts = {0};
    uint64_t tiles, sum;
    if (!activation_size_of(&activations, &shape) ||
        (h->n_experts > 0 && !expert_size_of(&through_experts, &experts)) ||
        __builtin_mul_overflow((uint64_t)limits->max_sequences * n_layers,
                               n_kv_heads * (uint64_t)tile_bytes(limits->kv_type, h->head_dim),
                               &tiles) ||
        __builtin_add_overflow(activations.bytes, through_experts.bytes, &sum) ||
        __builtin_add_overflow(sum, tiles, &sum))
        return UINT64_MAX;
    return sum;
}

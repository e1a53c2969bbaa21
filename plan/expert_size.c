/* expert_size.c - see expert_size.h. */
#include "plan/expert_size.h"

#include "plan/activation_size.h"

enum { BLOCK_ROWS = 256 }; /* pairs; as few as keep reading an expert's weights again rare */

struct expert_shape expert_shape_of(const struct hparams *h, const struct shard_part *part,
                                    uint32_t max_rows)
{
    return (struct expert_shape){.max_rows = max_rows,
                                 .n_experts = h->n_experts,
                                 .n_used = h->n_experts_used,
                                 .n_here = part->expert_end - part->expert_begin,
                                 .hidden = h->hidden,
                                 .ffn = h->ffn_expert};
}

uint64_t expert_size_pairs(uint32_t max_rows, uint32_t n_used, uint32_t n_here)
{
    return (uint64_t)max_rows * (n_here < n_used ? n_here : n_used);
}

/* As activation_size_area; false: more bytes than an address space has. */
static bool area(size_t *floats, uint64_t n_rows, uint32_t n_columns)
{
    size_t all;
    *floats = 0;
    if (__builtin_mul_overflow(n_rows, (size_t)n_columns, &all) ||
        all > SIZE_MAX / 8 / sizeof(float)) /* of which there are four */
        return false;
    *floats = activation_size_area((size_t)n_rows, n_columns);
    return true;
}

bool expert_size_of(struct expert_size *size, const struct expert_shape *shape)
{
    struct expert_size s = {.most_pairs =
                                expert_size_pairs(shape->max_rows, shape->n_used, shape->n_here)};
    s.block_rows = s.most_pairs < BLOCK_ROWS ? (uint32_t)s.most_pairs : BLOCK_ROWS;
    if (!area(&s.logits, shape->max_rows, shape->n_experts) ||
        !area(&s.pairs, s.most_pairs, shape->hidden) || !area(&s.ffn, s.block_rows, shape->ffn))
        return false;
    s.bytes = (s.logits + s.pairs + 2 * s.ffn) * sizeof(float);
    *size = s;
    return true;
}

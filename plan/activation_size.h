/* plan/activation_size.h - how much memory a rank computes in, beside its weights and the KV cache.
 *
 * worker/activations.h says what it is for. Pure. */
#ifndef LONGSPAN_PLAN_ACTIVATION_SIZE_H
#define LONGSPAN_PLAN_ACTIVATION_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct activation_shape {
    uint32_t max_rows;               /* of a step */
    uint32_t hidden, query, kv, ffn; /* columns: query heads', KV heads', FFN's of this rank */
    uint32_t n_streams;              /* 1; 2 where rows leave for another stage */
};

/* Numbers of floats, but for the last two. */
struct activation_size {
    size_t hidden, query, kv; /* of max_rows rows */
    size_t ffn;               /* of block_rows rows */
    size_t between, within;   /* what lives between two products; within attention or the FFN */
    uint32_t block_rows;      /* rows that go through the feed-forward part at once */
    size_t bytes;             /* of all */
};

/* False: it has no size. */
bool activation_size_of(struct activation_size *size, const struct activation_shape *shape);

#endif

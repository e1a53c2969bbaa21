/* activation_size.c - see activation_size.h. */
#include "plan/activation_size.h"

enum {
    LINE_FLOATS = 16, /* of a cache line */
    /* At most: with few rows, reading the weights once for each block begins to cost (longspan
     * bench -d 0 -p 512). */
    BLOCK_ROWS = 192,
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

struct activation_shape activation_shape_of(const struct hparams *h, const struct shard_part *part,
                                            uint32_t max_rows, bool last)
{
    const uint32_t n_kv_heads = part->kv_head_end - part->kv_head_begin;
    return (struct activation_shape){
        .max_rows = max_rows,
        .hidden = h->hidden,
        .query = n_kv_heads * (h->n_heads / h->n_kv_heads) * h->head_dim,
        .kv = n_kv_heads * h->head_dim,
        .ffn = part->ffn_end - part->ffn_begin,
        .n_streams = last ? 1 : 2,
    };
}

size_t activation_size_area(size_t n_rows, size_t n_columns)
{
    return (n_rows * n_columns + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
}

bool activation_size_of(struct activation_size *size, const struct activation_shape *shape)
{
    const size_t rows = shape->max_rows;
    size_t most = 4 * (size_t)shape->hidden + 2 * (size_t)shape->query + 2 * (size_t)shape->kv +
                  2 * (size_t)shape->ffn + 10 * LINE_FLOATS; /* columns, and more than it will be */
    if (__builtin_mul_overflow(most * sizeof(float), rows, &most))
        return false;
    const size_t n_blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const size_t block_rows = n_blocks > 0 ? (rows + n_blocks - 1) / n_blocks : 0;
    struct activation_size s = {.hidden = activation_size_area(rows, shape->hidden),
                                .query = activation_size_area(rows, shape->query),
                                .kv = activation_size_area(rows, shape->kv),
                                .ffn = activation_size_area(block_rows, shape->ffn),
                                .block_rows = (uint32_t)block_rows};
    s.between = larger(s.hidden, s.query);
    s.within = larger(s.query + 2 * s.kv, 2 * s.ffn);
    s.bytes = (shape->n_streams * s.hidden + s.between + s.within) * sizeof(float);
    *size = s;
    return true;
}

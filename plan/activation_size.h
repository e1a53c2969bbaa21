/* plan/activation_size.h - how much memory a rank's activations take, but for what goes through
 * experts.
 *
 * worker/activations.h says what they are for and takes it; `longspan plan` counts it. Pure. */
#ifndef LONGSPAN_PLAN_ACTIVATION_SIZE_H
#define LONGSPAN_PLAN_ACTIVATION_SIZE_H

#include "model/hparams.h"
#include "plan/shard_part.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct activation_shape {
    uint32_t max_rows;               /* of a step */
    uint32_t hidden, query, kv, ffn; /* columns: query heads', KV heads', FFN's of this rank */
    uint32_t n_streams;              /* 1; 2 where rows leave for another stage */
};

/* Of a rank with this part of its layers; `last`: of the last stage. */
struct activation_shape activation_shape_of(const struct hparams *hparams,
                                            const struct shard_part *part, uint32_t max_rows,
                                            bool last);

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

/* The floats of an area of so many rows and columns: it ends where a cache line does, so that the
 * next one begins at one. */
size_t activation_size_area(size_t n_rows, size_t n_columns);

#endif

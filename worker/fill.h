/* worker/fill.h - keys and values that nobody computed: a KV cache of any depth, for measuring.
 *
 * A step that fills appends k and v like any other, to the rank's own tiles and to every holder,
 * but they are seeded pseudo-random numbers and nothing is attended or computed. A value is a
 * function of (seed, position, layer, KV head, which of the two, dimension) alone, so that what is
 * decoded behind a fill has the same bits for every layout, and however the fill was cut in chunks.
 * Values have mean 0 and variance 1, like normed keys, so that a softmax over them is neither flat
 * nor one-hot. */
#ifndef LONGSPAN_WORKER_FILL_H
#define LONGSPAN_WORKER_FILL_H

#include "sys/thread_pool.h"
#include "worker/step.h"

#include <stdint.h>

/* Which part of the model this rank has, counted in the whole model. */
struct fill_shape {
    uint32_t layer, first_kv_head, n_kv_heads, head_dim;
};

/* k, v: [rows][n_kv_heads][head_dim], of a step that fills. */
void fill_rows(struct thread_pool *pool, const struct step *step, const struct fill_shape *shape,
               float *k, float *v);

#endif

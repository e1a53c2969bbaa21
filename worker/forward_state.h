/* worker/forward_state.h - what forward.c (steps) and forward_layer.c (layers) share. */
#ifndef LONGSPAN_WORKER_FORWARD_STATE_H
#define LONGSPAN_WORKER_FORWARD_STATE_H

#include "worker/activations.h"
#include "worker/experts.h"
#include "worker/forward.h"
#include "worker/needed_rows.h"
#include "worker/recordings.h"

#include <stdbool.h>

struct forward {
    struct forward_config config;
    const struct kernels *kernels;
    struct device *device;
    const struct shard *shard;
    uint32_t hidden, head_dim;
    uint32_t n_kv_heads, n_heads, ffn, vocab; /* of this rank */
    float epsilon;                            /* of norms */
    void (*activate)(struct device *device, float *gate, const float *up, size_t n); /* swiglu... */

    struct activations activations;
    struct needed_rows rows;
    struct experts *experts; /* NULL: the model has none */
    struct recordings *recordings;
    uint32_t parity;  /* the stream of this step */
    float *filled[2]; /* host memory: k and v of a step that fills */

    uint64_t compute_us;
};

/* Where a step is: at the attention of a layer, or before the first, or behind the last one. */
struct forward_place {
    struct forward *f;
    const struct step *step;
    float *x;
    uint32_t layer;  /* of this rank: whose attention comes next */
    bool narrows;    /* the model's last layer is here, and behind it not all rows are needed */
    bool asks_early; /* q leaves as soon as it is made */
    bool prepares;   /* attention is prepared, and launched where pieces begin */
};

/* Before the attention of place->layer: q, k and v; where it narrows, q of the needed rows only, to
 * which the stream shrinks. Asks early. */
void forward_begin_layer(const struct forward_place *place);

/* Behind the attention of the layer before it: what was attended to, then the feed-forward part go
 * into the stream. Fails as group_sum and experts_run. */
enum status forward_end_layer(const struct forward_place *place, struct error *error);

/* Makes rows ready for products with these matrices. */
void forward_prepare(struct forward *f, const float *x, uint32_t n_rows, uint32_t n_columns,
                     const struct matrix *const *used, size_t n_used);

#endif

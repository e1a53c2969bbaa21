/* tests/worker/reference.h - a tiny random model of any architecture, as a file and in plain double
 * precision: the equations of model/hparams.h, one after the other.
 *
 * Test programs link one source file: include reference.c once in each. */
#ifndef LONGSPAN_TESTS_WORKER_REFERENCE_H
#define LONGSPAN_TESTS_WORKER_REFERENCE_H

#include "kernels/quant/kv_type.h"
#include "model/hparams.h"
#include "model/weights.h"

#include <stdbool.h>
#include <stdint.h>

struct reference_shape {
    uint32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, ffn, vocab;
    bool tied, rope_factors;
    enum weight_type type; /* of the matrices */
    uint64_t seed;
    enum architecture architecture; /* llama, when it is left out */
    bool biases;                    /* also where the architecture need not have them */
    uint32_t window;                /* instead of the architecture's; 0: that one */
    enum weight_type vectors;       /* F32, F16 or BF16 */
    float norm_offset;              /* what the weights of norms count from: 0 or 1 */
    uint32_t n_experts, n_used;     /* then ffn is that of one; 0: none */
    bool softmax_of_all;            /* experts' weights need not add up to 1 */
    float scale; /* granite: of scores; its other scales follow from it; 0: none */
};

/* What its file says, as far as it follows from the shape. */
struct hparams reference_hparams(const struct reference_shape *shape);

struct reference; /* opaque */

/* Writes the model to `path`. The same shape and seed give the same bytes. Failures fail the test.
 */
struct reference *reference_create(const struct reference_shape *shape, const char *path);
void reference_destroy(struct reference *reference);

/* Rows of floats as the file's values are, dims as in the file; those of norms with what they count
 * from. NULL: not in the model. */
const float *reference_tensor(const struct reference *reference, uint32_t layer,
                              enum weights_id id);

/* logits[i][vocab] after tokens[0..i], for i < n. Straight from the formulas; k and v are rounded
 * to `kv_type`, nothing else is rounded to less than double. */
void reference_logits(const struct reference *reference, const int32_t *tokens, uint32_t n,
                      enum kv_type kv_type, double *logits);

/* Largest |a - b| of n, over the root mean square of b. */
double reference_distance(const float *a, const double *b, size_t n);

#endif

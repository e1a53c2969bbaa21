/* worker/activations.h - what the layers of a rank compute on the way: one block of device memory.
 *
 * Rows are tokens of a step, all f32. What is never alive at the same time shares memory, so that
 * it stays small beside the weights of a small model; who uses it need only know what ends what:
 *
 *     normed, attended, product   one memory. What is prepared for products (kernels.h) is copied
 *                                 there, so that a product may be written over what it was made of.
 *     query, key, value           one memory with
 *     gate, up                    which hold the rows of one block only: the feed-forward part goes
 *                                 through a step's rows in blocks of `block_rows`.
 *
 * Two streams where rows leave for another stage: one may still leave while the next step runs. */
#ifndef LONGSPAN_WORKER_ACTIVATIONS_H
#define LONGSPAN_WORKER_ACTIVATIONS_H

#include "kernels/kernels.h"
#include "plan/activation_size.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct activations {
    float *stream[2]; /* [max_rows][hidden]; the same one twice if there is only one */
    float *normed;    /* [max_rows][hidden] */
    float *attended;  /* [max_rows][query] */
    float *product;   /* [max_rows][hidden]: of the two products that are added to the stream */
    float *query;     /* [max_rows][query] */
    float *key;       /* [max_rows][kv] */
    float *value;
    float *gate; /* [block_rows][ffn] */
    float *up;
    uint32_t block_rows;

    const struct kernels *kernels;
    struct device *device;
    void *memory;
    size_t bytes;
};

/* All of it is reserved now, and on a CPU taken when it is first written. STATUS_NO_MEMORY, with
 * the bytes. The device outlives it. The caller ends it with activations_close. */
enum status activations_open(struct activations *activations, const struct activation_shape *shape,
                             const struct kernels *kernels, struct device *device,
                             struct error *error);

/* All zeros is fine. */
void activations_close(struct activations *activations);

#endif

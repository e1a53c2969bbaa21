/* kernels/attention/partial.h - the partial: what attention over some tokens gives, per query row.
 *
 * Per row: m = largest score, l = sum of e^(score - m), o = sum of e^(score - m) v, [head_dim], not
 * divided by l. No visible token: m = -inf, l = 0, o = 0 (the identity of merge). All f32. One
 * block of memory, in memory and on the wire:
 *
 *     m[n_rows] l[n_rows] o[n_rows][head_dim]
 *
 * Lamina v2, section 4.2.2; LeanAttention, section 4.1; Milakov and Gimelshein 2018. */
#ifndef LONGSPAN_KERNELS_ATTENTION_PARTIAL_H
#define LONGSPAN_KERNELS_ATTENTION_PARTIAL_H

#include "kernels/attention/tree.h"

#include <stddef.h>
#include <stdint.h>

/* Floats of one partial of n_rows rows. */
static inline size_t partial_floats(size_t n_rows, size_t head_dim)
{
    return n_rows * (head_dim + 2);
}

void partial_clear(float *partial, size_t n_rows, size_t head_dim);

/* Folds b into a. An empty row of b leaves a's bits; an empty row of a takes b's bits. */
void partial_merge(float *a, const float *b, size_t n_rows, size_t head_dim);

/* Folds nodes of one query row block into the row's result, in the order of tree.h, whatever
 * order they came in. Usage: reset, add each node once (any order; all of [0, n) together), then
 * finish. `fold` borrows the partials that are added; it may overwrite them as scratch. */
struct partial_fold {
    uint32_t n_tiles, n_nodes;
    size_t n_rows, head_dim;
    struct {
        struct tile_range range;
        float *partial;
    } nodes[512];
};

void partial_fold_reset(struct partial_fold *fold, uint32_t n_tiles, size_t n_rows,
                        size_t head_dim);

/* 0 when the fold is full (more than 512 nodes: the placement is too fragmented). */
int partial_fold_add(struct partial_fold *fold, struct tile_range range, float *partial);

/* Merges all nodes and last `own` (the row's own tile; NULL when there is none), then writes o / l
 * (0 for a row that saw no token): row r to out + (r / group) * out_token_stride + (r % group) *
 * head_dim. Returns 0, and writes nothing, when the nodes do not cover [0, n_tiles) exactly once: a
 * bug or a peer's lie, never a wrong answer. */
int partial_fold_finish(struct partial_fold *fold, float *own, float *out, size_t out_token_stride,
                        uint32_t group);

#endif

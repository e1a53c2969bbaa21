/* worker/routing.h - which rows of a step go to which experts of this rank, and how they come back.
 *
 * A router gives each row a number for each expert; the n_used largest are its experts, of equal
 * numbers those with the lower index, weighted by their softmax (Shazeer et al. 2017, section 2.1;
 * Jiang et al. 2024, Mixtral of Experts, section 2.1). Every rank of a group routes all rows, by
 * the same numbers, and keeps the pairs of a row and an expert that it holds. Pairs are ordered by
 * expert, then by row, so that an expert's rows are multiplied together.
 *
 * A row's sum over its experts is a tree over ranges of experts (weights_expert_ranges), ascending
 * within one, so that ranks with aligned ranges go on with it (kernels.h, struct combine_terms).
 *
 * Host memory, taken at creation; no libm: the same on every host. */
#ifndef LONGSPAN_WORKER_ROUTING_H
#define LONGSPAN_WORKER_ROUTING_H

#include "kernels/kernels.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct routing_shape {
    uint32_t max_rows;
    uint32_t n_experts, n_used; /* of the model; n_used <= n_experts */
    uint32_t first, end;        /* experts of this rank */
    bool normalise; /* a row's weights add up to 1; else the softmax is over all experts */
};

struct routing {
    struct routing_shape shape;

    /* Of the last routing_make. */
    uint32_t n_pairs, n_groups;
    uint32_t *row;    /* [n_pairs]: of the step */
    uint32_t *expert; /* [n_groups]: those that have rows, counted from the first of this rank */
    uint32_t *end;    /* [n_groups]: where their pairs end */
    struct combine_terms terms; /* of each row: its pairs */

    struct routing_choice *choices; /* [max_rows][n_used] */
    uint32_t *next;                 /* [experts of this rank] */
    uint32_t range_experts;         /* in a range */
    uint32_t *term_end, *term_row;
    float *term_weight;
};

/* The caller ends *routing with routing_close. STATUS_NO_MEMORY, with the bytes. */
enum status routing_open(struct routing *routing, const struct routing_shape *shape,
                         struct error *error);
void routing_close(struct routing *routing); /* all zeros is fine */

/* Routes rows by logits [n_rows][n_experts]. Numbers that are none give weights that are none, to
 * valid experts. */
void routing_make(struct routing *routing, const float *logits, uint32_t n_rows);

#endif

/* coordinator/sampler_row.h - passes over a whole row of logits.
 *
 * A row has as many numbers as the vocabulary, 150,000 of them for each token of each sequence, and
 * all workers wait while the coordinator looks at it. So these passes are loops that compilers turn
 * into vector instructions. Sums have one written order (lanes of eight within a block, then
 * blocks), with vector instructions or without: a seed gives the same ids on every host.
 *
 * Rows may have -inf, but a finite largest logit, `max`, and n >= 1. */
#ifndef LONGSPAN_COORDINATOR_SAMPLER_ROW_H
#define LONGSPAN_COORDINATOR_SAMPLER_ROW_H

#include <stdbool.h>
#include <stdint.h>

/* Whether any logit is above `most`, or not a number. */
bool sampler_row_exceeds(const float *row, uint32_t n, float most);

/* The index of the largest logit, the lowest one among equals. */
uint32_t sampler_row_best(const float *row, uint32_t n);

/* The sum of e^(logit - max). */
double sampler_row_total(const float *row, uint32_t n, float max);

/* The indices of logits that are max + least at least, ascending, into order[n]. Returns how
 * many. */
uint32_t sampler_row_filter(const float *row, uint32_t n, float max, float least, uint32_t *order);

/* Draws an index in proportion to e^((logit - max) / temperature), which is the weight; u is from
 * [0, 1). Never one of weight 0. */
uint32_t sampler_row_draw(const float *row, uint32_t n, float max, float temperature, double u);

#endif

/* cluster/make_random_blocks.h - random super-blocks (Q4_K, Q5_K, Q6_K), drawn as blocks.
 *
 * Integers are uniform, scales between half and all of their range, so that every bit of a block
 * varies. A uniform integer of n steps has the variance (n^2 - 1) / 12; d makes the deviation what
 * it shall be, within 3%. The mean is 0: in Q4_K and Q5_K by a dmin of (n - 1) / 2 d with minima
 * equal to the scales; in Q6_K, whose integers have a mean of -1/2, by scales of both signs. */
#ifndef LONGSPAN_CLUSTER_MAKE_RANDOM_BLOCKS_H
#define LONGSPAN_CLUSTER_MAKE_RANDOM_BLOCKS_H

#include "kernels/quant/types.h"
#include "sys/random.h"

#include <stddef.h>
#include <stdint.h>

/* n weights, a multiple of 256, of deviation `scale`. */
void make_random_blocks(enum weight_type type, uint8_t *out, size_t n, float scale,
                        struct random_state *random);

#endif

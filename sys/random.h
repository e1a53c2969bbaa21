/* sys/random.h - seeded numbers that are the same on every host, and bytes that nobody can guess.
 *
 * xoshiro256** 1.0 (Blackman and Vigna 2021), its state filled by splitmix64 (Steele, Lea, Flood
 * 2014). Not for secrets. No libm: a seed means the same weights and samples everywhere. */
#ifndef LONGSPAN_SYS_RANDOM_H
#define LONGSPAN_SYS_RANDOM_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct random_state {
    uint64_t words[4];
};

/* Any seed is fine, 0 too. */
void random_seed(struct random_state *state, uint64_t seed);

uint64_t random_u64(struct random_state *state);

/* Uniform in [0, n), without bias. 0 for n = 0. */
uint64_t random_below(struct random_state *state, uint64_t n);

/* Uniform in [0, 1): multiples of 2^-24 (2^-53). */
float random_f32(struct random_state *state);
double random_f64(struct random_state *state);

/* Mean 0, variance 1, in [-6, 6]: the sum of 12 uniform numbers (Irwin-Hall) less 6. Its tails are
 * lighter than the normal distribution's (kurtosis 2.9 instead of 3), fine for random weights. */
float random_normal(struct random_state *state);

/* One step of splitmix64: hashes a number, to derive seeds from (seed, index). */
uint64_t random_mix(uint64_t value);

/* Fills from the kernel's generator: ids that must not repeat between processes or runs.
 * STATUS_IO: it gave none. */
enum status random_unique(void *bytes, size_t size, struct error *error);

#endif

/* cluster/load_shape.h - what a load test sends, and when: lengths, prompts, arrivals. Pure; same
 * seed, same load.
 *
 * Arrivals are a Poisson process: exponential gaps, whatever the server does meanwhile (an open
 * loop), since clients in the world do not wait for each other. Lengths are exponential around
 * their mean by default, which is nearer to the published traces than one length for all; they are
 * cut at LOAD_SHAPE_MOST_MEANS means. */
#ifndef LONGSPAN_CLUSTER_LOAD_SHAPE_H
#define LONGSPAN_CLUSTER_LOAD_SHAPE_H

#include "sys/random.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

enum { LOAD_SHAPE_MOST_MEANS = 8 };

enum load_spread { LOAD_EXPONENTIAL, LOAD_UNIFORM, LOAD_FIXED }; /* uniform: 0.5 to 1.5 means */

/* Means in tokens. */
struct load_shape {
    double prompt, output;
    enum load_spread spread;
};

/* "azure-conv" and the other presets, or "PROMPT:OUTPUT". `spread` is kept. STATUS_INVALID:
 * neither. */
enum status load_shape_read(struct load_shape *shape, const char *text, struct error *error);

/* Names and means of the presets, one a line, for the help. */
const char *load_shape_presets(void);

/* At least 1. */
uint32_t load_shape_draw(enum load_spread spread, double mean, struct random_state *random);

/* Seconds until the next arrival; rate 0: none, all come at once. */
double load_shape_gap(double rate, struct random_state *random);

/* n ids drawn from a pool of n_pool (not 0), the first n_common of them the same for every prompt
 * of that seed. */
void load_shape_prompt(int32_t *ids, uint32_t n, uint32_t n_common, const int32_t *pool,
                       size_t n_pool, uint64_t seed, struct random_state *random);

#endif

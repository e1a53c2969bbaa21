/* plan/step_limit.h - how fast something can be done at best on some hardware.
 *
 * The longer one of its bytes over the read bandwidth, and of its arithmetic over what the hardware
 * can do. Nothing overlaps better than that. Pure. */
#ifndef LONGSPAN_PLAN_STEP_LIMIT_H
#define LONGSPAN_PLAN_STEP_LIMIT_H

#include "plan/shard_cost.h"

#include <stdbool.h>

/* What it can do in a second; INFINITY: not known, and not counted. */
struct step_limit_machine {
    double read_bytes_per_s, f32_per_s, int8_per_s;
    double floats_per_s; /* products with F32, F16 and BF16 weights: f32_per_s, or of bf16 */
};

/* What is to be done. */
struct step_limit_demand {
    double bytes;                     /* read */
    struct shard_operations products; /* of all rows */
    double attend_operations;         /* in f32 */
};

/* Bytes and products of a step of n rows, of which the tokens of `predicted` are asked for; nothing
 * of attention. */
struct step_limit_demand step_limit_products(const struct shard_cost *cost, double rows,
                                             double predicted);

double step_limit_seconds(const struct step_limit_demand *demand,
                          const struct step_limit_machine *machine, bool *arithmetic);

#endif

/* coordinator/constraint/numbers.h - JSON numbers, with and without bounds, as grammars. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_NUMBERS_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_NUMBERS_H

#include "coordinator/constraint/grammar.h"

/* The bounds of a schema. */
struct numbers_bounds {
    double least, most;           /* -INFINITY, INFINITY: none */
    bool above_least, below_most; /* the bound itself is not allowed */
};

/* Integers of up to 18 digits. Failures: of the grammar (no number lies within the bounds). */
uint32_t numbers_integer(struct grammar *grammar, const struct numbers_bounds *bounds,
                         uint32_t next);

/* Any number: up to 18 digits before the point and after it, an exponent of up to two. Within
 * bounds: no exponent, and fractions only where the whole interval between two integers is allowed;
 * where that leaves nothing, one number between the bounds. */
uint32_t numbers_real(struct grammar *grammar, const struct numbers_bounds *bounds, uint32_t next);

#endif

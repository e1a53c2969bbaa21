/* coordinator/constraint/automaton.h - where in a grammar a text may be: an automaton that is made
 * as it is walked.
 *
 * A place is an instruction and a stack of rules to return to; a state is the set of places where
 * the text so far may stand. Stacks and states are kept once each and known by numbers, and so are
 * transitions: what was walked once is a look-up. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_AUTOMATON_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_AUTOMATON_H

#include "coordinator/constraint/grammar.h"

#include <stdbool.h>
#include <stdint.h>

struct automaton; /* opaque */

#define AUTOMATON_DEAD 0u /* no text goes on from here */

/* The grammar is finished, and borrowed. `horizon`: the bytes that are looked ahead at most (the
 * longest token); counts beyond it need not be told apart (automaton_near). NULL: no memory. */
struct automaton *automaton_create(const struct grammar *grammar, uint32_t horizon);
void automaton_destroy(struct automaton *automaton);

uint32_t automaton_start(struct automaton *automaton);
/* AUTOMATON_DEAD too where a limit is reached: then automaton_limited is true from now on. */
uint32_t automaton_next(struct automaton *automaton, uint32_t state, uint8_t byte);
bool automaton_limited(const struct automaton *automaton);
/* What all calls have cost so far: places that were looked at. A state has up to a thousand, where
 * a pattern can be cut in many ways. */
uint64_t automaton_work(const struct automaton *automaton);

bool automaton_accepts(const struct automaton *automaton, uint32_t state);
/* It accepts, and no byte goes on from here. */
bool automaton_is_final(const struct automaton *automaton, uint32_t state);
/* The least bytes to an end; GRAMMAR_NEVER for AUTOMATON_DEAD. */
uint32_t automaton_distance(const struct automaton *automaton, uint32_t state);
uint32_t automaton_depth(const struct automaton *automaton, uint32_t state); /* of the stack */

/* A state that takes the same texts of up to `horizon` bytes; states that differ only in far limits
 * (a string of at most 1000 characters, at the 10th and the 20th) share it. Distances of both grow
 * and shrink alike. */
uint32_t automaton_near(struct automaton *automaton, uint32_t state);

/* Forgets all states but this one, once there are many; returns its new number. */
uint32_t automaton_tidy(struct automaton *automaton, uint32_t state);
uint64_t automaton_generation(
    const struct automaton *automaton); /* how often states were forgotten */

#endif

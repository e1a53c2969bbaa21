/* coordinator/constraint/machine.h - where in a program a text may be: an automaton that is made as
 * it is walked.
 *
 * A place is an instruction and a stack of rules to return to; a state is the set of places where
 * the text so far may stand. Stacks and states are kept once each and known by numbers, and so are
 * transitions: what was walked once is a look-up. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_MACHINE_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_MACHINE_H

#include "coordinator/constraint/program.h"

#include <stdbool.h>
#include <stdint.h>

struct machine; /* opaque */

#define MACHINE_DEAD 0u /* no text goes on from here */

/* The program is finished, and borrowed. `horizon`: the bytes that are looked ahead at most (the
 * longest token); counts beyond it need not be told apart (machine_near). NULL: no memory. */
struct machine *machine_create(const struct program *program, uint32_t horizon);
void machine_destroy(struct machine *machine);

uint32_t machine_start(struct machine *machine);
/* MACHINE_DEAD too where a limit is reached: then machine_limited is true from now on. */
uint32_t machine_next(struct machine *machine, uint32_t state, uint8_t byte);
bool machine_limited(const struct machine *machine);

bool machine_accepts(const struct machine *machine, uint32_t state);
/* The least bytes to an end; PROGRAM_NEVER for MACHINE_DEAD. */
uint32_t machine_distance(const struct machine *machine, uint32_t state);
uint32_t machine_depth(const struct machine *machine, uint32_t state); /* of the stack */

/* A state that takes the same texts of up to `horizon` bytes; states that differ only in far limits
 * (a string of at most 1000 characters, at the 10th and the 20th) share it. Distances of both grow
 * and shrink alike. */
uint32_t machine_near(struct machine *machine, uint32_t state);

/* Forgets all states but this one, once there are many; returns its new number. */
uint32_t machine_tidy(struct machine *machine, uint32_t state);
uint64_t machine_generation(const struct machine *machine); /* how often states were forgotten */

#endif

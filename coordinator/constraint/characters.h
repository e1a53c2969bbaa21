/* coordinator/constraint/characters.h - characters inside JSON strings, as grammars.
 *
 * A character stands in a string as UTF-8, or, where JSON demands it, as an escape. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_CHARACTERS_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_CHARACTERS_H

#include "coordinator/constraint/grammar.h"

enum { CHARACTERS_RANGES = 512 };

/* A set of code points: ranges, sorted and apart from each other once characters_normalise was
 * called. Surrogates are never written. */
struct characters {
    struct {
        uint32_t first, last;
    } ranges[CHARACTERS_RANGES];
    uint32_t n;
};

/* False: too many ranges. */
bool characters_add(struct characters *set, uint32_t first, uint32_t last);
void characters_normalise(struct characters *set);
/* All others up to `last`; the set is normalised. */
void characters_invert(struct characters *set, uint32_t last);

/* One character of the set. NUL is left out. */
uint32_t characters_one(struct grammar *grammar, const struct characters *set, uint32_t next);

/* One character of any kind, written in any way that JSON allows, but NUL and lone surrogates. */
uint32_t characters_any(struct grammar *grammar, uint32_t next);

#endif

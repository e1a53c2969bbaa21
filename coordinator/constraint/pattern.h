/* coordinator/constraint/pattern.h - a regular expression to a grammar for JSON strings.
 *
 * Understood: literals, . [...] [^...] \d \w \s \D \W \S, escapes of characters, groups, |, ?, *,
 * +, {n}, {n,}, {n,m} (also lazy), ^ at the beginning and $ at the end of the whole or of an
 * alternative of it. As the schema standard says, a pattern without ^ and $ matches anywhere. Other
 * constructs (looking around, back references, \b ...) are refused.
 * \d, \w and \s, and what excludes them, mean ASCII alone: dialects differ beyond it. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_PATTERN_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_PATTERN_H

#include "coordinator/constraint/grammar.h"

/* The characters of a string whose value matches, without its quotes. `least` and `most` bound
 * their number (0 and GRAMMAR_UNBOUNDED: not); bounds that the pattern does not keep by itself are
 * supported where it is one repeated character, and refused elsewhere. Failures: of the grammar. */
uint32_t pattern_compile(struct grammar *grammar, const char *pattern, uint32_t least,
                         uint32_t most, uint32_t next);

#endif

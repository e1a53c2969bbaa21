/* coordinator/constraint/grammar.h - a grammar over bytes, as instructions.
 *
 * A rule is a piece of it that ends with RETURN; rules call rules, also themselves, which makes
 * the language a context-free one. Instructions name the one that follows, and are built from the
 * end to the beginning: every function takes what follows and returns where to enter.
 *     SET     one byte of a set
 *     SPLIT   one of two continuations
 *     CALL    a rule
 *     REPEAT  a rule, `least` to `most` times; it takes at least one byte each time
 *     RETURN  the end of a rule
 * A failure sticks: `status` and `error` say what; the numbers that are returned then mean
 * nothing. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_GRAMMAR_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_GRAMMAR_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAMMAR_UNBOUNDED UINT32_MAX /* `most` of a REPEAT */
#define GRAMMAR_NEVER     UINT32_MAX /* a length: no text gets there */

enum grammar_op { GRAMMAR_SET, GRAMMAR_SPLIT, GRAMMAR_CALL, GRAMMAR_REPEAT, GRAMMAR_RETURN };

struct grammar_instruction {
    enum grammar_op op;
    uint32_t next;
    uint32_t operand; /* set, the other continuation, or rule */
    uint32_t least, most;
};

struct grammar_set {
    uint64_t bits[4];
};

struct grammar {
    struct grammar_instruction *code;
    uint32_t n;
    size_t capacity;
    struct grammar_set *sets; /* the first 256: single bytes */
    uint32_t n_sets;
    size_t set_capacity;
    uint32_t *rules; /* where to enter */
    uint32_t n_rules;
    size_t rule_capacity;
    uint32_t *shortest;      /* after grammar_finish: bytes from an instruction to its RETURN */
    uint8_t byte_class[256]; /* likewise: bytes that no set tells apart are of one class */
    uint32_t n_classes;
    enum status status;
    struct error error;
};

void grammar_open(struct grammar *grammar);
void grammar_close(struct grammar *grammar);

/* STATUS_INVALID; returns 0 so that `return grammar_fail(...)` reads well. */
uint32_t grammar_fail(struct grammar *grammar, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

uint32_t grammar_return(struct grammar *grammar);
uint32_t grammar_byte(struct grammar *grammar, uint8_t byte, uint32_t next);
uint32_t grammar_range(struct grammar *grammar, uint8_t first, uint8_t last, uint32_t next);
/* An empty set: nothing gets through. */
uint32_t grammar_set(struct grammar *grammar, const struct grammar_set *set, uint32_t next);
uint32_t grammar_text(struct grammar *grammar, const char *text, size_t n_bytes, uint32_t next);
uint32_t grammar_split(struct grammar *grammar, uint32_t one, uint32_t other);
uint32_t grammar_call(struct grammar *grammar, uint32_t rule, uint32_t next);
uint32_t grammar_repeat(struct grammar *grammar, uint32_t rule, uint32_t least, uint32_t most,
                        uint32_t next);

/* A rule whose code is set later, and the setting. */
uint32_t grammar_rule(struct grammar *grammar);
void grammar_rule_set(struct grammar *grammar, uint32_t rule, uint32_t entry);

bool grammar_set_has(const struct grammar_set *set, uint8_t byte);
void grammar_set_add(struct grammar_set *set, uint8_t first, uint8_t last);

/* Computes `shortest` and the classes; rule 0 is the whole. STATUS_INVALID: it has no text at all,
 * or a rule begins with itself, or repeats what may be empty. */
enum status grammar_finish(struct grammar *grammar);

#endif

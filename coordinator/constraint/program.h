/* coordinator/constraint/program.h - a grammar over bytes, as instructions.
 *
 * A rule is a piece of program that ends with RETURN; rules call rules, also themselves, which makes
 * the language a context-free one. Instructions name the one that follows, and are built from the
 * end to the beginning: every function takes what follows and returns where to enter.
 *     SET     one byte of a set
 *     SPLIT   one of two continuations
 *     CALL    a rule
 *     REPEAT  a rule, `least` to `most` times; it takes at least one byte each time
 *     RETURN  the end of a rule
 * A failure sticks: `status` and `error` say what; the numbers that are returned then mean nothing. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_PROGRAM_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_PROGRAM_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRAM_UNBOUNDED UINT32_MAX /* `most` of a REPEAT */
#define PROGRAM_NEVER     UINT32_MAX /* a length: no text gets there */

enum program_op { PROGRAM_SET, PROGRAM_SPLIT, PROGRAM_CALL, PROGRAM_REPEAT, PROGRAM_RETURN };

struct program_instruction {
    enum program_op op;
    uint32_t next;
    uint32_t operand; /* set, the other continuation, or rule */
    uint32_t least, most;
};

struct program_set {
    uint64_t bits[4];
};

struct program {
    struct program_instruction *code;
    uint32_t n, capacity;
    struct program_set *sets; /* the first 256: single bytes */
    uint32_t n_sets, set_capacity;
    uint32_t *rules; /* where to enter */
    uint32_t n_rules, rule_capacity;
    uint32_t *shortest;      /* after program_finish: bytes from an instruction to its RETURN */
    uint8_t byte_class[256]; /* likewise: bytes that no set tells apart are of one class */
    uint32_t n_classes;
    enum status status;
    struct error error;
};

void program_open(struct program *program);
void program_close(struct program *program);

/* STATUS_INVALID; returns 0 so that `return program_fail(...)` reads well. */
uint32_t program_fail(struct program *program, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

uint32_t program_return(struct program *program);
uint32_t program_byte(struct program *program, uint8_t byte, uint32_t next);
uint32_t program_range(struct program *program, uint8_t first, uint8_t last, uint32_t next);
/* An empty set: nothing gets through. */
uint32_t program_set(struct program *program, const struct program_set *set, uint32_t next);
uint32_t program_text(struct program *program, const char *text, size_t n_bytes, uint32_t next);
uint32_t program_split(struct program *program, uint32_t one, uint32_t other);
uint32_t program_call(struct program *program, uint32_t rule, uint32_t next);
uint32_t program_repeat(struct program *program, uint32_t rule, uint32_t least, uint32_t most,
                        uint32_t next);

/* A rule whose code is set later, and the setting. */
uint32_t program_rule(struct program *program);
void program_rule_set(struct program *program, uint32_t rule, uint32_t entry);

bool program_set_has(const struct program_set *set, uint8_t byte);
void program_set_add(struct program_set *set, uint8_t first, uint8_t last);

/* Computes `shortest` and the classes; rule 0 is the whole. STATUS_INVALID: it has no text at all,
 * or a rule begins with itself, or repeats what may be empty. */
enum status program_finish(struct program *program);

#endif

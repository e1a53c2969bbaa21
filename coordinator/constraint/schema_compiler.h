/* coordinator/constraint/schema_compiler.h - what the files schema*.c share; nobody else includes
 * it. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_SCHEMA_COMPILER_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_SCHEMA_COMPILER_H

#include "coordinator/constraint/schema.h"

struct schema_compiler {
    struct grammar *grammar;
    const json_t *root;
    json_t *rules; /* by address of a schema: its rule */
    json_t *made;  /* schemas that were put together */
    unsigned depth;
    uint64_t work;                          /* that was done, or is about to be */
    char place[256];                        /* of what is being compiled: ".name.items" */
    uint32_t space, any, string, character; /* rules that are needed often, plus 1; 0: not yet */
};

/* Fails, saying where. */
uint32_t schema_refuse(struct schema_compiler *compiler, const json_t *schema, const char *what);

/* Before work that grows faster than the schema. False: failed, it would take too long for a loop
 * that others wait for. */
bool schema_spend(struct schema_compiler *compiler, const json_t *schema, uint64_t work);

/* The rule for the values of a schema. */
uint32_t schema_rule(struct schema_compiler *compiler, const json_t *schema);

/* The rule for any value. */
uint32_t schema_any(struct schema_compiler *compiler);

/* The values of one type that fulfil the schema. */
uint32_t schema_value(struct schema_compiler *compiler, const json_t *schema, const char *type,
                      uint32_t next);

#endif

/* coordinator/constraint/schema_merge.h - two schemas that must hold together, as one. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_SCHEMA_MERGE_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_SCHEMA_MERGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* A new schema (json_decref), whose members may be shared with both; NULL: no memory, or a keyword
 * of both that cannot be joined, which *keyword then names. Schemas inside are joined as
 * {"allOf": [one, other]}. */
json_t *schema_merge(const json_t *a, const json_t *b, const char **keyword);

/* Can no value fulfil both? False where that is not known. `resolve` follows $ref, or returns the
 * schema itself. */
bool schema_apart(const json_t *a, const json_t *b,
                  const json_t *(*resolve)(void *context, const json_t *schema), void *context);

/* What the two take at most, about, in comparisons of short texts, to be looked at before: hostile
 * schemas multiply. */
uint64_t schema_merge_work(const json_t *a, const json_t *b);
uint64_t schema_apart_work(const json_t *a, const json_t *b,
                           const json_t *(*resolve)(void *context, const json_t *schema),
                           void *context);

/* Does `type` (a keyword's value: a name, several, or NULL for all) have this name? An integer is a
 * number too. */
bool schema_has_type(const json_t *type, const char *name);

/* Is the name among the schema's `required`? */
bool schema_requires(const json_t *schema, const char *name);

/* The name of a value's own type: "integer" where it is one. */
const char *schema_type_of(const json_t *value);

#endif

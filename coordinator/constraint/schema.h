/* coordinator/constraint/schema.h - a JSON schema to a grammar for its values.
 *
 * Understood (drafts 7 to 2020-12): type, enum, const, anyOf, oneOf (where alternatives cannot hold
 * together), allOf, $ref into the document, also recursive; properties, required,
 * additionalProperties, minProperties and maxProperties where they follow from the others; items,
 * prefixItems, minItems, maxItems; minLength, maxLength, pattern (pattern.h), format (date-time,
 * date, time, duration, email, hostname, ipv4, ipv6, uuid, uri); minimum, maximum,
 * exclusiveMinimum, exclusiveMaximum. Titles, descriptions, defaults, examples and comments mean
 * nothing. Any other keyword is refused by name: ignored, it would be broken.
 *
 * Every value that comes out validates; not every value that validates can come out:
 * properties stand in the order of the schema; those that it does not list come only where
 * additionalProperties asks for them or nothing is listed; a schema that constrains one type
 * without naming it means that type; integers have up to 18 digits. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_SCHEMA_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_SCHEMA_H

#include "coordinator/constraint/grammar.h"
#include "sys/status.h"

#include <jansson.h>

/* Rule 0 of the opened grammar is the whole, and the grammar is finished. `schema` NULL: any
 * object. STATUS_INVALID: refused, the text names the keyword and where it stands.
 * STATUS_NO_MEMORY. */
enum status schema_compile(struct grammar *grammar, const json_t *schema, struct error *error);

#endif

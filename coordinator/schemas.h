/* coordinator/schemas.h - JSON schemas, worked out by a thread of their own, so that no token waits
 * for a large one; the last ones are remembered.
 *
 * A request for JSON asks for its schema. Where it is not known yet, the request has to wait, and
 * asks again once the descriptor can be read. What comes out belongs to the asking thread. */
#ifndef LONGSPAN_COORDINATOR_SCHEMAS_H
#define LONGSPAN_COORDINATOR_SCHEMAS_H

#include "coordinator/constraint/constraint.h"
#include "model/tokenizer.h"
#include "sys/status.h"

#include <stdbool.h>

struct schemas; /* opaque */

enum { SCHEMAS_MOST_ASKED = 64 }; /* that are not worked out, or not settled */

/* The tokenizer is borrowed. STATUS_NO_MEMORY. */
enum status schemas_create(struct schemas **schemas, const struct tokenizer *tokenizer,
                           struct error *error);
/* Waits for the one that is being worked out: half a second at most. NULL is fine. */
void schemas_destroy(struct schemas *schemas);

/* `text`: a schema in JSON; "": any object. *first: the answers' constraints are made of it by
 * constraint_again, and end before schemas_destroy; borrowed until the next call. NULL: it is not
 * worked out yet. A failure says why there is none: as constraint_create and vocabulary_create, or
 * text that is no JSON. STATUS_EXHAUSTED: too many are asked for already, and this is not one of
 * them. */
enum status schemas_find(struct schemas *schemas, const char *text, const struct constraint **first,
                         struct error *error);

/* Can be read when some have been worked out since the last schemas_settle. */
int schemas_descriptor(const struct schemas *schemas);

/* False: none has been worked out since the last time. Else whoever waits for any asks again, and
 * then they are settled: what nobody asked for again is forgotten, if it is not under way. */
bool schemas_worked(struct schemas *schemas);
void schemas_settle(struct schemas *schemas);

#endif

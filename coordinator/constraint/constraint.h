/* coordinator/constraint/constraint.h - JSON that fits a schema, token by token.
 *
 * Before each token constraint_mask says which tokens may come: those after which the text is still
 * the beginning of a value that validates. Tokens that end generation may come only when the value
 * is complete. The value is one line or indented (white space between its parts: spaces or a
 * newline and spaces, at most 33 characters), its properties stand in the schema's order.
 *
 * It ends in time: a mask knows how many tokens are left, and leaves out those after which the
 * shortest end would not fit. Nesting beyond some 60 levels is closed on the shortest way too.
 *
 * Which schemas: schema.h. A constraint belongs to one sequence and one thread. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_CONSTRAINT_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_CONSTRAINT_H

#include "coordinator/constraint/vocabulary.h"
#include "sys/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct constraint; /* opaque */

/* `schema` NULL: any JSON object. The vocabulary is borrowed; the schema is not kept. The caller
 * ends *constraint with constraint_destroy. STATUS_INVALID: a schema that cannot be met, or with a
 * keyword that we do not have; the text names keyword and place. STATUS_NO_MEMORY. */
enum status constraint_create(struct constraint **constraint, const json_t *schema,
                              const struct vocabulary *vocabulary, struct error *error);
void constraint_destroy(struct constraint *constraint);

/* Another one for the same schema, at its beginning: for the other answers to a request. What was
 * made of the schema is shared, so that all of them belong to one thread. STATUS_NO_MEMORY. */
enum status constraint_again(struct constraint **constraint, const struct constraint *first,
                             struct error *error);

/* The least tokens that an answer takes, its end included. */
uint32_t constraint_shortest(const struct constraint *constraint);

/* Sets bit id % 32 of bits[id / 32] for each token that may come next, and clears all others;
 * `bits` has room for vocabulary->n_tokens bits. `n_left`: tokens that may still come, this one and
 * the end included. At least one is set. False: there are so many ways to go on here that the mask
 * would take seconds; `bits` is undefined, and the answer cannot go on. */
bool constraint_mask(struct constraint *constraint, uint32_t n_left, uint32_t *bits);

/* Goes on behind a token that the mask had. False: it had not, and nothing changes. */
bool constraint_accept(struct constraint *constraint, int32_t token);

/* The value is whole and nothing can follow but the end, which need not be waited for. Where no
 * token ends answers: the value is whole. */
bool constraint_is_complete(const struct constraint *constraint);

#endif

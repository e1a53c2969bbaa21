/* coordinator/constraint/vocabulary.h - the bytes of all tokens as a tree, so that tokens with a
 * common beginning are tried together.
 *
 * Nodes stand in preorder: a node's children follow it, and `end` is where its subtree ends. Made
 * once for a tokenizer. */
#ifndef LONGSPAN_COORDINATOR_CONSTRAINT_VOCABULARY_H
#define LONGSPAN_COORDINATOR_CONSTRAINT_VOCABULARY_H

#include "model/tokenizer.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { VOCABULARY_TOKEN_BYTES = 256 }; /* longer tokens are left out */

struct vocabulary_node {
    uint8_t byte;
    uint16_t depth; /* 1, 2 ... */
    uint32_t end;
    int32_t token; /* that ends here, or TOKENIZER_NONE */
};

struct vocabulary {
    const struct tokenizer *tokenizer;
    struct vocabulary_node *nodes;
    uint32_t n_nodes;
    int32_t *same; /* [n_tokens] another token with the same bytes, or TOKENIZER_NONE */
    uint32_t n_tokens;
    uint32_t longest; /* bytes of a token */
    bool ends;        /* some token ends generation */
};

/* Control, unknown and unused tokens are left out: they are no text. The tokenizer is borrowed. The
 * caller ends it with vocabulary_destroy. STATUS_UNSUPPORTED: some byte that JSON needs has no
 * token of its own. STATUS_NO_MEMORY. */
enum status vocabulary_create(struct vocabulary **vocabulary, const struct tokenizer *tokenizer,
                              struct error *error);
/* Is the token among them? False for any number that is no token. */
bool vocabulary_has(const struct vocabulary *vocabulary, int32_t token);

void vocabulary_destroy(struct vocabulary *vocabulary);

#endif

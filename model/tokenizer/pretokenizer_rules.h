/* model/tokenizer/pretokenizer_rules.h - what the names in tokenizer.ggml.pre stand for.
 *
 * A GGUF file only names how its model's texts are cut. The rules are those of the model's own
 * tokenizer.json, where it is known, so that ids are those of Hugging Face's `tokenizers`; that
 * includes the normal form NFC, which a GGUF file does not mention and some programs leave out. */
#ifndef LONGSPAN_MODEL_TOKENIZER_PRETOKENIZER_RULES_H
#define LONGSPAN_MODEL_TOKENIZER_PRETOKENIZER_RULES_H

#include "model/tokenizer/pretokenizer.h"

#include <stdbool.h>

struct pretokenizer_rule; /* opaque; a row of a constant table */

/* NULL: no rule has this name. */
const struct pretokenizer_rule *pretokenizer_rule_find(const char *name);

/* Writes all names, separated by ", ", as many as fit, for messages. */
void pretokenizer_rule_names(char *list, size_t n_bytes);

/* Adds the rule's steps to an empty pre-tokenizer. STATUS_NO_MEMORY, STATUS_FAILED (this PCRE2 does
 * not take an expression). */
enum status pretokenizer_rule_apply(const struct pretokenizer_rule *rule,
                                    struct pretokenizer *pretokenizer, struct error *error);

bool pretokenizer_rule_nfc(const struct pretokenizer_rule *rule);         /* before it is cut */
bool pretokenizer_rule_whole_words(const struct pretokenizer_rule *rule); /* ignore_merges */
bool pretokenizer_rule_bos(const struct pretokenizer_rule *rule); /* unless a key says else */

#endif

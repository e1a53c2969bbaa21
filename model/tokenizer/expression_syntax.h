/* model/tokenizer/expression_syntax.h - Oniguruma's syntax in PCRE2's words. */
#ifndef LONGSPAN_MODEL_TOKENIZER_EXPRESSION_SYNTAX_H
#define LONGSPAN_MODEL_TOKENIZER_EXPRESSION_SYNTAX_H

#include "sys/status.h"

/* The caller frees *translated. STATUS_UNSUPPORTED: names the construct. STATUS_NO_MEMORY. */
enum status expression_syntax_translate(char **translated, const char *pattern,
                                        struct error *error);

#endif

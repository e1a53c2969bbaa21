/* model/chat/jinja_lexer.h - a template's text to tokens, as jinja2 3.1 cuts it with trim_blocks
 * and lstrip_blocks.
 *
 * What is between the tags becomes JINJA_TOKEN_DATA, with white space removed where `-`, `+`,
 * trim_blocks (the newline behind a block or comment) and lstrip_blocks (spaces before a block or
 * comment that stands first in its line) say so. Newlines are one kind (\n), and one at the end of
 * the template is dropped. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_LEXER_H
#define LONGSPAN_MODEL_CHAT_JINJA_LEXER_H

#include "model/chat/jinja_pool.h"
#include "model/chat/jinja_value.h"
#include "sys/status.h"

enum jinja_token_kind {
    JINJA_TOKEN_END,
    JINJA_TOKEN_DATA,
    JINJA_TOKEN_BLOCK_BEGIN, /* {% */
    JINJA_TOKEN_BLOCK_END,
    JINJA_TOKEN_OUTPUT_BEGIN, /* {{ */
    JINJA_TOKEN_OUTPUT_END,
    JINJA_TOKEN_NAME,
    JINJA_TOKEN_STRING, /* text: without quotes, escapes replaced */
    JINJA_TOKEN_INTEGER,
    JINJA_TOKEN_REAL,
    JINJA_TOKEN_OPERATOR, /* text: "==", "(" ... */
};

struct jinja_token {
    enum jinja_token_kind kind;
    uint32_t line; /* 1, 2 ... */
    struct jinja_string text;
    union {
        int64_t integer;
        double real;
    };
};

struct jinja_tokens {
    struct jinja_token *items; /* the last is JINJA_TOKEN_END */
    size_t n, capacity;
};

/* All memory is of the pool. STATUS_UNSUPPORTED: the text is no template, or has what we do not
 * read; the text of the error names line and place. STATUS_NO_MEMORY. */
enum status jinja_lexer_read(struct jinja_tokens *tokens, struct jinja_pool *pool,
                             const char *source, size_t n_bytes, struct error *error);

#endif

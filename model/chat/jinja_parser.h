/* model/chat/jinja_parser.h - tokens to a tree: the grammar of jinja2 3.1.
 *
 * Statements: if, for (with else, if, recursive, break, continue), set (also of a namespace's
 * attribute, of several names, of a block), macro, call, filter, with, raw, and generation (Hugging
 * Face's mark around the assistant's turns, which prints what is inside). Templates that include or
 * extend others are refused, as is any filter or test that jinja_builtin.h does not have.
 *
 * jinja_parser_statements.c reads statements, jinja_parser_expressions.c what stands in them. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_PARSER_H
#define LONGSPAN_MODEL_CHAT_JINJA_PARSER_H

#include "model/chat/jinja_lexer.h"
#include "model/chat/jinja_syntax.h"

/* *body is the list of statements, of the pool. STATUS_UNSUPPORTED with the line and the construct,
 * STATUS_NO_MEMORY. */
enum status jinja_parser_read(struct jinja_node **body, struct jinja_pool *pool, const char *source,
                              size_t n_bytes, struct error *error);

/* ---- between the two files ------------------------------------------------------------------- */

/* A failure sticks: functions then return NULL, and whoever calls returns too. */
struct jinja_parser {
    struct jinja_pool *pool;
    struct jinja_tokens tokens;
    size_t at;
    unsigned depth, loops; /* of the recursion; for statements around this place */
    bool failed;
    struct error *error;
};

enum {
    JINJA_MAX_DEPTH = 100,  /* of the parser's recursion */
    JINJA_MAX_HEIGHT = 300, /* of a tree: a + a + ... is as high as it is long */
};

void *jinja_parser_fail(struct jinja_parser *parser, const char *what, struct jinja_string text);
const struct jinja_token *jinja_parser_peek(const struct jinja_parser *parser);
/* Is the next token this one? Take: and go on behind it. Expect: fail if not. */
bool jinja_parser_is(const struct jinja_parser *parser, enum jinja_token_kind kind,
                     const char *text);
bool jinja_parser_take(struct jinja_parser *parser, enum jinja_token_kind kind, const char *text);
bool jinja_parser_expect(struct jinja_parser *parser, enum jinja_token_kind kind, const char *text);
bool jinja_parser_name(struct jinja_parser *parser, struct jinja_string *name);

struct jinja_node *jinja_parser_node(struct jinja_parser *parser, enum jinja_node_kind kind,
                                     struct jinja_node *a, struct jinja_node *b);

/* Sets the height after members were added. */
struct jinja_node *jinja_parser_finish(struct jinja_parser *parser, struct jinja_node *node);

/* An expression, or several with commas between: a tuple. */
struct jinja_node *jinja_parser_expression(struct jinja_parser *parser);
struct jinja_node *jinja_parser_tuple(struct jinja_parser *parser);
/* The items of a for statement: a tuple of expressions without `x if y`. */
struct jinja_node *jinja_parser_iterable(struct jinja_parser *parser);
/* Behind `a`, which may be NULL: name(arguments), and further `| name`. */
struct jinja_node *jinja_parser_filters(struct jinja_parser *parser, struct jinja_node *a);
/* Attributes, subscripts and calls behind a NAME. */
struct jinja_node *jinja_parser_primary(struct jinja_parser *parser);

#endif

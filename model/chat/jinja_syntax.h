/* model/chat/jinja_syntax.h - a template as a tree.
 *
 * One kind of node for all; what the members mean depends on `kind`. Nodes live in the template's
 * pool and are never changed after parsing. `height` bounds the recursion of whoever walks. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_SYNTAX_H
#define LONGSPAN_MODEL_CHAT_JINJA_SYNTAX_H

#include "model/chat/jinja_value.h"

enum jinja_node_kind {
    /* Expressions. */
    JINJA_LITERAL,    /* value */
    JINJA_NAME,       /* name */
    JINJA_SEQUENCE,   /* list: items; value.tuple: a tuple */
    JINJA_MAPPING,    /* list: JINJA_PAIR */
    JINJA_PAIR,       /* a: key, b: value */
    JINJA_ATTRIBUTE,  /* a.name */
    JINJA_SUBSCRIPT,  /* a[b] */
    JINJA_SLICE,      /* a[b:c:list]; each may be NULL */
    JINJA_CALL,       /* a(list) */
    JINJA_FILTER,     /* a | filter(list); a NULL: of a filter block */
    JINJA_TEST,       /* a is test(list) */
    JINJA_ARGUMENT,   /* of a call: b; name: of a keyword, or empty; op: enum jinja_spread */
    JINJA_NOT,        /* not a */
    JINJA_NEGATIVE,   /* - a */
    JINJA_POSITIVE,   /* + a */
    JINJA_AND,        /* a and b */
    JINJA_OR,         /* a or b */
    JINJA_BINARY,     /* a + - * / // % ** b: op */
    JINJA_CONCAT,     /* list: a ~ b ~ c */
    JINJA_COMPARISON, /* a, then list: JINJA_COMPARED: op, b */
    JINJA_COMPARED,
    JINJA_CONDITIONAL, /* b if a else c; c may be NULL */

    /* Statements; `list`: the body. */
    JINJA_DATA,      /* value: a string */
    JINJA_OUTPUT,    /* {{ a }} */
    JINJA_IF,        /* a: condition; other: `elif` (JINJA_IF) or the body of `else`, or NULL */
    JINJA_FOR,       /* for b in a if c; other: the body of else; op 1: recursive */
    JINJA_SET,       /* b = a; b: NAME, ATTRIBUTE of a NAME, or SEQUENCE of these */
    JINJA_SET_BLOCK, /* b: as above; a: FILTERs around the body, or NULL */
    JINJA_MACRO_DEFINITION, /* name(other: parameters as JINJA_ARGUMENT: name, b: default) */
    JINJA_CALL_BLOCK,       /* a: JINJA_CALL; other: parameters of caller */
    JINJA_FILTER_BLOCK,     /* a: FILTERs */
    JINJA_WITH,             /* other: JINJA_SET, in order */
    JINJA_SCOPE,            /* generation: a scope of its own */
    JINJA_BREAK,
    JINJA_CONTINUE,
};

enum jinja_operator {
    JINJA_ADD,
    JINJA_SUBTRACT,
    JINJA_MULTIPLY,
    JINJA_DIVIDE,
    JINJA_FLOOR_DIVIDE,
    JINJA_MODULO,
    JINJA_POWER,
    JINJA_EQUAL,
    JINJA_UNEQUAL,
    JINJA_LESS,
    JINJA_LESS_EQUAL,
    JINJA_GREATER,
    JINJA_GREATER_EQUAL,
    JINJA_IN,
    JINJA_NOT_IN,
};

enum jinja_spread { JINJA_ONE, JINJA_SPREAD_LIST, JINJA_SPREAD_DICT };

struct jinja_node {
    enum jinja_node_kind kind;
    uint16_t op; /* enum jinja_operator, or a flag */
    uint16_t height;
    uint32_t line;
    struct jinja_string name;
    struct jinja_node *a, *b, *c;
    struct jinja_node *list, *other;
    struct jinja_node *next; /* of the list that this node is in */
    union {
        struct jinja_value value;
        const struct jinja_function *function; /* FILTER, TEST */
    };
};

/* What a macro value is: where it was defined, and in which scope. */
struct jinja_macro {
    const struct jinja_node *definition; /* MACRO_DEFINITION, or CALL_BLOCK for caller */
    struct jinja_scope *scope;
};

#endif

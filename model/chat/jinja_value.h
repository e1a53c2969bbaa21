/* model/chat/jinja_value.h - what a template computes with: the values of Python that chat
 * templates use.
 *
 * Values are small and copied; what they point to lives in the pool of the rendering, in the syntax
 * tree or in the caller's JSON, and is never changed (the sandbox of Hugging Face forbids it too),
 * except for namespaces. Strings are UTF-8, need no NUL at their end and may share memory. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_VALUE_H
#define LONGSPAN_MODEL_CHAT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jinja_string {
    const char *data;
    size_t n_bytes;
};

enum jinja_kind {
    JINJA_UNDEFINED, /* false, empty, prints nothing; most uses fail */
    JINJA_NONE,
    JINJA_BOOLEAN,
    JINJA_INTEGER,
    JINJA_REAL,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_DICT,
    JINJA_NAMESPACE, /* a dict whose entries `set` may change */
    JINJA_MACRO,
    JINJA_FUNCTION, /* of the environment: range, namespace, raise_exception ... */
    JINJA_METHOD,   /* of a string or dict, with the object it belongs to */
    JINJA_LOOP,     /* the variable `loop` */
};

struct jinja_value {
    enum jinja_kind kind;
    bool lazy;  /* of a list: Python has a generator here, which is true even when it is empty */
    bool tuple; /* of a list */
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct jinja_string string; /* of UNDEFINED: what is missing, for the message */
        const struct jinja_list *list;
        struct jinja_dict *dict; /* and NAMESPACE */
        const struct jinja_macro *macro;
        const struct jinja_function *function;
        const struct jinja_bound *method;
        struct jinja_loop *loop;
    };
};

struct jinja_list {
    const struct jinja_value *items;
    size_t n;
};

struct jinja_entry {
    struct jinja_value key, value;
};

/* In order of insertion. */
struct jinja_dict {
    struct jinja_entry *entries;
    size_t n, capacity;
};

/* `loop` of one for statement. */
struct jinja_loop {
    const struct jinja_list *items;
    size_t at; /* index of this turn */
    uint32_t depth;
    bool has_changed; /* loop.changed was called */
    struct jinja_value changed;
    const struct jinja_node *statement; /* a recursive loop: loop(items) runs it again */
    struct jinja_scope *scope;
};

/* Deepest nesting of lists and dicts that is looked at. */
enum { JINJA_MAX_NESTING = 200 };

static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}
static inline struct jinja_value jinja_boolean(bool boolean)
{
    return (struct jinja_value){.kind = JINJA_BOOLEAN, .boolean = boolean};
}
static inline struct jinja_value jinja_integer(int64_t integer)
{
    return (struct jinja_value){.kind = JINJA_INTEGER, .integer = integer};
}
static inline struct jinja_value jinja_real(double real)
{
    return (struct jinja_value){.kind = JINJA_REAL, .real = real};
}
static inline struct jinja_value jinja_text(const char *data, size_t n_bytes)
{
    return (struct jinja_value){.kind = JINJA_STRING, .string = {data, n_bytes}};
}
static inline struct jinja_value jinja_undefined(struct jinja_string name)
{
    return (struct jinja_value){.kind = JINJA_UNDEFINED, .string = name};
}

bool jinja_string_is(struct jinja_string string, const char *text);

/* Python's bool(value). */
bool jinja_truth(struct jinja_value value);

/* BOOLEAN, INTEGER, REAL: Python computes with all three. */
bool jinja_is_number(struct jinja_value value);

/* Python's name of its type, for messages. */
const char *jinja_type_name(struct jinja_value value);

/* Python's ==. Lists and dicts nested deeper than JINJA_MAX_NESTING are unequal. */
bool jinja_equal(struct jinja_value a, struct jinja_value b);

/* Python's < = > as -1, 0, 1. False: these have no order (numbers, strings, and lists of these
 * have). */
bool jinja_compare(struct jinja_value a, struct jinja_value b, int *order);

/* NULL: no such key. */
struct jinja_value *jinja_dict_find(const struct jinja_dict *dict, struct jinja_value key);

#endif

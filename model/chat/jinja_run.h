/* model/chat/jinja_run.h - one rendering: its memory, its limits, its names, its output.
 *
 * A failure sticks: jinja_fail writes the text, everything then returns at once with undefined
 * values. Steps count what is evaluated and every 64 bytes or items that are looked at, so that a
 * hostile template ends within a second or so. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_RUN_H
#define LONGSPAN_MODEL_CHAT_JINJA_RUN_H

#include "model/chat/jinja_pool.h"
#include "model/chat/jinja_syntax.h"
#include "sys/status.h"

#include <stdatomic.h>

enum {
    JINJA_MAX_CALLS = 40,     /* macros inside each other */
    JINJA_MAX_LEVELS = 900,   /* of the walk through trees, macros included */
    JINJA_MAX_PARAMETERS = 6, /* of a filter, test, method or function */
    JINJA_MAX_STEPS = 20000000,
};

struct jinja_variable {
    struct jinja_variable *next;
    struct jinja_string name;
    struct jinja_value value;
};

struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_variable *variables;
};

/* Text that grows, in the pool. */
struct jinja_output {
    char *data;
    size_t n_bytes, capacity;
};

enum jinja_signal { JINJA_GO_ON, JINJA_LEAVE_TURN, JINJA_LEAVE_LOOP };

struct jinja_run {
    struct jinja_pool *pool;
    struct jinja_scope *scope;
    struct jinja_output *output;
    enum jinja_signal signal; /* break or continue, until its loop has seen it */
    uint64_t steps, max_steps;
    const atomic_bool *stop; /* set by another thread: it fails at its next step; NULL: never */
    unsigned levels, calls;
    uint32_t line; /* of the statement that runs */
    bool failed;
    struct error *error;
};

/* What a call passes. */
struct jinja_keyword {
    struct jinja_string name;
    struct jinja_value value;
};
struct jinja_arguments {
    const struct jinja_value *items;
    size_t n;
    const struct jinja_keyword *keywords;
    size_t n_keywords;
};

/* A filter, test, method or function of the environment. `parameters`: names with spaces between;
 * `least` of them must be given. NULL: `call` reads the arguments itself, at[] is empty. */
struct jinja_function {
    const char *name, *parameters;
    unsigned least;
    /* at[i]: the argument for parameter i, NULL where it is not given. */
    struct jinja_value (*call)(struct jinja_run *run, struct jinja_value subject,
                               const struct jinja_value *const *at,
                               const struct jinja_arguments *arguments);
};
struct jinja_bound {
    const struct jinja_function *function;
    struct jinja_value subject;
};

/* Returns an undefined value. STATUS_INVALID, with the line of the statement. */
struct jinja_value jinja_fail(struct jinja_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* False: the limit of steps is reached, it was told to stop (STATUS_CANCELLED), or something failed
 * before. */
bool jinja_step(struct jinja_run *run, size_t n);

/* Memory of the rendering; NULL: the run has failed. Steps are counted. */
void *jinja_take(struct jinja_run *run, size_t n_items, size_t item_bytes);

/* A copy of the items as a value. */
struct jinja_value jinja_new_list(struct jinja_run *run, const struct jinja_value *items, size_t n);
/* An empty dict with room for n entries, which jinja_dict_add fills and grows. NULL: failed. */
struct jinja_dict *jinja_new_dict(struct jinja_run *run, size_t n);
void jinja_dict_add(struct jinja_run *run, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value);

void jinja_write(struct jinja_run *run, struct jinja_output *output, const char *data, size_t n);
struct jinja_value jinja_output_value(const struct jinja_output *output);

void jinja_define(struct jinja_run *run, struct jinja_scope *scope, struct jinja_string name,
                  struct jinja_value value);

/* What a for statement walks: the items of a list, characters, keys. False: failed. */
bool jinja_items(struct jinja_run *run, struct jinja_value value, const struct jinja_list **items);

/* value.name and value[key], as the sandbox finds them: undefined where there is none. */
struct jinja_value jinja_attribute(struct jinja_run *run, struct jinja_value value,
                                   struct jinja_string name);
struct jinja_value jinja_subscript(struct jinja_run *run, struct jinja_value value,
                                   struct jinja_value key);

/* Python's `needle in haystack`. */
bool jinja_contains(struct jinja_run *run, struct jinja_value haystack, struct jinja_value needle);

/* Binds arguments to parameters and calls. */
struct jinja_value jinja_call_function(struct jinja_run *run, const struct jinja_function *function,
                                       struct jinja_value subject,
                                       const struct jinja_arguments *arguments);

/* jinja_evaluate.c: an expression's value. */
struct jinja_value jinja_evaluate(struct jinja_run *run, const struct jinja_node *node);
/* The filters of `node` around `subject`. */
struct jinja_value jinja_apply_filters(struct jinja_run *run, const struct jinja_node *node,
                                       struct jinja_value subject);
/* The values of a call's arguments; false: failed. */
bool jinja_read_arguments(struct jinja_run *run, const struct jinja_node *list,
                          struct jinja_arguments *arguments);
struct jinja_value jinja_call(struct jinja_run *run, struct jinja_value what,
                              const struct jinja_arguments *arguments);

/* jinja_render.c: statements in the present scope, to the present output. */
void jinja_render(struct jinja_run *run, const struct jinja_node *list);
struct jinja_value jinja_call_macro(struct jinja_run *run, const struct jinja_macro *macro,
                                    const struct jinja_arguments *arguments);
/* loop(items): the body of a recursive for statement once more. */
struct jinja_value jinja_call_loop(struct jinja_run *run, const struct jinja_loop *loop,
                                   struct jinja_value items);

#endif

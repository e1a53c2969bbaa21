/* model/chat/jinja_builtin.h - what templates find in their environment: filters, tests, methods of
 * strings, dicts and lists, and functions, by name.
 *
 * Those of jinja2 3.1 and of Python that chat templates use; each does what the original does, for
 * the values of jinja_value.h. NULL: we have none of that name. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_BUILTIN_H
#define LONGSPAN_MODEL_CHAT_JINJA_BUILTIN_H

#include "model/chat/jinja_run.h"
#include "model/chat/jinja_text.h"

const struct jinja_function *jinja_builtin_filter(struct jinja_string name);
const struct jinja_function *jinja_builtin_test(struct jinja_string name);
const struct jinja_function *jinja_builtin_global(struct jinja_string name);

/* Methods that Python has and we have not are found too: calling them fails by name. Methods that
 * change a list or dict are not found: the sandbox has none. */
const struct jinja_function *jinja_builtin_method(enum jinja_kind kind, struct jinja_string name);

/* The table's entry of that name; tables end with an entry without name. */
const struct jinja_function *jinja_builtin_find(const struct jinja_function *table,
                                                struct jinja_string name);

/* Filters of single values and of lists; methods; functions: the tables, by file. */
extern const struct jinja_function jinja_filters_of_text[], jinja_filters_of_lists[];

/* The head of a table's function; not all of them use all of it. */
#define JINJA_FUNCTION(name)                                                                       \
    static struct jinja_value name(struct jinja_run *run __attribute__((unused)),                  \
                                   struct jinja_value subject __attribute__((unused)),             \
                                   const struct jinja_value *const *at __attribute__((unused)),    \
                                   const struct jinja_arguments *arguments                         \
                                   __attribute__((unused)))

/* The value as a text, in another case: a filter's and a method's. */
struct jinja_value jinja_in_case(struct jinja_run *run, struct jinja_value value,
                                 enum jinja_case how);

/* An argument that says yes or no; NULL: no. */
static inline bool jinja_flag(const struct jinja_value *argument)
{
    return argument != NULL && jinja_truth(*argument);
}

#endif

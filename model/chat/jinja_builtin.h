/* model/chat/jinja_builtin.h - what templates find in their environment: filters, tests, methods of
 * strings, dicts and lists, and functions, by name.
 *
 * Those of jinja2 3.1 and of Python that chat templates use; each does what the original does, for
 * the values of jinja_value.h. NULL: we have none of that name. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_BUILTIN_H
#define LONGSPAN_MODEL_CHAT_JINJA_BUILTIN_H

#include "model/chat/jinja_run.h"

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

#endif

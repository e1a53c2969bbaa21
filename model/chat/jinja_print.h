/* model/chat/jinja_print.h - values as text: Python's str and repr, and json.dumps. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_PRINT_H
#define LONGSPAN_MODEL_CHAT_JINJA_PRINT_H

#include "model/chat/jinja_run.h"

/* str(value), as {{ }} prints it: an undefined value is nothing. */
void jinja_print(struct jinja_run *run, struct jinja_output *output, struct jinja_value value);

/* str(value) as a string; of a string: itself. */
struct jinja_value jinja_to_string(struct jinja_run *run, struct jinja_value value);

struct jinja_json_style {
    bool ascii;    /* ensure_ascii */
    bool indented; /* a newline and `indent` for each level */
    bool sort_keys;
    struct jinja_string indent;
    struct jinja_string item_separator, key_separator;
};

/* json.dumps; fails for what JSON does not have. */
void jinja_print_json(struct jinja_run *run, struct jinja_output *output, struct jinja_value value,
                      const struct jinja_json_style *style);

/* Sorts by str < or number order, stable; fails for what has no order. Of entries: by key. */
void jinja_sort_entries(struct jinja_run *run, struct jinja_entry *entries, size_t n,
                        bool fold_case);

#endif

/* sys/options_forms.h - what sys/options.c and the printers of its tables have in common; only these
 * include it. */
#ifndef LONGSPAN_SYS_OPTIONS_FORMS_H
#define LONGSPAN_SYS_OPTIONS_FORMS_H

#include "sys/options.h"

/* A word that may come first; neither such a one nor a heading. */
bool options_form_is_word(const struct option *entry);
bool options_form_is_option(const struct option *entry);
bool options_form_has_value(const struct option *option);

/* " FILE", or, without an argument's name, its choices: " f16|f32". */
void options_form_argument(FILE *out, const struct option *option);

/* The help and its default, as `--help` shows them: the caller frees it. NULL: no memory. */
char *options_form_explained(const struct option *option);

/* options_man.c: OPTIONS_MAN. */
void options_form_man(FILE *out, const struct option_usage *usage, const struct option *table);

/* options_completion.c: OPTIONS_BASH, OPTIONS_ZSH, OPTIONS_FISH. */
void options_form_completion(FILE *out, enum options_form form, const struct option_usage *usage,
                             const struct option *table);

#endif

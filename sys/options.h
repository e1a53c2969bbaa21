/* sys/options.h - command lines, read by a table that also prints the help, the manual page and
 * what shells complete.
 *
 *     struct { const char *model; uint32_t n_tokens; enum options_form help; } run = {0};
 *     const struct option table[] = {
 *         {.kind = OPTION_SECTION, .help = "Model"},
 *         {.name = "model", .letter = 'm', .kind = OPTION_TEXT, .value = &run.model,
 *          .argument = "FILE", .help = "the GGUF file to run"},
 *         {.name = "count", .letter = 'n', .kind = OPTION_U32, .value = &run.n_tokens,
 *          .argument = "N", .fallback = "64", .least = 1, .most = 1000000, .help = "..."},
 *         options_help(&run.help),
 *         {.kind = 0}};
 *
 * Understood: `--name value`, `--name=value`, `-n value`, `-nvalue`, flags, several short flags in
 * one (`-vv`), `--` before words that are no options, `-` as a word. A value may begin with a dash
 * unless it is itself an option of the table. A repeated option replaces the value before; only
 * lists collect. */
#ifndef LONGSPAN_SYS_OPTIONS_H
#define LONGSPAN_SYS_OPTIONS_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_kind {
    OPTION_SECTION = 1, /* no option: `help` is a heading of the help text */
    OPTION_WORD,        /* no option: `name` is a word that may come first; options_parse does not
                         * look for it */
    OPTION_COMMAND,     /* the same: one that has options and a manual page of its own */
    OPTION_HELP,        /* enum options_form: options_help makes it */
    OPTION_FLAG,        /* bool: true when given; takes no value */
    OPTION_COUNT,       /* uint32_t: how often it was given; takes no value */
    OPTION_TEXT,        /* const char *: points into argv, or to the fallback */
    OPTION_CHOICE,      /* const char *: one of `choices` (points there) */
    OPTION_U32,         /* uint32_t in [least, most] */
    OPTION_U64,         /* uint64_t in [least, most] */
    OPTION_F32,         /* float in [least_f32, most_f32] */
    OPTION_BYTES,       /* uint64_t in [least, most], written as in sys/size.h */
    OPTION_LIST         /* struct option_list: one more item each time */
};

/* What the help of a program is printed as. Programs print any; people ask for the first. */
enum options_form {
    OPTIONS_NO_HELP = 0,
    OPTIONS_TEXT,     /* --help */
    OPTIONS_MAN,      /* --help=man: a manual page, by man(7) */
    OPTIONS_COMMANDS, /* --help=commands: their names, one a line */
    OPTIONS_BASH,     /* --help=bash, zsh, fish: this table's part of a completion script, whose */
    OPTIONS_ZSH,      /* other parts are in cluster/completion.c */
    OPTIONS_FISH
};

/* By the word behind --help=. OPTIONS_NO_HELP: there is no such form. */
enum options_form options_form_find(const char *name);

/* A table ends with an entry of which `kind` is 0. */
struct option {
    const char *name; /* long, without the dashes */
    char letter;      /* short; 0: none */
    enum option_kind kind;
    void *value;                /* written as `kind` says */
    bool *given;                /* NULL, or: set to true when the command line has it */
    const char *argument;       /* what the help calls the value: "FILE" */
    const char *fallback;       /* NULL: *value stays as it was; otherwise read like a value */
    const char *otherwise;      /* without a fallback: what the help calls the default; or NULL */
    const char *const *choices; /* OPTION_CHOICE: ends with NULL */
    uint64_t least, most;       /* most 0: as much as the type holds */
    float least_f32, most_f32;  /* both 0: any */
    const char *help;           /* wrapped when printed; NULL: the option is not listed */
    bool is_main;               /* of OPTION_TEXT: who refuses a word that is no option asks whether
                                 * this one was meant, if it was not given */
};

/* The same for a program that passes the option on: its default is told, and left to who reads it. */
struct option option_passed_on(struct option option);

/* A table that is put together of parts: `entries` has room for `capacity`, its end included. */
struct option_table {
    struct option *entries;
    size_t n, capacity;
};

/* Copies entries, up to one of which `kind` is 0, behind those that are there, and ends the table
 * behind them. That there is room for all is the caller's promise. */
void option_table_add(struct option_table *table, const struct option *entries);

/* Items in the order of the command line; several options may share one list. */
struct option_item {
    const char *name; /* the option's long name */
    const char *text; /* points into argv */
};
struct option_list {
    struct option_item *items; /* room for `capacity` of them: an array of the caller's, or from
                                * option_list_create */
    uint32_t n, capacity;
};

/* An empty list with room for as many items as a command line of `argc` words can have. The caller
 * ends it with option_list_destroy, for which a zeroed list is fine. STATUS_NO_MEMORY. */
enum status option_list_create(struct option_list *list, int argc, struct error *error);
void option_list_destroy(struct option_list *list);

/* What a program says about itself beside the table. */
struct option_usage {
    const char *command; /* "longspan run" */
    const char *words;   /* "[OPTION...] FILE" */
    const char *about;   /* a line or a paragraph, wrapped when printed; its beginning, up to the
                          * first colon or full stop, is the title of the manual page */
    /* Below the table. NULL: there are none. Lines that begin with a space are left as they are,
     * others are paragraphs, wrapped when printed; each ends with a newline. */
    const char *notes;
    const char *examples;
    const char *exit_codes;         /* "0 done; 2 bad usage"; NULL: as status.h says, told by the
                                     * manual page only */
    const char *const *environment; /* name, meaning, name, meaning, ..., NULL: the same */
    bool takes_files;               /* words that are no options are names of files */
};

/* The entry of -h, --help, and of the other forms. */
struct option options_help(enum options_form *help);

/* Sets fallbacks, then reads argv[1] to argv[argc - 1]. Words that are no options go to `words`
 * (NULL: they are refused). Values point into argv and into the table.
 * STATUS_INVALID: an unknown option (the nearest name is suggested), a missing, bad or superfluous
 * value, too many words: caller prints the text and exits with 2. Values may be half set then. */
enum status options_parse(const struct option *table, int argc, char *const *argv,
                          struct option_list *words, struct error *error);

/* OPTIONS_TEXT: usage, about, and the options by section, with their fallbacks, in 100 columns. */
void options_print_help(FILE *out, enum options_form form, const struct option_usage *usage,
                        const struct option *table);

/* The entry of `names` (ended by NULL) that `text` is most likely meant to be; NULL: none is near.
 * For subcommands and keys of files, as for options. */
const char *options_nearest(const char *const *names, const char *text);

#endif

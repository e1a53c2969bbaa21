/* options_completion.c - a table of options as a part of a completion script; cluster/completion.c
 * puts the parts together, and names the functions and variables that are used here.
 *
 * What an option takes: the words that it can choose from, where its table or the small letters of
 * its argument (cpu|cuda[:N]) name them; files or folders, where the argument says FILE, MODEL or
 * DIR; and otherwise something that no shell can know. */
#include "sys/options_forms.h"

#include <string.h>

/* The next of "NAME|FILE", and its length; NULL: there is none. */
static const char *next_alternative(const char **rest, size_t *length)
{
    const char *alternative = *rest;
    if (alternative == NULL || *alternative == '\0')
        return NULL;
    *length = strcspn(alternative, "|");
    *rest = alternative[*length] == '|' ? alternative + *length + 1 : NULL;
    return alternative;
}

static bool argument_has(const struct option *option, const char *name)
{
    const char *rest = option->argument, *alternative;
    size_t length;
    while ((alternative = next_alternative(&rest, &length)) != NULL)
        if (strlen(name) == length && strncmp(name, alternative, length) == 0)
            return true;
    return false;
}

static bool takes_file(const struct option *option)
{
    return argument_has(option, "FILE") || argument_has(option, "MODEL");
}

static bool takes_folder(const struct option *option)
{
    return argument_has(option, "DIR");
}

/* Prints the words that it can choose from, with a space before each but the first; NULL: only
 * counts them. */
static size_t print_choices(FILE *out, const struct option *option)
{
    size_t n = 0;
    if (option->choices != NULL) {
        for (; option->choices[n] != NULL; n++)
            if (out != NULL)
                fprintf(out, "%s%s", n > 0 ? " " : "", option->choices[n]);
        return n;
    }
    const char *rest = option->argument, *alternative;
    size_t length;
    while ((alternative = next_alternative(&rest, &length)) != NULL)
        if (*alternative >= 'a' && *alternative <= 'z') {
            const size_t used = strcspn(alternative, "[|");
            if (out != NULL)
                fprintf(out, "%s%.*s", n > 0 ? " " : "", (int)used, alternative);
            n++;
        }
    return n;
}

/* A text between the quotes '...' of a shell, with a backslash before each byte of `escaped`. */
static void print_quoted(FILE *out, const char *text, const char *escaped, bool posix)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs(posix ? "'\\''" : "\\'", out);
            continue;
        }
        if (strchr(escaped, *text) != NULL)
            fputc('\\', out);
        fputc(*text, out);
    }
}

static bool is_listed(const struct option *entry)
{
    return options_form_is_option(entry) && entry->help != NULL;
}

/* ---- bash ------------------------------------------------------------------------------------ */

static void bash_value(FILE *out, const struct option *option)
{
    fputs("        ", out);
    if (option->letter != 0)
        fprintf(out, "-%c | ", option->letter);
    fprintf(out, "--%s) value=", option->name);
    if (print_choices(NULL, option) > 0) {
        fputc('\'', out);
        print_choices(out, option);
        fputs("' ;;\n", out);
    } else {
        fprintf(out, "%s ;;\n", takes_file(option) ? "FILE" : takes_folder(option) ? "DIR" : "ANY");
    }
}

static void print_bash(FILE *out, const struct option_usage *usage, const struct option *table)
{
    const char *space = "";
    fprintf(out, "    '%s')\n        files='%s'\n        commands='", usage->command,
            usage->takes_files ? "FILE" : "");
    for (const struct option *entry = table; entry->kind != 0; entry++)
        if (options_form_is_word(entry)) {
            fprintf(out, "%s%s", space, entry->name);
            space = " ";
        }
    fputs("'\n        options='", out);
    space = "";
    for (const struct option *entry = table; entry->kind != 0; entry++)
        if (is_listed(entry)) {
            fprintf(out, "%s--%s", space, entry->name);
            space = " ";
        }
    fputs("'\n        case $2 in\n", out);
    for (const struct option *entry = table; entry->kind != 0; entry++)
        if (is_listed(entry) && options_form_has_value(entry))
            bash_value(out, entry);
    fputs("        esac\n        ;;\n", out);
}

/* ---- zsh ------------------------------------------------------------------------------------- */

static void zsh_option(FILE *out, const struct option *option)
{
    const bool value = options_form_has_value(option);
    const bool again = option->kind == OPTION_LIST || option->kind == OPTION_COUNT;
    fputs(" \\\n        ", out);
    if (again)
        fputs("'*'", out);
    else if (option->letter != 0)
        fprintf(out, "'(-%c --%s)'", option->letter, option->name);
    if (option->letter != 0)
        fprintf(out, "{-%c%s,--%s%s}", option->letter, value ? "+" : "", option->name,
                value ? "=" : "");
    else
        fprintf(out, "--%s%s", option->name, value ? "=" : "");
    fputs("'[", out);
    print_quoted(out, option->help, "[]\\", true);
    fputc(']', out);
    if (value) {
        fputc(':', out);
        print_quoted(out, option->argument != NULL ? option->argument : option->name, ":\\", true);
        fputc(':', out);
        if (print_choices(NULL, option) > 0) {
            fputc('(', out);
            print_choices(out, option);
            fputc(')', out);
        } else {
            fputs(takes_file(option) ? "_files" : takes_folder(option) ? "_files -/" : " ", out);
        }
    }
    fputc('\'', out);
}

/* _longspan_model_inspect, of "longspan model inspect". */
static void zsh_function(FILE *out, const char *command)
{
    fputc('_', out);
    for (; *command != '\0'; command++)
        fputc(*command == ' ' ? '_' : *command, out);
}

static void print_zsh(FILE *out, const struct option_usage *usage, const struct option *table)
{
    bool commands = false;
    fputc('\n', out);
    zsh_function(out, usage->command);
    fputs("() {\n    local curcontext=$curcontext state line\n    local -a commands\n"
          "    _arguments -C -s -S",
          out);
    for (const struct option *entry = table; entry->kind != 0; entry++) {
        if (is_listed(entry))
            zsh_option(out, entry);
        commands = commands || options_form_is_word(entry);
    }
    if (commands)
        fputs(" \\\n        '1: :->commands' '*:: :->words'", out);
    else if (usage->takes_files)
        fputs(" \\\n        '*:FILE:_files'", out);
    if (commands) {
        fputs("\n    case $state in\n    commands)\n        commands=(", out);
        for (const struct option *entry = table; entry->kind != 0; entry++)
            if (options_form_is_word(entry)) {
                fprintf(out, "\n            '%s:", entry->name);
                print_quoted(out, entry->help, "", true);
                fputc('\'', out);
            }
        fputs(")\n        (( CURRENT > 2 )) || _describe command commands\n        ;;\n    words) "
              "_call_function - ",
              out);
        zsh_function(out, usage->command);
        fputs("_$line[1] ;;\n    esac", out);
    }
    fputs("\n}\n", out);
}

/* ---- fish ------------------------------------------------------------------------------------ */

static void fish_begin(FILE *out, const struct option_usage *usage)
{
    fprintf(out, "complete -c longspan -n '__longspan_at %s'", usage->command);
}

static void fish_explained(FILE *out, const char *help)
{
    fputs(" -d '", out);
    print_quoted(out, help, "\\", false);
    fputs("'\n", out);
}

static void fish_option(FILE *out, const struct option *option)
{
    if (option->letter != 0)
        fprintf(out, " -s %c", option->letter);
    fprintf(out, " -l %s", option->name);
    if (options_form_has_value(option)) {
        if (print_choices(NULL, option) > 0) {
            fputs(" -x -a '", out);
            print_choices(out, option);
            fputc('\'', out);
        } else {
            fputs(takes_file(option)     ? " -r -F"
                  : takes_folder(option) ? " -x -a '(__fish_complete_directories)'"
                                         : " -x",
                  out);
        }
    }
    fish_explained(out, option->help);
}

static void print_fish(FILE *out, const struct option_usage *usage, const struct option *table)
{
    fprintf(out, "\nset -ga __longspan_commands '%s'\n", usage->command);
    for (; table->kind != 0; table++) {
        if (options_form_is_word(table)) {
            fish_begin(out, usage);
            fprintf(out, " -a %s", table->name);
            fish_explained(out, table->help);
        } else if (is_listed(table)) {
            fish_begin(out, usage);
            fish_option(out, table);
        }
    }
    if (usage->takes_files) {
        fish_begin(out, usage);
        fputs(" -F\n", out);
    }
}

void options_form_completion(FILE *out, enum options_form form, const struct option_usage *usage,
                             const struct option *table)
{
    if (form == OPTIONS_BASH)
        print_bash(out, usage, table);
    else if (form == OPTIONS_ZSH)
        print_zsh(out, usage, table);
    else
        print_fish(out, usage, table);
}

/* options_help.c - the help text of a table of options: two columns, wrapped. The other forms are in
 * options_man.c and options_completion.c. */
#include "sys/options_forms.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 100, TEXT_COLUMN = 30 };

/* Prints words from column `column` on, and starts later lines at column `margin`. */
static void print_wrapped(FILE *out, const char *text, size_t column, size_t margin)
{
    for (bool first = true; *text != '\0' && *text != '\n'; first = false) {
        text += strspn(text, " ");
        const size_t length = strcspn(text, " \n");
        if (length == 0)
            break;
        if (!first && column + 1 + length > COLUMNS) {
            fprintf(out, "\n%*s", (int)margin, "");
            column = margin;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, length, out);
        column += length;
        text += length;
    }
    fputc('\n', out);
}

/* Lines that begin with a space as they are, the others wrapped. */
static void print_lines(FILE *out, const char *text)
{
    for (size_t length; *text != '\0'; text += length) {
        length = strcspn(text, "\n");
        length += text[length] == '\n';
        if (*text == ' ')
            fwrite(text, 1, length, out);
        else
            print_wrapped(out, text, 0, 0);
    }
}

void options_form_argument(FILE *out, const struct option *option)
{
    if (option->argument != NULL && *option->argument != '\0')
        fprintf(out, " %s", option->argument);
    const char *const *choices = option->argument == NULL ? option->choices : NULL;
    for (size_t i = 0; choices != NULL && choices[i] != NULL; i++)
        fprintf(out, "%c%s", i == 0 ? ' ' : '|', choices[i]);
}

char *options_form_explained(const struct option *option)
{
    const char *standard = option->fallback != NULL ? option->fallback : option->otherwise;
    const bool shown = standard != NULL && *standard != '\0';
    char *text = NULL;
    const int length = asprintf(
        &text, "%s%s%s%s%s", option->help, option->kind == OPTION_LIST ? " (may be repeated)" : "",
        shown ? " (default: " : "", shown ? standard : "", shown ? ")" : "");
    return length >= 0 ? text : NULL;
}

/* "  -p, --prompt TEXT" */
static char *name_of(const struct option *option)
{
    char *name = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&name, &size);
    if (out == NULL)
        return NULL;
    if (options_form_is_word(option))
        fprintf(out, "  %s", option->name);
    else if (option->letter != 0)
        fprintf(out, "  -%c, --%s", option->letter, option->name);
    else
        fprintf(out, "      --%s", option->name);
    options_form_argument(out, option);
    fclose(out);
    return name;
}

/* Without memory for its words an entry has none. */
static void print_entry(FILE *out, const struct option *option, size_t column)
{
    char *name = name_of(option), *text = options_form_explained(option);
    const size_t width = name != NULL ? strlen(name) : 0;
    fputs(name != NULL ? name : "", out);
    if (width + 2 > column)
        fprintf(out, "\n%*s", (int)column, "");
    else
        fprintf(out, "%*s", (int)(column - width), "");
    print_wrapped(out, text != NULL ? text : "", column, column);
    free(name);
    free(text);
}

/* Where the texts of commands begin: behind the longest name. */
static size_t command_column(const struct option *table)
{
    size_t longest = 0;
    for (; table->kind != 0; table++)
        if (options_form_is_word(table) && strlen(table->name) > longest)
            longest = strlen(table->name);
    return longest + 4;
}

static void print_text(FILE *out, const struct option_usage *usage, const struct option *table)
{
    fprintf(out, "usage: %s%s%s\n", usage->command, usage->words[0] != '\0' ? " " : "",
            usage->words);
    if (usage->about != NULL)
        print_wrapped(out, usage->about, 0, 0);
    const size_t column = command_column(table);
    for (const struct option *option = table; option->kind != 0; option++)
        if (option->kind == OPTION_SECTION)
            fprintf(out, "\n%s:\n", option->help);
        else if (option->help != NULL)
            print_entry(out, option, options_form_is_word(option) ? column : TEXT_COLUMN);
    if (usage->notes != NULL) {
        fputc('\n', out);
        print_lines(out, usage->notes);
    }
    if (usage->examples != NULL) {
        fputs("\nExamples:\n", out);
        print_lines(out, usage->examples);
    }
    if (usage->exit_codes != NULL) {
        static const char heading[] = "Exit codes:";
        fprintf(out, "\n%s ", heading);
        print_wrapped(out, usage->exit_codes, sizeof(heading), 0);
    }
}

void options_print_help(FILE *out, enum options_form form, const struct option_usage *usage,
                        const struct option *table)
{
    switch (form) {
    case OPTIONS_MAN:
        options_form_man(out, usage, table);
        break;
    case OPTIONS_COMMANDS:
        for (; table->kind != 0; table++)
            if (table->kind == OPTION_COMMAND)
                fprintf(out, "%s\n", table->name);
        break;
    case OPTIONS_BASH:
    case OPTIONS_ZSH:
    case OPTIONS_FISH:
        options_form_completion(out, form, usage, table);
        break;
    case OPTIONS_NO_HELP:
    case OPTIONS_TEXT:
        print_text(out, usage, table);
        break;
    }
}

/* options_help.c - the help text of a table of options: two columns, wrapped. */
#include "sys/options.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 100, TEXT_COLUMN = 30 };

/* Prints words from column `column` on, and starts later lines at column `margin`. */
static void print_wrapped(FILE *out, const char *text, size_t column, size_t margin)
{
    for (bool first = true; *text != '\0'; first = false) {
        text += strspn(text, " ");
        const size_t length = strcspn(text, " ");
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

/* "  -p, --prompt TEXT"; returns its width. */
static size_t print_name(FILE *out, const struct option *option)
{
    int width = option->letter != 0 ? fprintf(out, "  -%c, --%s", option->letter, option->name)
                                    : fprintf(out, "      --%s", option->name);
    if (option->argument != NULL && *option->argument != '\0')
        width += fprintf(out, " %s", option->argument);
    const char *const *choices = option->argument == NULL ? option->choices : NULL;
    for (size_t i = 0; choices != NULL && choices[i] != NULL; i++)
        width += fprintf(out, "%c%s", i == 0 ? ' ' : '|', choices[i]);
    return width > 0 ? (size_t)width : 0;
}

/* Without memory for its text an option has none. */
static void print_option(FILE *out, const struct option *option)
{
    const size_t width = print_name(out, option);
    if (width + 2 > TEXT_COLUMN)
        fprintf(out, "\n%*s", TEXT_COLUMN, "");
    else
        fprintf(out, "%*s", (int)(TEXT_COLUMN - width), "");

    const char *standard = option->fallback != NULL ? option->fallback : option->otherwise;
    const bool shown = standard != NULL && *standard != '\0';
    char *text = NULL;
    const int length = asprintf(
        &text, "%s%s%s%s%s", option->help, option->kind == OPTION_LIST ? " (may be repeated)" : "",
        shown ? " (default: " : "", shown ? standard : "", shown ? ")" : "");
    print_wrapped(out, length >= 0 ? text : "", TEXT_COLUMN, TEXT_COLUMN);
    if (length >= 0)
        free(text);
}

void options_print_help(FILE *out, const struct option_usage *usage, const struct option *table)
{
    fprintf(out, "usage: %s%s%s\n", usage->command, usage->words[0] != '\0' ? " " : "",
            usage->words);
    if (usage->about != NULL)
        print_wrapped(out, usage->about, 0, 0);
    for (const struct option *option = table; option->kind != 0; option++)
        if (option->kind == OPTION_SECTION)
            fprintf(out, "\n%s:\n", option->help);
        else if (option->help != NULL)
            print_option(out, option);
}

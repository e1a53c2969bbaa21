/* options_help.c - the help text of a table of options: two columns, wrapped. */
#include "sys/options.h"

#include <string.h>

enum { COLUMNS = 100, TEXT_COLUMN = 30, WORD_BYTES = 700 };

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

static void print_option(FILE *out, const struct option *option)
{
    char left[WORD_BYTES], right[WORD_BYTES * 2], choices[WORD_BYTES] = "";
    for (const char *const *choice = option->choices; choice != NULL && *choice != NULL; choice++) {
        const size_t used = strlen(choices);
        snprintf(choices + used, sizeof(choices) - used, "%s%s", used == 0 ? "" : "|", *choice);
    }
    const char *argument = option->argument != NULL ? option->argument : choices;
    const char letter[] = {'-', option->letter, ',', ' ', '\0'};
    snprintf(left, sizeof(left), "  %s--%s%s%s", option->letter != 0 ? letter : "    ",
             option->name, *argument != '\0' ? " " : "", argument);

    const bool again = option->kind == OPTION_LIST;
    const bool has_fallback = option->fallback != NULL && *option->fallback != '\0';
    snprintf(right, sizeof(right), "%s%s%s%s%s", option->help, again ? " (may be repeated)" : "",
             has_fallback ? " (default: " : "", has_fallback ? option->fallback : "",
             has_fallback ? ")" : "");

    const size_t width = strlen(left);
    fputs(left, out);
    if (width + 2 > TEXT_COLUMN)
        fprintf(out, "\n%*s", TEXT_COLUMN, "");
    else
        fprintf(out, "%*s", (int)(TEXT_COLUMN - width), "");
    print_wrapped(out, right, TEXT_COLUMN, TEXT_COLUMN);
}

void options_print_help(FILE *out, const struct option_usage *usage, const struct option *table)
{
    fprintf(out, "usage: %s %s\n", usage->command, usage->words);
    if (usage->about != NULL)
        print_wrapped(out, usage->about, 0, 0);
    for (const struct option *option = table; option->kind != 0; option++)
        if (option->kind == OPTION_SECTION)
            fprintf(out, "\n%s:\n", option->help);
        else if (option->help != NULL)
            print_option(out, option);
}

/* options_man.c - a table of options as a manual page, in the macros of man(7).
 *
 * Nothing is said here that the table and the usage do not say; what is left is typesetting. The
 * date is that of printing, or SOURCE_DATE_EPOCH for who wants the same bytes each time. */
#include "sys/options_forms.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLUMNS = 78 };

static const char front[] = "longspan";

static const char all_exit_codes[] =
    "0 success; 2 bad usage or a bad input file; 3 something could not be started or reached; 4 "
    "failed while running.";

/* What stands for a byte that man(7) takes for something else, or that is typeset as something else:
 * since groff 1.23 a ' is a quotation mark that no shell knows. NULL: it is itself. */
static const char *escape(char byte)
{
    switch (byte) {
    case '\\':
        return "\\e";
    case '-':
        return "\\-";
    case '\'':
        return "\\(aq";
    case '`':
        return "\\(ga";
    case '~':
        return "\\(ti";
    case '^':
        return "\\(ha";
    default:
        return NULL;
    }
}

static void print_byte(FILE *out, char byte)
{
    const char *name = escape(byte);
    if (name != NULL)
        fputs(name, out);
    else
        fputc(byte, out);
}

static size_t escaped_width(const char *text, size_t length)
{
    size_t width = 0;
    for (size_t i = 0; i < length; i++) {
        const char *name = escape(text[i]);
        width += name != NULL ? strlen(name) : 1;
    }
    return width;
}

/* A line that began with a full stop would be a macro. */
static void print_word(FILE *out, const char *word, size_t length, bool begins_line)
{
    if (begins_line && *word == '.')
        fputs("\\&", out);
    for (size_t i = 0; i < length; i++)
        print_byte(out, word[i]);
}

/* The words of a text up to its end or `most` bytes, of which the first goes to `column`; who
 * reads the page fills the lines. */
static void print_filled_from(FILE *out, size_t column, const char *text, size_t most)
{
    const char *end = text + most;
    bool first = true;
    for (text += strspn(text, " "); text < end; text += strspn(text, " ")) {
        const size_t length = strcspn(text, " \n");
        const size_t left = (size_t)(end - text), used = length < left ? length : left;
        if (used == 0)
            break;
        const size_t width = escaped_width(text, used);
        if (column > 0 && column + 1 + width > COLUMNS) {
            fputc('\n', out);
            column = 0;
        } else if (!first) {
            fputc(' ', out);
        }
        first = false;
        print_word(out, text, used, column == 0);
        column += width + 1;
        text += used;
    }
    fputc('\n', out);
}

static void print_filled(FILE *out, const char *text, size_t most)
{
    print_filled_from(out, 0, text, most);
}

/* Lines that begin with a space as they are, the others as paragraphs. */
static void print_lines(FILE *out, const char *text)
{
    bool literal = false, first = true;
    for (size_t length; *text != '\0'; text += length + (text[length] == '\n'), first = false) {
        length = strcspn(text, "\n");
        const bool wants_literal = *text == ' ';
        if (wants_literal != literal)
            fputs(wants_literal ? ".nf\n" : ".fi\n", out);
        else if (!literal && !first)
            fputs(".PP\n", out);
        literal = wants_literal;
        if (!literal) {
            print_filled(out, text, length);
        } else {
            print_word(out, text, length, false);
            fputc('\n', out);
        }
    }
    if (literal)
        fputs(".fi\n", out);
}

/* "longspan model inspect": longspan-model-inspect, and so the first `length` bytes of it. A
 * program that is none of its commands has a page beside theirs. */
static void print_page(FILE *out, const char *command, size_t length)
{
    if (strncmp(command, front, sizeof(front) - 1) != 0)
        fprintf(out, "%s\\-", front);
    for (size_t i = 0; i < length; i++)
        print_byte(out, command[i] == ' ' ? '-' : command[i]);
}

/* The same in capitals, which are a page's title. */
static void print_title(FILE *out, const char *command)
{
    if (strncmp(command, front, sizeof(front) - 1) != 0)
        print_title(out, "longspan ");
    for (; *command != '\0'; command++)
        print_byte(out, *command == ' ' ? '-' : (char)toupper((unsigned char)*command));
}

static void print_date(FILE *out)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    const time_t now = epoch != NULL ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm day;
    char text[32] = "";
    if (gmtime_r(&now, &day) != NULL)
        strftime(text, sizeof(text), "%Y-%m-%d", &day);
    fputs(text, out);
}

/* The beginning of what it is about. */
static size_t title_length(const char *about)
{
    size_t length = 0;
    while (about[length] != '\0' && !((about[length] == '.' || about[length] == ':') &&
                                      (about[length + 1] == ' ' || about[length + 1] == '\0')))
        length++;
    return length;
}

static void print_head(FILE *out, const struct option_usage *usage)
{
    const size_t length = strlen(usage->command);
    const char *about = usage->about != NULL ? usage->about : usage->command;
    fputs(".TH ", out);
    print_title(out, usage->command);
    fputs(" 1 ", out);
    print_date(out);
    fputs(" Longspan \"User Commands\"\n.SH NAME\n", out);
    print_page(out, usage->command, length);
    fputs(" \\- ", out);
    print_filled_from(out, sizeof(front) + 2 * length, about, title_length(about));
    fputs(".SH SYNOPSIS\n.B ", out);
    print_word(out, usage->command, length, false);
    fputc('\n', out);
    if (usage->words[0] != '\0')
        print_filled(out, usage->words, strlen(usage->words));
    fputs(".SH DESCRIPTION\n", out);
    print_filled(out, about, strlen(about));
}

static void print_argument(FILE *out, const struct option *option)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL)
        return;
    options_form_argument(memory, option);
    fclose(memory);
    if (text != NULL && *text != '\0') {
        fputs(" \\fI", out);
        print_word(out, text + 1, strlen(text + 1), false);
        fputs("\\fR", out);
    }
    free(text);
}

static void print_entry(FILE *out, const struct option *option)
{
    fputs(".TP\n", out);
    if (options_form_is_option(option) && option->letter != 0)
        fprintf(out, "\\fB\\-%c\\fR, ", option->letter);
    fputs(options_form_is_option(option) ? "\\fB\\-\\-" : "\\fB", out);
    print_word(out, option->name, strlen(option->name), false);
    fputs("\\fR", out);
    print_argument(out, option);
    fputc('\n', out);
    char *text = options_form_explained(option);
    if (text != NULL)
        print_filled(out, text, strlen(text));
    free(text);
}

static void print_table(FILE *out, const struct option *table)
{
    fputs(".SH OPTIONS\n", out);
    for (const struct option *option = table; option->kind != 0; option++) {
        if (option->kind != OPTION_SECTION) {
            if (option->help != NULL)
                print_entry(out, option);
        } else {
            fputs(".SS ", out);
            print_word(out, option->help, strlen(option->help), false);
            fputc('\n', out);
        }
    }
}

static void print_environment(FILE *out, const char *const *environment)
{
    fputs(".SH ENVIRONMENT\n", out);
    for (; environment[0] != NULL; environment += 2) {
        fprintf(out, ".TP\n.B %s\n", environment[0]);
        print_filled(out, environment[1], strlen(environment[1]));
    }
}

static void print_reference(FILE *out, const char *command, size_t length, const char *more,
                            bool *first)
{
    fputs(*first ? ".BR " : " ,\n.BR ", out);
    print_page(out, command, length);
    if (more != NULL) {
        fputs("\\-", out);
        print_word(out, more, strlen(more), false);
    }
    fputs(" (1)", out);
    *first = false;
}

/* The pages above it, and those of its commands. */
static void print_references(FILE *out, const struct option_usage *usage,
                             const struct option *table)
{
    const char *command = usage->command;
    bool first = true;
    fputs(".SH SEE ALSO\n", out);
    for (const char *space = strchr(command, ' '); space != NULL; space = strchr(space + 1, ' '))
        print_reference(out, command, (size_t)(space - command), NULL, &first);
    for (; table->kind != 0; table++)
        if (table->kind == OPTION_COMMAND)
            print_reference(out, command, strlen(command), table->name, &first);
    if (first)
        print_reference(out, front, sizeof(front) - 1, NULL, &first);
    fputc('\n', out);
}

void options_form_man(FILE *out, const struct option_usage *usage, const struct option *table)
{
    const char *codes = usage->exit_codes != NULL ? usage->exit_codes : all_exit_codes;
    print_head(out, usage);
    print_table(out, table);
    if (usage->notes != NULL) {
        fputs(".SH NOTES\n", out);
        print_lines(out, usage->notes);
    }
    fputs(".SH EXIT STATUS\n", out);
    print_filled(out, codes, strlen(codes));
    if (usage->environment != NULL)
        print_environment(out, usage->environment);
    if (usage->examples != NULL) {
        fputs(".SH EXAMPLES\n", out);
        print_lines(out, usage->examples);
    }
    print_references(out, usage, table);
}

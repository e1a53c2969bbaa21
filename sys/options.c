/* options.c - reading a command line by its table; options_help.c prints the table. */
#include "sys/options.h"

#include "sys/options_forms.h"
#include "sys/parse.h"
#include "sys/size.h"

#include <assert.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_NAME = 40, LEAST_BEGINNING = 3, FAR = LONGEST_NAME + 1 };

bool options_form_is_word(const struct option *entry)
{
    return entry->kind == OPTION_WORD || entry->kind == OPTION_COMMAND;
}

bool options_form_is_option(const struct option *entry)
{
    return entry->kind != OPTION_SECTION && !options_form_is_word(entry);
}

bool options_form_has_value(const struct option *option)
{
    return option->kind != OPTION_FLAG && option->kind != OPTION_COUNT &&
           option->kind != OPTION_HELP;
}

/* The option called `name`, of which only the first `length` bytes count. */
static const struct option *find_name(const struct option *table, const char *name, size_t length)
{
    for (const struct option *option = table; option->kind != 0; option++)
        if (options_form_is_option(option) && strlen(option->name) == length &&
            memcmp(option->name, name, length) == 0)
            return option;
    return NULL;
}

static const struct option *find_letter(const struct option *table, char letter)
{
    for (const struct option *option = table; option->kind != 0; option++)
        if (options_form_is_option(option) && option->letter == letter && letter != '\0')
            return option;
    return NULL;
}

/* Whether a word is an option of the table in any way of writing it. */
static bool is_option(const struct option *table, const char *word)
{
    if (word[0] != '-' || word[1] == '\0')
        return false;
    if (word[1] == '-')
        return find_name(table, word + 2, strcspn(word + 2, "=")) != NULL;
    return word[2] == '\0' && find_letter(table, word[1]) != NULL;
}

/* Edits (insert, remove, replace, swap neighbours) from a to b: optimal string alignment. */
static size_t edits_between(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    size_t rows[3][LONGEST_NAME + 1];
    if (n > LONGEST_NAME || m > LONGEST_NAME)
        return FAR;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t least = above[j - 1] + (a[i - 1] != b[j - 1]);
            least = above[j] + 1 < least ? above[j] + 1 : least;
            least = row[j - 1] + 1 < least ? row[j - 1] + 1 : least;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                least = above2[j - 2] + 1 < least ? above2[j - 2] + 1 : least;
            row[j] = least;
        }
    }
    return rows[n % 3][m];
}

/* A third of the letters may be wrong; a beginning that was cut is as good as one wrong letter. Of
 * names that were made longer (--ctx-size), which is the last guess, the longest counts. */
static size_t distance(const char *name, const char *text)
{
    const size_t length = strlen(text), name_length = strlen(name);
    if (length >= LEAST_BEGINNING && strncmp(name, text, length) == 0)
        return 1;
    const size_t edits = edits_between(name, text);
    if (edits <= (length > 3 ? (length + 2) / 3 : 1))
        return edits;
    return name_length >= LEAST_BEGINNING && strncmp(name, text, name_length) == 0
               ? LONGEST_NAME + 1 - name_length
               : FAR;
}

const char *options_nearest(const char *const *names, const char *text)
{
    const char *nearest = NULL;
    for (size_t best = FAR; *names != NULL; names++) {
        const size_t d = distance(*names, text);
        if (d < best) {
            best = d;
            nearest = *names;
        }
    }
    return nearest;
}

static enum status unknown_option(const struct option *table, const char *word, struct error *error)
{
    char name[LONGEST_NAME + 1] = "";
    const char *nearest = NULL;
    if (word[1] == '-') {
        const size_t length = strcspn(word + 2, "=");
        if (length <= LONGEST_NAME)
            memcpy(name, word + 2, length);
        for (size_t best = FAR; table->kind != 0; table++) {
            const size_t d = options_form_is_option(table) ? distance(table->name, name) : best;
            if (d < best) {
                best = d;
                nearest = table->name;
            }
        }
    }
    if (nearest != NULL)
        return error_set(error, STATUS_INVALID,
                         "there is no option %.100s; did you mean --%s? (--help lists all)", word,
                         nearest);
    return error_set(error, STATUS_INVALID, "there is no option %.100s (--help lists all)", word);
}

static enum status choose(const char *shown, const struct option *option, const char *text,
                          struct error *error)
{
    char all[400] = "";
    for (const char *const *choice = option->choices; *choice != NULL; choice++) {
        if (strcmp(*choice, text) == 0) {
            *(const char **)option->value = *choice;
            return STATUS_OK;
        }
        const size_t used = strlen(all);
        snprintf(all + used, sizeof(all) - used, "%s%s", used == 0 ? "" : ", ", *choice);
    }
    return error_set(error, STATUS_INVALID, "%s is \"%.100s\": give one of %s", shown, text, all);
}

static enum status add_to_list(const char *shown, struct option_list *list, const char *name,
                               const char *text, struct error *error)
{
    if (list->n >= list->capacity)
        return error_set(error, STATUS_INVALID, "%s: more than %u are given", shown,
                         list->capacity);
    list->items[list->n++] = (struct option_item){.name = name, .text = text};
    return STATUS_OK;
}

static enum status read_bytes(const char *shown, const struct option *option, const char *text,
                              uint64_t most, struct error *error)
{
    uint64_t bytes;
    const enum status status = size_parse(shown, text, &bytes, error);
    if (status != STATUS_OK)
        return status;
    if (bytes < option->least || bytes > most) {
        char from[SIZE_TEXT_BYTES], to[SIZE_TEXT_BYTES];
        return error_set(error, STATUS_INVALID, "%s is \"%.100s\": give from %s to %s", shown, text,
                         size_format(option->least, from), size_format(most, to));
    }
    *(uint64_t *)option->value = bytes;
    return STATUS_OK;
}

static enum status set_value(const struct option *option, const char *text, struct error *error)
{
    char shown[LONGEST_NAME + 3];
    snprintf(shown, sizeof(shown), "--%s", option->name);
    const uint64_t most = option->most != 0 ? option->most : UINT64_MAX;
    switch (option->kind) {
    case OPTION_TEXT:
        *(const char **)option->value = text;
        return STATUS_OK;
    case OPTION_CHOICE:
        return choose(shown, option, text, error);
    case OPTION_U32:
        return parse_u32(shown, text, (uint32_t)option->least,
                         most > UINT32_MAX ? UINT32_MAX : (uint32_t)most, option->value, error);
    case OPTION_U64:
        return parse_u64(shown, text, option->least, most, option->value, error);
    case OPTION_F32: {
        const bool any = option->least_f32 == 0 && option->most_f32 == 0;
        return parse_f32(shown, text, any ? -FLT_MAX : option->least_f32,
                         any ? FLT_MAX : option->most_f32, option->value, error);
    }
    case OPTION_BYTES:
        return read_bytes(shown, option, text, most, error);
    case OPTION_LIST:
        return add_to_list(shown, option->value, option->name, text, error);
    case OPTION_SECTION:
    case OPTION_WORD:
    case OPTION_COMMAND:
    case OPTION_HELP:
    case OPTION_FLAG:
    case OPTION_COUNT:
        break;
    }
    return error_set(error, STATUS_INVALID, "%s takes no value", shown);
}

static void set_flag(const struct option *option)
{
    if (option->kind == OPTION_FLAG)
        *(bool *)option->value = true;
    else if (option->kind == OPTION_HELP)
        *(enum options_form *)option->value = OPTIONS_TEXT;
    else
        ++*(uint32_t *)option->value;
}

enum options_form options_form_find(const char *name)
{
    static const char *const names[] = {"text", "man", "commands", "bash", "zsh", "fish"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], name) == 0)
            return OPTIONS_TEXT + i;
    return OPTIONS_NO_HELP;
}

static void mark_given(const struct option *option)
{
    if (option->given != NULL)
        *option->given = true;
}

/* The words of the command line, read from left to right. */
struct reader {
    const struct option *table;
    char *const *argv;
    int argc, at;
};

/* Sets the option from `attached`, or, if that is NULL, from the next word. */
static enum status read_value(struct reader *reader, const struct option *option,
                              const char *attached, struct error *error)
{
    const char *text = attached;
    if (text == NULL) {
        const bool is_last = reader->at + 1 >= reader->argc;
        const char *next = is_last ? NULL : reader->argv[reader->at + 1];
        if (is_last || is_option(reader->table, next))
            return error_set(
                error, STATUS_INVALID, "--%s needs a value: --%s %s%s%.60s%s", option->name,
                option->name, option->argument != NULL ? option->argument : "VALUE",
                is_last ? "" : " (", is_last ? "" : next, is_last ? "" : " is an option itself)");
        text = next;
        reader->at++;
    }
    mark_given(option);
    return set_value(option, text, error);
}

static enum status read_long(struct reader *reader, const char *word, struct error *error)
{
    const size_t length = strcspn(word + 2, "=");
    const char *attached = word[2 + length] == '=' ? word + 2 + length + 1 : NULL;
    const struct option *option = find_name(reader->table, word + 2, length);
    if (option == NULL)
        return unknown_option(reader->table, word, error);
    if (options_form_has_value(option))
        return read_value(reader, option, attached, error);
    const enum options_form form = attached != NULL && option->kind == OPTION_HELP
                                       ? options_form_find(attached)
                                       : OPTIONS_NO_HELP;
    if (attached != NULL && form == OPTIONS_NO_HELP)
        return error_set(error, STATUS_INVALID, "--%s takes no value, \"%.100s\" is given",
                         option->name, attached);
    mark_given(option);
    set_flag(option);
    if (form != OPTIONS_NO_HELP)
        *(enum options_form *)option->value = form;
    return STATUS_OK;
}

/* "-m", "-mFILE", "-vv", "-vmFILE" */
static enum status read_short(struct reader *reader, const char *word, struct error *error)
{
    for (const char *letter = word + 1; *letter != '\0'; letter++) {
        const struct option *option = find_letter(reader->table, *letter);
        if (option == NULL)
            return unknown_option(reader->table, word, error);
        if (options_form_has_value(option))
            return read_value(reader, option, letter[1] != '\0' ? letter + 1 : NULL, error);
        mark_given(option);
        set_flag(option);
    }
    return STATUS_OK;
}

void option_table_add(struct option_table *table, const struct option *entries)
{
    for (; entries->kind != 0; entries++) {
        assert(table->n + 1 < table->capacity);
        table->entries[table->n++] = *entries;
    }
    table->entries[table->n] = (struct option){.kind = 0};
}

struct option option_passed_on(struct option option)
{
    if (option.fallback != NULL)
        option.otherwise = option.fallback;
    option.fallback = NULL;
    return option;
}

struct option options_help(enum options_form *help)
{
    return (struct option){.name = "help",
                           .letter = 'h',
                           .kind = OPTION_HELP,
                           .value = help,
                           .help = "print this help"};
}

enum status option_list_create(struct option_list *list, int argc, struct error *error)
{
    const uint32_t capacity = argc > 0 ? (uint32_t)argc : 1;
    struct option_item *items = calloc(capacity, sizeof(*items));
    if (items == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u options", capacity);
    *list = (struct option_list){.items = items, .capacity = capacity};
    return STATUS_OK;
}

void option_list_destroy(struct option_list *list)
{
    free(list->items);
    *list = (struct option_list){0};
}

static enum status refuse_word(const struct option *table, const char *word, struct error *error)
{
    for (; table->kind != 0; table++)
        if (table->is_main && *(const char **)table->value == NULL)
            return error_set(
                error, STATUS_INVALID,
                "\"%.100s\" is no option; did you mean --%s %.100s? (--help lists all)", word,
                table->name, word);
    return error_set(error, STATUS_INVALID, "\"%.100s\" is no option (--help lists all)", word);
}

enum status options_parse(const struct option *table, int argc, char *const *argv,
                          struct option_list *words, struct error *error)
{
    enum status status = STATUS_OK;
    for (const struct option *option = table; option->kind != 0 && status == STATUS_OK; option++)
        if (option->fallback != NULL)
            status = set_value(option, option->fallback, error);

    bool only_words = false;
    struct reader reader = {.table = table, .argv = argv, .argc = argc, .at = 1};
    for (; reader.at < argc && status == STATUS_OK; reader.at++) {
        const char *word = argv[reader.at];
        if (only_words || word[0] != '-' || word[1] == '\0') {
            status = words == NULL ? refuse_word(table, word, error)
                                   : add_to_list(word, words, "", word, error);
        } else if (strcmp(word, "--") == 0) {
            only_words = true;
        } else if (word[1] == '-') {
            status = read_long(&reader, word, error);
        } else {
            status = read_short(&reader, word, error);
        }
    }
    return status;
}

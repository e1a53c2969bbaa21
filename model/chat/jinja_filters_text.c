/* jinja_filters_text.c - filters of one value; see jinja_builtin.h. */
#include "model/chat/jinja_builtin.h"
#include "model/chat/jinja_print.h"
#include "model/chat/jinja_text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct jinja_value jinja_in_case(struct jinja_run *run, struct jinja_value v, enum jinja_case how)
{
    v = jinja_to_string(run, v);
    const struct jinja_string text = run->failed || !jinja_step(run, v.string.n_bytes)
                                         ? (struct jinja_string){"", 0}
                                         : jinja_text_case(run->pool, v.string, how);
    return text.data != NULL ? jinja_text(text.data, text.n_bytes)
                             : jinja_fail(run, "no memory for a text");
}

JINJA_FUNCTION(filter_upper)
{
    return jinja_in_case(run, subject, JINJA_UPPER);
}
JINJA_FUNCTION(filter_lower)
{
    return jinja_in_case(run, subject, JINJA_LOWER);
}
JINJA_FUNCTION(filter_capitalize)
{
    return jinja_in_case(run, subject, JINJA_CAPITALIZE);
}
JINJA_FUNCTION(filter_title)
{
    return jinja_in_case(run, subject, JINJA_TITLE_FILTER);
}

JINJA_FUNCTION(filter_trim)
{
    const struct jinja_value text = jinja_to_string(run, subject);
    const struct jinja_string *chars = NULL;
    if (run->failed)
        return text;
    if (at[0] != NULL && at[0]->kind == JINJA_STRING)
        chars = &at[0]->string;
    else if (at[0] != NULL && at[0]->kind != JINJA_NONE)
        return jinja_fail(run, "trim takes a string, not %s", jinja_type_name(*at[0]));
    const struct jinja_string s = jinja_text_strip(text.string, chars, true, true);
    return jinja_text(s.data, s.n_bytes);
}

JINJA_FUNCTION(filter_default)
{
    if (subject.kind == JINJA_UNDEFINED || (jinja_flag(at[1]) && !jinja_truth(subject)))
        return at[0] != NULL ? *at[0] : jinja_text("", 0);
    return subject;
}

JINJA_FUNCTION(filter_string)
{
    return jinja_to_string(run, subject);
}

JINJA_FUNCTION(filter_safe)
{
    return jinja_to_string(run, subject);
}

/* The escapes of HTML that markupsafe writes. */
JINJA_FUNCTION(filter_escape)
{
    const struct jinja_value text = jinja_to_string(run, subject);
    struct jinja_output out = {0};
    for (size_t i = 0; !run->failed && i < text.string.n_bytes; i++) {
        const char *c = text.string.data + i;
        const char *entity = *c == '&'    ? "&amp;"
                             : *c == '<'  ? "&lt;"
                             : *c == '>'  ? "&gt;"
                             : *c == '"'  ? "&#34;"
                             : *c == '\'' ? "&#39;"
                                          : NULL;
        jinja_write(run, &out, entity != NULL ? entity : c, entity != NULL ? strlen(entity) : 1);
    }
    return jinja_output_value(&out);
}

JINJA_FUNCTION(filter_replace)
{
    const struct jinja_value text = jinja_to_string(run, subject);
    const struct jinja_value from = jinja_to_string(run, *at[0]), to = jinja_to_string(run, *at[1]);
    int64_t left = at[2] != NULL && at[2]->kind == JINJA_INTEGER ? at[2]->integer : -1;
    struct jinja_output out = {0};
    size_t begin = 0;
    if (run->failed)
        return text;
    if (from.string.n_bytes == 0)
        return jinja_fail(run, "replace of an empty text is not supported");
    for (size_t found; left != 0 && !run->failed &&
                       (found = jinja_text_find(text.string, from.string, begin)) != SIZE_MAX;
         left -= left > 0) {
        jinja_write(run, &out, text.string.data + begin, found - begin);
        jinja_write(run, &out, to.string.data, to.string.n_bytes);
        begin = found + from.string.n_bytes;
    }
    if (begin == 0)
        return text;
    jinja_write(run, &out, text.string.data + begin, text.string.n_bytes - begin);
    return jinja_output_value(&out);
}

/* Python's str.splitlines cuts here too: at \r, \v, \f, and some more that nobody writes. */
static size_t line_end(struct jinja_string s, size_t at)
{
    while (at < s.n_bytes && s.data[at] != '\n' && s.data[at] != '\r')
        at++;
    return at;
}

JINJA_FUNCTION(filter_indent)
{
    const struct jinja_value text = jinja_to_string(run, subject);
    char spaces[256];
    struct jinja_string indent = {spaces, 4};
    if (at[0] != NULL && at[0]->kind == JINJA_STRING) {
        indent = at[0]->string;
    } else if (at[0] != NULL) {
        if (at[0]->kind != JINJA_INTEGER || at[0]->integer > (int64_t)sizeof(spaces))
            return jinja_fail(run, "indent takes a string, or a number up to %zu", sizeof(spaces));
        indent.n_bytes = at[0]->integer > 0 ? (size_t)at[0]->integer : 0;
    }
    memset(spaces, ' ', sizeof(spaces));
    const bool first = jinja_flag(at[1]), blank = jinja_flag(at[2]);
    const struct jinja_string s = text.string;
    struct jinja_output out = {0};
    for (size_t begin = 0, n_lines = 0; !run->failed && begin <= s.n_bytes; n_lines++) {
        const size_t end = line_end(s, begin);
        if (n_lines > 0)
            jinja_write(run, &out, "\n", 1);
        if (n_lines == 0 ? first : blank || end > begin)
            jinja_write(run, &out, indent.data, indent.n_bytes);
        jinja_write(run, &out, s.data + begin, end - begin);
        begin = end + 1;
        begin += end + 1 < s.n_bytes && s.data[end] == '\r' && s.data[end + 1] == '\n';
    }
    return jinja_output_value(&out);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* A text as Python's int() or float() read it: spaces around it are fine. False: it is none. */
static bool read_number(struct jinja_string text, bool real, int64_t *integer, double *value)
{
    char digits[64];
    char *end;
    text = jinja_text_strip(text, NULL, true, true);
    if (text.n_bytes == 0 || text.n_bytes >= sizeof(digits))
        return false;
    memcpy(digits, text.data, text.n_bytes);
    digits[text.n_bytes] = '\0';
    if (strpbrk(digits, "xXpP") != NULL)
        return false; /* C's hexadecimal */
    errno = 0;
    if (real)
        *value = strtod(digits, &end);
    else
        *integer = strtoll(digits, &end, 10);
    return *end == '\0' && (errno == 0 || real);
}

JINJA_FUNCTION(filter_int)
{
    const struct jinja_value otherwise = at[0] != NULL ? *at[0] : jinja_integer(0);
    int64_t integer = 0;
    double real = 0;
    if (subject.kind == JINJA_INTEGER)
        return subject;
    if (subject.kind == JINJA_BOOLEAN)
        return jinja_integer(subject.boolean);
    if (subject.kind == JINJA_STRING && read_number(subject.string, false, &integer, &real))
        return jinja_integer(integer);
    if (subject.kind == JINJA_REAL)
        real = subject.real;
    else if (subject.kind != JINJA_STRING || !read_number(subject.string, true, &integer, &real))
        return otherwise;
    if (isnan(real) || fabs(real) > 9e18)
        return run->failed ? subject : otherwise;
    return jinja_integer((int64_t)real);
}

JINJA_FUNCTION(filter_float)
{
    int64_t integer;
    double real = 0;
    if (subject.kind == JINJA_INTEGER || subject.kind == JINJA_BOOLEAN)
        return jinja_real(subject.kind == JINJA_INTEGER ? (double)subject.integer
                                                        : (double)subject.boolean);
    if (subject.kind == JINJA_STRING && read_number(subject.string, true, &integer, &real))
        return jinja_real(real);
    if (subject.kind == JINJA_REAL || run->failed)
        return subject;
    return at[0] != NULL ? *at[0] : jinja_real(0);
}

JINJA_FUNCTION(filter_abs)
{
    if (subject.kind == JINJA_REAL)
        return jinja_real(fabs(subject.real));
    if (!jinja_is_number(subject))
        return jinja_fail(run, "bad operand type for abs(): '%s'", jinja_type_name(subject));
    const int64_t i = subject.kind == JINJA_INTEGER ? subject.integer : subject.boolean;
    if (i == INT64_MIN)
        return jinja_fail(run, "an integer of more than 64 bits");
    return jinja_integer(i < 0 ? -i : i);
}

JINJA_FUNCTION(filter_round)
{
    char text[400];
    const int64_t precision = at[0] != NULL && at[0]->kind == JINJA_INTEGER ? at[0]->integer : 0;
    if (!jinja_is_number(subject))
        return jinja_fail(run, "round takes a number, not %s", jinja_type_name(subject));
    if (precision < 0 || precision > 20 ||
        (at[1] != NULL &&
         !(at[1]->kind == JINJA_STRING && jinja_string_is(at[1]->string, "common"))))
        return jinja_fail(run, "round is supported to 0 to 20 places, in the common way");
    if (subject.kind != JINJA_REAL)
        return jinja_integer(subject.kind == JINJA_INTEGER ? subject.integer : subject.boolean);
    snprintf(text, sizeof(text), "%.*f", (int)precision, subject.real);
    return jinja_real(strtod(text, NULL));
}

/* ---- JSON ------------------------------------------------------------------------------------ */

JINJA_FUNCTION(filter_tojson)
{
    char spaces[64];
    struct jinja_json_style style = {.ascii = jinja_flag(at[0]),
                                     .sort_keys = jinja_flag(at[3]),
                                     .item_separator = {", ", 2},
                                     .key_separator = {": ", 2}};
    memset(spaces, ' ', sizeof(spaces));
    if (at[1] != NULL && at[1]->kind != JINJA_NONE) {
        style.indented = true;
        style.item_separator = (struct jinja_string){",", 1};
        if (at[1]->kind == JINJA_STRING)
            style.indent = at[1]->string;
        else if (at[1]->kind == JINJA_INTEGER && at[1]->integer <= (int64_t)sizeof(spaces))
            style.indent =
                (struct jinja_string){spaces, at[1]->integer > 0 ? (size_t)at[1]->integer : 0};
        else
            return jinja_fail(run, "indent of tojson: a string, or a number up to %zu",
                              sizeof(spaces));
    }
    if (at[2] != NULL && at[2]->kind != JINJA_NONE) {
        const struct jinja_list *parts = at[2]->kind == JINJA_LIST ? at[2]->list : NULL;
        if (parts == NULL || parts->n != 2 || parts->items[0].kind != JINJA_STRING ||
            parts->items[1].kind != JINJA_STRING)
            return jinja_fail(run, "separators of tojson: two strings");
        style.item_separator = parts->items[0].string;
        style.key_separator = parts->items[1].string;
    }
    struct jinja_output out = {0};
    jinja_print_json(run, &out, subject, &style);
    return jinja_output_value(&out);
}

const struct jinja_function jinja_filters_of_text[] = {
    {"abs", "", 0, filter_abs},
    {"capitalize", "", 0, filter_capitalize},
    {"d", "default_value boolean", 0, filter_default},
    {"default", "default_value boolean", 0, filter_default},
    {"e", "", 0, filter_escape},
    {"escape", "", 0, filter_escape},
    {"float", "default", 0, filter_float},
    {"indent", "width first blank", 0, filter_indent},
    {"int", "default", 0, filter_int},
    {"lower", "", 0, filter_lower},
    {"replace", "old new count", 2, filter_replace},
    {"round", "precision method", 0, filter_round},
    {"safe", "", 0, filter_safe},
    {"string", "", 0, filter_string},
    {"title", "", 0, filter_title},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, filter_tojson},
    {"trim", "chars", 0, filter_trim},
    {"upper", "", 0, filter_upper},
    {.name = NULL},
};

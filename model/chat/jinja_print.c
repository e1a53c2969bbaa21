/* jinja_print.c - see jinja_print.h. */
#include "model/chat/jinja_print.h"

#include "model/chat/jinja_text.h"
#include "model/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_text(struct jinja_run *run, struct jinja_output *output, const char *text)
{
    jinja_write(run, output, text, strlen(text));
}

/* The shortest digits that read back as the same number, placed as Python's repr places them. */
static void write_real(struct jinja_run *run, struct jinja_output *output, double value)
{
    char digits[40], text[64];
    if (!isfinite(value)) {
        write_text(run, output, isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
        return;
    }
    int precision = 0;
    do
        snprintf(digits, sizeof(digits), "%.*e", precision, value);
    while (strtod(digits, NULL) != value && ++precision < 17); /* NOLINT: exact on purpose */
    const int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        const int decimals = precision - exponent;
        snprintf(text, sizeof(text), "%.*f", decimals > 1 ? decimals : 1, value);
    } else {
        char *e = strchr(digits, 'e');
        *e = '\0';
        snprintf(text, sizeof(text), "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
    }
    write_text(run, output, text);
}

static void write_integer(struct jinja_run *run, struct jinja_output *output, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRId64, value);
    write_text(run, output, text);
}

/* ---- str and repr ---------------------------------------------------------------------------- */

static void write_repr_of_text(struct jinja_run *run, struct jinja_output *output,
                               struct jinja_string s)
{
    const bool has_single = memchr(s.data, '\'', s.n_bytes) != NULL;
    const char quote = has_single && memchr(s.data, '"', s.n_bytes) == NULL ? '"' : '\'';
    jinja_write(run, output, &quote, 1);
    for (size_t at = 0, n; at < s.n_bytes; at += n) {
        n = utf8_char_bytes(s.data + at, s.n_bytes - at);
        if (n == 0)
            break; /* cannot be: strings are well-formed */
        const uint32_t c = utf8_decode(s.data + at, n);
        char escape[16] = "";
        if (c == (uint32_t)quote || c == '\\')
            snprintf(escape, sizeof(escape), "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof(escape), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (!jinja_text_printable(c))
            snprintf(escape, sizeof(escape),
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     c);
        if (escape[0] != '\0')
            write_text(run, output, escape);
        else
            jinja_write(run, output, s.data + at, n);
    }
    jinja_write(run, output, &quote, 1);
}

/* One value more, inside so many others. False: that fails, or something has failed before. */
static bool may_go_on(struct jinja_run *run, unsigned depth)
{
    if (run->failed || !jinja_step(run, 0))
        return false;
    if (depth > JINJA_MAX_NESTING)
        jinja_fail(run, "lists or dicts inside each other, more than %d deep", JINJA_MAX_NESTING);
    return depth <= JINJA_MAX_NESTING;
}

static void write_value(struct jinja_run *run, struct jinja_output *output, struct jinja_value v,
                        bool repr, unsigned depth)
{
    if (!may_go_on(run, depth))
        return;
    switch (v.kind) {
    case JINJA_UNDEFINED:
        if (repr)
            write_text(run, output, "Undefined");
        break;
    case JINJA_NONE:
        write_text(run, output, "None");
        break;
    case JINJA_BOOLEAN:
        write_text(run, output, v.boolean ? "True" : "False");
        break;
    case JINJA_INTEGER:
        write_integer(run, output, v.integer);
        break;
    case JINJA_REAL:
        write_real(run, output, v.real);
        break;
    case JINJA_STRING:
        if (repr)
            write_repr_of_text(run, output, v.string);
        else
            jinja_write(run, output, v.string.data, v.string.n_bytes);
        break;
    case JINJA_LIST:
        write_text(run, output, v.tuple ? "(" : "[");
        for (size_t i = 0; i < v.list->n; i++) {
            write_text(run, output, i > 0 ? ", " : "");
            write_value(run, output, v.list->items[i], true, depth + 1);
        }
        write_text(run, output, !v.tuple ? "]" : v.list->n == 1 ? ",)" : ")");
        break;
    case JINJA_DICT:
        write_text(run, output, "{");
        for (size_t i = 0; i < v.dict->n; i++) {
            write_text(run, output, i > 0 ? ", " : "");
            write_value(run, output, v.dict->entries[i].key, true, depth + 1);
            write_text(run, output, ": ");
            write_value(run, output, v.dict->entries[i].value, true, depth + 1);
        }
        write_text(run, output, "}");
        break;
    default: /* Python writes an address here */
        jinja_fail(run, "a %s cannot be printed", jinja_type_name(v));
    }
}

void jinja_print(struct jinja_run *run, struct jinja_output *output, struct jinja_value value)
{
    write_value(run, output, value, false, 0);
}

struct jinja_value jinja_to_string(struct jinja_run *run, struct jinja_value value)
{
    struct jinja_output text = {0};
    if (value.kind == JINJA_STRING)
        return value;
    jinja_print(run, &text, value);
    return jinja_output_value(&text);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void write_json_text(struct jinja_run *run, struct jinja_output *output,
                            struct jinja_string s, bool ascii)
{
    static const char short_escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    jinja_write(run, output, "\"", 1);
    size_t plain = 0; /* what is written as it is, in one piece */
    for (size_t at = 0, n; at < s.n_bytes; at += n) {
        n = 1;
        const unsigned char byte = (unsigned char)s.data[at];
        if (byte >= 0x20 && byte != '"' && byte != '\\' && (byte < 0x80 || !ascii))
            continue;
        char escape[16] = "";
        for (size_t i = 0; i + 1 < sizeof(short_escapes) && escape[0] == '\0'; i += 2)
            if (s.data[at] == short_escapes[i])
                snprintf(escape, sizeof(escape), "\\%c", short_escapes[i + 1]);
        if (escape[0] == '\0') {
            if ((n = utf8_char_bytes(s.data + at, s.n_bytes - at)) == 0)
                break; /* cannot be: strings are well-formed */
            const uint32_t c = utf8_decode(s.data + at, n);
            if (c < 0x10000)
                snprintf(escape, sizeof(escape), "\\u%04x", c);
            else
                snprintf(escape, sizeof(escape), "\\u%04x\\u%04x", 0xd7c0 + (c >> 10),
                         0xdc00 + (c & 0x3ff));
        }
        jinja_write(run, output, s.data + plain, at - plain);
        write_text(run, output, escape);
        plain = at + n;
    }
    if (plain < s.n_bytes)
        jinja_write(run, output, s.data + plain, s.n_bytes - plain);
    jinja_write(run, output, "\"", 1);
}

static void write_json_number(struct jinja_run *run, struct jinja_output *output,
                              struct jinja_value v)
{
    if (v.kind == JINJA_REAL && !isfinite(v.real))
        write_text(run, output, isnan(v.real) ? "NaN" : v.real < 0 ? "-Infinity" : "Infinity");
    else if (v.kind == JINJA_REAL)
        write_real(run, output, v.real);
    else if (v.kind == JINJA_INTEGER)
        write_integer(run, output, v.integer);
    else
        write_text(run, output, v.kind == JINJA_NONE ? "null" : v.boolean ? "true" : "false");
}

static void new_line(struct jinja_run *run, struct jinja_output *output,
                     const struct jinja_json_style *style, unsigned depth)
{
    if (!style->indented)
        return;
    jinja_write(run, output, "\n", 1);
    for (unsigned i = 0; i < depth && !run->failed; i++)
        jinja_write(run, output, style->indent.data, style->indent.n_bytes);
}

static void write_json(struct jinja_run *run, struct jinja_output *output, struct jinja_value v,
                       const struct jinja_json_style *style, unsigned depth);

static void write_json_dict(struct jinja_run *run, struct jinja_output *output,
                            const struct jinja_dict *dict, const struct jinja_json_style *style,
                            unsigned depth)
{
    struct jinja_entry *entries = dict->entries;
    if (style->sort_keys && dict->n > 0) {
        if ((entries = jinja_take(run, dict->n, sizeof(*entries))) == NULL)
            return;
        memcpy(entries, dict->entries, dict->n * sizeof(*entries));
        jinja_sort_entries(run, entries, dict->n, false);
    }
    jinja_write(run, output, "{", 1);
    for (size_t i = 0; i < dict->n && !run->failed; i++) {
        if (i > 0)
            jinja_write(run, output, style->item_separator.data, style->item_separator.n_bytes);
        new_line(run, output, style, depth + 1);
        if (entries[i].key.kind == JINJA_STRING) {
            write_json_text(run, output, entries[i].key.string, style->ascii);
        } else {
            jinja_write(run, output, "\"", 1);
            write_json_number(run, output, entries[i].key);
            jinja_write(run, output, "\"", 1);
        }
        jinja_write(run, output, style->key_separator.data, style->key_separator.n_bytes);
        write_json(run, output, entries[i].value, style, depth + 1);
    }
    if (dict->n > 0)
        new_line(run, output, style, depth);
    jinja_write(run, output, "}", 1);
}

static void write_json(struct jinja_run *run, struct jinja_output *output, struct jinja_value v,
                       const struct jinja_json_style *style, unsigned depth)
{
    if (!may_go_on(run, depth))
        return;
    switch (v.kind) {
    case JINJA_NONE:
    case JINJA_BOOLEAN:
    case JINJA_INTEGER:
    case JINJA_REAL:
        write_json_number(run, output, v);
        break;
    case JINJA_STRING:
        write_json_text(run, output, v.string, style->ascii);
        break;
    case JINJA_LIST:
        jinja_write(run, output, "[", 1);
        for (size_t i = 0; i < v.list->n && !run->failed; i++) {
            if (i > 0)
                jinja_write(run, output, style->item_separator.data, style->item_separator.n_bytes);
            new_line(run, output, style, depth + 1);
            write_json(run, output, v.list->items[i], style, depth + 1);
        }
        if (v.list->n > 0)
            new_line(run, output, style, depth);
        jinja_write(run, output, "]", 1);
        break;
    case JINJA_DICT:
        write_json_dict(run, output, v.dict, style, depth);
        break;
    default:
        jinja_fail(run, "Object of type %s is not JSON serializable", jinja_type_name(v));
    }
}

void jinja_print_json(struct jinja_run *run, struct jinja_output *output, struct jinja_value value,
                      const struct jinja_json_style *style)
{
    write_json(run, output, value, style, 0);
}

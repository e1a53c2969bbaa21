/* jinja_lexer.c - see jinja_lexer.h. */
#include "model/chat/jinja_lexer.h"

#include "model/chat/jinja_text.h"
#include "model/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPEN = 256, MAX_NUMBER = 64 };

struct lexer {
    struct jinja_tokens *tokens;
    struct jinja_pool *pool;
    const char *text;
    size_t n, at;
    uint32_t line;
    bool line_start; /* the last token ended with a newline, or there was none */
    struct error *error;
};

static enum status fail(const struct lexer *x, const char *what, struct jinja_string text)
{
    const int n = text.n_bytes < 60 ? (int)text.n_bytes : 60;
    return error_set(x->error, STATUS_UNSUPPORTED, "line %u: %s%s%.*s", x->line, what,
                     n > 0 ? ": " : "", n, text.data);
}

static enum status no_memory(const struct lexer *x)
{
    return error_set(x->error, STATUS_NO_MEMORY, "no memory for the template");
}

static bool at_text(const struct lexer *x, size_t at, const char *text)
{
    const size_t n = strlen(text);
    return x->n - at >= n && memcmp(x->text + at, text, n) == 0;
}

static enum status add(struct lexer *x, enum jinja_token_kind kind, const char *data, size_t n)
{
    struct jinja_tokens *t = x->tokens;
    if (t->n == t->capacity) {
        const size_t capacity = t->capacity > 0 ? 2 * t->capacity : 64;
        struct jinja_token *items = jinja_pool_take(x->pool, capacity * sizeof(*items));
        if (items == NULL)
            return no_memory(x);
        if (t->n > 0)
            memcpy(items, t->items, t->n * sizeof(*items));
        t->items = items;
        t->capacity = capacity;
    }
    t->items[t->n++] = (struct jinja_token){.kind = kind, .line = x->line, .text = {data, n}};
    return STATUS_OK;
}

/* To `end`, counting lines. */
static void advance(struct lexer *x, size_t end)
{
    for (; x->at < end; x->at++)
        x->line += x->text[x->at] == '\n';
    x->line_start = end > 0 && x->text[end - 1] == '\n';
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    size_t n;
    while (at < x->n && (n = jinja_text_space(x->text + at, x->n - at)) > 0)
        at += n;
    return at;
}

/* The end of a tag whose closing delimiter is at `at`, or 0: `-` takes all white space behind it,
 * `+` nothing, otherwise `trim` takes one newline. */
static size_t tag_end(const struct lexer *x, size_t at, const char *close, bool trim)
{
    if (x->text[at] == '-' && at_text(x, at + 1, close))
        return skip_space(x, at + 3);
    if (trim && x->text[at] == '+' && at_text(x, at + 1, close))
        return at + 3;
    if (!at_text(x, at, close))
        return 0;
    return at + 2 + (trim && at + 2 < x->n && x->text[at + 2] == '\n');
}

/* The text before a tag: `sign` is what follows the tag's opening. */
static enum status add_data(struct lexer *x, size_t end, char sign, bool output)
{
    size_t n = end - x->at;
    const char *data = x->text + x->at;
    if (sign == '-') {
        n = jinja_text_strip((struct jinja_string){data, n}, NULL, false, true).n_bytes;
    } else if (sign != '+' && !output) {
        size_t line = n;
        while (line > 0 && data[line - 1] != '\n')
            line--;
        if ((line > 0 || x->line_start) && line < n &&
            jinja_text_strip((struct jinja_string){data + line, n - line}, NULL, true, false)
                    .n_bytes == 0)
            n = line;
    }
    const enum status status = n > 0 ? add(x, JINJA_TOKEN_DATA, data, n) : STATUS_OK;
    advance(x, end);
    return status;
}

/* ---- inside tags ----------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Digits, in groups that underscores join. */
static size_t digits_end(const struct lexer *x, size_t at)
{
    while (at < x->n && (is_digit(x->text[at]) ||
                         (x->text[at] == '_' && at + 1 < x->n && is_digit(x->text[at + 1]))))
        at++;
    return at;
}

static enum status read_number(struct lexer *x)
{
    const size_t begin = x->at;
    size_t end = digits_end(x, begin);
    bool real = false;
    if (end + 1 < x->n && x->text[end] == '.' && is_digit(x->text[end + 1])) {
        end = digits_end(x, end + 1);
        real = true;
    }
    if (end < x->n && (x->text[end] == 'e' || x->text[end] == 'E')) {
        size_t digits = end + 1;
        digits += digits < x->n && (x->text[digits] == '+' || x->text[digits] == '-');
        if (digits < x->n && is_digit(x->text[digits])) {
            end = digits_end(x, digits);
            real = true;
        }
    }
    const struct jinja_string all = {x->text + begin, end - begin};
    char digits[MAX_NUMBER];
    size_t n = 0;
    for (size_t i = begin; i < end && n < sizeof(digits) - 1; i++)
        if (x->text[i] != '_')
            digits[n++] = x->text[i];
    digits[n] = '\0';
    if (end - begin >= sizeof(digits) || (end < x->n && is_word(x->text[end])))
        return fail(x, "a number that is not understood", all);
    const enum status status =
        add(x, real ? JINJA_TOKEN_REAL : JINJA_TOKEN_INTEGER, all.data, all.n_bytes);
    if (status != STATUS_OK)
        return status;
    struct jinja_token *token = &x->tokens->items[x->tokens->n - 1];
    errno = 0;
    if (real)
        token->real = strtod(digits, NULL);
    else
        token->integer = strtoll(digits, NULL, 10);
    if (!real && errno != 0)
        return fail(x, "an integer of more than 64 bits", all);
    advance(x, end);
    return STATUS_OK;
}

/* The value of `n` digits of base 8 or 16, or -1. */
static int64_t escape_digits(const char *text, size_t n, int base)
{
    int64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        const int digit = is_digit(c)              ? c - '0'
                          : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                          : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                                   : 16;
        if (digit >= base)
            return -1;
        value = value * base + digit;
    }
    return value;
}

/* One escape at `at` (behind the backslash) as Python reads it; returns its end, 0 for a bad
 * one. */
static size_t read_escape(const struct lexer *x, size_t at, size_t end, char *out, size_t *n)
{
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    const char c = x->text[at];
    if (c == '\n')
        return at + 1;
    for (size_t i = 0; i + 1 < sizeof(plain); i += 2)
        if (c == plain[i]) {
            out[(*n)++] = plain[i + 1];
            return at + 1;
        }
    int64_t code;
    size_t length;
    if (c == 'x' || c == 'u' || c == 'U') {
        length = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        if (end - at - 1 < length || (code = escape_digits(x->text + at + 1, length, 16)) < 0)
            return 0;
        length++;
    } else if (c >= '0' && c <= '7') {
        for (length = 1; length < 3 && at + length < end && x->text[at + length] >= '0' &&
                         x->text[at + length] <= '7';)
            length++;
        code = escape_digits(x->text + at, length, 8);
    } else {
        out[(*n)++] = '\\'; /* no escape at all: the backslash stays */
        return at;
    }
    if (code >= 0x110000 || (code >= 0xd800 && code < 0xe000))
        return 0;
    *n += utf8_encode(out + *n, (uint32_t)code);
    return at + length;
}

static enum status read_string(struct lexer *x)
{
    const char quote = x->text[x->at];
    const size_t begin = x->at + 1;
    size_t end = begin;
    while (end < x->n && x->text[end] != quote)
        end += x->text[end] == '\\' ? 2 : 1;
    if (end >= x->n)
        return fail(x, "a string that does not end",
                    (struct jinja_string){x->text + x->at, x->n - x->at});
    char *out = jinja_pool_take(x->pool, end - begin + 1); /* escapes are longer than characters */
    if (out == NULL)
        return no_memory(x);
    size_t n = 0;
    for (size_t at = begin; at < end;) {
        if (x->text[at] != '\\') {
            out[n++] = x->text[at++];
            continue;
        }
        const size_t next = read_escape(x, at + 1, end, out, &n);
        if (next == 0)
            return fail(x, "an escape that is not understood",
                        (struct jinja_string){x->text + at, end - at});
        at = next;
    }
    const enum status status = add(x, JINJA_TOKEN_STRING, out, n);
    advance(x, end + 1);
    return status;
}

/* Brackets that are open: the end of a tag inside them is none. */
struct brackets {
    char open[MAX_OPEN];
    size_t n;
};

static enum status read_operator(struct lexer *x, struct brackets *brackets)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", NULL};
    for (size_t i = 0; operators[i] != NULL; i++) {
        if (!at_text(x, x->at, operators[i]))
            continue;
        const char c = operators[i][0];
        if (c == '(' || c == '[' || c == '{') {
            if (brackets->n == MAX_OPEN)
                return fail(x, "brackets nested too deeply", (struct jinja_string){"", 0});
            brackets->open[brackets->n++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (brackets->n == 0 || brackets->open[brackets->n - 1] != c)
                return fail(x, "a bracket that nothing opened",
                            (struct jinja_string){operators[i], 1});
            brackets->n--;
        }
        const enum status status = add(x, JINJA_TOKEN_OPERATOR, operators[i], strlen(operators[i]));
        advance(x, x->at + strlen(operators[i]));
        return status;
    }
    return fail(
        x, "a character that is not understood",
        (struct jinja_string){x->text + x->at, utf8_char_bytes(x->text + x->at, x->n - x->at)});
}

static enum status read_tag(struct lexer *x, bool output)
{
    const char *close = output ? "}}" : "%}";
    struct brackets brackets = {.n = 0};
    enum status status =
        add(x, output ? JINJA_TOKEN_OUTPUT_BEGIN : JINJA_TOKEN_BLOCK_BEGIN, x->text + x->at, 2);
    size_t begin = x->at + 2;
    begin += begin < x->n && (x->text[begin] == '-' || x->text[begin] == '+');
    advance(x, begin);
    while (status == STATUS_OK) {
        advance(x, skip_space(x, x->at));
        if (x->at == x->n)
            return fail(x, "a tag that does not end", (struct jinja_string){"", 0});
        const size_t end = brackets.n == 0 ? tag_end(x, x->at, close, !output) : 0;
        if (end > 0) {
            status =
                add(x, output ? JINJA_TOKEN_OUTPUT_END : JINJA_TOKEN_BLOCK_END, x->text + x->at, 2);
            advance(x, end);
            return status;
        }
        const char c = x->text[x->at];
        if (is_digit(c)) {
            status = read_number(x);
        } else if (is_word(c)) {
            size_t word = x->at;
            while (word < x->n && is_word(x->text[word]))
                word++;
            status = add(x, JINJA_TOKEN_NAME, x->text + x->at, word - x->at);
            advance(x, word);
        } else if (c == '"' || c == '\'') {
            status = read_string(x);
        } else {
            status = read_operator(x, &brackets);
        }
    }
    return status;
}

/* ---- between tags ---------------------------------------------------------------------------- */

/* The closing delimiter of `{% NAME %}` at `at` (its opening), or 0. */
static size_t word_tag(const struct lexer *x, size_t at, const char *name)
{
    at += 2;
    at += at < x->n && (x->text[at] == '-' || x->text[at] == '+');
    at = skip_space(x, at);
    if (!at_text(x, at, name))
        return 0;
    at = skip_space(x, at + strlen(name));
    return at < x->n && (at_text(x, at, "%}") || at_text(x, at, "-%}") || at_text(x, at, "+%}"))
               ? at
               : 0;
}

static enum status read_raw(struct lexer *x, size_t close)
{
    /* The opening tag takes no newline: only `-` takes white space. */
    advance(x, tag_end(x, close, "%}", false));
    for (size_t at = x->at; at < x->n; at++) {
        const size_t end = at_text(x, at, "{%") ? word_tag(x, at, "endraw") : 0;
        if (end == 0)
            continue;
        const enum status status = add_data(x, at, x->text[at + 2], false);
        advance(x, tag_end(x, end, "%}", true));
        return status;
    }
    return fail(x, "{% raw %} without {% endraw %}", (struct jinja_string){"", 0});
}

static enum status read_comment(struct lexer *x)
{
    size_t at = x->at + 2;
    at += at < x->n && (x->text[at] == '-' || x->text[at] == '+');
    for (; at + 1 < x->n; at++) {
        const size_t end = tag_end(x, at, "#}", true);
        if (end > 0) {
            advance(x, end);
            return STATUS_OK;
        }
    }
    return fail(x, "a comment that does not end", (struct jinja_string){"", 0});
}

static enum status read_all(struct lexer *x)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && x->at < x->n) {
        size_t at = x->at;
        while (at < x->n &&
               !(x->text[at] == '{' && at + 1 < x->n &&
                 (x->text[at + 1] == '{' || x->text[at + 1] == '%' || x->text[at + 1] == '#')))
            at++;
        const char kind = at < x->n ? x->text[at + 1] : '\0';
        const char sign = at + 2 < x->n ? x->text[at + 2] : '\0';
        if (at == x->n) /* the rest is text, as it is */
            return add(x, JINJA_TOKEN_DATA, x->text + x->at, x->n - x->at);
        status = add_data(x, at, sign, kind == '{');
        if (status != STATUS_OK)
            return status;
        const size_t raw = kind == '%' ? word_tag(x, at, "raw") : 0;
        status = kind == '#'                                   ? read_comment(x)
                 : raw > 0 && tag_end(x, raw, "%}", false) > 0 ? read_raw(x, raw)
                                                               : read_tag(x, kind == '{');
    }
    return status;
}

/* One kind of newline, and none at the end. */
static const char *normalise(struct jinja_pool *pool, const char *source, size_t n_bytes, size_t *n)
{
    char *text = jinja_pool_take(pool, n_bytes);
    size_t length = 0;
    for (size_t i = 0; text != NULL && i < n_bytes; i++) {
        if (source[i] == '\r' && i + 1 < n_bytes && source[i + 1] == '\n')
            continue;
        text[length++] = source[i] == '\r' ? '\n' : source[i];
    }
    *n = length > 0 && text[length - 1] == '\n' ? length - 1 : length;
    return text;
}

enum status jinja_lexer_read(struct jinja_tokens *tokens, struct jinja_pool *pool,
                             const char *source, size_t n_bytes, struct error *error)
{
    struct lexer x = {
        .tokens = tokens, .pool = pool, .line = 1, .line_start = true, .error = error};
    for (size_t at = 0, n; at < n_bytes; at += n)
        if ((n = utf8_char_bytes(source + at, n_bytes - at)) == 0)
            return error_set(error, STATUS_UNSUPPORTED, "byte %zu is not UTF-8", at);
    x.text = normalise(pool, source, n_bytes, &x.n);
    if (x.text == NULL)
        return no_memory(&x);
    const enum status status = read_all(&x);
    return status == STATUS_OK ? add(&x, JINJA_TOKEN_END, "", 0) : status;
}

/* expression_syntax.c - one pass over the pattern; whatever it does not know it refuses, so that
 * nothing reaches PCRE2 that might mean something else there.
 *
 * What differs between the two, and occurs:
 *     \s \S    Unicode's White_Space; PCRE2's has U+180E too, which is no space since Unicode 6.3
 *     \w \W    Alphabetic, marks, decimal digits, connectors; PCRE2's are letters, numbers and _
 *     \b \B    between these
 *     \h       a hexadecimal digit
 *     [a[bc]]  a union
 *     \p{Han}  the script; PCRE2's are the script's extensions, unless sc: is written
 *     {,n}     from none
 *     \s+$     alone, as a pattern, takes quadratic time in a run of spaces that does not end the
 *              text; the same with a look behind takes linear time */
#include "model/tokenizer/expression_syntax.h"

#include "sys/text_buffer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WORD     "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define SPACE    "\\p{White_Space}"
#define HEX      "0-9A-Fa-f"
#define BOUNDARY "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
#define INTERIOR "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))"

enum { MOST_INTERVAL_BYTES = 256 };

struct translation {
    const char *pattern, *at;
    struct text_buffer out;
    bool no_memory;
    int depth;        /* of brackets: 0 outside of a class */
    const char *seam; /* behind the last bracket that began or ended a class in a class; or NULL */
    struct error *error;
};

static enum status refuse(struct translation *t, const char *what)
{
    return error_set(t->error, STATUS_UNSUPPORTED,
                     "the regular expression '%.200s': %s at byte %zu is not supported", t->pattern,
                     what, (size_t)(t->at - t->pattern));
}

static void put(struct translation *t, const char *text)
{
    t->no_memory |= !text_buffer_add(&t->out, text, strlen(text));
}

static void put_bytes(struct translation *t, const char *bytes, size_t n)
{
    t->no_memory |= !text_buffer_add(&t->out, bytes, n);
    t->at += n;
}

/* \p{Name}, \P{Name}, \p{^Name}; `at` is behind the p. */
static enum status property(struct translation *t, bool negated)
{
    static const char *const whole[] = {"Any", "Alphabetic", "White_Space", "Emoji"};
    const char *end = t->at[0] == '{' ? strchr(t->at, '}') : NULL;
    if (end == NULL)
        return refuse(t, "a property without braces");
    const char *name = t->at + 1;
    if (*name == '^') {
        negated = !negated;
        name++;
    }
    const size_t n = (size_t)(end - name);
    if (n == 0 || n > 64 ||
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") < n)
        return refuse(t, "a property of this name");
    bool script = n > 2;
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
        if (strlen(whole[i]) == n && memcmp(whole[i], name, n) == 0)
            script = false;
    put(t, negated ? "\\P{" : "\\p{");
    if (script)
        put(t, "sc:");
    t->at = name;
    put_bytes(t, name, n);
    put(t, "}");
    t->at++;
    return STATUS_OK;
}

/* \uHHHH or \xHH or \x{H...}; `at` is behind the letter. */
static enum status code_point(struct translation *t, char letter)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const bool braces = letter == 'x' && t->at[0] == '{';
    if (braces)
        t->at++;
    const size_t n = strspn(t->at, digits), wanted = letter == 'u' ? 4 : 2;
    if (braces ? n < 1 || n > 6 || t->at[n] != '}' : n < wanted)
        return refuse(t, "a code point that is not in hexadecimal digits");
    put(t, "\\x{");
    put_bytes(t, t->at, braces ? n : wanted);
    put(t, "}");
    if (braces)
        t->at++;
    return STATUS_OK;
}

/* Behind a backslash. */
static enum status escape(struct translation *t)
{
    const bool class = t->depth > 0;
    const char letter = *t->at;
    if (letter == '\0')
        return refuse(t, "a backslash at the end");
    t->at++;
    switch (letter) {
    case 's':
        put(t, SPACE);
        return STATUS_OK;
    case 'S':
        put(t, "\\P{White_Space}");
        return STATUS_OK;
    case 'd':
        put(t, "\\p{Nd}");
        return STATUS_OK;
    case 'D':
        put(t, "\\P{Nd}");
        return STATUS_OK;
    case 'w':
        put(t, class ? WORD : "[" WORD "]");
        return STATUS_OK;
    case 'h':
        put(t, class ? HEX : "[" HEX "]");
        return STATUS_OK;
    case 'W':
    case 'H':
        if (class)
            return refuse(t, "\\W or \\H in a class");
        put(t, letter == 'W' ? "[^" WORD "]" : "[^" HEX "]");
        return STATUS_OK;
    case 'b':
    case 'B':
        if (class)
            return refuse(t, "\\b or \\B in a class");
        put(t, letter == 'b' ? BOUNDARY : INTERIOR);
        return STATUS_OK;
    case 'A':
    case 'z':
    case 'Z':
        if (class)
            return refuse(t, "an anchor in a class");
        put(t, letter == 'A' ? "\\A" : letter == 'z' ? "\\z" : "\\Z");
        return STATUS_OK;
    case 'v':
        put(t, "\\x{0b}");
        return STATUS_OK;
    case 'p':
    case 'P':
        return property(t, letter == 'P');
    case 'x':
    case 'u':
        return code_point(t, letter);
    default:
        break;
    }
    const bool alphanumeric = (letter >= '0' && letter <= '9') ||
                              (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
    if (alphanumeric && strchr("rntfae", letter) == NULL)
        return refuse(t, "an escape of this letter");
    if ((unsigned char)letter >= 0x80) { /* a character that needed none */
        t->at--;
        return STATUS_OK;
    }
    const char escaped[3] = {'\\', letter, '\0'};
    put(t, escaped);
    return STATUS_OK;
}

static enum status bracket(struct translation *t)
{
    t->at++;
    if (t->depth > 0 && (*t->at == '^' || *t->at == ':'))
        return refuse(t, *t->at == '^' ? "a negated class in a class" : "a POSIX class");
    if (t->depth == 0) {
        put(t, "[");
        if (*t->at == '^')
            put_bytes(t, t->at, 1);
    }
    if (*t->at == ']')
        return refuse(t, "a class that is empty or begins with ]");
    if (t->depth > 0)
        t->seam = t->at;
    t->depth++;
    return STATUS_OK;
}

static enum status group(struct translation *t)
{
    static const char *const known[] = {"(?:", "(?=",  "(?!",  "(?<=", "(?<!",
                                        "(?>", "(?i:", "(?i)", "(?-i:"};
    if (t->at[1] == '*')
        return refuse(t, "a call-out");
    if (t->at[1] != '?') {
        put_bytes(t, t->at, 1);
        return STATUS_OK;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strncmp(t->at, known[i], strlen(known[i])) == 0) {
            put_bytes(t, t->at, strlen(known[i]));
            return STATUS_OK;
        }
    return refuse(t, "a group of this kind");
}

/* {n}, {n,}, {,m}, {n,m}; anything else between braces is text to Oniguruma. */
static enum status interval(struct translation *t)
{
    const char *at = t->at + 1;
    const size_t least = strspn(at, "0123456789");
    at += least;
    const bool comma = *at == ',';
    size_t most = 0;
    if (comma) {
        most = strspn(++at, "0123456789");
        at += most;
    }
    if (*at != '}' || least + most == 0)
        return refuse(t, "a brace that begins no interval");
    if (at[1] == '+' || at[1] == '*' || (at[1] == '?' && !comma))
        return refuse(t, "a quantifier behind an interval");
    put(t, "{");
    if (least == 0)
        put(t, "0");
    t->at++;
    if ((size_t)(at + 1 - t->at) >= MOST_INTERVAL_BYTES)
        return refuse(t, "an interval of so many digits");
    put_bytes(t, t->at, (size_t)(at + 1 - t->at));
    return STATUS_OK;
}

static enum status next(struct translation *t)
{
    const char c = *t->at;
    if (c == '\\') {
        t->at++;
        return escape(t);
    }
    if (c == '[')
        return bracket(t);
    if (t->depth > 0) {
        if (c == '&' && t->at[1] == '&')
            return refuse(t, "an intersection of classes");
        if (c == ']' && --t->depth > 0) {
            t->seam = ++t->at; /* the end of a class inside: the union goes on */
            return STATUS_OK;
        }
        /* Without the bracket it would be a range. */
        if (c == '-' && (t->at == t->seam || t->at[1] == '[' || (t->at[1] == ']' && t->depth > 1)))
            return refuse(t, "a hyphen at the edge of a class in a class");
        put_bytes(t, t->at, 1);
        return STATUS_OK;
    }
    if (c == '(')
        return group(t);
    if (c == '{')
        return interval(t);
    put_bytes(t, t->at, 1);
    return STATUS_OK;
}

enum status expression_syntax_translate(char **translated, const char *pattern, struct error *error)
{
    struct translation t = {.pattern = pattern, .at = pattern, .error = error};
    if (strcmp(pattern, "\\s+$") == 0)
        t.pattern = t.at = "(?<!\\s)\\s++$";
    enum status status = STATUS_OK;
    put(&t, ""); /* of an empty one, an empty one */
    while (status == STATUS_OK && *t.at != '\0')
        status = next(&t);
    if (status == STATUS_OK && t.depth > 0)
        status = refuse(&t, "a class without an end");
    if (status == STATUS_OK && t.no_memory)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a regular expression");
    if (status != STATUS_OK) {
        free(t.out.bytes);
        return status;
    }
    *translated = t.out.bytes;
    return STATUS_OK;
}

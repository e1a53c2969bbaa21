/* jinja_text.c - see jinja_text.h. */
#include "model/chat/jinja_text.h"

#include "model/utf8.h"

#include <locale.h>
#include <string.h>
#include <wctype.h>

static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

size_t jinja_text_space(const char *text, size_t n_bytes)
{
    const size_t n = utf8_char_bytes(text, n_bytes);
    return n > 0 && is_space(utf8_decode(text, n)) ? n : 0;
}

static bool continues(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

size_t jinja_text_length(struct jinja_string text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n_bytes; i++)
        n += !continues(text.data[i]);
    return n;
}

size_t jinja_text_offset(struct jinja_string text, size_t index)
{
    size_t at = 0;
    while (at < text.n_bytes && (continues(text.data[at]) || index-- > 0))
        at++;
    return at;
}

/* Does the character [at, at + n) stand in `chars`, or, without, is it white space? */
static bool is_stripped(const char *at, size_t n, const struct jinja_string *chars)
{
    if (chars == NULL)
        return is_space(utf8_decode(at, n));
    return jinja_text_find(*chars, (struct jinja_string){at, n}, 0) != SIZE_MAX;
}

struct jinja_string jinja_text_strip(struct jinja_string text, const struct jinja_string *chars,
                                     bool left, bool right)
{
    while (left && text.n_bytes > 0) {
        const size_t n = utf8_char_bytes(text.data, text.n_bytes);
        if (n == 0 || !is_stripped(text.data, n, chars))
            break;
        text.data += n;
        text.n_bytes -= n;
    }
    while (right && text.n_bytes > 0) {
        size_t begin = text.n_bytes - 1;
        while (begin > 0 && continues(text.data[begin]))
            begin--;
        const size_t n = utf8_char_bytes(text.data + begin, text.n_bytes - begin);
        if (n == 0 || !is_stripped(text.data + begin, n, chars))
            break;
        text.n_bytes = begin;
    }
    return text;
}

bool jinja_text_starts(struct jinja_string text, struct jinja_string with)
{
    return with.n_bytes <= text.n_bytes &&
           (with.n_bytes == 0 || memcmp(text.data, with.data, with.n_bytes) == 0);
}

bool jinja_text_ends(struct jinja_string text, struct jinja_string with)
{
    return with.n_bytes <= text.n_bytes &&
           (with.n_bytes == 0 ||
            memcmp(text.data + text.n_bytes - with.n_bytes, with.data, with.n_bytes) == 0);
}

size_t jinja_text_find(struct jinja_string text, struct jinja_string what, size_t from)
{
    if (what.n_bytes == 0 || from > text.n_bytes)
        return SIZE_MAX;
    const char *found = memmem(text.data + from, text.n_bytes - from, what.data, what.n_bytes);
    return found != NULL ? (size_t)(found - text.data) : SIZE_MAX;
}

/* ---- case ------------------------------------------------------------------------------------ */

static uint32_t map_case(uint32_t c, bool upper, locale_t locale)
{
    if (c < 0x80)
        return upper ? (c >= 'a' && c <= 'z' ? c - 32 : c) : (c >= 'A' && c <= 'Z' ? c + 32 : c);
    if (locale == (locale_t)0)
        return c;
    const uint32_t mapped =
        (uint32_t)(upper ? towupper_l((wint_t)c, locale) : towlower_l((wint_t)c, locale));
    return mapped < 0x110000 ? mapped : c;
}

static bool letter(uint32_t c, locale_t locale)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return locale == (locale_t)0 || iswalpha_l((wint_t)c, locale) != 0;
}

static bool begins_word(uint32_t c)
{
    return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

struct jinja_string jinja_text_case(struct jinja_pool *pool, struct jinja_string text,
                                    enum jinja_case how)
{
    /* A character of two bytes may become one of three. */
    char *out = jinja_pool_take(pool, 2 * text.n_bytes + 4);
    if (out == NULL)
        return (struct jinja_string){NULL, 0};
    const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    size_t length = 0;
    bool first = true; /* of the text, or of a word */
    for (size_t at = 0, n; at < text.n_bytes; at += n) {
        n = utf8_char_bytes(text.data + at, text.n_bytes - at);
        if (n == 0)
            break; /* cannot be: texts are well-formed */
        const uint32_t c = utf8_decode(text.data + at, n);
        const bool upper = how == JINJA_UPPER || (how != JINJA_LOWER && first);
        length += utf8_encode(out + length, map_case(c, upper, locale));
        first = how == JINJA_TITLE_METHOD   ? !letter(c, locale)
                : how == JINJA_TITLE_FILTER ? begins_word(c)
                                            : false;
    }
    if (locale != (locale_t)0)
        freelocale(locale);
    return (struct jinja_string){out, length};
}

bool jinja_text_alpha(uint32_t c)
{
    const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    const bool is = letter(c, locale);
    if (locale != (locale_t)0)
        freelocale(locale);
    return is;
}

bool jinja_text_printable(uint32_t c)
{
    if (c < 0x7f)
        return c >= 32;
    static const struct {
        uint32_t first, last;
    } formats[] = {{0x7f, 0xa0},       {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
                   {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},     {0x8e2, 0x8e2},
                   {0x180e, 0x180e},   {0x200b, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x206f},
                   {0xd800, 0xf8ff},   {0xfeff, 0xfeff},   {0xfff0, 0xfffb},   {0xfffe, 0xffff},
                   {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1343f}, {0x1bca0, 0x1bca3},
                   {0x1d173, 0x1d17a}, {0xe0000, 0xe00ff}, {0xf0000, 0x10ffff}};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (c >= formats[i].first && c <= formats[i].last)
            return false;
    const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    const bool is = !is_space(c) && (locale == (locale_t)0 || iswprint_l((wint_t)c, locale) != 0);
    if (locale != (locale_t)0)
        freelocale(locale);
    return is;
}

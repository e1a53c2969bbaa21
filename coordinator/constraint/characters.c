/* characters.c - see characters.h. */
#include "coordinator/constraint/characters.h"

#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

bool characters_add(struct characters *set, uint32_t first, uint32_t last)
{
    if (first > last)
        return true;
    if (set->n == CHARACTERS_RANGES)
        return false;
    set->ranges[set->n].first = first;
    set->ranges[set->n++].last = last;
    return true;
}

static int by_first(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void characters_normalise(struct characters *set)
{
    uint32_t n = 0;
    qsort(set->ranges, set->n, sizeof(set->ranges[0]), by_first);
    for (uint32_t i = 0; i < set->n; i++) {
        if (n > 0 && set->ranges[i].first <= set->ranges[n - 1].last + 1) {
            if (set->ranges[i].last > set->ranges[n - 1].last)
                set->ranges[n - 1].last = set->ranges[i].last;
        } else {
            set->ranges[n++] = set->ranges[i];
        }
    }
    set->n = n;
}

void characters_invert(struct characters *set, uint32_t last)
{
    struct characters others = {.n = 0};
    uint32_t from = 0;
    for (uint32_t i = 0; i < set->n && from <= last; i++) {
        if (set->ranges[i].first > from)
            characters_add(&others, from,
                           set->ranges[i].first - 1 < last ? set->ranges[i].first - 1 : last);
        from = set->ranges[i].last + 1;
    }
    if (from <= last)
        characters_add(&others, from, last);
    *set = others;
}

/* Code points of equal UTF-8 length whose bytes vary independently, or parts of them. */
static uint32_t utf8_range(struct grammar *p, uint32_t first, uint32_t last, uint32_t next)
{
    char low[4], high[4];
    for (unsigned i = 1; i < 4; i++) {
        const uint32_t rest = (1u << (6 * i)) - 1;
        if (i >= utf8_encode(low, last) || (first & ~rest) == (last & ~rest))
            break;
        uint32_t middle = 0;
        if ((first & rest) != 0)
            middle = first | rest;
        else if ((last & rest) != rest)
            middle = (last & ~rest) - 1;
        if (middle != 0)
            return grammar_split(p, utf8_range(p, first, middle, next),
                                 utf8_range(p, middle + 1, last, next));
    }
    const size_t n = utf8_encode(low, first);
    utf8_encode(high, last);
    for (size_t i = n; i-- > 0;)
        next = grammar_range(p, (uint8_t)low[i], (uint8_t)high[i], next);
    return next;
}

static uint32_t either(struct grammar *p, uint32_t one, uint32_t other)
{
    return one == GRAMMAR_NEVER     ? other
           : other == GRAMMAR_NEVER ? one
                                    : grammar_split(p, one, other);
}

/* What is not ASCII, cut where the length of UTF-8 changes. */
static uint32_t beyond_ascii(struct grammar *p, uint32_t first, uint32_t last, uint32_t next)
{
    static const uint32_t cuts[][2] = {
        {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, 0x10ffff}};
    uint32_t entry = GRAMMAR_NEVER;
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        const uint32_t from = first > cuts[i][0] ? first : cuts[i][0];
        const uint32_t to = last < cuts[i][1] ? last : cuts[i][1];
        if (from <= to)
            entry = either(p, utf8_range(p, from, to, next), entry);
    }
    return entry;
}

/* A control character, quote or backslash as JSON writes it. */
static uint32_t escaped(struct grammar *p, uint32_t c, uint32_t next)
{
    static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt", hex[] = "0123456789abcdef";
    for (size_t i = 0; i + 1 < sizeof(letters); i += 2)
        if (c == (uint32_t)letters[i])
            return grammar_text(p, (const char[]){'\\', letters[i + 1]}, 2, next);
    const char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    return grammar_text(p, text, sizeof(text), next);
}

uint32_t characters_one(struct grammar *p, const struct characters *set, uint32_t next)
{
    struct grammar_set plain = {{0}};
    uint32_t entry = GRAMMAR_NEVER;
    bool any_plain = false;
    for (uint32_t i = 0; i < set->n; i++) {
        for (uint32_t c = set->ranges[i].first; c <= set->ranges[i].last && c < 0x80; c++) {
            if (c >= 0x20 && c != '"' && c != '\\') {
                grammar_set_add(&plain, (uint8_t)c, (uint8_t)c);
                any_plain = true;
            } else if (c != 0) {
                entry = either(p, escaped(p, c, next), entry);
            }
        }
        entry = either(p, beyond_ascii(p, set->ranges[i].first, set->ranges[i].last, next), entry);
    }
    if (any_plain || entry == GRAMMAR_NEVER)
        entry = either(p, grammar_set(p, &plain, next), entry);
    return entry;
}

/* Behind "\u": any code but 0000 and surrogates. */
static uint32_t code_digits(struct grammar *p, uint32_t next)
{
    struct grammar_set hex = {{0}}, high = {{0}}, not_zero, low = {{0}};
    grammar_set_add(&hex, '0', '9');
    grammar_set_add(&hex, 'a', 'f');
    grammar_set_add(&hex, 'A', 'F');
    not_zero = hex;
    not_zero.bits[0] &= ~(1ull << '0');
    high = not_zero;
    high.bits[1] &= ~(1ull << ('d' - 64)) & ~(1ull << ('D' - 64));
    grammar_set_add(&low, '0', '7');
    const uint32_t any1 = grammar_set(p, &hex, next), any2 = grammar_set(p, &hex, any1),
                   any3 = grammar_set(p, &hex, any2);
    const uint32_t last = grammar_byte(p, '0', grammar_set(p, &not_zero, next));
    const uint32_t third =
        grammar_byte(p, '0', grammar_split(p, grammar_set(p, &not_zero, any1), last));
    const uint32_t zero =
        grammar_byte(p, '0', grammar_split(p, grammar_set(p, &not_zero, any2), third));
    struct grammar_set d = {{0}};
    grammar_set_add(&d, 'd', 'd');
    grammar_set_add(&d, 'D', 'D');
    const uint32_t before_surrogates = grammar_set(p, &d, grammar_set(p, &low, any2));
    return grammar_split(p, grammar_set(p, &high, any3), grammar_split(p, before_surrogates, zero));
}

uint32_t characters_any(struct grammar *p, uint32_t next)
{
    struct grammar_set plain = {{0}}, letters = {{0}};
    grammar_set_add(&plain, 0x20, 0x7f);
    plain.bits[0] &= ~(1ull << '"');
    plain.bits[1] &= ~(1ull << ('\\' - 64));
    for (const char *c = "\"\\/bfnrt"; *c != '\0'; c++)
        grammar_set_add(&letters, (uint8_t)*c, (uint8_t)*c);
    const uint32_t escape = grammar_byte(p, '\\',
                                         grammar_split(p, grammar_set(p, &letters, next),
                                                       grammar_byte(p, 'u', code_digits(p, next))));
    return grammar_split(p, grammar_set(p, &plain, next),
                         grammar_split(p, beyond_ascii(p, 0x80, 0x10ffff, next), escape));
}

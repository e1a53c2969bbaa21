/* numbers.c - see numbers.h. */
#include "coordinator/constraint/numbers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LARGEST 999999999999999999ll
enum { DIGITS = 18 };

static uint32_t either(struct grammar *p, uint32_t one, uint32_t other)
{
    return one == GRAMMAR_NEVER     ? other
           : other == GRAMMAR_NEVER ? one
                                    : grammar_split(p, one, other);
}

/* Numbers of `n` digits from `low` to `high`: at each digit it counts whether all before were those
 * of low, or of high, or of both. */
static uint32_t same_length(struct grammar *p, const char *low, const char *high, size_t n,
                            uint32_t next)
{
    uint32_t behind[2][2] = {{next, next}, {next, next}};
    for (size_t at = n; at-- > 0;) {
        uint32_t here[2][2];
        for (int is_low = 0; is_low < 2; is_low++)
            for (int is_high = 0; is_high < 2; is_high++) {
                const char from = is_low ? low[at] : '0', to = is_high ? high[at] : '9';
                uint32_t entry = GRAMMAR_NEVER;
                for (int l = 0; l < 2; l++)
                    for (int h = 0; h < 2; h++) {
                        struct grammar_set set = {{0}};
                        bool any = false;
                        for (char c = from; c <= to; c++)
                            if ((is_low && c == from) == l && (is_high && c == to) == h) {
                                grammar_set_add(&set, (uint8_t)c, (uint8_t)c);
                                any = true;
                            }
                        if (any && behind[l][h] != GRAMMAR_NEVER)
                            entry = either(p, grammar_set(p, &set, behind[l][h]), entry);
                    }
                here[is_low][is_high] = entry;
            }
        memcpy(behind, here, sizeof(here));
    }
    return behind[1][1];
}

/* low <= number <= high, both from 0 to LARGEST. */
static uint32_t natural(struct grammar *p, int64_t low, int64_t high, uint32_t next)
{
    uint32_t entry = GRAMMAR_NEVER;
    int64_t last = 0; /* of this many digits */
    for (unsigned n = 1; n <= DIGITS; n++) {
        const int64_t first = n > 1 ? last + 1 : 0;
        last = 10 * last + 9;
        const int64_t from = low > first ? low : first, to = high < last ? high : last;
        char low_text[32], high_text[32];
        if (from > to)
            continue;
        snprintf(low_text, sizeof(low_text), "%lld", (long long)from);
        snprintf(high_text, sizeof(high_text), "%lld", (long long)to);
        entry = either(p, same_length(p, low_text, high_text, n, next), entry);
    }
    return entry;
}

static uint32_t integer_range(struct grammar *p, int64_t low, int64_t high, uint32_t next)
{
    uint32_t entry = GRAMMAR_NEVER;
    if (low <= high && high >= 0)
        entry = natural(p, low > 0 ? low : 0, high, next);
    if (low <= high && low < 0) {
        const uint32_t digits = natural(p, high < 0 ? -high : 1, -low, next);
        entry = either(p, grammar_byte(p, '-', digits), entry);
    }
    return entry;
}

/* The integers within the bounds; false: none of up to 18 digits. */
static bool integers_within(const struct numbers_bounds *b, int64_t *low, int64_t *high)
{
    double least = ceil(b->least), most = floor(b->most);
    if (b->above_least && least <= b->least)
        least += 1;
    if (b->below_most && most >= b->most)
        most -= 1;
    *low = least < -(double)LARGEST ? -LARGEST : least > (double)LARGEST ? LARGEST : (int64_t)least;
    *high = most < -(double)LARGEST ? -LARGEST : most > (double)LARGEST ? LARGEST : (int64_t)most;
    return least <= most && least <= (double)LARGEST && most >= -(double)LARGEST;
}

static bool bounded(const struct numbers_bounds *b)
{
    return isfinite(b->least) || isfinite(b->most);
}

uint32_t numbers_integer(struct grammar *p, const struct numbers_bounds *bounds, uint32_t next)
{
    int64_t low, high;
    if (!integers_within(bounds, &low, &high))
        return grammar_fail(p, "no integer lies from %g to %g", bounds->least, bounds->most);
    /* Large doubles skip integers: their neighbours may lie outside. */
    if ((isfinite(bounds->least) && fabs(bounds->least) > 0x1p53) ||
        (isfinite(bounds->most) && fabs(bounds->most) > 0x1p53))
        return grammar_fail(p, "bounds beyond 2^53 are not supported");
    return integer_range(p, low, high, next);
}

/* `least` to `most` digits, any. */
static uint32_t digits(struct grammar *p, uint32_t least, uint32_t most, uint32_t next)
{
    const uint32_t rule = grammar_rule(p);
    grammar_rule_set(p, rule, grammar_range(p, '0', '9', grammar_return(p)));
    return grammar_repeat(p, rule, least, most, next);
}

static uint32_t any_number(struct grammar *p, uint32_t next)
{
    struct grammar_set signs = {{0}}, exponents = {{0}};
    grammar_set_add(&signs, '+', '+');
    grammar_set_add(&signs, '-', '-');
    grammar_set_add(&exponents, 'e', 'e');
    grammar_set_add(&exponents, 'E', 'E');
    const uint32_t power = digits(p, 1, 2, next);
    const uint32_t exponent =
        grammar_set(p, &exponents, grammar_split(p, power, grammar_set(p, &signs, power)));
    const uint32_t end = grammar_split(p, next, exponent);
    const uint32_t fraction = grammar_byte(p, '.', digits(p, 1, DIGITS, end));
    const uint32_t rest = grammar_split(p, end, fraction);
    const uint32_t whole = grammar_split(
        p, grammar_byte(p, '0', rest), grammar_range(p, '1', '9', digits(p, 0, DIGITS - 1, rest)));
    return grammar_split(p, whole, grammar_byte(p, '-', whole));
}

/* One number between the bounds. */
static uint32_t middle(struct grammar *p, const struct numbers_bounds *b, uint32_t next)
{
    char text[64];
    const double value = b->least / 2 + b->most / 2;
    if (!isfinite(value) || value < b->least || value > b->most ||
        (b->above_least && value <= b->least) || (b->below_most && value >= b->most))
        return grammar_fail(p, "no number lies from %g to %g", b->least, b->most);
    snprintf(text, sizeof(text), "%.17g", value);
    return grammar_text(p, text, strlen(text), next);
}

uint32_t numbers_real(struct grammar *p, const struct numbers_bounds *b, uint32_t next)
{
    int64_t low, high;
    uint32_t entry = GRAMMAR_NEVER;
    if (!bounded(b))
        return any_number(p, next);
    if ((isfinite(b->least) && fabs(b->least) > 1e15) ||
        (isfinite(b->most) && fabs(b->most) > 1e15))
        return grammar_fail(p, "bounds beyond 10^15 are not supported");
    if (integers_within(b, &low, &high)) {
        entry = integer_range(p, low, high, next);
        const uint32_t fraction = grammar_byte(p, '.', digits(p, 1, DIGITS - 2, next));
        /* n.fff lies in [n, n + 1), and may be n itself. */
        const int64_t from = low > 0 ? low : 0;
        const double above = (double)high + 1, below = (double)low - 1;
        /* Many nines round up to the next integer. */
        const int64_t to =
            above < b->most || (above <= b->most && !b->below_most) ? high : high - 1;
        if (from <= to)
            entry = either(p, natural(p, from, to, fraction), entry);
        /* -n.fff lies in (-n - 1, -n]. */
        const int64_t near = high < 0 ? -high : 0;
        const int64_t far =
            below > b->least || (below >= b->least && !b->above_least) ? -low : -low - 1;
        if (low <= 0 && near <= far)
            entry = either(p, grammar_byte(p, '-', natural(p, near, far, fraction)), entry);
    }
    return entry != GRAMMAR_NEVER ? entry : middle(p, b, next);
}

/* utf8.c - the second byte alone decides what the first leaves open; later ones are 80 to BF. */
#include "model/utf8.h"

/* Length by the first byte, 0 for none, and the range of the second byte. */
static size_t by_first(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    if (first < 0xe0)
        return 2;
    if (first < 0xf0) {
        if (first == 0xe0)
            *low = 0xa0; /* below: overlong */
        if (first == 0xed)
            *high = 0x9f; /* above: surrogates */
        return 3;
    }
    if (first == 0xf0)
        *low = 0x90;
    if (first == 0xf4)
        *high = 0x8f; /* above: beyond U+10FFFF */
    return 4;
}

/* How many bytes at `text` agree with the beginning of a character of *length bytes. */
static size_t prefix_bytes(const char *text, size_t n_bytes, size_t *length)
{
    const uint8_t *bytes = (const uint8_t *)text;
    uint8_t low, high;
    if (n_bytes == 0)
        return *length = 0;
    *length = by_first(bytes[0], &low, &high);
    if (*length == 0)
        return 0;
    size_t n = 1;
    while (n < *length && n < n_bytes && bytes[n] >= low && bytes[n] <= high) {
        low = 0x80;
        high = 0xbf;
        n++;
    }
    return n;
}

size_t utf8_char_bytes(const char *text, size_t n_bytes)
{
    size_t length;
    return prefix_bytes(text, n_bytes, &length) == length ? length : 0;
}

size_t utf8_broken_bytes(const char *text, size_t n_bytes, bool *cut_off)
{
    size_t length;
    const size_t n = prefix_bytes(text, n_bytes, &length);
    *cut_off = n == n_bytes && n < length;
    return n == 0 ? 1 : n;
}

uint32_t utf8_decode(const char *text, size_t char_bytes)
{
    const uint8_t *bytes = (const uint8_t *)text;
    uint32_t code_point = char_bytes == 1 ? bytes[0] : bytes[0] & (0xff >> (char_bytes + 1));
    for (size_t i = 1; i < char_bytes; i++)
        code_point = code_point << 6 | (bytes[i] & 0x3f);
    return code_point;
}

size_t utf8_encode(char text[4], uint32_t code_point)
{
    if (code_point < 0x80) {
        text[0] = (char)code_point;
        return 1;
    }
    const size_t n = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    static const uint8_t first[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--) {
        text[i] = (char)(0x80 | (code_point & 0x3f));
        code_point >>= 6;
    }
    text[0] = (char)(first[n] | code_point);
    return n;
}

size_t utf8_points(const char *text, size_t n_bytes)
{
    size_t points = 0;
    for (size_t i = 0; i < n_bytes; i++)
        points += ((unsigned char)text[i] & 0xc0) != 0x80;
    return points;
}

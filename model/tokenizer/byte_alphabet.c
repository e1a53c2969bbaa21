/* byte_alphabet.c - the 68 bytes that are not shown as themselves lie in three ranges: 00 to 20,
 * 7F to A0, and AD. */
#include "model/tokenizer/byte_alphabet.h"

#include "model/utf8.h"

#include <string.h>

uint32_t byte_alphabet_shown(uint8_t byte)
{
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7f && byte <= 0xa0)
        return 0x121u + byte - 0x7f;
    return byte == 0xad ? 0x143 : byte;
}

int byte_alphabet_byte(uint32_t code_point)
{
    if (code_point >= 0x100 && code_point <= 0x120)
        return (int)(code_point - 0x100);
    if (code_point >= 0x121 && code_point <= 0x142)
        return (int)(code_point - 0x121 + 0x7f);
    if (code_point == 0x143)
        return 0xad;
    const int itself = code_point < 0x100 ? (int)code_point : -1;
    return itself >= 0 && byte_alphabet_shown((uint8_t)itself) == code_point ? itself : -1;
}

size_t byte_alphabet_show(char *out, const char *bytes, size_t n_bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++)
        n += utf8_encode(out + n, byte_alphabet_shown((uint8_t)bytes[i]));
    return n;
}

size_t byte_alphabet_read(char *out, const char *text, size_t n_bytes)
{
    size_t n_out = 0;
    for (size_t at = 0; at < n_bytes;) {
        const size_t n = utf8_char_bytes(text + at, n_bytes - at);
        const int byte = n == 0 ? -1 : byte_alphabet_byte(utf8_decode(text + at, n));
        const size_t length = n == 0 ? 1 : n;
        if (byte >= 0) {
            out[n_out++] = (char)byte;
        } else {
            memmove(out + n_out, text + at, length);
            n_out += length;
        }
        at += length;
    }
    return n_out;
}

/* model/utf8.h - where UTF-8 characters end, and which bytes are none (Unicode 15, table 3-7). */
#ifndef LONGSPAN_MODEL_UTF8_H
#define LONGSPAN_MODEL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes (1 to 4) of the well-formed character at `text`; 0 when the bytes there are none, or
 * are cut off by the end. Surrogates, overlong forms and values above U+10FFFF are not well-formed.
 */
size_t utf8_char_bytes(const char *text, size_t n_bytes);

/* For bytes that are no character (utf8_char_bytes is 0, n_bytes > 0): the length of the longest
 * beginning of one, at least 1; that is what one U+FFFD replaces. *cut_off: the end of the text
 * came before the character could go wrong, so more bytes may complete it. */
size_t utf8_broken_bytes(const char *text, size_t n_bytes, bool *cut_off);

/* The code point of the well-formed character at `text`. */
uint32_t utf8_decode(const char *text, size_t char_bytes);

/* Characters that begin in these bytes, well-formed or not. */
size_t utf8_points(const char *text, size_t n_bytes);

/* Writes code point < 0x110000, returns its bytes, 1 to 4. */
size_t utf8_encode(char text[4], uint32_t code_point);

#endif

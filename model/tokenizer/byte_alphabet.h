/* model/tokenizer/byte_alphabet.h - bytes shown as printable characters (Radford et al. 2019).
 *
 * Byte-level vocabularies write each byte as one character: bytes that are printable in Latin-1 as
 * themselves, the 68 others as U+0100 and on, in order. A space is U+0120. */
#ifndef LONGSPAN_MODEL_TOKENIZER_BYTE_ALPHABET_H
#define LONGSPAN_MODEL_TOKENIZER_BYTE_ALPHABET_H

#include <stddef.h>
#include <stdint.h>

/* The character that shows `byte`. */
uint32_t byte_alphabet_shown(uint8_t byte);

/* The byte that the character shows; -1: none. */
int byte_alphabet_byte(uint32_t code_point);

/* Writes the bytes' characters, at most 2 * n_bytes; returns how many bytes of UTF-8. */
size_t byte_alphabet_show(char *out, const char *bytes, size_t n_bytes);

/* The reverse: a character outside the alphabet, or a byte that is none, stands for itself. Writes
 * at most n_bytes, also in place. */
size_t byte_alphabet_read(char *out, const char *text, size_t n_bytes);

#endif

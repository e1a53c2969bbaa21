/* model/detokenizer.h - token ids to text, one at a time, in whole UTF-8 characters.
 *
 * A token may end in the middle of a character (byte tokens, byte-level BPE): its first bytes are
 * held back until the rest comes. What a push returns is therefore always whole characters, safe to
 * print or to put into JSON. Bytes that can no longer become a character are replaced by U+FFFD,
 * one per maximal subpart (Unicode 15, section 3.9, "best practice"), unless DETOKENIZER_RAW.
 *
 * A detokenizer belongs to one thread and one stream of ids; pushing allocates nothing. */
#ifndef LONGSPAN_MODEL_DETOKENIZER_H
#define LONGSPAN_MODEL_DETOKENIZER_H

#include "model/tokenizer.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct detokenizer; /* opaque */

enum detokenizer_flags {
    /* The ids begin a text, as tokenizer_encode made it: the space that a `llama` tokenizer added
     * in front of the text, and again behind each control token, is taken away, so that decoding
     * gives the text back. Without it the ids continue a text (generation), and every space is
     * kept, up to the first control token. */
    DETOKENIZER_TEXT_START = 1 << 0,
    /* Control and unknown tokens give their names instead of nothing. */
    DETOKENIZER_SHOW_SPECIAL = 1 << 1,
    /* Bytes that are not UTF-8 are passed on as they are instead of becoming U+FFFD. Incomplete
     * characters are held back all the same, and given by the flush. */
    DETOKENIZER_RAW = 1 << 2,
};

/* The tokenizer must outlive it. The caller ends it with detokenizer_destroy. STATUS_NO_MEMORY. */
enum status detokenizer_create(struct detokenizer **detokenizer, const struct tokenizer *tokenizer,
                               unsigned flags, struct error *error);

/* NULL is fine. */
void detokenizer_destroy(struct detokenizer *detokenizer);

/* *text (not NUL-terminated, *n_bytes may be 0) belongs to the detokenizer and lives until its next
 * call. STATUS_INVALID: an id outside the vocabulary; the stream is as before. */
enum status detokenizer_push(struct detokenizer *detokenizer, int32_t id, const char **text,
                             size_t *n_bytes, struct error *error);

/* The end of the stream: what was held back, as U+FFFD (or as it is: DETOKENIZER_RAW). The
 * detokenizer is then as new. */
void detokenizer_flush(struct detokenizer *detokenizer, const char **text, size_t *n_bytes);

/* All at once. *text is allocated, NUL-terminated behind its *n_bytes (which may include NULs); the
 * caller frees it. STATUS_INVALID, STATUS_NO_MEMORY. */
enum status detokenizer_text(const struct tokenizer *tokenizer, const int32_t *ids, size_t n_ids,
                             unsigned flags, char **text, size_t *n_bytes, struct error *error);

#endif

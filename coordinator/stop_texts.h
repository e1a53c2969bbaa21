/* coordinator/stop_texts.h - texts that end an answer, found in it as it comes, and never let out.
 *
 * The answer comes in pieces that are cut anywhere between characters: a stop text may lie across
 * several. What may be the beginning of one is held back until it is certain; so at most the
 * longest stop text, less a byte, is held. The stop text that is complete first counts; of several
 * complete at the same byte the longest.
 *
 * One automaton for each text (Knuth, Morris and Pratt 1977): a byte costs amortised constant time
 * per stop text, whatever it repeats. NULL is a valid struct stop_texts that looks for nothing. */
#ifndef LONGSPAN_COORDINATOR_STOP_TEXTS_H
#define LONGSPAN_COORDINATOR_STOP_TEXTS_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { STOP_TEXTS_MOST = 64, STOP_TEXTS_MOST_BYTES = 4096 }; /* texts; bytes of each */

struct stop_text {
    const void *bytes;
    size_t n_bytes;
};

struct stop_texts; /* opaque */

/* The texts are copied. *stops is NULL where there are none. The caller ends it with
 * stop_texts_destroy. STATUS_INVALID: too many, an empty one, one too long. STATUS_NO_MEMORY. */
enum status stop_texts_create(struct stop_texts **stops, const struct stop_text *texts, size_t n,
                              struct error *error);
void stop_texts_destroy(struct stop_texts *stops);

/* The answer goes on with `text`. *out: what is certain now, valid until the next call. *found: a
 * stop text is complete, and *out ends before it; nothing may be pushed after that.
 * STATUS_NO_MEMORY. */
enum status stop_texts_push(struct stop_texts *stops, const char *text, size_t n_bytes,
                            const char **out, size_t *n_out, bool *found, struct error *error);

/* Bytes that were pushed and not let out. */
size_t stop_texts_held(const struct stop_texts *stops);

/* The answer ends here: as stop_texts_push, and lets out what was held unless a stop text is
 * found. */
enum status stop_texts_end(struct stop_texts *stops, const char *text, size_t n_bytes,
                           const char **out, size_t *n_out, bool *found, struct error *error);

#endif

/* model/tokenizer/pretokenizer.h - cuts a text in the words inside which tokens may be merged.
 *
 * A pre-tokenizer is a list of steps. The first cuts the text in pieces, the second each piece on
 * its own, and so on; what the last leaves are the words. Steps are those of Hugging Face's
 * `tokenizers`. Without steps the text is one word.
 *
 * Most steps find separators with a regular expression; a behaviour says what becomes of them:
 *
 *     "the-final--countdown" cut at "-"
 *     REMOVED               the | final | countdown
 *     ISOLATED              the | - | final | - | - | countdown
 *     MERGED_WITH_PREVIOUS  the- | final- | - | countdown
 *     MERGED_WITH_NEXT      the | -final | - | -countdown
 *     CONTIGUOUS            the | - | final | -- | countdown
 *
 * A text is given to its words one after the other, nothing is kept of it: memory is that of the
 * longest piece, time that of the expressions. */
#ifndef LONGSPAN_MODEL_TOKENIZER_PRETOKENIZER_H
#define LONGSPAN_MODEL_TOKENIZER_PRETOKENIZER_H

#include "model/tokenizer/expression.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>

struct pretokenizer;         /* opaque; immutable once it is filled: any number of threads */
struct pretokenizer_scratch; /* opaque; what one thread needs while it cuts */

enum pretokenizer_behavior {
    PRETOKENIZER_ISOLATED,
    PRETOKENIZER_REMOVED,
    PRETOKENIZER_CONTIGUOUS,
    PRETOKENIZER_MERGED_WITH_PREVIOUS,
    PRETOKENIZER_MERGED_WITH_NEXT,
};

/* Where a space is put in front of pieces. */
enum pretokenizer_prepend { PRETOKENIZER_NEVER, PRETOKENIZER_FIRST, PRETOKENIZER_ALWAYS };

/* The caller ends it with pretokenizer_destroy. STATUS_NO_MEMORY. */
enum status pretokenizer_create(struct pretokenizer **pretokenizer, struct error *error);
void pretokenizer_destroy(struct pretokenizer *pretokenizer); /* NULL is fine */

/* ---- steps; each STATUS_NO_MEMORY, or STATUS_INVALID beyond 16 of them ----------------------- */

/* Matches are separators; `inverted`: what lies between them is. Takes the expression, also on
 * failure. */
enum status pretokenizer_add_split(struct pretokenizer *pretokenizer, struct expression *expression,
                                   enum pretokenizer_behavior behavior, bool inverted,
                                   struct error *error);

/* ByteLevel's add_prefix_space: U+0020 in front of a piece that does not begin with one. */
enum status pretokenizer_add_prefix_space(struct pretokenizer *pretokenizer, struct error *error);

/* Pieces in byte_alphabet.h's characters from here on; for steps behind ByteLevel, which see these.
 * Where none follow, words are better left as they are. */
enum status pretokenizer_add_show_bytes(struct pretokenizer *pretokenizer, struct error *error);

/* Metaspace: U+0020 becomes `replacement` (one character), which is put in front of pieces that do
 * not begin with it: of none, of the one that begins the text, of all. */
enum status pretokenizer_add_metaspace(struct pretokenizer *pretokenizer, const char *replacement,
                                       enum pretokenizer_prepend prepend, struct error *error);

/* A piece ends in front of each run of U+2581 behind another character. It changes no token where
 * no token has such a place inside, and makes long texts many short words. */
enum status pretokenizer_add_before_spaces(struct pretokenizer *pretokenizer, struct error *error);

size_t pretokenizer_steps(const struct pretokenizer *pretokenizer);

/* Are words in byte_alphabet.h's characters? */
bool pretokenizer_shows_bytes(const struct pretokenizer *pretokenizer);

/* ---- cutting --------------------------------------------------------------------------------- */

enum status pretokenizer_scratch_create(struct pretokenizer_scratch **scratch, struct error *error);
void pretokenizer_scratch_destroy(struct pretokenizer_scratch *scratch); /* NULL is fine */

/* Where a text stands. */
struct pretokenizer_place {
    bool begins_fragment; /* nothing of it stands in front; else no space is put there either */
    bool begins_text;
};

/* Called for each word, in order; a word is never empty. Anything but STATUS_OK ends the
 * cutting. */
typedef enum status pretokenizer_word(void *context, const char *word, size_t n_bytes,
                                      struct error *error);

/* `text` must be well-formed UTF-8.
 * STATUS_FAILED: an expression gave up. STATUS_NO_MEMORY. Or what `word` returned. */
enum status pretokenizer_cut(const struct pretokenizer *pretokenizer,
                             struct pretokenizer_scratch *scratch, const char *text, size_t n_bytes,
                             struct pretokenizer_place place, pretokenizer_word *word,
                             void *context, struct error *error);

#endif

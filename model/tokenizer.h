/* model/tokenizer.h - text to token ids, by the vocabulary of a model.
 *
 * A GGUF file has a vocabulary in its keys tokenizer.ggml.*, and may be a vocabulary alone, of any
 * architecture. Two kinds:
 *
 * `llama` - SentencePiece BPE (Kudo and Richardson 2018): the text, with a space added in front
 * (unless tokenizer.ggml.add_space_prefix is false) and spaces written as U+2581, starts as
 * characters; the adjacent pair whose concatenation is the token of highest score is joined,
 * leftmost first among equals, until no pair is a token. Characters that are no token become byte
 * tokens <0xNN>, or, in a vocabulary without them, the unknown token, one for several in a row. As
 * in SentencePiece, control, unknown and byte tokens never come from the text of a join. With
 * tokenizer.ggml.remove_extra_whitespaces spaces at the ends are dropped, and one stands for many.
 *
 * `gpt2` - byte-level BPE (Radford et al. 2019): regular expressions cut the text in words, the
 * bytes of a word are joined by the lowest-ranked merge first. tokenizer.ggml.pre names the
 * expressions (tokenizer/pretokenizer_rules.h), and with them whether a text gets the normal form
 * NFC and whether a word that is a token as a whole is not merged. A missing `pre` is accepted only
 * in a vocabulary without merges, in which words do not matter. Any other name is refused: its
 * words would be cut differently, and nobody would notice.
 *
 * A Hugging Face directory has a tokenizer.json, which says all this in full, and more; what of it
 * is known here is in docs/models.md. Ids are those of Hugging Face's `tokenizers`.
 *
 * Names of tokens in a text: of those that begin leftmost the longest is taken.
 *
 * Any bytes can be encoded. Bytes that are not UTF-8 become byte tokens one by one or words of
 * their own, never joined with the text around them. Decoding all ids gives the same bytes back,
 * with these exceptions: what a normal form or another normalization changed stays changed, U+2581
 * in a text comes back as a space (it is the same to SentencePiece), what became the unknown token
 * is lost, and so is a byte that a vocabulary without unknown token has no token for.
 *
 * Time is O(n log n) in the text, also without any space in it. Tokens that appear twice in the
 * list: the lower id encodes, both decode. A tokenizer keeps nothing of the file, which may be
 * closed. It is immutable after opening: any number of threads may encode at once. */
#ifndef LONGSPAN_MODEL_TOKENIZER_H
#define LONGSPAN_MODEL_TOKENIZER_H

#include "model/model_file.h"
#include "sys/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer; /* opaque */

#define TOKENIZER_NONE (-1) /* "no such token" */

/* Types of tokens, with the numbers of tokenizer.ggml.token_type. */
enum tokenizer_type {
    TOKENIZER_TYPE_UNDEFINED = 0, /* treated as normal */
    TOKENIZER_TYPE_NORMAL = 1,
    TOKENIZER_TYPE_UNKNOWN = 2,
    TOKENIZER_TYPE_CONTROL = 3,
    TOKENIZER_TYPE_USER_DEFINED = 4,
    TOKENIZER_TYPE_UNUSED = 5,
    TOKENIZER_TYPE_BYTE = 6,
};

enum tokenizer_flags {
    /* Add BOS in front and EOS behind where the file asks for it (tokenizer.ggml.add_bos_token and
     * add_eos_token; absent: BOS for `llama` and where the rule of `pre` says so, no EOS), or what
     * the template of a tokenizer.json has there. An empty text then gives BOS alone. */
    TOKENIZER_ADD_SPECIAL = 1 << 0,
    /* Names of control and unknown tokens inside the text ("<|eot_id|>") become those tokens.
     * Without it they are plain text; user-defined tokens are recognised either way. */
    TOKENIZER_PARSE_SPECIAL = 1 << 1,
};

/* The caller ends *tokenizer with tokenizer_close.
 * STATUS_UNSUPPORTED: no tokenizer in the file, or something in it that we do not have; the text
 * names it. STATUS_INVALID: the vocabulary does not hold together: no tokens, scores or types of
 * another count, a score that is not a number, a special id outside the list, a merge whose parts
 * or result are not tokens. STATUS_NOT_FOUND: a directory without tokenizer.json.
 * STATUS_NO_MEMORY. */
enum status tokenizer_open(struct tokenizer **tokenizer, const struct model_file *file,
                           struct error *error);

/* The tokenizer.json of a directory alone, as tokenizer_open takes it for a model in one; nothing
 * else need be there. STATUS_NOT_FOUND: it is not. */
enum status tokenizer_open_directory(struct tokenizer **tokenizer, const char *directory,
                                     struct error *error);

/* NULL is fine. */
void tokenizer_close(struct tokenizer *tokenizer);

/* *ids is allocated, also when *n_ids is 0; the caller frees it. `flags`: enum tokenizer_flags.
 * STATUS_INVALID: n_bytes above 256 MiB. STATUS_NO_MEMORY. STATUS_FAILED: the regular expression
 * library gave up (its limits are far above what these expressions need). */
enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                             unsigned flags, int32_t **ids, size_t *n_ids, struct error *error);

/* The same, until another thread sets *stop: STATUS_CANCELLED then, as soon as the word is encoded
 * that it is at. NULL: nobody will. */
enum status tokenizer_encode_until(const struct tokenizer *tokenizer, const char *text,
                                   size_t n_bytes, unsigned flags, const atomic_bool *stop,
                                   int32_t **ids, size_t *n_ids, struct error *error);

uint32_t tokenizer_vocab(const struct tokenizer *tokenizer); /* ids are 0 .. vocab - 1 */
int32_t tokenizer_bos(const struct tokenizer *tokenizer);    /* or TOKENIZER_NONE */
int32_t tokenizer_eos(const struct tokenizer *tokenizer);    /* or TOKENIZER_NONE */

/* Does generation end with this token: the ids that the file names for it (eos, eot and eom; of a
 * directory, all eos_token_id of generation_config.json and config.json), and control or
 * user-defined tokens with the usual names: <|eot_id|>, <|eom_id|>, <|im_end|>, <|end_of_text|>,
 * <|endoftext|>, <|end|>, <|EOT|>, <end_of_turn>, <end_of_utterance>, <EOT>, <eos>, </s>, and
 * DeepSeek's own. False for an id outside the vocabulary. */
bool tokenizer_is_end_of_generation(const struct tokenizer *tokenizer, int32_t id);

/* The token's name in the file, any bytes, not NUL-terminated; for showing. Borrowed; {NULL, 0} for
 * an id outside the vocabulary. */
struct model_string tokenizer_token_name(const struct tokenizer *tokenizer, int32_t id);

/* The bytes of text that the token stands for: a space for U+2581, the byte of <0xNN> or of a
 * byte-level name; a control, unknown or user-defined token stands for its name. Borrowed. */
struct model_string tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id);

/* TOKENIZER_TYPE_UNDEFINED for an id outside the vocabulary. */
enum tokenizer_type tokenizer_token_type(const struct tokenizer *tokenizer, int32_t id);

/* The id of a token by its name in the file; TOKENIZER_NONE if there is none. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *name, size_t n_bytes);

#endif

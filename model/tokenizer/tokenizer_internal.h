/* model/tokenizer/tokenizer_internal.h - what a tokenizer is made of; outside of this folder only
 * tokenizer.h and detokenizer.h are known.
 *
 * A text goes through:
 *     added tokens     cut out by name                              added_tokens.h
 *     the normalizer   the raw fragments between them               normalizer.h
 *     added tokens     cut out of the normalized text by name
 *     the pre-tokenizer  words                                      pretokenizer.h
 *     the model        tokens of a word                             merges.c, scores.c
 * tokenizer.c does that. Two readers fill the struct: tokenizer_gguf.c from the keys of a GGUF
 * file, tokenizer_json.c from a directory's tokenizer.json. */
#ifndef LONGSPAN_MODEL_TOKENIZER_INTERNAL_H
#define LONGSPAN_MODEL_TOKENIZER_INTERNAL_H

#include "model/string_table.h"
#include "model/tokenizer.h"
#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/pair_merge.h"
#include "model/tokenizer/pretokenizer.h"
#include "sys/text_buffer.h"

enum tokenizer_kind {
    TOKENIZER_BYTES,      /* bytes, merged by rank: byte-level BPE */
    TOKENIZER_CHARACTERS, /* characters, merged by rank: SentencePiece as tokenizer.json has it */
    TOKENIZER_SCORES,     /* characters, joined by score: SentencePiece as a GGUF file has it */
};

enum { TOKENIZER_MOST_AROUND = 16 }; /* ids added on a side of a text */

struct token {
    struct model_string name;  /* as in the file */
    struct model_string bytes; /* the text it stands for; often the same memory */
    uint32_t order;            /* TOKENIZER_SCORES: rank by score, the best is lowest */
    uint8_t type;              /* enum tokenizer_type */
    bool ends_generation;
};

/* Merges: (left, right) to a rank and a token; open addressing. */
struct merge_slot {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: free */
    uint32_t rank;
    int32_t id;
};

struct tokenizer {
    enum tokenizer_kind kind;
    struct token *tokens;
    uint32_t vocab;
    char *text;                  /* memory of all names and bytes */
    struct string_table by_name; /* the lower id of equals */
    int32_t bos, eos, unknown;
    int32_t before[TOKENIZER_MOST_AROUND], after[TOKENIZER_MOST_AROUND]; /* what a text is framed */
    size_t n_before, n_after;
    uint32_t max_token_bytes; /* of `bytes` */

    /* Looked for in texts as they are [0] and in normalized ones [1]: user-defined tokens alone
     * [][0], or with control and unknown tokens [][1]. */
    struct added_tokens *added[2][2];
    struct normalizer *normalizer;
    struct pretokenizer *pretokenizer;

    struct string_table pieces; /* what words may become: names, or bytes of TOKENIZER_BYTES */
    uint32_t max_piece_bytes;   /* TOKENIZER_SCORES */
    int32_t byte_ids[256];      /* the tokens of single bytes, or `unknown` */
    bool all_bytes;             /* none of byte_ids is `unknown` */
    bool byte_fallback; /* TOKENIZER_CHARACTERS: characters that are no token become bytes */
    bool fuse_unknown;  /* unknown characters in a row are one token */
    bool whole_words;   /* a word that is a token is taken as it is */
    struct merge_slot *merges;
    size_t n_merge_slots; /* a power of two, or 0 */
    uint64_t merge_seed;
    bool space_inside; /* a merge or join may give U+2581 behind another character */

    /* Decoding: a text loses the space that encoding put in front of it, and again behind each
     * token that stood in it by name. */
    bool strips_space, strips_again;
};

/* A growing list of ids; `failed` (no memory) sticks. */
struct id_list {
    int32_t *ids;
    size_t n, capacity;
    bool failed;
};
void id_list_add(struct id_list *list, int32_t id);

/* What one call of tokenizer_encode works with. */
struct encoding {
    const struct tokenizer *tokenizer;
    struct id_list out;
    struct pair_merge merge;
    struct normalizer_scratch *normalizing;
    struct pretokenizer_scratch *cutting;
    struct added_token_fragments normalized; /* of one normalized text */
    struct text_buffer word;                 /* bytes of a word that shows them */
    bool special;                            /* TOKENIZER_PARSE_SPECIAL */
    const atomic_bool *stop;                 /* of tokenizer_encode_until; or NULL */
    struct error *error;
};

/* True for tokens that are looked for in texts: control, unknown, user-defined. */
bool tokenizer_is_special(const struct token *token);

/* ---- vocabulary.c ---------------------------------------------------------------------------- */

/* Fills tokens, vocab, text and by_name from names that are copied. All are normal tokens, their
 * bytes undefined but for the room. `path` is for error texts.
 * STATUS_INVALID: too few, too many, too long. STATUS_NO_MEMORY. */
enum status vocabulary_read(struct tokenizer *tokenizer, const struct model_string *names, size_t n,
                            const char *path, struct error *error);

/* The bytes of all tokens, once types are known: control, unknown and user-defined tokens stand for
 * their names, byte tokens for their byte, others for what the vocabulary's way of writing says.
 * STATUS_INVALID: a byte token whose name is not <0xNN>. */
enum vocabulary_writing {
    VOCABULARY_SHOWS_BYTES, /* byte_alphabet.h */
    VOCABULARY_SHOWS_SPACE, /* U+2581 is a space; in user-defined tokens too */
    VOCABULARY_PLAIN,
};
enum status vocabulary_read_bytes(struct tokenizer *tokenizer, enum vocabulary_writing writing,
                                  const char *path, struct error *error);

/* Marks the tokens that end generation by their usual names, and max_token_bytes. */
void vocabulary_finish(struct tokenizer *tokenizer);

/* The byte of a name "<0xNN>"; -1: another name. */
int vocabulary_byte(struct model_string name);

/* Does U+2581 stand in it behind another character? */
bool vocabulary_space_inside(struct model_string name);

/* byte_ids by names <0xNN> of byte tokens, and all_bytes. */
void vocabulary_find_bytes(struct tokenizer *tokenizer);

/* ---- merges.c: TOKENIZER_BYTES, TOKENIZER_CHARACTERS ----------------------------------------- */

/* byte_ids by names in byte_alphabet.h's characters, and all_bytes. Real vocabularies lack bytes
 * that no text has, and have no unknown token: these bytes give nothing then. */
void merges_find_bytes(struct tokenizer *tokenizer);

/* Room for n merges; then each, in the order of ranks. STATUS_INVALID: left, right or both
 * together are no tokens. STATUS_NO_MEMORY. */
enum status merges_open(struct tokenizer *tokenizer, size_t n, const char *path,
                        struct error *error);
enum status merges_add(struct tokenizer *tokenizer, struct model_string left,
                       struct model_string right, uint32_t rank, const char *path,
                       struct error *error);

/* Fills `pieces`. STATUS_NO_MEMORY. */
enum status merges_find_pieces(struct tokenizer *tokenizer, struct error *error);

/* False: no memory. */
bool merges_encode_word(struct encoding *encoding, const char *word, size_t n_bytes);

/* ---- scores.c: TOKENIZER_SCORES -------------------------------------------------------------- */

/* Fills order, pieces, max_piece_bytes and space_inside. STATUS_INVALID: a score is no number.
 * STATUS_NO_MEMORY. */
enum status scores_open(struct tokenizer *tokenizer, const float *scores, const char *path,
                        struct error *error);
bool scores_encode_word(struct encoding *encoding, const char *word, size_t n_bytes);

/* ---- the readers ----------------------------------------------------------------------------- */

/* Where a tokenizer's JSON files are: in a directory, or, where it is NULL, in the keys of a file
 * (tokenizer_files.h). */
struct tokenizer_source {
    const char *directory;
    const struct model_file *file;
};

enum status tokenizer_gguf_read(struct tokenizer *tokenizer, const struct model_file *file,
                                struct error *error);
enum status tokenizer_json_read(struct tokenizer *tokenizer, const struct tokenizer_source *source,
                                struct error *error);

#endif

/* model/tokenizer_internal.h - what the files tokenizer*.c share; nobody else includes it.
 *
 * tokenizer.c reads the vocabulary and frames every encoding; tokenizer_special.c cuts out tokens
 * that stand in the text by name; tokenizer_spm.c and tokenizer_bpe.c encode what is left. */
#ifndef LONGSPAN_MODEL_TOKENIZER_INTERNAL_H
#define LONGSPAN_MODEL_TOKENIZER_INTERNAL_H

#include "model/pair_merge.h"
#include "model/pretokenizer.h"
#include "model/string_table.h"
#include "model/tokenizer.h"

struct token {
    struct model_string name;  /* as in the file */
    struct model_string bytes; /* the text it stands for; often the same memory */
    uint32_t order;            /* `llama`: rank by score, the best is lowest */
    uint8_t type;              /* enum tokenizer_type */
    bool ends_generation;
};

/* Joins of `gpt2`: (left, right) to a rank and a token; open addressing. */
struct merge_slot {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: free */
    uint32_t rank;
    int32_t id;
};

struct tokenizer {
    bool spm; /* `llama`; else `gpt2` */
    struct token *tokens;
    uint32_t vocab;
    char *text;                  /* memory of all names and bytes */
    struct string_table by_name; /* the lower id of equals */
    int32_t bos, eos, unknown;
    bool add_bos, add_eos;
    uint32_t max_token_bytes; /* of `bytes` */
    int32_t byte_ids[256];    /* the tokens of single bytes, or `unknown` */
    bool all_bytes;           /* none of byte_ids is `unknown` */

    /* tokenizer_special.c: names to look for in texts */
    struct string_table special;
    uint32_t *special_lengths; /* longest first */
    size_t n_special_lengths;
    bool special_first[256]; /* does one begin with this byte */

    /* tokenizer_spm.c */
    bool add_space_prefix;
    bool cut_at_spaces;           /* no token has U+2581 behind another character */
    struct string_table joinable; /* names that joins may give */
    uint32_t max_joinable_bytes;

    /* tokenizer_bpe.c */
    struct pretokenizer *pretokenizer; /* NULL: there are no merges, so words do not matter */
    bool whole_words;                  /* llama-bpe: a word that is a token is taken as it is */
    struct merge_slot *merges;
    size_t n_merge_slots; /* a power of two, or 0 */
    uint64_t merge_seed;
};

/* A growing list of ids; `failed` (no memory) sticks. */
struct id_list {
    int32_t *ids;
    size_t n, capacity;
    bool failed;
};
void id_list_add(struct id_list *list, int32_t id);

/* A piece of the text: raw, or (id >= 0) a token that stood there by name. */
struct fragment {
    size_t begin, n_bytes;
    int32_t id;
};
struct fragment_list {
    struct fragment *items;
    size_t n, capacity;
};

/* What one call of tokenizer_encode works with. */
struct encoding {
    const struct tokenizer *tokenizer;
    struct id_list out;
    struct pair_merge merge;
    struct pretokenizer_scratch *scratch; /* NULL where there is no pretokenizer */
    char *buffer;                         /* `llama`: the escaped text */
    size_t buffer_capacity;
    struct error *error;
};

/* True for tokens that are looked for in texts: control, unknown, user-defined. */
bool tokenizer_is_special(const struct token *token);

/* Fills special*. STATUS_NO_MEMORY. */
enum status tokenizer_special_open(struct tokenizer *tokenizer, struct error *error);

/* Cuts a text; *list is freed by the caller. STATUS_NO_MEMORY. */
enum status tokenizer_special_cut(const struct tokenizer *tokenizer, const char *text,
                                  size_t n_bytes, bool parse_special, struct fragment_list *list,
                                  struct error *error);

/* The part of tokenizer_open that is one kind's own; names, types and by_name are there. */
enum status tokenizer_spm_open(struct tokenizer *tokenizer, const struct model_file *file,
                               struct error *error);
enum status tokenizer_bpe_open(struct tokenizer *tokenizer, const struct model_file *file,
                               struct error *error);

/* One raw fragment. `after_special`: at the beginning of the text, or behind a special token. */
enum status tokenizer_spm_encode(struct encoding *encoding, const char *text, size_t n_bytes,
                                 bool after_special);
enum status tokenizer_bpe_encode(struct encoding *encoding, const char *text, size_t n_bytes);

#endif

/* merges.c - byte-pair encoding by ranked merges (Sennrich et al. 2016), of bytes or of characters.
 *
 * A word begins as one token for each byte or character; a merge is a pair of tokens, so that
 * encoding works on ids and never on the names. Names of TOKENIZER_BYTES show bytes as characters
 * (byte_alphabet.h); encoding makes no such text, but for words that come so. */
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/tokenizer_internal.h"
#include "model/utf8.h"
#include "sys/random.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MAX_MERGES (1u << 26)

void merges_find_bytes(struct tokenizer *t)
{
    t->all_bytes = true;
    for (unsigned i = 0; i < 256; i++) {
        char name[4];
        t->byte_ids[i] =
            tokenizer_find(t, name, utf8_encode(name, byte_alphabet_shown((uint8_t)i)));
        if (t->byte_ids[i] >= 0)
            continue;
        t->byte_ids[i] = t->unknown;
        t->all_bytes = false;
    }
}

/* With a seed, so that a file cannot choose colliding merges. */
static struct merge_slot *merge_probe(const struct tokenizer *t, uint64_t pair)
{
    size_t i = random_mix(pair ^ t->merge_seed) & (t->n_merge_slots - 1);
    while (t->merges[i].pair != UINT64_MAX && t->merges[i].pair != pair)
        i = (i + 1) & (t->n_merge_slots - 1);
    return &t->merges[i];
}

enum status merges_open(struct tokenizer *t, size_t n, const char *path, struct error *error)
{
    if (n >= MAX_MERGES)
        return error_set(error, STATUS_INVALID, "%s: %zu merges; %u are possible", path, n,
                         MAX_MERGES);
    if (n == 0)
        return STATUS_OK;
    t->n_merge_slots = 64;
    while (t->n_merge_slots < 2 * n)
        t->n_merge_slots *= 2;
    t->merges = malloc(t->n_merge_slots * sizeof(*t->merges));
    if (t->merges == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its merges", path);
    memset(t->merges, 0xff, t->n_merge_slots * sizeof(*t->merges)); /* all free */
    if (getrandom(&t->merge_seed, sizeof(t->merge_seed), 0) != sizeof(t->merge_seed))
        t->merge_seed = (uint64_t)(uintptr_t)t; /* no entropy: works all the same */
    return STATUS_OK;
}

enum status merges_add(struct tokenizer *t, struct model_string left, struct model_string right,
                       uint32_t rank, const char *path, struct error *error)
{
    if (left.n_bytes > 65536 || right.n_bytes > 65536)
        return error_set(error, STATUS_INVALID, "%s: merge %u has %zu bytes", path, rank,
                         left.n_bytes + right.n_bytes);
    char *joined = malloc(left.n_bytes + right.n_bytes + 1);
    if (joined == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its merges", path);
    memcpy(joined, left.data, left.n_bytes);
    memcpy(joined + left.n_bytes, right.data, right.n_bytes);
    const int32_t left_id = tokenizer_find(t, left.data, left.n_bytes);
    const int32_t right_id = tokenizer_find(t, right.data, right.n_bytes);
    const int32_t id = tokenizer_find(t, joined, left.n_bytes + right.n_bytes);
    if (vocabulary_space_inside((struct model_string){joined, left.n_bytes + right.n_bytes}))
        t->space_inside = true;
    free(joined);
    if (left_id < 0 || right_id < 0 || id < 0)
        return error_set(error, STATUS_INVALID,
                         "%s: merge %u is '%.*s %.*s', and %s of it is no token", path, rank,
                         (int)(left.n_bytes < 64 ? left.n_bytes : 64), left.data,
                         (int)(right.n_bytes < 64 ? right.n_bytes : 64), right.data,
                         left_id < 0    ? "the left part"
                         : right_id < 0 ? "the right part"
                                        : "the whole");
    const uint64_t pair = (uint64_t)left_id << 32 | (uint32_t)right_id;
    struct merge_slot *slot = merge_probe(t, pair);
    if (slot->pair == UINT64_MAX) /* a merge that is there twice keeps its lower rank */
        *slot = (struct merge_slot){pair, rank, id};
    return STATUS_OK;
}

/* Names where words are characters, bytes where they are bytes. */
enum status merges_find_pieces(struct tokenizer *t, struct error *error)
{
    for (uint32_t i = 0; i < t->vocab; i++) {
        const struct token *token = &t->tokens[i];
        const struct model_string piece = t->kind == TOKENIZER_BYTES ? token->bytes : token->name;
        if (t->kind == TOKENIZER_BYTES && tokenizer_is_special(token))
            continue;
        if (piece.n_bytes > 0 &&
            string_table_add(&t->pieces, piece.data, piece.n_bytes, i) == STRING_TABLE_NONE)
            return error_set(error, STATUS_NO_MEMORY, "no memory for %u tokens", t->vocab);
    }
    return STATUS_OK;
}

static bool join(const void *rules, const char *text, const struct pair_merge_symbol *left,
                 const struct pair_merge_symbol *right, uint32_t *order, int32_t *id)
{
    const struct tokenizer *t = rules;
    (void)text;
    const struct merge_slot *slot =
        merge_probe(t, (uint64_t)(uint32_t)left->id << 32 | (uint32_t)right->id);
    if (slot->pair == UINT64_MAX)
        return false;
    *order = slot->rank;
    *id = slot->id;
    return true;
}

/* One symbol for each byte; none for a byte without a token, where nothing is unknown. */
static bool begin_with_bytes(struct encoding *e, const char *word, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        const int32_t id = e->tokenizer->byte_ids[(uint8_t)word[i]];
        if (id >= 0 && !pair_merge_append(&e->merge, 1, id))
            return false;
    }
    return true;
}

static bool has_bytes(const struct tokenizer *t, const char *character, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t->byte_ids[(uint8_t)character[i]] == t->unknown)
            return false;
    return true;
}

/* One symbol for each character: its token, else those of its bytes, else the unknown one. A
 * vocabulary without any of these gives nothing for it. */
static bool begin_with_characters(struct encoding *e, const char *word, size_t n_bytes)
{
    const struct tokenizer *t = e->tokenizer;
    bool ok = true, unknown = false; /* the last one was */
    for (size_t at = 0, n; at < n_bytes && ok; at += n) {
        n = utf8_char_bytes(word + at, n_bytes - at);
        n = n == 0 ? 1 : n;
        const uint32_t id = string_table_find(&t->pieces, word + at, n);
        if (id != STRING_TABLE_NONE) {
            ok = pair_merge_append(&e->merge, (uint32_t)n, (int32_t)id);
            unknown = false;
        } else if (t->byte_fallback && has_bytes(t, word + at, n)) {
            ok = begin_with_bytes(e, word + at, n);
            unknown = false;
        } else if (t->unknown >= 0) {
            if (!unknown || !t->fuse_unknown)
                ok = pair_merge_append(&e->merge, (uint32_t)n, t->unknown);
            unknown = true;
        }
    }
    return ok;
}

bool merges_encode_word(struct encoding *e, const char *word, size_t n_bytes)
{
    const struct tokenizer *t = e->tokenizer;
    if (t->whole_words) {
        const uint32_t id = string_table_find(&t->pieces, word, n_bytes);
        if (id != STRING_TABLE_NONE) {
            id_list_add(&e->out, (int32_t)id);
            return true;
        }
    }
    pair_merge_reset(&e->merge);
    if (!(t->kind == TOKENIZER_BYTES ? begin_with_bytes : begin_with_characters)(e, word, n_bytes))
        return false;
    if (t->n_merge_slots > 0 && !pair_merge_run(&e->merge, word, join, t))
        return false;
    if (e->merge.n_symbols == 0)
        return true;
    for (uint32_t i = 0; i != PAIR_MERGE_NONE; i = e->merge.symbols[i].next)
        id_list_add(&e->out, e->merge.symbols[i].id);
    return true;
}

/* scores.c - joins by score over the characters of a word (Kudo and Richardson 2018): the adjacent
 * pair whose text is the token of highest score is joined first. */
#include "model/tokenizer/tokenizer_internal.h"
#include "model/utf8.h"

#include <stdlib.h>

struct scored {
    float score;
    uint32_t id;
};

static int best_first(const void *a, const void *b)
{
    const float x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return x > y ? -1 : x < y;
}

/* Scores become whole numbers in the same order, equals to equals. */
static enum status rank_scores(struct tokenizer *t, const float *scores, const char *path,
                               struct error *error)
{
    struct scored *order = malloc(t->vocab * sizeof(*order));
    if (order == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %u scores", path, t->vocab);
    for (uint32_t i = 0; i < t->vocab; i++) {
        order[i] = (struct scored){scores[i], i};
        if (scores[i] != scores[i]) { /* NaN has no place in an order */
            free(order);
            return error_set(error, STATUS_INVALID, "%s: the score of token %u is not a number",
                             path, i);
        }
    }
    qsort(order, t->vocab, sizeof(*order), best_first);
    uint32_t rank = 0;
    for (uint32_t i = 0; i < t->vocab; i++) {
        if (i > 0 && order[i].score != order[i - 1].score)
            rank++;
        t->tokens[order[i].id].order = rank;
    }
    free(order);
    return STATUS_OK;
}

enum status scores_open(struct tokenizer *t, const float *scores, const char *path,
                        struct error *error)
{
    const enum status status = rank_scores(t, scores, path, error);
    if (status != STATUS_OK)
        return status;
    for (uint32_t i = 0; i < t->vocab; i++) {
        const struct token *token = &t->tokens[i];
        if (token->type == TOKENIZER_TYPE_BYTE || token->type == TOKENIZER_TYPE_CONTROL ||
            token->type == TOKENIZER_TYPE_UNKNOWN || token->name.n_bytes == 0)
            continue;
        if (string_table_add(&t->pieces, token->name.data, token->name.n_bytes, i) ==
            STRING_TABLE_NONE)
            return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tokens", path);
        if (token->name.n_bytes > t->max_piece_bytes)
            t->max_piece_bytes = (uint32_t)token->name.n_bytes;
        if (vocabulary_space_inside(token->name))
            t->space_inside = true;
    }
    return STATUS_OK;
}

/* Two symbols join when their bytes together are a token. */
static bool join(const void *rules, const char *text, const struct pair_merge_symbol *left,
                 const struct pair_merge_symbol *right, uint32_t *order, int32_t *id)
{
    const struct tokenizer *t = rules;
    const uint32_t n_bytes = left->n_bytes + right->n_bytes;
    if (n_bytes > t->max_piece_bytes)
        return false;
    const uint32_t token = string_table_find(&t->pieces, text + left->begin, n_bytes);
    if (token == STRING_TABLE_NONE)
        return false;
    *order = t->tokens[token].order;
    *id = (int32_t)token;
    return true;
}

/* A symbol that is no token becomes its bytes, or the unknown token: one for a character whose
 * first byte has none, and with fuse_unknown one for such characters in a row. */
static void give(struct encoding *e, const char *word, const struct pair_merge_symbol *symbol,
                 bool *unknown)
{
    const struct tokenizer *t = e->tokenizer;
    if (symbol->id >= 0) {
        id_list_add(&e->out, symbol->id);
        *unknown = false;
    } else if (!t->all_bytes && t->byte_ids[(uint8_t)word[symbol->begin]] == t->unknown) {
        if (!*unknown || !t->fuse_unknown)
            id_list_add(&e->out, t->unknown);
        *unknown = true;
    } else {
        for (uint32_t i = 0; i < symbol->n_bytes; i++)
            id_list_add(&e->out, t->byte_ids[(uint8_t)word[symbol->begin + i]]);
        *unknown = false;
    }
}

bool scores_encode_word(struct encoding *e, const char *word, size_t n_bytes)
{
    const struct tokenizer *t = e->tokenizer;
    bool unknown = false;
    pair_merge_reset(&e->merge);
    for (size_t at = 0, n; at < n_bytes; at += n) {
        n = utf8_char_bytes(word + at, n_bytes - at);
        n = n == 0 ? 1 : n; /* a byte that is no character stands alone */
        const uint32_t id = string_table_find(&t->pieces, word + at, n);
        if (!pair_merge_append(&e->merge, (uint32_t)n,
                               id == STRING_TABLE_NONE ? TOKENIZER_NONE : (int32_t)id))
            return false;
    }
    if (!pair_merge_run(&e->merge, word, join, t))
        return false;
    for (uint32_t i = 0; i != PAIR_MERGE_NONE; i = e->merge.symbols[i].next)
        give(e, word, &e->merge.symbols[i], &unknown);
    return true;
}

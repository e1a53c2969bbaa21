/* tokenizer_special.c - tokens that stand in a text by name: "<|eot_id|>".
 *
 * The longest names are looked for first, over the whole text, then the next length in what is
 * left; a byte map of first letters makes a pass cheap. The time is the text's length times the
 * number of different lengths, whatever the number of special tokens; where a text is made of their
 * first letters, times the sum of these lengths. */
#include "model/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

bool tokenizer_is_special(const struct token *token)
{
    return token->type == TOKENIZER_TYPE_CONTROL || token->type == TOKENIZER_TYPE_UNKNOWN ||
           token->type == TOKENIZER_TYPE_USER_DEFINED;
}

static int longest_first(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x > y ? -1 : x < y;
}

enum status tokenizer_special_open(struct tokenizer *tokenizer, struct error *error)
{
    size_t n = 0;
    for (uint32_t i = 0; i < tokenizer->vocab; i++)
        n += tokenizer_is_special(&tokenizer->tokens[i]);
    uint32_t *lengths = malloc((n + 1) * sizeof(*lengths));
    if (lengths == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu special tokens", n);
    tokenizer->special_lengths = lengths;
    n = 0;
    for (uint32_t i = 0; i < tokenizer->vocab; i++) {
        const struct token *token = &tokenizer->tokens[i];
        if (!tokenizer_is_special(token) || token->bytes.n_bytes == 0)
            continue;
        if (string_table_add(&tokenizer->special, token->bytes.data, token->bytes.n_bytes, i) ==
            STRING_TABLE_NONE)
            return error_set(error, STATUS_NO_MEMORY, "no memory for %zu special tokens", n);
        tokenizer->special_first[(uint8_t)token->bytes.data[0]] = true;
        lengths[n++] = (uint32_t)token->bytes.n_bytes;
    }
    qsort(lengths, n, sizeof(*lengths), longest_first);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || lengths[i] != lengths[i - 1])
            lengths[tokenizer->n_special_lengths++] = lengths[i];
    return STATUS_OK;
}

static bool add(struct fragment_list *list, size_t begin, size_t n_bytes, int32_t id)
{
    if (n_bytes == 0)
        return true;
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct fragment *bigger = realloc(list->items, capacity * sizeof(*bigger));
        if (bigger == NULL)
            return false;
        list->items = bigger;
        list->capacity = capacity;
    }
    list->items[list->n++] = (struct fragment){begin, n_bytes, id};
    return true;
}

/* The special token of `length` bytes at `text`; -1: none that is wanted. */
static int32_t special_at(const struct tokenizer *tokenizer, const char *text, size_t length,
                          bool parse_special)
{
    if (!tokenizer->special_first[(uint8_t)text[0]])
        return -1;
    const uint32_t id = string_table_find(&tokenizer->special, text, length);
    if (id == STRING_TABLE_NONE ||
        (!parse_special && tokenizer->tokens[id].type != TOKENIZER_TYPE_USER_DEFINED))
        return -1;
    return (int32_t)id;
}

/* One length, in one raw fragment. */
static bool cut_fragment(const struct tokenizer *tokenizer, const char *text,
                         struct fragment fragment, size_t length, bool parse_special,
                         struct fragment_list *out)
{
    const size_t end = fragment.begin + fragment.n_bytes;
    size_t raw = fragment.begin, at = fragment.begin;
    while (end - at >= length) {
        const int32_t id = special_at(tokenizer, text + at, length, parse_special);
        if (id < 0) {
            at++;
            continue;
        }
        if (!add(out, raw, at - raw, -1) || !add(out, at, length, id))
            return false;
        raw = at += length;
    }
    return add(out, raw, end - raw, -1);
}

enum status tokenizer_special_cut(const struct tokenizer *tokenizer, const char *text,
                                  size_t n_bytes, bool parse_special, struct fragment_list *list,
                                  struct error *error)
{
    struct fragment_list now = {0}, next = {0};
    bool ok = add(&now, 0, n_bytes, -1);
    for (size_t i = 0; i < tokenizer->n_special_lengths && ok; i++) {
        next.n = 0;
        for (size_t k = 0; k < now.n && ok; k++) {
            const struct fragment fragment = now.items[k];
            if (fragment.id >= 0)
                ok = add(&next, fragment.begin, fragment.n_bytes, fragment.id);
            else
                ok = cut_fragment(tokenizer, text, fragment, tokenizer->special_lengths[i],
                                  parse_special, &next);
        }
        const struct fragment_list swap = now;
        now = next;
        next = swap;
    }
    free(next.items);
    if (!ok) {
        free(now.items);
        return error_set(error, STATUS_NO_MEMORY, "no memory to encode %zu bytes", n_bytes);
    }
    *list = now;
    return STATUS_OK;
}

/* tokenizer_spm.c - the `llama` kind: joins by score over the whole text.
 *
 * A space is written U+2581 in this vocabulary. Where no token has it behind another character
 * (Llama 2's has none), no join can cross the place before a space: the text is then cut there and
 * encoded word by word, with the same result and lists that fit in a cache. */
#include "model/tokenizer_internal.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

static const char space[3] = {(char)0xe2, (char)0x96, (char)0x81}; /* U+2581 */

static bool is_space(const char *text, size_t n_bytes)
{
    return n_bytes >= sizeof(space) && memcmp(text, space, sizeof(space)) == 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of a name "<0xNN>"; -1: another name. */
static int byte_of_name(struct model_string name)
{
    if (name.n_bytes != 6 || memcmp(name.data, "<0x", 3) != 0 || name.data[5] != '>')
        return -1;
    const int high = hex_digit(name.data[3]), low = hex_digit(name.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

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
static enum status read_scores(struct tokenizer *t, const struct model_file *file,
                               struct error *error)
{
    const char *path = model_path(file);
    float *scores;
    size_t n;
    enum status status = model_get_f32s(file, "tokenizer.ggml.scores", &scores, &n, error);
    if (status == STATUS_NOT_FOUND)
        return error_set(error, STATUS_INVALID,
                         "%s: key tokenizer.ggml.scores is missing: a llama tokenizer joins by "
                         "score",
                         path);
    if (status != STATUS_OK)
        return status;
    struct scored *order = malloc(t->vocab * sizeof(*order));
    if (order == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu scores", path, n);
    else if (n != t->vocab)
        status =
            error_set(error, STATUS_INVALID, "%s: %zu scores for %u tokens", path, n, t->vocab);
    for (uint32_t i = 0; i < t->vocab && status == STATUS_OK; i++) {
        order[i] = (struct scored){scores[i], i};
        if (scores[i] != scores[i]) /* NaN has no place in an order */
            status = error_set(error, STATUS_INVALID, "%s: the score of token %u is not a number",
                               path, i);
    }
    if (status == STATUS_OK) {
        qsort(order, t->vocab, sizeof(*order), best_first);
        uint32_t rank = 0;
        for (uint32_t i = 0; i < t->vocab; i++) {
            if (i > 0 && order[i].score != order[i - 1].score)
                rank++;
            t->tokens[order[i].id].order = rank;
        }
    }
    free(order);
    free(scores);
    return status;
}

/* The text of a token: U+2581 becomes a space. `bytes` has room for the name's length. */
static void unescape(struct token *token)
{
    char *out = (char *)token->bytes.data; /* tokenizer.c's own memory */
    size_t n = 0;
    for (size_t i = 0; i < token->name.n_bytes;) {
        if (is_space(token->name.data + i, token->name.n_bytes - i)) {
            out[n++] = ' ';
            i += sizeof(space);
        } else {
            out[n++] = token->name.data[i++];
        }
    }
    token->bytes.n_bytes = n;
}

/* Does a space stand behind another character in the name? */
static bool space_inside(struct model_string name)
{
    for (size_t i = 1; i < name.n_bytes; i++)
        if (is_space(name.data + i, name.n_bytes - i) &&
            (i < sizeof(space) || !is_space(name.data + i - sizeof(space), sizeof(space))))
            return true;
    return false;
}

static enum status read_bytes(struct tokenizer *t, bool typed, const char *path,
                              struct error *error)
{
    for (unsigned i = 0; i < 256; i++)
        t->byte_ids[i] = -1;
    for (uint32_t i = 0; i < t->vocab; i++) {
        struct token *token = &t->tokens[i];
        const int byte = byte_of_name(token->name);
        if (!typed && byte >= 0)
            token->type = TOKENIZER_TYPE_BYTE;
        if (token->type != TOKENIZER_TYPE_BYTE)
            continue;
        if (byte < 0)
            return error_set(error, STATUS_INVALID,
                             "%s: token %u is a byte token by type, and its name is not <0xNN>",
                             path, i);
        if (t->byte_ids[byte] < 0)
            t->byte_ids[byte] = (int32_t)i;
    }
    t->all_bytes = true;
    for (unsigned i = 0; i < 256; i++) {
        if (t->byte_ids[i] >= 0)
            continue;
        if (t->unknown < 0)
            return error_set(error, STATUS_INVALID,
                             "%s: no token <0x%02X>, and no unknown token to stand for it", path,
                             i);
        t->byte_ids[i] = t->unknown;
        t->all_bytes = false;
    }
    return STATUS_OK;
}

enum status tokenizer_spm_open(struct tokenizer *t, const struct model_file *file,
                               struct error *error)
{
    const char *path = model_path(file);
    const bool typed = model_key_find(file, "tokenizer.ggml.token_type") != NULL;
    t->add_bos = true;
    t->add_space_prefix = true;
    enum status status = read_scores(t, file, error);
    if (status == STATUS_OK)
        status = read_bytes(t, typed, path, error);
    if (status == STATUS_OK && model_key_find(file, "tokenizer.ggml.add_space_prefix") != NULL)
        status =
            model_get_bool(file, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix, error);
    t->cut_at_spaces = true;
    for (uint32_t i = 0; i < t->vocab && status == STATUS_OK; i++) {
        struct token *token = &t->tokens[i];
        if (token->type == TOKENIZER_TYPE_BYTE) {
            ((char *)token->bytes.data)[0] = (char)byte_of_name(token->name);
            token->bytes.n_bytes = 1;
            continue;
        }
        if (token->type == TOKENIZER_TYPE_CONTROL || token->type == TOKENIZER_TYPE_UNKNOWN) {
            token->bytes = token->name;
            continue;
        }
        unescape(token);
        if (token->name.n_bytes == 0)
            continue;
        if (string_table_add(&t->joinable, token->name.data, token->name.n_bytes, i) ==
            STRING_TABLE_NONE)
            status = error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tokens", path);
        if (token->name.n_bytes > t->max_joinable_bytes)
            t->max_joinable_bytes = (uint32_t)token->name.n_bytes;
        if (space_inside(token->name))
            t->cut_at_spaces = false;
    }
    return status;
}

/* Two symbols join when their bytes together are a token. */
static bool join(const void *rules, const char *text, const struct pair_merge_symbol *left,
                 const struct pair_merge_symbol *right, uint32_t *order, int32_t *id)
{
    const struct tokenizer *t = rules;
    const uint32_t n_bytes = left->n_bytes + right->n_bytes;
    if (n_bytes > t->max_joinable_bytes)
        return false;
    const uint32_t token = string_table_find(&t->joinable, text + left->begin, n_bytes);
    if (token == STRING_TABLE_NONE)
        return false;
    *order = t->tokens[token].order;
    *id = (int32_t)token;
    return true;
}

/* Escapes the text into encoding->buffer. */
static bool escape(struct encoding *e, const char *text, size_t n_bytes, bool prefix, size_t *n_out)
{
    size_t n = n_bytes + (prefix ? sizeof(space) : 0);
    for (size_t i = 0; i < n_bytes; i++)
        n += text[i] == ' ' ? sizeof(space) - 1 : 0;
    if (n > e->buffer_capacity) {
        char *bigger = realloc(e->buffer, n);
        if (bigger == NULL)
            return false;
        e->buffer = bigger;
        e->buffer_capacity = n;
    }
    char *out = e->buffer;
    if (prefix) {
        memcpy(out, space, sizeof(space));
        out += sizeof(space);
    }
    for (size_t i = 0; i < n_bytes; i++) {
        if (text[i] == ' ') {
            memcpy(out, space, sizeof(space));
            out += sizeof(space);
        } else {
            *out++ = text[i];
        }
    }
    *n_out = n;
    return true;
}

/* One word, or the whole text: characters (a byte that is none stands alone), joins, ids. */
static bool encode_word(struct encoding *e, const char *text, size_t n_bytes)
{
    const struct tokenizer *t = e->tokenizer;
    pair_merge_reset(&e->merge);
    for (size_t at = 0; at < n_bytes;) {
        size_t n = utf8_char_bytes(text + at, n_bytes - at);
        if (n == 0)
            n = 1;
        const uint32_t id = string_table_find(&t->joinable, text + at, n);
        if (!pair_merge_append(&e->merge, (uint32_t)n,
                               id == STRING_TABLE_NONE ? TOKENIZER_NONE : (int32_t)id))
            return false;
        at += n;
    }
    if (!pair_merge_run(&e->merge, text, join, t))
        return false;
    for (uint32_t i = 0; i != PAIR_MERGE_NONE; i = e->merge.symbols[i].next) {
        const struct pair_merge_symbol *symbol = &e->merge.symbols[i];
        if (symbol->id >= 0) {
            id_list_add(&e->out, symbol->id);
        } else if (!t->all_bytes && t->byte_ids[(uint8_t)text[symbol->begin]] == t->unknown) {
            id_list_add(&e->out, t->unknown); /* one for the character, as in SentencePiece */
        } else {
            for (uint32_t k = 0; k < symbol->n_bytes; k++)
                id_list_add(&e->out, t->byte_ids[(uint8_t)text[symbol->begin + k]]);
        }
    }
    return true;
}

enum status tokenizer_spm_encode(struct encoding *e, const char *text, size_t n_bytes,
                                 bool after_special)
{
    size_t n;
    bool ok = escape(e, text, n_bytes, after_special && e->tokenizer->add_space_prefix, &n);
    for (size_t begin = 0, end; ok && begin < n; begin = end) {
        end = n;
        if (e->tokenizer->cut_at_spaces) {
            size_t at = begin;
            while (is_space(e->buffer + at, n - at)) /* its own spaces */
                at += sizeof(space);
            /* 0xE2 leads few characters besides the space: memchr skips the rest */
            for (;;) {
                const char *found = at < n ? memchr(e->buffer + at, space[0], n - at) : NULL;
                if (found == NULL)
                    break;
                at = (size_t)(found - e->buffer);
                if (is_space(found, n - at)) {
                    end = at;
                    break;
                }
                at++;
            }
        }
        ok = encode_word(e, e->buffer + begin, end - begin);
    }
    if (!ok)
        return error_set(e->error, STATUS_NO_MEMORY, "no memory to encode %zu bytes", n_bytes);
    return STATUS_OK;
}

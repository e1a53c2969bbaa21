/* tokenizer_bpe.c - the `gpt2` kind: merges by rank inside words, on bytes.
 *
 * The names of this vocabulary show each byte as a printable character (Radford et al. 2019): bytes
 * that are printable in Latin-1 as themselves, the 68 others as U+0100 and on, in order. Encoding
 * never makes such text: it works on ids, a merge being a pair of ids. */
#include "model/tokenizer_internal.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static bool shown_as_itself(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* shown[byte] is the code point, byte_of[code point] the reverse (-1: none). */
static void byte_alphabet(uint16_t shown[256], int16_t byte_of[0x144])
{
    uint16_t next = 0x100;
    for (unsigned i = 0; i < 0x144; i++)
        byte_of[i] = -1;
    for (unsigned i = 0; i < 256; i++) {
        shown[i] = shown_as_itself(i) ? (uint16_t)i : next++;
        byte_of[shown[i]] = (int16_t)i;
    }
}

/* The bytes of a normal token's name; a character outside the alphabet stands for itself. */
static void decode_name(struct token *token, const int16_t byte_of[0x144])
{
    char *out = (char *)token->bytes.data; /* tokenizer.c's own memory, as long as the name */
    size_t n_out = 0;
    for (size_t at = 0; at < token->name.n_bytes;) {
        const char *text = token->name.data + at;
        const size_t n = utf8_char_bytes(text, token->name.n_bytes - at);
        const uint32_t code_point = n == 0 ? UINT32_MAX : utf8_decode(text, n);
        if (code_point < 0x144 && byte_of[code_point] >= 0) {
            out[n_out++] = (char)byte_of[code_point];
        } else {
            memcpy(out + n_out, text, n == 0 ? 1 : n);
            n_out += n == 0 ? 1 : n;
        }
        at += n == 0 ? 1 : n;
    }
    token->bytes.n_bytes = n_out;
}

static enum status read_bytes(struct tokenizer *t, const char *path, struct error *error)
{
    uint16_t shown[256];
    int16_t byte_of[0x144];
    byte_alphabet(shown, byte_of);
    for (uint32_t i = 0; i < t->vocab; i++) {
        if (tokenizer_is_special(&t->tokens[i]))
            t->tokens[i].bytes = t->tokens[i].name;
        else
            decode_name(&t->tokens[i], byte_of);
    }
    t->all_bytes = true;
    for (unsigned i = 0; i < 256; i++) {
        char name[4];
        t->byte_ids[i] = tokenizer_find(t, name, utf8_encode(name, shown[i]));
        if (t->byte_ids[i] >= 0)
            continue;
        if (t->unknown < 0)
            return error_set(error, STATUS_INVALID,
                             "%s: no token for byte 0x%02X, and no unknown token to stand for it",
                             path, i);
        t->byte_ids[i] = t->unknown;
        t->all_bytes = false;
    }
    return STATUS_OK;
}

/* MurmurHash3's 64-bit finaliser over pair and seed: a file cannot choose colliding merges. */
static struct merge_slot *merge_probe(const struct tokenizer *t, uint64_t pair)
{
    uint64_t hash = pair ^ t->merge_seed;
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdu;
    hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53u;
    hash ^= hash >> 33;
    size_t i = hash & (t->n_merge_slots - 1);
    while (t->merges[i].pair != UINT64_MAX && t->merges[i].pair != pair)
        i = (i + 1) & (t->n_merge_slots - 1);
    return &t->merges[i];
}

/* "left right": the first space behind the first character parts them. */
static enum status add_merge(struct tokenizer *t, struct model_string merge, uint32_t rank,
                             const char *path, struct error *error)
{
    const char *gap = merge.n_bytes < 3 ? NULL : memchr(merge.data + 1, ' ', merge.n_bytes - 2);
    if (gap == NULL)
        return error_set(error, STATUS_INVALID,
                         "%s: merge %u is '%.*s', which is not two parts and a space between", path,
                         rank, (int)(merge.n_bytes < 64 ? merge.n_bytes : 64), merge.data);
    const size_t n_left = (size_t)(gap - merge.data), n_right = merge.n_bytes - n_left - 1;
    if (merge.n_bytes > 2 * 65536)
        return error_set(error, STATUS_INVALID, "%s: merge %u has %zu bytes", path, rank,
                         merge.n_bytes);
    char *joined = malloc(n_left + n_right);
    if (joined == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its merges", path);
    memcpy(joined, merge.data, n_left);
    memcpy(joined + n_left, gap + 1, n_right);
    const int32_t left = tokenizer_find(t, merge.data, n_left);
    const int32_t right = tokenizer_find(t, gap + 1, n_right);
    const int32_t id = tokenizer_find(t, joined, n_left + n_right);
    free(joined);
    if (left < 0 || right < 0 || id < 0)
        return error_set(error, STATUS_INVALID, "%s: merge %u is '%.*s', and %s of it is no token",
                         path, rank, (int)(merge.n_bytes < 64 ? merge.n_bytes : 64), merge.data,
                         left < 0    ? "the left part"
                         : right < 0 ? "the right part"
                                     : "the whole");
    struct merge_slot *slot = merge_probe(t, (uint64_t)left << 32 | (uint32_t)right);
    if (slot->pair == UINT64_MAX) /* a merge that is there twice keeps its lower rank */
        *slot = (struct merge_slot){(uint64_t)left << 32 | (uint32_t)right, rank, id};
    return STATUS_OK;
}

static enum status read_merges(struct tokenizer *t, const struct model_file *file, size_t *n_merges,
                               struct error *error)
{
    const char *path = model_path(file);
    struct model_string *merges;
    size_t n;
    *n_merges = 0;
    if (model_key_find(file, "tokenizer.ggml.merges") == NULL)
        return STATUS_OK;
    enum status status = model_get_strings(file, "tokenizer.ggml.merges", &merges, &n, error);
    if (status != STATUS_OK)
        return status;
    if (n >= (1u << 26))
        status =
            error_set(error, STATUS_INVALID, "%s: %zu merges; %u are possible", path, n, 1u << 26);
    if (status == STATUS_OK && n > 0) {
        t->n_merge_slots = 64;
        while (t->n_merge_slots < 2 * n)
            t->n_merge_slots *= 2;
        t->merges = malloc(t->n_merge_slots * sizeof(*t->merges));
        if (t->merges == NULL)
            status = error_set(error, STATUS_NO_MEMORY, "%s: no memory for its merges", path);
        else
            memset(t->merges, 0xff, t->n_merge_slots * sizeof(*t->merges)); /* all free */
        if (getrandom(&t->merge_seed, sizeof(t->merge_seed), 0) != sizeof(t->merge_seed))
            t->merge_seed = (uint64_t)(uintptr_t)t; /* no entropy: works all the same */
    }
    for (size_t i = 0; i < n && status == STATUS_OK; i++)
        status = add_merge(t, merges[i], (uint32_t)i, path, error);
    free(merges);
    *n_merges = n;
    return status;
}

static enum status read_pretokenizer(struct tokenizer *t, const struct model_file *file,
                                     size_t n_merges, struct error *error)
{
    const char *path = model_path(file);
    struct model_string pre = {"", 0};
    enum status status = STATUS_OK;
    if (model_key_find(file, "tokenizer.ggml.pre") != NULL)
        status = model_get_string(file, "tokenizer.ggml.pre", &pre, error);
    if (status != STATUS_OK)
        return status;
    if (n_merges == 0 && (pre.n_bytes == 0 || model_string_equals(pre, "default")))
        return STATUS_OK; /* every byte is its own token, whatever the words */
    char name[64] = "";
    if (pre.n_bytes < sizeof(name) && memchr(pre.data, '\0', pre.n_bytes) == NULL)
        memcpy(name, pre.data, pre.n_bytes);
    struct error why = {0};
    status = pretokenizer_create(&t->pretokenizer, name, &why);
    if (status == STATUS_NOT_FOUND)
        return error_set(
            error, STATUS_UNSUPPORTED, "%s: pre-tokenizer '%.*s'%s is not supported; supported: %s",
            path, (int)(pre.n_bytes < 64 ? pre.n_bytes : 64), pre.data,
            pre.n_bytes == 0 ? " (tokenizer.ggml.pre is missing)" : "", pretokenizer_names());
    if (status != STATUS_OK)
        return error_set(error, status, "%s: %s", path, why.text);
    t->whole_words = strcmp(name, "gpt-2") != 0 && strcmp(name, "gpt2") != 0;
    t->add_bos = t->whole_words; /* the Llama 3 family begins with BOS unless the file says else */
    return STATUS_OK;
}

enum status tokenizer_bpe_open(struct tokenizer *t, const struct model_file *file,
                               struct error *error)
{
    size_t n_merges = 0;
    enum status status = read_bytes(t, model_path(file), error);
    if (status == STATUS_OK)
        status = read_merges(t, file, &n_merges, error);
    if (status == STATUS_OK)
        status = read_pretokenizer(t, file, n_merges, error);
    if (status != STATUS_OK || !t->whole_words)
        return status;
    /* Whole words are looked up as bytes. */
    for (uint32_t i = 0; i < t->vocab; i++) {
        const struct token *token = &t->tokens[i];
        if (!tokenizer_is_special(token) && token->bytes.n_bytes > 0 &&
            string_table_add(&t->joinable, token->bytes.data, token->bytes.n_bytes, i) ==
                STRING_TABLE_NONE)
            return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tokens",
                             model_path(file));
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

static bool encode_word(struct encoding *e, const char *text, size_t n_bytes)
{
    const struct tokenizer *t = e->tokenizer;
    if (t->whole_words) {
        const uint32_t id = string_table_find(&t->joinable, text, n_bytes);
        if (id != STRING_TABLE_NONE) {
            id_list_add(&e->out, (int32_t)id);
            return true;
        }
    }
    if (n_bytes == 1 || t->n_merge_slots == 0) {
        for (size_t i = 0; i < n_bytes; i++)
            id_list_add(&e->out, t->byte_ids[(uint8_t)text[i]]);
        return true;
    }
    pair_merge_reset(&e->merge);
    for (size_t i = 0; i < n_bytes; i++)
        if (!pair_merge_append(&e->merge, 1, t->byte_ids[(uint8_t)text[i]]))
            return false;
    if (!pair_merge_run(&e->merge, text, join, t))
        return false;
    for (uint32_t i = 0; i != PAIR_MERGE_NONE; i = e->merge.symbols[i].next)
        id_list_add(&e->out, e->merge.symbols[i].id);
    return true;
}

/* The words of a piece of well-formed UTF-8. */
static enum status encode_words(struct encoding *e, const char *text, size_t n_bytes)
{
    enum status status = STATUS_OK;
    for (size_t begin = 0, end; begin < n_bytes && status == STATUS_OK; begin = end) {
        end = n_bytes;
        if (e->tokenizer->pretokenizer != NULL)
            status = pretokenizer_next(e->tokenizer->pretokenizer, e->scratch, text, n_bytes, begin,
                                       &end, e->error);
        if (status == STATUS_OK && !encode_word(e, text + begin, end - begin))
            status =
                error_set(e->error, STATUS_NO_MEMORY, "no memory to encode %zu bytes", n_bytes);
    }
    return status;
}

enum status tokenizer_bpe_encode(struct encoding *e, const char *text, size_t n_bytes)
{
    enum status status = STATUS_OK;
    for (size_t begin = 0, end; begin < n_bytes && status == STATUS_OK; begin = end) {
        size_t n;
        end = begin;
        while (end < n_bytes && (n = utf8_char_bytes(text + end, n_bytes - end)) > 0)
            end += n;
        if (end > begin) {
            status = encode_words(e, text + begin, end - begin);
            continue;
        }
        while (end < n_bytes && utf8_char_bytes(text + end, n_bytes - end) == 0)
            end++; /* bytes that are no character are a word of their own */
        if (!encode_word(e, text + begin, end - begin))
            status =
                error_set(e->error, STATUS_NO_MEMORY, "no memory to encode %zu bytes", n_bytes);
    }
    return status;
}

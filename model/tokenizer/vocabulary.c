/* vocabulary.c - names and what they stand for, in one block of memory of the tokenizer's own: it
 * then outlives the file. The bytes that a token stands for are never longer than its name. */
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

static const char space[3] = {(char)0xe2, (char)0x96, (char)0x81}; /* U+2581 */

#define MAX_VOCAB       (1u << 24)
#define MAX_TOKEN_BYTES 65535

enum status vocabulary_read(struct tokenizer *t, const struct model_string *names, size_t n,
                            const char *path, struct error *error)
{
    size_t n_bytes = 0;
    if (n == 0 || n > MAX_VOCAB)
        return error_set(error, STATUS_INVALID, "%s: %zu tokens; 1 to %u are possible", path, n,
                         MAX_VOCAB);
    for (size_t i = 0; i < n; i++) {
        n_bytes += names[i].n_bytes;
        if (names[i].n_bytes > MAX_TOKEN_BYTES)
            return error_set(error, STATUS_INVALID, "%s: token %zu has %zu bytes; %d are possible",
                             path, i, names[i].n_bytes, MAX_TOKEN_BYTES);
    }
    t->text = malloc(2 * n_bytes + 1); /* names, then bytes */
    t->tokens = calloc(n, sizeof(*t->tokens));
    if (t->text == NULL || t->tokens == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu tokens", path, n);
    char *at = t->text, *bytes_at = t->text + n_bytes;
    t->vocab = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        const size_t length = names[i].n_bytes;
        if (length > 0)
            memcpy(at, names[i].data, length);
        t->tokens[i].name = (struct model_string){at, length};
        t->tokens[i].bytes = (struct model_string){bytes_at, length};
        t->tokens[i].type = TOKENIZER_TYPE_NORMAL;
        if (string_table_add(&t->by_name, at, length, (uint32_t)i) == STRING_TABLE_NONE)
            return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu tokens", path, n);
        at += length;
        bytes_at += length;
    }
    return STATUS_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int vocabulary_byte(struct model_string name)
{
    if (name.n_bytes != 6 || memcmp(name.data, "<0x", 3) != 0 || name.data[5] != '>')
        return -1;
    const int high = hex_digit(name.data[3]), low = hex_digit(name.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void vocabulary_find_bytes(struct tokenizer *t)
{
    for (unsigned i = 0; i < 256; i++)
        t->byte_ids[i] = TOKENIZER_NONE;
    for (uint32_t i = 0; i < t->vocab; i++) {
        const int byte =
            t->tokens[i].type == TOKENIZER_TYPE_BYTE ? vocabulary_byte(t->tokens[i].name) : -1;
        if (byte >= 0 && t->byte_ids[byte] < 0)
            t->byte_ids[byte] = (int32_t)i;
    }
    t->all_bytes = true;
    for (unsigned i = 0; i < 256; i++) {
        if (t->byte_ids[i] >= 0)
            continue;
        t->byte_ids[i] = t->unknown;
        t->all_bytes = false;
    }
}

/* U+2581 becomes a space. `bytes` has room for the name's length. */
static void unescape(struct token *token)
{
    char *out = (char *)token->bytes.data; /* the tokenizer's own memory */
    size_t n = 0;
    for (size_t i = 0; i < token->name.n_bytes;) {
        if (token->name.n_bytes - i >= sizeof(space) &&
            memcmp(token->name.data + i, space, sizeof(space)) == 0) {
            out[n++] = ' ';
            i += sizeof(space);
        } else {
            out[n++] = token->name.data[i++];
        }
    }
    token->bytes.n_bytes = n;
}

bool vocabulary_space_inside(struct model_string name)
{
    size_t at = 0;
    while (name.n_bytes - at >= sizeof(space) && memcmp(name.data + at, space, sizeof(space)) == 0)
        at += sizeof(space);
    return memmem(name.data + at, name.n_bytes - at, space, sizeof(space)) != NULL;
}

enum status vocabulary_read_bytes(struct tokenizer *t, enum vocabulary_writing writing,
                                  const char *path, struct error *error)
{
    for (uint32_t i = 0; i < t->vocab; i++) {
        struct token *token = &t->tokens[i];
        const bool by_user = token->type == TOKENIZER_TYPE_USER_DEFINED;
        if (token->type == TOKENIZER_TYPE_BYTE) {
            const int byte = vocabulary_byte(token->name);
            if (byte < 0)
                return error_set(error, STATUS_INVALID,
                                 "%s: token %u is a byte token by type, and its name is not <0xNN>",
                                 path, i);
            *(char *)token->bytes.data = (char)byte;
            token->bytes.n_bytes = 1;
        } else if ((tokenizer_is_special(token) && !by_user) || writing == VOCABULARY_PLAIN) {
            token->bytes = token->name;
        } else if (writing == VOCABULARY_SHOWS_SPACE) {
            unescape(token);
        } else if (by_user) {
            token->bytes = token->name;
        } else {
            token->bytes.n_bytes = byte_alphabet_read((char *)token->bytes.data, token->name.data,
                                                      token->name.n_bytes);
        }
    }
    return STATUS_OK;
}

static bool usual_end(const struct token *token)
{
    static const char *const names[] = {"<|eot_id|>",
                                        "<|eom_id|>",
                                        "<|im_end|>",
                                        "<|end_of_text|>",
                                        "<|endoftext|>",
                                        "<|end|>",
                                        "<end_of_turn>",
                                        "<EOT>",
                                        "</s>",
                                        "<eos>",
                                        "<|EOT|>",
                                        "<end_of_utterance>",
                                        ("<\xef\xbd\x9c"
                                         "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>")};
    if (token->type != TOKENIZER_TYPE_CONTROL && token->type != TOKENIZER_TYPE_USER_DEFINED)
        return false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (model_string_equals(token->name, names[i]))
            return true;
    return false;
}

void vocabulary_finish(struct tokenizer *t)
{
    for (uint32_t i = 0; i < t->vocab; i++) {
        if (usual_end(&t->tokens[i]))
            t->tokens[i].ends_generation = true;
        if (t->tokens[i].bytes.n_bytes > t->max_token_bytes)
            t->max_token_bytes = (uint32_t)t->tokens[i].bytes.n_bytes;
    }
    if (t->eos >= 0)
        t->tokens[t->eos].ends_generation = true;
}

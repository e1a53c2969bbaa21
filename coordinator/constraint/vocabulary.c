/* vocabulary.c - see vocabulary.h: tokens are sorted by their bytes, then laid side by side. */
#include "coordinator/constraint/vocabulary.h"

#include <stdlib.h>
#include <string.h>

static int by_bytes(const void *a, const void *b, void *context)
{
    const struct tokenizer *tokenizer = context;
    const struct model_string x = tokenizer_token_bytes(tokenizer, *(const int32_t *)a);
    const struct model_string y = tokenizer_token_bytes(tokenizer, *(const int32_t *)b);
    const size_t n = x.n_bytes < y.n_bytes ? x.n_bytes : y.n_bytes;
    const int order = memcmp(x.data, y.data, n);
    return order != 0 ? order : (x.n_bytes > y.n_bytes) - (x.n_bytes < y.n_bytes);
}

static bool is_text(const struct tokenizer *tokenizer, int32_t id)
{
    const enum tokenizer_type type = tokenizer_token_type(tokenizer, id);
    const size_t n = tokenizer_token_bytes(tokenizer, id).n_bytes;
    return n > 0 && n <= VOCABULARY_TOKEN_BYTES && type != TOKENIZER_TYPE_CONTROL &&
           type != TOKENIZER_TYPE_UNKNOWN && type != TOKENIZER_TYPE_UNUSED &&
           !tokenizer_is_end_of_generation(tokenizer, id);
}

bool vocabulary_has(const struct vocabulary *vocabulary, int32_t token)
{
    return token >= 0 && (uint32_t)token < vocabulary->n_tokens &&
           is_text(vocabulary->tokenizer, token);
}

static void close_subtrees(struct vocabulary *v, const uint32_t *open, uint32_t from, uint32_t to)
{
    for (uint32_t depth = from; depth < to; depth++)
        v->nodes[open[depth]].end = v->n_nodes;
}

static void lay_out(struct vocabulary *v, const int32_t *sorted, uint32_t n)
{
    uint32_t open[VOCABULARY_TOKEN_BYTES], depth = 0; /* the node at each depth of the last token */
    struct model_string last = {"", 0};
    for (uint32_t i = 0; i < n; i++) {
        const struct model_string bytes = tokenizer_token_bytes(v->tokenizer, sorted[i]);
        uint32_t common = 0;
        while (common < last.n_bytes && common < bytes.n_bytes &&
               last.data[common] == bytes.data[common])
            common++;
        close_subtrees(v, open, common, depth);
        for (depth = common; depth < bytes.n_bytes; depth++) {
            open[depth] = v->n_nodes;
            v->nodes[v->n_nodes++] = (struct vocabulary_node){.byte = (uint8_t)bytes.data[depth],
                                                              .depth = (uint16_t)(depth + 1),
                                                              .token = TOKENIZER_NONE};
        }
        struct vocabulary_node *node = &v->nodes[open[depth - 1]];
        v->same[sorted[i]] = node->token;
        node->token = sorted[i];
        v->longest = depth > v->longest ? depth : v->longest;
        last = bytes;
    }
    close_subtrees(v, open, 0, depth);
}

/* Whatever has to be closed can be closed byte by byte. */
static enum status check_bytes(const struct vocabulary *v, struct error *error)
{
    bool has[256] = {false};
    for (uint32_t i = 0; i < v->n_nodes; i = v->nodes[i].end)
        has[v->nodes[i].byte] = v->nodes[i].token != TOKENIZER_NONE;
    for (unsigned byte = ' '; byte < 0x7f; byte++)
        if (!has[byte])
            return error_set(error, STATUS_UNSUPPORTED,
                             "JSON cannot be asked of this model: '%c' is no token", (int)byte);
    return STATUS_OK;
}

enum status vocabulary_create(struct vocabulary **vocabulary, const struct tokenizer *tokenizer,
                              struct error *error)
{
    const uint32_t n = tokenizer_vocab(tokenizer);
    struct vocabulary *v = calloc(1, sizeof(*v));
    int32_t *sorted = calloc(n, sizeof(*sorted));
    size_t n_bytes = 0;
    uint32_t n_texts = 0;
    enum status status = STATUS_OK;
    if (v == NULL || sorted == NULL || (v->same = calloc(n, sizeof(*v->same))) == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %u tokens", n);
        goto out;
    }
    v->tokenizer = tokenizer;
    v->n_tokens = n;
    for (uint32_t id = 0; id < n; id++) {
        v->same[id] = TOKENIZER_NONE;
        v->ends = v->ends || tokenizer_is_end_of_generation(tokenizer, (int32_t)id);
        if (!is_text(tokenizer, (int32_t)id))
            continue;
        sorted[n_texts++] = (int32_t)id;
        n_bytes += tokenizer_token_bytes(tokenizer, (int32_t)id).n_bytes;
    }
    qsort_r(sorted, n_texts, sizeof(*sorted), by_bytes, (void *)tokenizer);
    v->nodes = calloc(n_bytes + 1, sizeof(*v->nodes));
    if (v->nodes == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of tokens", n_bytes);
        goto out;
    }
    lay_out(v, sorted, n_texts);
    status = check_bytes(v, error);
out:
    free(sorted);
    if (status != STATUS_OK)
        vocabulary_destroy(v);
    else
        *vocabulary = v;
    return status;
}

void vocabulary_destroy(struct vocabulary *vocabulary)
{
    if (vocabulary == NULL)
        return;
    free(vocabulary->nodes);
    free(vocabulary->same);
    free(vocabulary);
}

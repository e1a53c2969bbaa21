/* added_tokens.c - the automaton of Aho and Corasick (1975) over the names written backwards, which
 * reads the text from its end.
 *
 * Behind the character at i the automaton knows the longest end of a name that the text has from i
 * on; the longest whole name among its suffixes is then the longest name that begins at i. A second
 * walk, forward over the places where one begins, takes the leftmost, and skips what it covers. So
 * the time is linear even for names like "aaaa" and texts of them, where reading forward may run
 * ahead far and come back each time.
 *
 * States are nodes of the trie of names; edges are in one hash table, keyed by node and byte. */
#include "model/tokenizer/added_tokens.h"

#include "model/utf8.h"
#include "sys/array.h"
#include "sys/random.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unictype.h>

#define MAX_NODES ((uint32_t)1 << 28)
#define NO_TOKEN  UINT32_MAX
#define ROOT      0

struct node {
    uint32_t parent, depth;
    uint32_t fail;  /* the longest proper suffix that is a node */
    uint32_t token; /* its own, or the longest one among its suffixes; NO_TOKEN */
    uint8_t byte;
};

struct edge {
    uint64_t key; /* node << 8 | byte; UINT64_MAX: free */
    uint32_t node;
};

struct named_token {
    struct added_token token;
    uint32_t n_bytes;
};

struct added_tokens {
    struct node *nodes; /* in order of creation; a parent comes before its children */
    uint32_t n_nodes;
    size_t nodes_capacity;
    struct edge *edges;
    size_t n_edge_slots; /* a power of two */
    uint64_t seed;
    struct named_token *tokens;
    size_t n_tokens, tokens_capacity;
    uint32_t from_root[256]; /* 0: no name ends with this byte */
};

/* With a seed, so that names cannot be chosen to collide. */
static struct edge *probe(const struct added_tokens *t, uint64_t key)
{
    size_t i = random_mix(key ^ t->seed) & (t->n_edge_slots - 1);
    while (t->edges[i].key != UINT64_MAX && t->edges[i].key != key)
        i = (i + 1) & (t->n_edge_slots - 1);
    return &t->edges[i];
}

/* The child of `node` by `byte`; ROOT: none. */
static uint32_t child(const struct added_tokens *t, uint32_t node, uint8_t byte)
{
    if (node == ROOT)
        return t->from_root[byte];
    const struct edge *edge = probe(t, (uint64_t)node << 8 | byte);
    return edge->key == UINT64_MAX ? ROOT : edge->node;
}

static bool grow_edges(struct added_tokens *t)
{
    const size_t n_old = t->n_edge_slots;
    struct edge *old = t->edges;
    t->n_edge_slots = n_old == 0 ? 1024 : 2 * n_old;
    t->edges = malloc(t->n_edge_slots * sizeof(*t->edges));
    if (t->edges == NULL) {
        t->edges = old;
        t->n_edge_slots = n_old;
        return false;
    }
    memset(t->edges, 0xff, t->n_edge_slots * sizeof(*t->edges)); /* all free */
    for (size_t i = 0; i < n_old; i++)
        if (old[i].key != UINT64_MAX)
            *probe(t, old[i].key) = old[i];
    free(old);
    return true;
}

static bool grow_nodes(struct added_tokens *t)
{
    return array_grow(&t->nodes, &t->nodes_capacity, (size_t)t->n_nodes + 1, sizeof(*t->nodes));
}

enum status added_tokens_create(struct added_tokens **tokens, struct error *error)
{
    struct added_tokens *t = calloc(1, sizeof(*t));
    if (t == NULL || !grow_edges(t) || !grow_nodes(t)) {
        added_tokens_destroy(t);
        return error_set(error, STATUS_NO_MEMORY, "no memory for added tokens");
    }
    if (getrandom(&t->seed, sizeof(t->seed), 0) != (ssize_t)sizeof(t->seed))
        t->seed = (uint64_t)(uintptr_t)t; /* no entropy: works all the same */
    t->nodes[t->n_nodes++] = (struct node){.token = NO_TOKEN};
    *tokens = t;
    return STATUS_OK;
}

void added_tokens_destroy(struct added_tokens *tokens)
{
    if (tokens == NULL)
        return;
    free(tokens->nodes);
    free(tokens->edges);
    free(tokens->tokens);
    free(tokens);
}

/* The child by `byte`, which is made where there is none; ROOT: no memory. */
static uint32_t descend(struct added_tokens *t, uint32_t node, uint8_t byte)
{
    const uint32_t found = child(t, node, byte);
    if (found != ROOT)
        return found;
    if (!grow_nodes(t) || (2 * (size_t)t->n_nodes >= t->n_edge_slots && !grow_edges(t)))
        return ROOT;
    const uint32_t made = t->n_nodes++;
    t->nodes[made] = (struct node){
        .parent = node, .depth = t->nodes[node].depth + 1, .token = NO_TOKEN, .byte = byte};
    if (node == ROOT)
        t->from_root[byte] = made;
    else
        *probe(t, (uint64_t)node << 8 | byte) = (struct edge){(uint64_t)node << 8 | byte, made};
    return made;
}

enum status added_tokens_add(struct added_tokens *tokens, const char *name, size_t n_bytes,
                             struct added_token token, struct error *error)
{
    struct added_tokens *t = tokens;
    if (n_bytes == 0)
        return STATUS_OK;
    if (n_bytes >= MAX_NODES - t->n_nodes)
        return error_set(error, STATUS_INVALID, "the names of added tokens have more than %u bytes",
                         MAX_NODES);
    if (!array_grow(&t->tokens, &t->tokens_capacity, t->n_tokens + 1, sizeof(*t->tokens)))
        return error_set(error, STATUS_NO_MEMORY, "no memory for added tokens");
    uint32_t node = ROOT;
    for (size_t i = n_bytes; i-- > 0;) {
        node = descend(t, node, (uint8_t)name[i]);
        if (node == ROOT)
            return error_set(error, STATUS_NO_MEMORY, "no memory for added tokens");
    }
    if (t->nodes[node].token == NO_TOKEN) {
        t->nodes[node].token = (uint32_t)t->n_tokens;
        t->tokens[t->n_tokens++] = (struct named_token){token, (uint32_t)n_bytes};
    }
    return STATUS_OK;
}

/* The longest suffix of `node` and `byte` that is a node, by way of shorter and shorter ones. */
static uint32_t follow(const struct added_tokens *t, uint32_t node, uint8_t byte)
{
    for (;;) {
        const uint32_t found = child(t, node, byte);
        if (found != ROOT || node == ROOT)
            return found;
        node = t->nodes[node].fail;
    }
}

enum status added_tokens_finish(struct added_tokens *tokens, struct error *error)
{
    struct added_tokens *t = tokens;
    uint32_t *by_depth = malloc(t->n_nodes * sizeof(*by_depth));
    size_t *begins = NULL, deepest = 0;
    for (uint32_t i = 0; i < t->n_nodes; i++)
        deepest = t->nodes[i].depth > deepest ? t->nodes[i].depth : deepest;
    if (by_depth != NULL)
        begins = calloc(deepest + 2, sizeof(*begins));
    if (begins == NULL) {
        free(by_depth);
        return error_set(error, STATUS_NO_MEMORY, "no memory for added tokens");
    }
    for (uint32_t i = 0; i < t->n_nodes; i++)
        begins[t->nodes[i].depth + 1]++;
    for (size_t depth = 1; depth < deepest + 2; depth++)
        begins[depth] += begins[depth - 1];
    for (uint32_t i = 0; i < t->n_nodes; i++)
        by_depth[begins[t->nodes[i].depth]++] = i;
    for (uint32_t i = 0; i < t->n_nodes; i++) { /* shorter ones first: they are the suffixes */
        struct node *node = &t->nodes[by_depth[i]];
        if (node->depth > 1)
            node->fail = follow(t, t->nodes[node->parent].fail, node->byte);
        if (node->token == NO_TOKEN)
            node->token = t->nodes[node->fail].token;
    }
    free(by_depth);
    free(begins);
    return STATUS_OK;
}

bool added_tokens_is_empty(const struct added_tokens *tokens)
{
    return tokens->n_tokens == 0;
}

/* ---- cutting -------------------------------------------------------------------------------- */

void added_token_fragments_free(struct added_token_fragments *fragments)
{
    free(fragments->items);
    *fragments = (struct added_token_fragments){0};
}

static bool add(struct added_token_fragments *list, size_t begin, size_t n_bytes, int32_t id)
{
    if (!array_grow(&list->items, &list->capacity, list->n + 1, sizeof(*list->items)))
        return false;
    list->items[list->n++] = (struct added_token_fragment){begin, n_bytes, id};
    return true;
}

/* Lists the places where a name begins, from the text's end to its beginning; `id` is an index in
 * tokens->tokens. */
static bool find_all(const struct added_tokens *t, const char *text, size_t n_bytes,
                     struct added_token_fragments *found)
{
    uint32_t node = ROOT;
    for (size_t i = n_bytes; i-- > 0;) {
        const uint8_t byte = (uint8_t)text[i];
        node = node == ROOT ? t->from_root[byte] : follow(t, node, byte);
        const uint32_t token = t->nodes[node].token;
        if (token != NO_TOKEN && !add(found, i, t->tokens[token].n_bytes, (int32_t)token))
            return false;
    }
    return true;
}

/* The character that ends in front of `end`: its first byte; `end` itself: there is none. */
static size_t character_before(const char *text, size_t end)
{
    for (size_t n = 1; n <= 4 && n <= end; n++)
        if (utf8_char_bytes(text + end - n, n) == n)
            return end - n;
    return end;
}

/* What \w is to Rust: UTS 18, annex C. */
static bool is_word(uint32_t c)
{
    return uc_is_property_alphabetic(c) || uc_is_property_join_control(c) ||
           uc_is_general_category_withtable(c, UC_CATEGORY_MASK_M | UC_CATEGORY_MASK_Nd |
                                                   UC_CATEGORY_MASK_Pc);
}

static bool word_before(const char *text, size_t end)
{
    const size_t begin = character_before(text, end);
    return begin < end && is_word(utf8_decode(text + begin, end - begin));
}

static bool word_behind(const char *text, size_t n_bytes, size_t begin)
{
    const size_t n = utf8_char_bytes(text + begin, n_bytes - begin);
    return n > 0 && is_word(utf8_decode(text + begin, n));
}

static size_t space_before(const char *text, size_t least, size_t begin)
{
    for (size_t before; begin > least; begin = before) {
        before = character_before(text, begin);
        if (before == begin || before < least ||
            !uc_is_property_white_space(utf8_decode(text + before, begin - before)))
            break;
    }
    return begin;
}

static size_t space_behind(const char *text, size_t n_bytes, size_t end)
{
    for (size_t n; (n = utf8_char_bytes(text + end, n_bytes - end)) > 0; end += n)
        if (!uc_is_property_white_space(utf8_decode(text + end, n)))
            break;
    return end;
}

enum status added_tokens_cut(const struct added_tokens *tokens, const char *text, size_t n_bytes,
                             struct added_token_fragments *fragments, struct error *error)
{
    const struct added_tokens *t = tokens;
    struct added_token_fragments found = {0};
    fragments->n = 0;
    bool ok = added_tokens_is_empty(t) || find_all(t, text, n_bytes, &found);
    size_t searched = 0, done = 0; /* where the search goes on; what is in fragments */
    for (size_t i = found.n; ok && i-- > 0;) {
        const struct added_token *token = &t->tokens[found.items[i].id].token;
        size_t begin = found.items[i].begin, end = begin + found.items[i].n_bytes;
        if (begin < searched)
            continue;
        searched = end;
        if (token->single_word && (word_before(text, begin) || word_behind(text, n_bytes, end)))
            continue;
        if (token->lstrip)
            begin = space_before(text, done, begin);
        if (token->rstrip)
            end = space_behind(text, n_bytes, end);
        if (begin > done)
            ok = add(fragments, done, begin - done, -1);
        ok = ok && add(fragments, begin, end - begin, token->id);
        done = end;
    }
    if (ok && done < n_bytes)
        ok = add(fragments, done, n_bytes - done, -1);
    added_token_fragments_free(&found);
    if (!ok)
        return error_set(error, STATUS_NO_MEMORY, "no memory to encode %zu bytes", n_bytes);
    return STATUS_OK;
}

/* constraint.c - see constraint.h.
 *
 * A mask is the walk of the vocabulary's tree through the automaton. Masks of states are kept; with
 * each goes by how much a token may move the end away: as long as there is room for that, the kept
 * mask is right whatever is left. Otherwise each token is looked at for itself. */
#include "coordinator/constraint/constraint.h"

#include "coordinator/constraint/automaton.h"
#include "coordinator/constraint/schema.h"

#include <stdlib.h>
#include <string.h>

enum {
    N_KEPT = 64,
    MAX_DEPTH = 200,    /* of the automaton's stack: three or four for each level of JSON */
    MAX_WORK = 1 << 21, /* of a mask: 60 ms */
};

struct kept {
    uint32_t state; /* AUTOMATON_DEAD: free */
    uint64_t generation, used;
    uint32_t farthest; /* distance behind a token of the mask, at most, less that before, plus 1 */
    uint32_t *bits;
};

/* What a schema became, for all answers to a request. */
struct compiled {
    struct grammar grammar;
    uint32_t n_users;
};

struct constraint {
    const struct vocabulary *vocabulary;
    struct compiled *compiled;
    struct automaton *automaton;
    uint32_t state;
    uint32_t n_words;
    uint64_t n_masks, most_work; /* most_work: of the automaton, when the mask is given up */
    struct kept kept[N_KEPT];
};

/* At the beginning of the text. On failure `compiled` is as before. */
static enum status begin(struct constraint **constraint, struct compiled *compiled,
                         const struct vocabulary *vocabulary, struct error *error)
{
    struct constraint *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a schema");
    c->vocabulary = vocabulary;
    c->n_words = (vocabulary->n_tokens + 31) / 32;
    c->compiled = compiled;
    compiled->n_users++;
    c->automaton = automaton_create(&compiled->grammar, vocabulary->longest);
    enum status status = STATUS_OK;
    if (c->automaton == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a schema");
    else if ((c->state = automaton_start(c->automaton)) == AUTOMATON_DEAD ||
             automaton_limited(c->automaton))
        status =
            error_set(error, STATUS_INVALID, "the schema has too many alternatives in one place");
    if (status != STATUS_OK) {
        c->compiled->n_users--; /* the caller's to end */
        c->compiled = NULL;
        constraint_destroy(c);
        return status;
    }
    *constraint = c;
    return STATUS_OK;
}

enum status constraint_create(struct constraint **constraint, const json_t *schema,
                              const struct vocabulary *vocabulary, struct error *error)
{
    struct compiled *compiled = calloc(1, sizeof(*compiled));
    if (compiled == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a schema");
    grammar_open(&compiled->grammar);
    enum status status = schema_compile(&compiled->grammar, schema, error);
    if (status == STATUS_OK)
        status = begin(constraint, compiled, vocabulary, error);
    if (status != STATUS_OK) {
        grammar_close(&compiled->grammar);
        free(compiled);
    }
    return status;
}

enum status constraint_again(struct constraint **constraint, const struct constraint *first,
                             struct error *error)
{
    return begin(constraint, first->compiled, first->vocabulary, error);
}

void constraint_destroy(struct constraint *c)
{
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < N_KEPT; i++)
        free(c->kept[i].bits);
    automaton_destroy(c->automaton);
    if (c->compiled != NULL && --c->compiled->n_users == 0) {
        grammar_close(&c->compiled->grammar);
        free(c->compiled);
    }
    free(c);
}

uint32_t constraint_shortest(const struct constraint *c)
{
    return automaton_distance(c->automaton, c->state) + 1;
}

static void set_bit(uint32_t *bits, int32_t id)
{
    bits[id / 32] |= 1u << (id % 32);
}

static bool gives_up(const struct constraint *c)
{
    return automaton_work(c->automaton) > c->most_work;
}

/* All tokens from `state` whose end is at most `most` bytes away; returns the farthest. */
static uint32_t walk(struct constraint *c, uint32_t state, uint32_t most, uint32_t *bits)
{
    const struct vocabulary *v = c->vocabulary;
    uint32_t path[VOCABULARY_TOKEN_BYTES + 1], farthest = 0;
    memset(bits, 0, c->n_words * sizeof(*bits));
    path[0] = state;
    for (uint32_t i = 0; i < v->n_nodes && !gives_up(c);) {
        const struct vocabulary_node *node = &v->nodes[i];
        const uint32_t next = automaton_next(c->automaton, path[node->depth - 1], node->byte);
        if (next == AUTOMATON_DEAD) {
            i = node->end;
            continue;
        }
        path[node->depth] = next;
        i++;
        if (node->token == TOKENIZER_NONE)
            continue;
        const uint32_t distance = automaton_distance(c->automaton, next);
        if (distance > most)
            continue;
        farthest = distance > farthest ? distance : farthest;
        for (int32_t id = node->token; id != TOKENIZER_NONE; id = v->same[id])
            set_bit(bits, id);
    }
    return farthest;
}

/* The kept mask of a state, made if there is none; NULL: no memory. */
static const struct kept *mask_of(struct constraint *c, uint32_t state)
{
    const uint64_t generation = automaton_generation(c->automaton);
    struct kept *oldest = &c->kept[0];
    for (uint32_t i = 0; i < N_KEPT; i++) {
        struct kept *k = &c->kept[i];
        if (k->state == state && k->generation == generation && k->used > 0) {
            k->used = ++c->n_masks;
            return k;
        }
        oldest = k->used < oldest->used ? k : oldest;
    }
    if (oldest->bits == NULL && (oldest->bits = malloc(c->n_words * sizeof(*oldest->bits))) == NULL)
        return NULL;
    const uint32_t before = automaton_distance(c->automaton, state);
    const uint32_t farthest = walk(c, state, GRAMMAR_NEVER - 1, oldest->bits);
    oldest->state = state;
    oldest->generation = generation;
    oldest->used = automaton_limited(c->automaton) || gives_up(c) ? 0 : ++c->n_masks;
    oldest->farthest = farthest + 1 > before ? farthest + 1 - before : 0;
    return oldest;
}

bool constraint_mask(struct constraint *c, uint32_t n_left, uint32_t *bits)
{
    struct automaton *m = c->automaton;
    c->most_work = automaton_work(m) + MAX_WORK;
    c->state = automaton_tidy(m, c->state);
    const uint32_t distance = automaton_distance(m, c->state);
    /* After this token and the last one, which ends; but the shortest way is always open. */
    uint32_t most = n_left > 2 ? n_left - 2 : 0;
    if (automaton_depth(m, c->state) > MAX_DEPTH || most + 1 < distance)
        most = distance > 0 ? distance - 1 : 0;
    const struct kept *kept = mask_of(c, automaton_near(m, c->state));
    if (n_left <= 1 && automaton_accepts(m, c->state))
        memset(bits, 0, c->n_words * sizeof(*bits)); /* only the end fits */
    else if (kept != NULL && (uint64_t)distance + kept->farthest <= (uint64_t)most + 1)
        memcpy(bits, kept->bits, c->n_words * sizeof(*bits));
    else
        walk(c, c->state, most, bits);
    if (gives_up(c))
        return false;
    if (!automaton_accepts(m, c->state))
        return true;
    for (uint32_t id = 0; id < c->vocabulary->n_tokens; id++)
        if (tokenizer_is_end_of_generation(c->vocabulary->tokenizer, (int32_t)id))
            set_bit(bits, (int32_t)id);
    return true;
}

bool constraint_accept(struct constraint *c, int32_t token)
{
    const struct tokenizer *tokenizer = c->vocabulary->tokenizer;
    if (tokenizer_is_end_of_generation(tokenizer, token))
        return automaton_accepts(c->automaton, c->state);
    if (!vocabulary_has(c->vocabulary, token))
        return false;
    const struct model_string bytes = tokenizer_token_bytes(tokenizer, token);
    uint32_t state = c->state;
    for (size_t i = 0; i < bytes.n_bytes && state != AUTOMATON_DEAD; i++)
        state = automaton_next(c->automaton, state, (uint8_t)bytes.data[i]);
    if (state == AUTOMATON_DEAD || bytes.n_bytes == 0)
        return false;
    c->state = state;
    return true;
}

bool constraint_is_complete(const struct constraint *c)
{
    return c->vocabulary->ends ? automaton_is_final(c->automaton, c->state)
                               : automaton_accepts(c->automaton, c->state);
}

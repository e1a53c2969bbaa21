/* test_kv_holder_model.c - 10,000 random operations on a KV holder and on a plain model of it: the
 * same answers, the same tokens, the same pages in use after each of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/attention/kv_holder_tokens.h"
#include "tests/kernels/attention/reference.h"

enum { MODEL_PAGES = 24, MODEL_SEQUENCES = 6, MODEL_TOTAL = 260, MAX_PHYSICAL = 200000 };

struct model_sequence {
    bool open;
    uint32_t incarnation, shared_pages, n_promised, marks[N_PLANES];
    bool owned[MODEL_PAGES];
    uint32_t physical[N_PLANES][MODEL_PAGES]; /* 0: none */
    uint32_t seed[N_PLANES][MODEL_PAGES * PAGE_TOKENS];
};

struct model {
    struct model_sequence sequences[MODEL_SEQUENCES];
    uint32_t n_users[MAX_PHYSICAL], n_physical, n_taken, n_promised, n_shared;
};

static uint32_t model_next(const struct model_sequence *s, uint32_t token)
{
    for (; token < MODEL_PAGES * PAGE_TOKENS; token = (token / PAGE_TOKENS + 1) * PAGE_TOKENS)
        if (s->owned[token / PAGE_TOKENS])
            return token;
    return UINT32_MAX;
}

static void model_close(struct model *m, struct model_sequence *s)
{
    for (int plane = 0; plane < N_PLANES; plane++)
        for (int page = 0; page < MODEL_PAGES; page++)
            if (s->physical[plane][page] != 0 && --m->n_users[s->physical[plane][page]] == 0)
                m->n_taken--;
    m->n_promised -= s->n_promised;
    const uint32_t incarnation = s->incarnation;
    memset(s, 0, sizeof(*s));
    s->incarnation = incarnation;
}

static void model_trim(struct model *m, struct model_sequence *s, uint32_t n_pages)
{
    bool some = false;
    for (uint32_t page = 0; page < n_pages; page++)
        some = some || s->owned[page];
    if (!some) {
        model_close(m, s);
        return;
    }
    for (int plane = 0; plane < N_PLANES; plane++) {
        for (uint32_t page = n_pages; page < MODEL_PAGES; page++) {
            uint32_t *physical = &s->physical[plane][page];
            if (*physical != 0) {
                m->n_taken -= --m->n_users[*physical] == 0;
            } else if (s->owned[page] && page >= s->shared_pages) {
                s->n_promised--;
                m->n_promised--;
            }
            *physical = 0;
        }
        if (s->marks[plane] > n_pages * PAGE_TOKENS)
            s->marks[plane] = n_pages * PAGE_TOKENS;
    }
    for (uint32_t page = n_pages; page < MODEL_PAGES; page++)
        s->owned[page] = false;
}

/* Reserves in both; fresh: as a new incarnation. */
static enum status reserve_both(struct model *m, struct kv_holder *holder, uint64_t id, bool fresh,
                                const struct span *spans, size_t n_spans, uint32_t shared)
{
    struct model_sequence *s = &m->sequences[id];
    const uint32_t incarnation = s->incarnation + fresh;
    if (fresh && s->open)
        model_close(m, s);

    enum status expected = STATUS_OK;
    uint32_t n_new = 0, mark = 0;
    const uint32_t shared_pages = fresh ? shared / PAGE_TOKENS : s->shared_pages;
    for (int plane = 0; plane < N_PLANES; plane++)
        mark = s->marks[plane] > mark ? s->marks[plane] : mark;
    for (size_t i = 0; i < n_spans; i++)
        for (uint32_t page = spans[i].begin / PAGE_TOKENS; page < spans[i].end / PAGE_TOKENS;
             page++)
            if (!s->owned[page]) {
                n_new += page >= shared_pages;
                if (page * PAGE_TOKENS < mark)
                    expected = STATUS_INVALID;
            }
    if (expected == STATUS_OK && n_new * N_PLANES > MODEL_TOTAL - m->n_taken - m->n_promised)
        expected = STATUS_EXHAUSTED;
    assert_int_equal(kv_holder_reserve(holder, id, incarnation, spans, n_spans, shared, NULL),
                     expected);
    s->incarnation = incarnation;
    if (expected != STATUS_OK)
        return expected;
    s->open = true;
    s->shared_pages = shared_pages;
    s->n_promised += n_new * N_PLANES;
    m->n_promised += n_new * N_PLANES;
    for (size_t i = 0; i < n_spans; i++)
        for (uint32_t page = spans[i].begin / PAGE_TOKENS; page < spans[i].end / PAGE_TOKENS;
             page++)
            s->owned[page] = true;
    return STATUS_OK;
}

static void random_reserve(struct model *m, struct kv_holder *holder, uint64_t *random)
{
    const uint64_t id = random_below(random, MODEL_SEQUENCES);
    struct span spans[4];
    size_t n_spans = 0;
    for (uint32_t page = random_below(random, 6); page < MODEL_PAGES && n_spans < 3;) {
        const uint32_t end = page + 1 + random_below(random, 6);
        spans[n_spans++] = (struct span){page * PAGE_TOKENS,
                                         (end < MODEL_PAGES ? end : MODEL_PAGES) * PAGE_TOKENS};
        page = end + random_below(random, 6);
    }
    const uint32_t shared = random_below(random, 4) ? 0 : random_below(random, 10) * PAGE_TOKENS;
    reserve_both(m, holder, id, !m->sequences[id].open || random_below(random, 10) == 0, spans,
                 n_spans, shared);
}

static void fork_both(struct model *m, struct kv_holder *holder, uint64_t from, uint64_t to,
                      uint32_t layer, uint32_t n_pages)
{
    struct model_sequence *parent = &m->sequences[from], *child = &m->sequences[to];
    const uint32_t n_tokens = n_pages * PAGE_TOKENS;

    enum status expected = child->open ? STATUS_OK : STATUS_NOT_FOUND;
    bool again = true;
    for (uint32_t i = layer * N_HEADS; i < (layer + 1) * N_HEADS; i++)
        again = again && child->marks[i] >= n_tokens;
    if (expected == STATUS_OK && !again && !parent->open)
        expected = STATUS_NOT_FOUND;
    for (uint32_t i = layer * N_HEADS; i < (layer + 1) * N_HEADS && expected == STATUS_OK && !again;
         i++) {
        if (child->marks[i] >= n_tokens)
            continue;
        if (model_next(parent, parent->marks[i]) < n_tokens ||
            model_next(child, 0) < child->marks[i])
            expected = STATUS_INVALID;
        for (uint32_t page = 0; page < n_pages; page++)
            if (child->owned[page] && !parent->owned[page])
                expected = STATUS_INVALID;
    }
    assert_int_equal(kv_holder_fork(holder, from, parent->incarnation, to, child->incarnation,
                                    n_tokens, LAYER + layer, HEAD, N_HEADS, NULL),
                     expected);
    for (uint32_t i = layer * N_HEADS; i < (layer + 1) * N_HEADS && expected == STATUS_OK && !again;
         i++) {
        if (child->marks[i] >= n_tokens)
            continue;
        for (uint32_t page = 0; page < n_pages; page++)
            if (child->owned[page]) {
                child->physical[i][page] = parent->physical[i][page];
                m->n_users[child->physical[i][page]]++;
                m->n_shared++;
                memcpy(&child->seed[i][page * PAGE_TOKENS], &parent->seed[i][page * PAGE_TOKENS],
                       PAGE_TOKENS * sizeof(uint32_t));
                if (page >= child->shared_pages) {
                    child->n_promised--;
                    m->n_promised--;
                }
            }
        child->marks[i] = n_tokens;
    }
}

static void random_fork(struct model *m, struct kv_holder *holder, uint64_t *random)
{
    const uint64_t from = random_below(random, MODEL_SEQUENCES);
    const uint64_t to = random_below(random, MODEL_SEQUENCES);
    fork_both(m, holder, from, to, random_below(random, N_LAYERS), random_below(random, 12));
}

/* Opens a child with the parent's spans, made for all whole pages that the parent has. */
static void reserve_child(struct model *m, struct kv_holder *holder, uint64_t *random)
{
    const uint64_t from = random_below(random, MODEL_SEQUENCES);
    const uint64_t to = (from + 1 + random_below(random, MODEL_SEQUENCES - 1)) % MODEL_SEQUENCES;
    const struct model_sequence *parent = &m->sequences[from];
    struct span spans[MODEL_PAGES];
    size_t n_spans = 0;
    uint32_t shared = MODEL_PAGES * PAGE_TOKENS;
    for (uint32_t page = 0; page < MODEL_PAGES; page++)
        if (parent->owned[page])
            spans[n_spans++] = (struct span){page * PAGE_TOKENS, (page + 1) * PAGE_TOKENS};
    for (int plane = 0; plane < N_PLANES; plane++)
        shared = parent->marks[plane] < shared ? parent->marks[plane] : shared;
    shared = shared / PAGE_TOKENS * PAGE_TOKENS;
    if (!parent->open || shared == 0 ||
        reserve_both(m, holder, to, true, spans, n_spans, shared) != STATUS_OK)
        return;
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        fork_both(m, holder, from, to, layer, shared / PAGE_TOKENS);
}

static void random_append(struct model *m, struct kv_holder *holder, uint64_t *random,
                          uint32_t seed)
{
    const uint64_t id = random_below(random, MODEL_SEQUENCES);
    struct model_sequence *s = &m->sequences[id];
    const bool all = random_below(random, 2);
    const uint32_t layer = random_below(random, N_LAYERS),
                   head = all ? 0 : random_below(random, N_HEADS);
    const uint32_t n_heads = all ? N_HEADS : 1 + random_below(random, N_HEADS - head);
    const uint32_t plane = layer * N_HEADS + head;
    uint32_t first = s->marks[plane], n_tokens = random_below(random, 500);
    if (random_below(random, 3) == 0) { /* a repetition, or a gap */
        first += random_below(random, 200);
        first = first > 150 ? first - 150 : 0;
    }
    if (first + n_tokens > MODEL_PAGES * PAGE_TOKENS)
        return;

    enum status expected = s->open ? STATUS_OK : STATUS_NOT_FOUND;
    for (uint32_t i = plane; i < plane + n_heads && expected == STATUS_OK; i++) {
        const uint32_t missing = model_next(s, s->marks[i]);
        if (missing < first ||
            (missing < first + n_tokens && missing / PAGE_TOKENS < s->shared_pages))
            expected = STATUS_PROTOCOL;
    }
    assert_int_equal(append(holder, id, s->incarnation, LAYER + layer, HEAD + head, n_heads, first,
                            n_tokens, seed),
                     expected);
    for (uint32_t i = plane; i < plane + n_heads && expected == STATUS_OK; i++) {
        for (uint32_t t = first; t < first + n_tokens; t++) {
            const uint32_t page = t / PAGE_TOKENS;
            if (t < s->marks[i] || !s->owned[page])
                continue;
            s->seed[i][t] = seed;
            if (s->physical[i][page] == 0) {
                s->physical[i][page] = ++m->n_physical;
                assert_true(m->n_physical < MAX_PHYSICAL);
                m->n_users[m->n_physical] = 1;
                m->n_taken++;
                m->n_promised--;
                s->n_promised--;
            }
        }
        if (first + n_tokens > s->marks[i])
            s->marks[i] = first + n_tokens;
    }
}

static void random_query(const struct model *m, const struct kv_holder *holder, uint64_t *random)
{
    const uint64_t id = random_below(random, MODEL_SEQUENCES);
    const struct model_sequence *s = &m->sequences[id];
    const uint32_t plane = random_below(random, N_PLANES);
    const uint32_t begin = random_below(random, MODEL_PAGES * PAGE_TILES - 1);
    const struct tile_range range = {begin, begin + 1 + random_below(random, 5)};
    struct tile_source source = {0};
    enum status expected = s->open ? STATUS_OK : STATUS_NOT_FOUND;
    for (uint32_t tile = range.begin; tile < range.end && expected == STATUS_OK; tile++)
        if (tile >= MODEL_PAGES * PAGE_TILES || !s->owned[tile / PAGE_TILES] ||
            s->marks[plane] < (tile + 1) * TILE_TOKENS)
            expected = STATUS_PROTOCOL;
    assert_int_equal(kv_holder_source(holder, id, s->incarnation, LAYER + plane / N_HEADS,
                                      HEAD + plane % N_HEADS, &range, 1, 0, &source, NULL),
                     expected);
    for (uint32_t token = range.begin * TILE_TOKENS;
         token < range.end * TILE_TOKENS && expected == STATUS_OK; token += 13)
        check_token(&source, plane, token, s->seed[plane][token]);
}

static void test_random_operations_agree_with_a_model(void **state)
{
    (void)state;
    struct kv_holder *holder = holder_of(MODEL_TOTAL);
    struct model *m = calloc(1, sizeof(*m));
    uint64_t random = 20;
    for (uint32_t i = 0; i < 10000; i++) {
        const uint32_t kind = random_below(&random, 100);
        if (kind < 5)
            random_reserve(m, holder, &random);
        else if (kind < 55)
            random_append(m, holder, &random, i);
        else if (kind < 65)
            random_fork(m, holder, &random);
        else if (kind < 70)
            reserve_child(m, holder, &random);
        else if (kind < 98)
            random_query(m, holder, &random);
        else {
            struct model_sequence *s = &m->sequences[random_below(&random, MODEL_SEQUENCES)];
            const uint32_t n_pages = s->open ? random_below(&random, MODEL_PAGES + 2) : 0;
            if (random_below(&random, 3) == 0) {
                kv_holder_close(holder, (uint64_t)(s - m->sequences), s->incarnation);
                model_close(m, s);
            } else { /* an incarnation that was, or will be: nothing happens */
                kv_holder_trim(holder, (uint64_t)(s - m->sequences), s->incarnation - 1, 512);
                kv_holder_trim(holder, (uint64_t)(s - m->sequences), s->incarnation,
                               n_pages * PAGE_TOKENS);
                model_trim(m, s, n_pages < MODEL_PAGES ? n_pages : MODEL_PAGES);
            }
        }
        const struct kv_holder_usage usage = kv_holder_usage(holder);
        assert_int_equal(usage.pages_taken, m->n_taken);
        assert_int_equal(usage.pages_reserved, m->n_taken + m->n_promised);
    }
    for (uint64_t id = 0; id < MODEL_SEQUENCES; id++)
        kv_holder_close(holder, id, m->sequences[id].incarnation);
    assert_int_equal(kv_holder_usage(holder).pages_reserved, 0);
    assert_int_equal(kv_holder_usage(holder).sequences, 0);
    assert_true(m->n_physical > 500 && m->n_shared > 500); /* the test did something */
    free(m);
    kv_holder_destroy(holder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

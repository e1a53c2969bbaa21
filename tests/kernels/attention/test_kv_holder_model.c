/* test_kv_holder_model.c - 10,000 random operations on a KV holder, whose last layer has a window,
 * and on a plain model of it: the same answers, the same tokens, the same pages in use after each
 * of them. */
#include "kernels/attention/kv_window.h"
#include "tests/cmocka.h"
#include "tests/kernels/attention/kv_holder_tokens.h"
#include "tests/kernels/attention/reference.h"

enum {
    MODEL_PAGES = 24,
    MODEL_SEQUENCES = 6,
    MODEL_TOTAL = 260,
    MAX_PHYSICAL = 200000,
    WINDOW = 300
};

struct model_sequence {
    bool open;
    uint32_t incarnation, shared_pages, n_promised, marks[N_PLANES];
    uint32_t firsts[N_PLANES]; /* released below */
    bool owned[MODEL_PAGES];
    uint32_t physical[N_PLANES][MODEL_PAGES]; /* 0: none */
    uint32_t seed[N_PLANES][MODEL_PAGES * PAGE_TOKENS];
};

struct model {
    struct model_sequence sequences[MODEL_SEQUENCES];
    uint32_t n_users[MAX_PHYSICAL], n_physical, n_taken, n_promised, n_shared, n_copied, n_released;
};

static uint32_t window_of(uint32_t plane)
{
    return plane / N_HEADS == N_LAYERS - 1 ? WINDOW : 0;
}

/* Taken and promised, of all planes: what is owned, or the most of it in consecutive pages. */
static uint32_t model_own(const struct model_sequence *s)
{
    uint32_t sum = 0;
    for (uint32_t plane = 0; plane < N_PLANES; plane++) {
        const uint32_t window = window_of(plane), pages = kv_window_pages(window, CHUNK);
        const uint32_t from =
            window == 0 ? s->shared_pages
                        : kv_window_first(window, s->shared_pages * PAGE_TOKENS) / PAGE_TOKENS;
        uint32_t most = 0;
        for (uint32_t begin = 0; begin < MODEL_PAGES; begin++) {
            uint32_t n = 0;
            for (uint32_t page = begin; page < MODEL_PAGES && page - begin < pages; page++)
                n += s->owned[page] && page >= from;
            most = n > most ? n : most;
        }
        sum += most;
    }
    return sum;
}

static void model_promise(struct model *m, struct model_sequence *s, int n)
{
    m->n_promised += (uint32_t)n;
    s->n_promised += (uint32_t)n;
}

/* Pages of a plane with a window go back to the promise. */
static void model_give_back(struct model *m, struct model_sequence *s, uint32_t plane,
                            uint32_t begin, uint32_t end)
{
    for (uint32_t page = begin; page < end && page < MODEL_PAGES; page++) {
        if (s->physical[plane][page] == 0)
            continue;
        assert_int_equal(--m->n_users[s->physical[plane][page]], 0);
        s->physical[plane][page] = 0;
        m->n_taken--;
        m->n_released++;
        model_promise(m, s, 1);
    }
}

static void model_release(struct model *m, struct model_sequence *s, uint32_t plane,
                          uint32_t position)
{
    const uint32_t first = kv_window_first(window_of(plane), position);
    model_give_back(m, s, plane, 0, first / PAGE_TOKENS);
    s->firsts[plane] = first > s->firsts[plane] ? first : s->firsts[plane];
}

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
    for (uint32_t page = 0; page < n_pages && page < MODEL_PAGES; page++)
        some = some || s->owned[page];
    if (!some) {
        model_close(m, s);
        return;
    }
    const uint32_t own = model_own(s);
    uint32_t n_taken = 0;
    for (uint32_t plane = 0; plane < N_PLANES; plane++) {
        if (window_of(plane) > 0) {
            model_release(m, s, plane,
                          s->marks[plane] < n_pages * PAGE_TOKENS ? s->marks[plane]
                                                                  : n_pages * PAGE_TOKENS);
            model_give_back(m, s, plane, n_pages, MODEL_PAGES);
        }
        for (uint32_t page = n_pages; page < MODEL_PAGES; page++) {
            uint32_t *physical = &s->physical[plane][page];
            if (*physical != 0)
                m->n_taken -= --m->n_users[*physical] == 0;
            n_taken += *physical != 0 && page >= s->shared_pages;
            *physical = 0;
        }
        const uint32_t mark =
            s->firsts[plane] > n_pages * PAGE_TOKENS ? s->firsts[plane] : n_pages * PAGE_TOKENS;
        s->marks[plane] = s->marks[plane] < mark ? s->marks[plane] : mark;
    }
    for (uint32_t page = n_pages; page < MODEL_PAGES; page++)
        s->owned[page] = false;
    model_promise(m, s, (int)n_taken - (int)(own - model_own(s)));
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
    uint32_t mark = 0;
    struct model_sequence after = *s;
    const uint32_t shared_pages = fresh ? shared / PAGE_TOKENS : s->shared_pages;
    for (int plane = 0; plane < N_PLANES; plane++)
        mark = s->marks[plane] > mark ? s->marks[plane] : mark;
    for (size_t i = 0; i < n_spans; i++)
        for (uint32_t page = spans[i].begin / PAGE_TOKENS; page < spans[i].end / PAGE_TOKENS;
             page++)
            if (!s->owned[page]) {
                after.owned[page] = true;
                if (page * PAGE_TOKENS < mark)
                    expected = STATUS_INVALID;
            }
    after.shared_pages = shared_pages;
    const uint32_t n_new = model_own(&after) - (fresh ? 0 : model_own(s));
    if (expected == STATUS_OK && n_new > MODEL_TOTAL - m->n_taken - m->n_promised)
        expected = STATUS_EXHAUSTED;
    assert_int_equal(kv_holder_reserve(holder, id, incarnation, spans, n_spans, shared, NULL),
                     expected);
    s->incarnation = incarnation;
    if (expected != STATUS_OK)
        return expected;
    s->open = true;
    s->shared_pages = shared_pages;
    memcpy(s->owned, after.owned, sizeof(s->owned));
    model_promise(m, s, (int)n_new);
    for (uint32_t plane = 0; plane < N_PLANES && fresh; plane++)
        s->firsts[plane] = kv_window_first(window_of(plane), shared_pages * PAGE_TOKENS);
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

static uint32_t fork_first(const struct model_sequence *child, uint32_t plane, uint32_t n_tokens)
{
    const uint32_t first = kv_window_first(window_of(plane), n_tokens);
    return first > child->firsts[plane] ? first : child->firsts[plane];
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
            model_next(child, 0) < child->marks[i] ||
            parent->firsts[i] > fork_first(child, i, n_tokens))
            expected = STATUS_INVALID;
        for (uint32_t page = 0; page < n_pages; page++)
            if (child->owned[page] && !parent->owned[page])
                expected = STATUS_INVALID;
    }
    assert_int_equal(kv_holder_fork(holder,
                                    &(struct kv_fork){.parent = from,
                                                      .parent_incarnation = parent->incarnation,
                                                      .child = to,
                                                      .child_incarnation = child->incarnation,
                                                      .n_tokens = n_tokens},
                                    (struct kv_heads){LAYER + layer, HEAD, N_HEADS}, NULL),
                     expected);
    for (uint32_t i = layer * N_HEADS; i < (layer + 1) * N_HEADS && expected == STATUS_OK && !again;
         i++) {
        if (child->marks[i] >= n_tokens)
            continue;
        const bool copies = window_of(i) > 0;
        child->firsts[i] = fork_first(child, i, n_tokens);
        for (uint32_t page = child->firsts[i] / PAGE_TOKENS; page < n_pages; page++)
            if (child->owned[page]) {
                child->physical[i][page] = copies ? ++m->n_physical : parent->physical[i][page];
                m->n_users[child->physical[i][page]]++;
                m->n_taken += copies;
                m->n_copied += copies;
                m->n_shared += !copies;
                memcpy(&child->seed[i][page * PAGE_TOKENS], &parent->seed[i][page * PAGE_TOKENS],
                       PAGE_TOKENS * sizeof(uint32_t));
                if (copies || page >= child->shared_pages)
                    model_promise(m, child, -1);
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
    uint32_t position = first; /* of the step; some of its tokens may have been another holder's */
    if (random_below(random, 3) == 0)
        position -= random_below(random, first < 40 ? first + 1 : 40);

    enum status expected = s->open ? STATUS_OK : STATUS_NOT_FOUND;
    for (uint32_t i = plane; i < plane + n_heads && expected == STATUS_OK; i++) {
        const uint32_t missing = model_next(s, s->marks[i]);
        if (missing < first ||
            (missing < first + n_tokens && missing / PAGE_TOKENS < s->shared_pages) ||
            (window_of(i) > 0 && first + n_tokens - position > CHUNK))
            expected = STATUS_PROTOCOL;
    }
    assert_int_equal(append_at(holder, id, s->incarnation, LAYER + layer, HEAD + head, n_heads,
                               position, first, n_tokens, seed),
                     expected);
    for (uint32_t i = plane; i < plane + n_heads && expected == STATUS_OK; i++) {
        if (window_of(i) > 0)
            model_release(m, s, i, position);
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
                model_promise(m, s, -1);
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
    const uint32_t sees =
        random_below(random, 2) ? 0 : begin * TILE_TOKENS + random_below(random, 700);
    struct tile_source source = {0};
    enum status expected = s->open ? STATUS_OK : STATUS_NOT_FOUND;
    const uint32_t first = sees / TILE_TOKENS > begin ? sees / TILE_TOKENS : begin;
    if (expected == STATUS_OK && first < range.end && first * TILE_TOKENS < s->firsts[plane])
        expected = STATUS_NOT_FOUND;
    for (uint32_t tile = first; tile < range.end && expected == STATUS_OK; tile++)
        if (tile >= MODEL_PAGES * PAGE_TILES || !s->owned[tile / PAGE_TILES] ||
            s->marks[plane] < (tile + 1) * TILE_TOKENS)
            expected = STATUS_PROTOCOL;
    assert_int_equal(kv_holder_source(holder, id, s->incarnation, LAYER + plane / N_HEADS,
                                      HEAD + plane % N_HEADS, &(struct kv_view){&range, 1, sees},
                                      &source, NULL),
                     expected);
    for (uint32_t token = first * TILE_TOKENS;
         token < range.end * TILE_TOKENS && expected == STATUS_OK; token += 13)
        check_token(&source, plane, token, s->seed[plane][token]);
}

static void test_random_operations_agree_with_a_model(void **state)
{
    struct kv_holder *holder = holder_with_window(MODEL_TOTAL, WINDOW);
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
                model_trim(m, s, n_pages);
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
    /* the test did something */
    assert_true(m->n_physical > 500 && m->n_shared > 200 && m->n_copied > 100);
    assert_true(m->n_released > 100);
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

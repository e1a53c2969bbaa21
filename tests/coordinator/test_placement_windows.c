/* test_placement_windows.c - of models with sliding windows the coordinator counts, page for page,
 * what real holders reserve; and what it gives, they always have. */
#include "coordinator/placement.h"

#include "kernels/attention/kv_holder.h"
#include "kernels/attention/kv_window.h"
#include "kernels/kernels.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum {
    N_HOLDERS = 3,
    N_LAYERS = 4,
    CHUNK = 512,
    MOST_OPEN = 8,
    MOST_PAGES = 60,
    HEAD_DIM = 8,
    MOST_SPANS = 256
};

struct sequence {
    bool open, kept;
    uint64_t name;
    uint32_t place, n_computed, last; /* last: where its last step began */
};

struct world {
    struct page_cost cost;
    struct placement *placement;
    struct kv_holder *holders[N_HOLDERS];
    struct sequence sequences[MOST_OPEN];
    uint32_t windows[N_LAYERS], n_refused, n_forked, n_grown;
    uint64_t next_name;
    struct random_state random;
};

static void open_world(struct world *w, const uint32_t *windows, uint64_t units)
{
    struct placement_holder holders[N_HOLDERS];
    const struct kv_holder_shape shape = {.type = KV_F32,
                                          .head_dim = HEAD_DIM,
                                          .n_layers = N_LAYERS,
                                          .n_kv_heads = 1,
                                          .windows = windows,
                                          .chunk = CHUNK};
    const uint64_t page_bytes = 2 * PAGE_TOKENS * HEAD_DIM * sizeof(float);
    memset(w, 0, sizeof(*w));
    memcpy(w->windows, windows, sizeof(w->windows));
    random_seed(&w->random, 77);
    assert_int_equal(page_cost_create(&w->cost, windows, N_LAYERS, CHUNK, NULL), STATUS_OK);
    for (uint32_t i = 0; i < N_HOLDERS; i++) {
        holders[i] = (struct placement_holder){.weight = 1.0 + i, .capacity = units + 5 * i};
        assert_int_equal(kv_holder_create(&w->holders[i], kernels_all[0], NULL, &shape,
                                          holders[i].capacity * page_bytes, NULL),
                         STATUS_OK);
    }
    assert_int_equal(placement_create(&w->placement, holders, N_HOLDERS, 512, &w->cost, NULL),
                     STATUS_OK);
}

static void close_world(struct world *w)
{
    for (uint32_t i = 0; i < N_HOLDERS; i++)
        kv_holder_destroy(w->holders[i]);
    placement_destroy(w->placement);
    page_cost_clear(&w->cost);
}

static size_t spans_of(const struct world *w, const struct sequence *s, uint32_t begin,
                       uint32_t holder, struct span *spans)
{
    struct placement_span all[MOST_SPANS];
    const size_t n = placement_spans(w->placement, s->place, begin,
                                     placement_tokens(w->placement, s->place), all, MOST_SPANS);
    size_t n_spans = 0;
    for (size_t i = 0; i < n; i++)
        if (all[i].holder == holder)
            spans[n_spans++] = (struct span){all[i].begin, all[i].end};
    return n_spans;
}

/* At every holder concerned: it always has the memory. */
static void reserve(struct world *w, const struct sequence *s, uint32_t begin, uint32_t shared)
{
    struct span spans[MOST_SPANS];
    for (uint32_t i = 0; i < N_HOLDERS; i++) {
        const size_t n = spans_of(w, s, begin, i, spans);
        if (n > 0)
            assert_int_equal(kv_holder_reserve(w->holders[i], s->name, 1, spans, n, shared, NULL),
                             STATUS_OK);
    }
}

static void fork_pages(struct world *w, const struct sequence *parent, const struct sequence *child,
                       uint32_t shared)
{
    struct span spans[MOST_SPANS];
    for (uint32_t i = 0; i < N_HOLDERS; i++)
        for (uint32_t layer = 0; layer < N_LAYERS; layer++)
            if (spans_of(w, child, 0, i, spans) > 0 && spans[0].begin < shared)
                assert_int_equal(kv_holder_fork(w->holders[i],
                                                &(struct kv_fork){.parent = parent->name,
                                                                  .parent_incarnation = 1,
                                                                  .child = child->name,
                                                                  .child_incarnation = 1,
                                                                  .n_tokens = shared},
                                                (struct kv_heads){layer, 0, 1}, NULL),
                                 STATUS_OK);
}

/* A new sequence, perhaps a fork. */
static void come(struct world *w, struct sequence *s)
{
    const struct sequence *parent = &w->sequences[random_below(&w->random, MOST_OPEN)];
    const uint32_t from = parent->kept ? parent->n_computed : parent->last;
    uint32_t shared = parent->open ? from / PAGE_TOKENS * PAGE_TOKENS : 0;
    if (random_below(&w->random, 3) == 0)
        shared = 0;
    const uint32_t n_tokens = shared + 1 + (uint32_t)random_below(&w->random, 20 * PAGE_TOKENS);
    *s = (struct sequence){.name = ++w->next_name, .n_computed = shared, .last = shared};
    if (n_tokens > MOST_PAGES * PAGE_TOKENS)
        return;
    const uint64_t free_before = placement_free(w->placement);
    if (placement_open(w->placement, n_tokens, MOST_PAGES * PAGE_TOKENS,
                       shared > 0 ? parent->place : PLACEMENT_NO_PARENT, shared, &s->place,
                       NULL) != STATUS_OK) {
        w->n_refused++;
        assert_int_equal(placement_free(w->placement), free_before);
        return;
    }
    s->open = true;
    reserve(w, s, 0, shared);
    if (shared > 0)
        fork_pages(w, parent, s, shared);
    w->n_forked += shared > 0;
}

/* Rows of a step, as many as are covered. */
static void compute(struct world *w, struct sequence *s)
{
    static const float zeros[CHUNK * HEAD_DIM];
    struct span spans[MOST_SPANS];
    const uint32_t covered = placement_tokens(w->placement, s->place);
    uint32_t n = 1 + (uint32_t)random_below(&w->random, CHUNK);
    n = n < covered - s->n_computed ? n : covered - s->n_computed;
    if (n == 0)
        return;
    const uint32_t position = s->n_computed, end = position + n;
    for (uint32_t i = 0; i < N_HOLDERS; i++) {
        const size_t n_spans = spans_of(w, s, 0, i, spans);
        for (size_t j = 0; j < n_spans; j++) {
            const uint32_t first = spans[j].begin > position ? spans[j].begin : position;
            const uint32_t last = spans[j].end < end ? spans[j].end : end;
            for (uint32_t layer = 0; layer < N_LAYERS && first < last; layer++)
                assert_int_equal(kv_holder_append(w->holders[i], s->name, 1,
                                                  (struct kv_heads){layer, 0, 1},
                                                  &(struct kv_append){.position = position,
                                                                      .first = first,
                                                                      .n_tokens = last - first,
                                                                      .k = zeros,
                                                                      .v = zeros},
                                                  NULL),
                                 STATUS_OK);
        }
    }
    s->last = position;
    s->n_computed = end;
}

static void grow(struct world *w, struct sequence *s)
{
    const uint32_t covered = placement_tokens(w->placement, s->place);
    if (covered >= MOST_PAGES * PAGE_TOKENS)
        return;
    const bool can = placement_can_grow(w->placement, s->place);
    const enum status status = placement_grow(w->placement, s->place, covered + PAGE_TOKENS, NULL);
    assert_int_equal(status, can ? STATUS_OK : STATUS_EXHAUSTED);
    if (status != STATUS_OK)
        return;
    w->n_grown++;
    reserve(w, s, covered, 0);
}

static void trim_holders(struct world *w, const struct sequence *s, uint32_t n_tokens)
{
    for (uint32_t i = 0; i < N_HOLDERS; i++)
        kv_holder_trim(w->holders[i], s->name, 1, n_tokens);
}

static void end(struct world *w, struct sequence *s)
{
    const uint32_t whole = s->n_computed / PAGE_TOKENS * PAGE_TOKENS;
    if (!s->kept && whole > 0 && random_below(&w->random, 2) == 0) {
        placement_trim(w->placement, s->place, whole);
        placement_keep(w->placement, s->place);
        trim_holders(w, s, whole);
        s->kept = true;
        s->n_computed = whole;
        return;
    }
    trim_holders(w, s, 0);
    placement_close(w->placement, s->place);
    *s = (struct sequence){0};
}

static void check(const struct world *w)
{
    for (uint32_t i = 0; i < N_HOLDERS; i++) {
        assert_int_equal(placement_used(w->placement, i),
                         kv_holder_usage(w->holders[i]).pages_reserved);
        assert_true(placement_kept(w->placement, i) <= placement_used(w->placement, i));
    }
}

static void agree(const uint32_t *windows, uint64_t units)
{
    struct world w;
    open_world(&w, windows, units);
    for (int round = 0; round < 6000; round++) {
        struct sequence *s = &w.sequences[random_below(&w.random, MOST_OPEN)];
        const uint64_t what = random_below(&w.random, 20);
        if (!s->open)
            come(&w, s);
        else if (what == 0)
            end(&w, s);
        else if (what < 5 && !s->kept)
            grow(&w, s);
        else if (!s->kept)
            compute(&w, s);
        check(&w);
    }
    for (uint32_t i = 0; i < MOST_OPEN; i++)
        while (w.sequences[i].open)
            end(&w, &w.sequences[i]);
    for (uint32_t i = 0; i < N_HOLDERS; i++) {
        assert_int_equal(placement_used(w.placement, i), 0);
        assert_int_equal(placement_kept(w.placement, i), 0);
    }
    check(&w);
    assert_true(w.n_refused > 20 && w.n_forked > 50 && w.n_grown > 200); /* it did something */
    close_world(&w);
}

static void test_holders_reserve_what_is_counted(void **state)
{
    agree((const uint32_t[N_LAYERS]){0, 300, 1000, 300}, 120);
    agree((const uint32_t[N_LAYERS]){700, 700, 700, 700}, 60);
    agree((const uint32_t[N_LAYERS]){0, 0, 0, 256}, 150);
}

/* 32,768 tokens with a window of 4,096, and of 1,024 in five of six layers, at one holder and at
 * eight. */
static void test_what_long_sequences_cost(void **state)
{
    enum { N_TOKENS = 32768, PAGES = N_TOKENS / PAGE_TOKENS };
    uint32_t mistral[32], gemma[48];
    for (uint32_t i = 0; i < 32; i++)
        mistral[i] = 4096;
    for (uint32_t i = 0; i < 48; i++)
        gemma[i] = i % 6 == 5 ? 0 : 1024;
    const struct {
        const uint32_t *windows;
        uint32_t n_layers, n_holders;
        double most; /* of what it would cost without windows */
    } cases[] = {
        {mistral, 32, 1, 0.15}, {mistral, 32, 8, 0.19}, {gemma, 48, 1, 0.22}, {gemma, 48, 8, 0.54}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct placement_holder holders[8];
        struct placement *p;
        struct page_cost cost;
        uint32_t sequence;
        for (uint32_t h = 0; h < 8; h++)
            holders[h] = (struct placement_holder){.weight = 1.0, .capacity = 1 << 20};
        assert_int_equal(page_cost_create(&cost, cases[i].windows, cases[i].n_layers, CHUNK, NULL),
                         STATUS_OK);
        assert_int_equal(placement_create(&p, holders, cases[i].n_holders, 4096, &cost, NULL),
                         STATUS_OK);
        assert_int_equal(
            placement_open(p, N_TOKENS, N_TOKENS, PLACEMENT_NO_PARENT, 0, &sequence, NULL),
            STATUS_OK);
        const uint64_t before = placement_free(p);
        placement_close(p, sequence);
        const double share =
            (double)(placement_free(p) - before) / ((double)PAGES * (double)cases[i].n_layers);
        print_message("%u holders, %u layers: %.3f\n", cases[i].n_holders, cases[i].n_layers,
                      share);
        assert_true(share <= cases[i].most);
        placement_destroy(p);
        page_cost_clear(&cost);
    }
}

/* Where all layers have a window every holder has a part of each window. */
static void test_windows_are_spread_over_the_holders(void **state)
{
    enum { N_TOKENS = 32768, WINDOW_PAGES = 16 };
    const uint32_t windows[1] = {4096};
    struct placement_holder holders[4];
    struct placement_span spans[MOST_SPANS];
    struct placement *p;
    struct page_cost cost;
    uint32_t sequence, holder_of[N_TOKENS / PAGE_TOKENS];
    for (uint32_t h = 0; h < 4; h++)
        holders[h] = (struct placement_holder){.weight = 1.0, .capacity = 1 << 20};
    assert_int_equal(page_cost_create(&cost, windows, 1, CHUNK, NULL), STATUS_OK);
    assert_int_equal(placement_create(&p, holders, 4, 4096, &cost, NULL), STATUS_OK);
    assert_int_equal(placement_open(p, N_TOKENS, N_TOKENS, PLACEMENT_NO_PARENT, 0, &sequence, NULL),
                     STATUS_OK);
    const size_t n = placement_spans(p, sequence, 0, N_TOKENS, spans, MOST_SPANS);
    for (size_t i = 0; i < n; i++)
        for (uint32_t page = spans[i].begin / PAGE_TOKENS; page < spans[i].end / PAGE_TOKENS;
             page++)
            holder_of[page] = spans[i].holder;
    for (uint32_t end = WINDOW_PAGES; end <= N_TOKENS / PAGE_TOKENS; end++) {
        uint32_t pages[4] = {0};
        for (uint32_t page = end - WINDOW_PAGES; page < end; page++)
            pages[holder_of[page]]++;
        for (uint32_t h = 0; h < 4; h++)
            assert_in_range(pages[h], 2, 6);
    }
    placement_destroy(p);
    page_cost_clear(&cost);
}

/* What fits is never more, and nearly never less, than what a holder has room for. */
static void test_room_is_what_a_sequence_costs(void **state)
{
    const uint32_t windows[3] = {0, 512, 0}, all[2] = {512, 512};
    struct page_cost cost;
    assert_int_equal(page_cost_create(&cost, windows, 3, CHUNK, NULL), STATUS_OK);
    assert_int_equal(page_cost_page(&cost), 3);
    assert_int_equal(page_cost_smallest_window(&cost), 512);
    for (uint64_t units = 0; units < 300; units++) {
        const uint64_t n = page_cost_room(&cost, units, 1000);
        assert_true(page_cost_sequence(&cost, n) <= units);
        assert_true(page_cost_sequence(&cost, n + 1) > units);
    }
    page_cost_clear(&cost);
    assert_int_equal(page_cost_create(&cost, all, 2, CHUNK, NULL), STATUS_OK);
    const uint64_t enough = 2 * (uint64_t)kv_window_pages(512, CHUNK);
    assert_int_equal(page_cost_room(&cost, enough, 1000), 1000);
    assert_int_equal(page_cost_room(&cost, enough - 1, 1000), enough / 2 - 1);
    page_cost_clear(&cost);
    assert_int_equal(page_cost_create(&cost, NULL, 32, CHUNK, NULL), STATUS_OK);
    assert_int_equal(page_cost_page(&cost), 1);
    assert_int_equal(page_cost_sequence(&cost, 77), 77);
    assert_int_equal(page_cost_smallest_window(&cost), 0);
    page_cost_clear(&cost);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holders_reserve_what_is_counted),
        cmocka_unit_test(test_what_long_sequences_cost),
        cmocka_unit_test(test_windows_are_spread_over_the_holders),
        cmocka_unit_test(test_room_is_what_a_sequence_costs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

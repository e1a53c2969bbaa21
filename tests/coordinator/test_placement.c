/* test_placement.c - every token has exactly one holder, holders get their shares, pages come back.
 */
#include "coordinator/placement.h"

#include "kernels/attention/kv_holder.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SPANS = 4096, MAX_OPEN = 12 };

static struct placement *make(const struct placement_holder *holders, uint32_t n, uint32_t stripe)
{
    struct placement *p = NULL;
    struct error error;
    if (placement_create(&p, holders, n, stripe, NULL, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return p;
}

static uint32_t covered(uint32_t n_tokens)
{
    return (n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS * PAGE_TOKENS;
}

/* Spans of the whole sequence: ascending, whole pages, without gap or overlap, neighbours joined.
 */
static size_t check_spans(const struct placement *p, uint32_t sequence, uint32_t n_holders,
                          struct placement_span *spans, uint64_t *pages)
{
    const uint32_t end = placement_tokens(p, sequence);
    const size_t n = placement_spans(p, sequence, 0, end, spans, MAX_SPANS);
    assert_true(n >= 1 && n <= MAX_SPANS);
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(spans[i].begin, at);
        assert_true(spans[i].end > at && spans[i].end % PAGE_TOKENS == 0);
        assert_true(spans[i].holder < n_holders);
        assert_true(i == 0 || spans[i].holder != spans[i - 1].holder);
        pages[spans[i].holder] += (spans[i].end - spans[i].begin) / PAGE_TOKENS;
        at = spans[i].end;
    }
    assert_int_equal(at, end);
    return n;
}

static void test_ten_thousand_random_cases(void **state)
{
    struct random_state random;
    random_seed(&random, 7);
    static struct placement_span spans[MAX_SPANS];
    for (int round = 0; round < 10000; round++) {
        struct placement_holder holders[6];
        const uint32_t n = 1 + (uint32_t)random_below(&random, 6);
        const uint32_t stripe_pages = 1u << random_below(&random, 5);
        uint64_t total = 0;
        for (uint32_t i = 0; i < n; i++) {
            holders[i].weight = 0.1 + random_f64(&random) * 4.0;
            holders[i].capacity = random_below(&random, 400);
            total += holders[i].capacity;
        }
        if (total == 0)
            continue;
        struct placement *p = make(holders, n, stripe_pages * PAGE_TOKENS);
        struct {
            uint32_t sequence, most;
        } open[MAX_OPEN];
        uint32_t n_open = 0;
        for (int action = 0; action < 20; action++) {
            const uint64_t kind = random_below(&random, 4);
            if (kind == 0 && n_open > 0) {
                const uint32_t i = (uint32_t)random_below(&random, n_open);
                placement_close(p, open[i].sequence);
                open[i] = open[--n_open];
            } else if (kind == 1 && n_open > 0) {
                const uint32_t i = (uint32_t)random_below(&random, n_open);
                const uint32_t now = placement_tokens(p, open[i].sequence);
                if (now < open[i].most) {
                    const uint32_t to =
                        now + 1 + (uint32_t)random_below(&random, open[i].most - now);
                    const bool fits = (covered(to) - now) / PAGE_TOKENS <= placement_free(p);
                    assert_int_equal(placement_grow(p, open[i].sequence, to, NULL),
                                     fits ? STATUS_OK : STATUS_EXHAUSTED);
                    assert_int_equal(placement_tokens(p, open[i].sequence),
                                     fits ? covered(to) : now);
                }
            } else if (kind == 2 && n_open > 0 && random_below(&random, 8) == 0) {
                const uint32_t i = (uint32_t)random_below(&random, n_open);
                const uint32_t pages = placement_tokens(p, open[i].sequence) / PAGE_TOKENS;
                const uint64_t free_pages = placement_free(p);
                const uint32_t own = placement_own(p, open[i].sequence);
                open[i].most = PAGE_TOKENS * (1 + (uint32_t)random_below(&random, pages));
                placement_trim(p, open[i].sequence, open[i].most);
                assert_int_equal(placement_tokens(p, open[i].sequence), open[i].most);
                assert_int_equal(placement_free(p) - free_pages,
                                 own - placement_own(p, open[i].sequence));
            } else if (n_open < MAX_OPEN) {
                uint32_t most = 1 + (uint32_t)random_below(&random, 150 * PAGE_TOKENS);
                uint32_t parent = PLACEMENT_NO_PARENT, shared = 0;
                if (kind == 2 && n_open > 0) {
                    parent = open[random_below(&random, n_open)].sequence;
                    shared = PAGE_TOKENS *
                             (uint32_t)random_below(&random,
                                                    placement_tokens(p, parent) / PAGE_TOKENS + 1);
                    most += shared;
                }
                const uint32_t tokens = shared + 1 + (uint32_t)random_below(&random, most - shared);
                const uint64_t free_pages = placement_free(p);
                const uint32_t need = covered(tokens) / PAGE_TOKENS - shared / PAGE_TOKENS;
                uint32_t sequence = 0;
                const enum status status =
                    placement_open(p, tokens, most, parent, shared, &sequence, NULL);
                assert_int_equal(status, need <= free_pages ? STATUS_OK : STATUS_EXHAUSTED);
                if (status == STATUS_OK) {
                    assert_int_equal(placement_free(p), free_pages - need);
                    open[n_open].sequence = sequence;
                    open[n_open++].most = most;
                }
            }
            for (uint32_t i = 0; i < n; i++)
                assert_true(placement_used(p, i) <= holders[i].capacity);
        }
        for (uint32_t i = 0; i < n_open; i++) {
            uint64_t pages[6] = {0};
            check_spans(p, open[i].sequence, n, spans, pages);
            for (uint32_t j = 0; j < n; j++)
                assert_int_equal(placement_holds(p, open[i].sequence, j), pages[j] > 0);
        }
        for (uint32_t i = 0; i < n_open; i++)
            placement_keep(p, open[i].sequence);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(placement_kept(p, i), placement_used(p, i));
        while (n_open > 0)
            placement_close(p, open[--n_open].sequence);
        assert_int_equal(placement_free(p), total);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(placement_used(p, i) + placement_kept(p, i), 0);
        placement_destroy(p);
    }
}

/* With room enough, each holder has its share of a prompt within one run, and so of every prefix.
 */
static void test_shares_follow_weights_within_one_run(void **state)
{
    struct random_state random;
    random_seed(&random, 11);
    static struct placement_span spans[MAX_SPANS];
    for (int round = 0; round < 2000; round++) {
        struct placement_holder holders[6];
        const uint32_t n = 2 + (uint32_t)random_below(&random, 5);
        const uint32_t stripe_pages = 1u << random_below(&random, 5);
        double sum = 0.0, least = 1e9;
        for (uint32_t i = 0; i < n; i++) {
            holders[i] = (struct placement_holder){.weight = 0.2 + random_f64(&random) * 3.0,
                                                   .capacity = 1u << 20};
            sum += holders[i].weight;
            least = fmin(least, holders[i].weight);
        }
        struct placement *p = make(holders, n, stripe_pages * PAGE_TOKENS);
        const uint32_t stripes = n + 1 + (uint32_t)random_below(&random, 600);
        const uint32_t tokens = stripes * stripe_pages * PAGE_TOKENS;
        uint32_t sequence = 0;
        assert_int_equal(placement_open(p, tokens, tokens, PLACEMENT_NO_PARENT, 0, &sequence, NULL),
                         STATUS_OK);
        uint64_t pages[6] = {0};
        const size_t n_spans = check_spans(p, sequence, n, spans, pages);
        /* a run: an eighth of the smallest share, or a 128th of the prompt, in stripes */
        const double run =
            stripe_pages * fmax(1.0, fmax(stripes * least / sum / 8.0, stripes / 128.0));
        uint64_t dealt[6] = {0}, prefix = 0;
        for (size_t i = 0; i < n_spans; i++) {
            dealt[spans[i].holder] += (spans[i].end - spans[i].begin) / PAGE_TOKENS;
            prefix = spans[i].end / PAGE_TOKENS;
            for (uint32_t j = 0; j < n; j++)
                assert_true(fabs((double)dealt[j] - (double)prefix * holders[j].weight / sum) <=
                            run + 1e-6);
        }
        /* few partials: not many more spans than runs */
        assert_true(n_spans <= stripes * stripe_pages / (run / 2.0) + 1);
        placement_destroy(p);
    }
}

static void test_runs_are_aligned(void **state)
{
    const struct placement_holder holders[2] = {{1.0, 1 << 20}, {1.0, 1 << 20}};
    struct placement *p = make(holders, 2, 4096);
    uint32_t sequence = 0;
    const uint32_t tokens = 1 << 20; /* 256 stripes, runs of 16 */
    static struct placement_span spans[MAX_SPANS];
    assert_int_equal(placement_open(p, tokens, tokens, PLACEMENT_NO_PARENT, 0, &sequence, NULL),
                     STATUS_OK);
    const size_t n = placement_spans(p, sequence, 0, tokens, spans, MAX_SPANS);
    assert_true(n >= 8 && n <= 16);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(spans[i].begin % (16 * 4096), 0);
    placement_destroy(p);
}

static void test_a_short_sequence_stays_on_the_least_loaded_holder(void **state)
{
    const struct placement_holder holders[3] = {{1.0, 1000}, {2.0, 1000}, {1.0, 1000}};
    struct placement *p = make(holders, 3, 4096);
    struct placement_span spans[8];
    uint32_t used[3] = {0}, sequence = 0;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(placement_open(p, 4096, 4096, PLACEMENT_NO_PARENT, 0, &sequence, NULL),
                         STATUS_OK);
        assert_int_equal(placement_spans(p, sequence, 0, 4096, spans, 8), 1);
        used[spans[0].holder]++;
    }
    assert_int_equal(used[0], 2);
    assert_int_equal(used[1], 4);
    assert_int_equal(used[2], 2);
    placement_destroy(p);
}

static void test_a_sequence_grows_by_stripes_in_proportion(void **state)
{
    const struct placement_holder holders[2] = {{3.0, 1 << 16}, {1.0, 1 << 16}};
    struct placement *p = make(holders, 2, 1024);
    static struct placement_span spans[MAX_SPANS];
    const uint32_t tokens = 64 * 1024;
    uint32_t sequence = 0;
    assert_int_equal(placement_open(p, 100, tokens, PLACEMENT_NO_PARENT, 0, &sequence, NULL),
                     STATUS_OK);
    for (uint32_t t = 101; t <= tokens; t += 200)
        assert_int_equal(placement_grow(p, sequence, t, NULL), STATUS_OK);
    assert_int_equal(placement_grow(p, sequence, tokens, NULL), STATUS_OK);
    uint64_t pages[2] = {0};
    const size_t n = check_spans(p, sequence, 2, spans, pages);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(spans[i].begin % 1024, 0); /* a stripe is not cut */
    assert_in_range(pages[1], 64 - 4, 64 + 4);
    placement_destroy(p);
}

static void test_a_fork_lies_where_its_parent_lies(void **state)
{
    const struct placement_holder holders[2] = {{1.0, 100}, {1.0, 100}};
    struct placement *p = make(holders, 2, 512);
    uint32_t parent = 0, child = 0;
    struct placement_span a[64], b[64];
    assert_int_equal(placement_open(p, 6000, 6000, PLACEMENT_NO_PARENT, 0, &parent, NULL),
                     STATUS_OK);
    const uint64_t used = placement_used(p, 0) + placement_used(p, 1);
    assert_int_equal(placement_open(p, 4000, 5000, parent, 3840, &child, NULL), STATUS_OK);
    const size_t n = placement_spans(p, parent, 0, 3840, a, 64);
    assert_int_equal(placement_spans(p, child, 0, 3840, b, 64), n);
    assert_memory_equal(a, b, n * sizeof(*a));
    assert_int_equal(placement_used(p, 0) + placement_used(p, 1), used + 1);
    placement_close(p, parent); /* the shared pages live on */
    assert_int_equal(placement_used(p, 0) + placement_used(p, 1), 16);
    assert_int_equal(placement_free(p), 200 - 16);
    placement_close(p, child);
    assert_int_equal(placement_free(p), 200);
    placement_destroy(p);
}

static void test_pages_are_kept_as_long_as_nobody_computes_with_them(void **state)
{
    const struct placement_holder holder = {1.0, 100};
    struct placement *p = make(&holder, 1, 512);
    const uint32_t alone = PLACEMENT_NO_PARENT;
    uint32_t parent = 0, child = 0;
    assert_int_equal(placement_open(p, 10 * PAGE_TOKENS, 10 * PAGE_TOKENS, alone, 0, &parent, NULL),
                     STATUS_OK);
    assert_int_equal(placement_kept(p, 0), 0);
    placement_keep(p, parent);
    assert_int_equal(placement_kept(p, 0), 10);
    assert_int_equal(
        placement_open(p, 8 * PAGE_TOKENS, 8 * PAGE_TOKENS, parent, 6 * PAGE_TOKENS, &child, NULL),
        STATUS_OK);
    assert_int_equal(placement_kept(p, 0), 4); /* six of them are read again */
    assert_int_equal(placement_used(p, 0), 12);
    placement_trim(p, child, 7 * PAGE_TOKENS);
    placement_keep(p, child);
    assert_int_equal(placement_kept(p, 0), 11);
    placement_close(p, parent);
    assert_int_equal(placement_kept(p, 0), 7);
    placement_close(p, child);
    assert_int_equal(placement_kept(p, 0) + placement_used(p, 0), 0);
    placement_destroy(p);
}

static void test_bad_shapes_are_refused(void **state)
{
    struct placement *p = NULL;
    struct placement_holder holder = {1.0, 10};
    static const uint32_t stripes[] = {0, 1, 255, 300, 768, 4097};
    for (size_t i = 0; i < sizeof(stripes) / sizeof(stripes[0]); i++)
        assert_int_equal(placement_create(&p, &holder, 1, stripes[i], NULL, NULL), STATUS_INVALID);
    static const double weights[] = {0.0, -1.0, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < sizeof(weights) / sizeof(weights[0]); i++) {
        holder.weight = weights[i];
        assert_int_equal(placement_create(&p, &holder, 1, 4096, NULL, NULL), STATUS_INVALID);
    }
    assert_int_equal(placement_create(&p, &holder, 0, 4096, NULL, NULL), STATUS_INVALID);
    assert_null(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_thousand_random_cases),
        cmocka_unit_test(test_shares_follow_weights_within_one_run),
        cmocka_unit_test(test_runs_are_aligned),
        cmocka_unit_test(test_a_short_sequence_stays_on_the_least_loaded_holder),
        cmocka_unit_test(test_a_sequence_grows_by_stripes_in_proportion),
        cmocka_unit_test(test_a_fork_lies_where_its_parent_lies),
        cmocka_unit_test(test_pages_are_kept_as_long_as_nobody_computes_with_them),
        cmocka_unit_test(test_bad_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

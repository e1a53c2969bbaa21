/* test_kv_window.c - nothing that a row to come sees is released, and no more pages are kept at a
 * time than were counted. */
#include "kernels/attention/kv_window.h"

#include "kernels/attention/kv_holder.h"
#include "sys/random.h"
#include "tests/cmocka.h"

static void test_rows_to_come_find_what_they_see(void **state)
{
    static const uint32_t windows[] = {0, 1, 2, 128, 255, 256, 257, 258, 512, 513, 1000, 4096};
    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        const uint32_t window = windows[i];
        for (uint32_t position = 0; position < 6000; position++) {
            const uint32_t first = kv_window_first(window, position);
            const uint32_t begin = kv_window_begin(window, position);
            assert_int_equal(begin,
                             window > 0 && position + 1 > window ? position + 1 - window : 0);
            assert_int_equal(first % PAGE_TOKENS, 0);
            assert_true(first <= begin);
            /* a fork at the page's edge sees no less, and not a page more */
            const uint32_t edge = position / PAGE_TOKENS * PAGE_TOKENS;
            assert_int_equal(kv_window_first(window, edge), first);
            assert_true(kv_window_begin(window, edge) < first + PAGE_TOKENS);
        }
    }
    assert_int_equal(kv_window_first(4096, UINT32_MAX),
                     (UINT32_MAX / PAGE_TOKENS - 16) * PAGE_TOKENS);
    assert_int_equal(kv_window_first(UINT32_MAX, UINT32_MAX), 0);
}

/* Steps of up to `chunk` rows from anywhere: pages between the first that is needed and the last
 * that is written, at most so many; and so many it can be. */
static void test_pages_at_a_time(void **state)
{
    static const uint32_t chunks[] = {1, 2, 3, 255, 256, 257, 512, 513, 2048};
    struct random_state random;
    random_seed(&random, 5);
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++)
        for (int round = 0; round < 40; round++) {
            const uint32_t window = 1 + (uint32_t)random_below(&random, round % 2 ? 700 : 5000);
            const uint32_t most = kv_window_pages(window, chunks[i]);
            uint32_t reached = 0;
            for (uint32_t position = 8192; position < 8192 + PAGE_TOKENS; position++) {
                const uint32_t end = (position + chunks[i] - 1) / PAGE_TOKENS + 1;
                const uint32_t n = end - kv_window_first(window, position) / PAGE_TOKENS;
                assert_true(n <= most);
                reached = n > reached ? n : reached;
            }
            assert_int_equal(reached, most);
        }
    assert_int_equal(kv_window_pages(0, 512), UINT32_MAX);
    assert_int_equal(kv_window_pages(4096, 512), 19);
    assert_int_equal(kv_window_pages(UINT32_MAX, UINT32_MAX), 2 * (1u << 24) + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_to_come_find_what_they_see),
        cmocka_unit_test(test_pages_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The heap gives what the definition gives: again and again the lowest pair, leftmost among equals.
 */
#include "model/tokenizer/pair_merge.h"
#include "tests/cmocka.h"

#include <string.h>

/* A made-up rule with many ties: short joins of letters have an order, some have none. */
static bool joins(uint32_t left_begin, uint32_t left_n, uint32_t right_n, const char *text,
                  uint32_t *order)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < left_n + right_n; i++)
        sum = sum * 31 + (uint8_t)text[left_begin + i];
    *order = sum % 5;
    return left_n + right_n <= 8 && sum % 3 != 0;
}

static bool rule(const void *rules, const char *text, const struct pair_merge_symbol *left,
                 const struct pair_merge_symbol *right, uint32_t *order, int32_t *id)
{
    *id = 0;
    return joins(left->begin, left->n_bytes, right->n_bytes, text, order);
}

/* The definition, quadratic: ends[k] is where symbol k ends. */
static size_t by_definition(const char *text, size_t n, uint32_t *ends)
{
    size_t count = n;
    for (size_t i = 0; i < n; i++)
        ends[i] = (uint32_t)i + 1;
    for (;;) {
        size_t best = SIZE_MAX;
        uint32_t best_order = UINT32_MAX, order;
        for (size_t i = 0; i + 1 < count; i++) {
            const uint32_t begin = i == 0 ? 0 : ends[i - 1];
            if (joins(begin, ends[i] - begin, ends[i + 1] - ends[i], text, &order) &&
                order < best_order) {
                best = i;
                best_order = order;
            }
        }
        if (best == SIZE_MAX)
            return count;
        memmove(ends + best, ends + best + 1, (count - best - 1) * sizeof(*ends));
        count--;
    }
}

static void test_same_as_the_definition(void **state)
{
    struct pair_merge merge = {0};
    uint32_t x = 7;
    for (size_t turn = 0; turn < 3000; turn++) {
        char text[40];
        uint32_t ends[40];
        const size_t n = turn % sizeof(text) + 1;
        for (size_t i = 0; i < n; i++) {
            x = x * 1664525 + 1013904223;
            text[i] = (char)('a' + (x >> 24) % (1 + turn % 4));
        }
        pair_merge_reset(&merge);
        for (size_t i = 0; i < n; i++)
            assert_true(pair_merge_append(&merge, 1, -1));
        assert_true(pair_merge_run(&merge, text, rule, NULL));
        const size_t count = by_definition(text, n, ends);
        size_t k = 0;
        for (uint32_t i = 0; i != PAIR_MERGE_NONE; i = merge.symbols[i].next, k++)
            assert_int_equal(merge.symbols[i].begin + merge.symbols[i].n_bytes, ends[k]);
        assert_int_equal(k, count);
    }
    pair_merge_free(&merge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_as_the_definition)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_tree.c - nodes cover their ranges exactly, are nodes of the one tree, and are few. */
#include "kernels/attention/tree.h"

#include "tests/cmocka.h"
#include "tests/kernels/numbers.h"

#include <string.h>

static uint64_t seed = 1;

/* By the definition: is [begin, end) a whole prefix D1..Di of n? */
static bool is_left_fold(uint32_t n, struct tile_range range)
{
    uint32_t end = 0;
    for (int bit = 31; bit >= 0; bit--)
        if (n >> bit & 1) {
            end += UINT32_C(1) << bit;
            if (range.begin == 0 && range.end == end)
                return true;
        }
    return false;
}

/* By the definition: is it an aligned interval inside one of D1..Dk? */
static bool is_aligned_inside(uint32_t n, struct tile_range range)
{
    const uint32_t size = range.end - range.begin;
    if ((size & (size - 1)) != 0 || range.begin % size != 0)
        return false;
    uint32_t begin = 0;
    for (int bit = 31; bit >= 0; bit--)
        if (n >> bit & 1) {
            const uint32_t end = begin + (UINT32_C(1) << bit);
            if (range.begin >= begin && range.end <= end)
                return true;
            begin = end;
        }
    return false;
}

static void check_nodes(uint32_t n, const struct tile_range *ranges, size_t n_ranges)
{
    struct tile_range nodes[64 * TREE_NODES_PER_RANGE];
    const size_t n_nodes = tree_nodes(n, ranges, n_ranges, nodes, 64 * TREE_NODES_PER_RANGE);
    assert_true(n_nodes <= n_ranges * TREE_NODES_PER_RANGE);
    assert_int_equal(tree_nodes(n, ranges, n_ranges, NULL, 0), n_nodes);

    size_t next = 0;
    for (size_t i = 0; i < n_ranges; i++)
        for (uint32_t at = ranges[i].begin; at < ranges[i].end; at = nodes[next++].end) {
            assert_true(next < n_nodes);
            assert_int_equal(nodes[next].begin, at);
            assert_true(nodes[next].end > at && nodes[next].end <= ranges[i].end);
            assert_true(is_left_fold(n, nodes[next]) || is_aligned_inside(n, nodes[next]));
            /* maximal: it would not join its left neighbour in the same range */
            if (at > ranges[i].begin)
                assert_false(tree_joins(n, nodes[next - 1], nodes[next]));
        }
    assert_int_equal(next, n_nodes);
}

static void test_nodes_cover_ranges_exactly(void **state)
{
    for (uint32_t n = 1; n <= 40; n++)
        for (uint32_t begin = 0; begin < n; begin++)
            for (uint32_t end = begin + 1; end <= n; end++)
                check_nodes(n, &(struct tile_range){begin, end}, 1);
    for (int round = 0; round < 20000; round++) {
        const uint32_t n = 1 + random_below(&seed, 1u << (1 + random_below(&seed, 24)));
        struct tile_range ranges[8];
        size_t n_ranges = 0;
        for (uint32_t at = random_below(&seed, 3) ? random_below(&seed, n) : 0;
             n_ranges < 8 && at < n;) {
            const uint32_t end = at + 1 + random_below(&seed, n - at);
            ranges[n_ranges++] = (struct tile_range){at, end};
            at = end + 1 + random_below(&seed, n);
        }
        check_nodes(n, ranges, n_ranges);
    }
}

static void test_one_holder_returns_one_node(void **state)
{
    for (uint32_t n = 1; n <= TREE_MAX_TILES; n = n * 3 + 1) {
        struct tile_range node;
        assert_int_equal(tree_nodes(n, &(struct tile_range){0, n}, 1, &node, 1), 1);
        assert_int_equal(node.begin, 0);
        assert_int_equal(node.end, n);
    }
}

static void test_nodes_of_the_example_in_the_header(void **state)
{
    struct tile_range nodes[8];
    const struct tile_range holder[] = {{0, 9}, {10, 11}};
    assert_int_equal(tree_nodes(11, holder, 2, nodes, 8), 3);
    assert_int_equal(nodes[0].end, 8);
    assert_int_equal(nodes[1].begin, 8);
    assert_int_equal(nodes[2].begin, 10);
    assert_int_equal(tree_nodes(11, &(struct tile_range){0, 10}, 1, nodes, 8), 1);
    assert_int_equal(nodes[0].end, 10);
}

/* Melting from left to right ends in one interval, from any cut into nodes, within the promised
 * depth, and a wrong neighbour never joins. */
static void test_left_to_right_melts_into_the_whole(void **state)
{
    for (int round = 0; round < 3000; round++) {
        const uint32_t n = 1 + random_below(&seed, round % 2 ? 5000 : 40);
        struct tile_range stack[TREE_MAX_DEPTH];
        uint32_t top = 0;
        for (uint32_t at = 0; at < n;) {
            const struct tile_range piece = {at, at + 1 + random_below(&seed, n - at)};
            struct tile_range nodes[TREE_NODES_PER_RANGE];
            const size_t n_nodes = tree_nodes(n, &piece, 1, nodes, TREE_NODES_PER_RANGE);
            for (size_t i = 0; i < n_nodes; i++) {
                assert_true(top < TREE_MAX_DEPTH);
                stack[top++] = nodes[i];
                while (top >= 2 && tree_joins(n, stack[top - 2], stack[top - 1])) {
                    stack[top - 2].end = stack[top - 1].end;
                    top--;
                    assert_true(is_left_fold(n, stack[top - 1]) ||
                                is_aligned_inside(n, stack[top - 1]));
                }
            }
            at = piece.end;
        }
        assert_int_equal(top, 1);
        assert_int_equal(stack[0].begin, 0);
        assert_int_equal(stack[0].end, n);
    }
    assert_false(tree_joins(12, (struct tile_range){0, 10}, (struct tile_range){10, 12}));
    assert_false(tree_joins(8, (struct tile_range){1, 2}, (struct tile_range){2, 3}));
    assert_false(tree_joins(8, (struct tile_range){0, 2}, (struct tile_range){4, 6}));
    assert_false(tree_joins(8, (struct tile_range){8, 9}, (struct tile_range){9, 10}));
}

static void test_deepest_tree_stays_within_the_depth(void **state)
{
    for (uint32_t n = TREE_MAX_TILES - 1; n <= TREE_MAX_TILES; n++) {
        struct tile_range stack[TREE_MAX_DEPTH];
        uint32_t top = 0;
        for (uint32_t at = 0; at < n; at++) {
            assert_true(top < TREE_MAX_DEPTH);
            stack[top++] = (struct tile_range){at, at + 1};
            for (; top >= 2 && tree_joins(n, stack[top - 2], stack[top - 1]); top--)
                stack[top - 2].end = stack[top - 1].end;
        }
        assert_int_equal(top, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_cover_ranges_exactly),
        cmocka_unit_test(test_one_holder_returns_one_node),
        cmocka_unit_test(test_nodes_of_the_example_in_the_header),
        cmocka_unit_test(test_left_to_right_melts_into_the_whole),
        cmocka_unit_test(test_deepest_tree_stays_within_the_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_schedule.c - the line is covered exactly once, in shares that are equal up to one unit
 * within a turn. */
#include "kernels/attention/schedule.h"

#include "tests/cmocka.h"
#include "tests/kernels/numbers.h"

#include <stdbool.h>
#include <string.h>

enum { MAX_OUTPUTS = 64, MAX_LANES = 96 };

static uint64_t seed = 7;

/* What a turn's shares are together, of `total`. */
static double turn_cost(uint64_t total, uint32_t turn, uint32_t n_turns)
{
    double left = (double)total, taken = 0;
    for (uint32_t i = 0; i <= turn; i++, left -= taken)
        taken = i + 1 == n_turns ? left : i == 0 ? 0.75 * left : 0.5 * left;
    return taken;
}

static void check_turns(const struct schedule_output *outputs, size_t n_outputs, uint32_t unit,
                        uint32_t n_lanes, uint32_t n_turns)
{
    struct schedule_point points[MAX_LANES * SCHEDULE_MOST_TURNS + 1];
    const uint32_t n_shares = n_lanes * n_turns;
    schedule_cut(outputs, n_outputs, unit, n_lanes, n_turns, points);

    uint64_t total = 0, largest_unit = 0;
    for (size_t i = 0; i < n_outputs; i++) {
        const uint64_t tiles = outputs[i].n_tiles < unit ? outputs[i].n_tiles : unit;
        total += (uint64_t)outputs[i].n_tiles * outputs[i].cost;
        if (tiles * outputs[i].cost > largest_unit)
            largest_unit = tiles * outputs[i].cost;
    }

    /* Walk the line: share i is everything between its two points. */
    size_t output = 0;
    uint32_t tile = 0;
    for (uint32_t i = 0; i < n_shares; i++) {
        const struct schedule_point from = points[i], to = points[i + 1];
        assert_true(from.output <= n_outputs && to.output <= n_outputs);
        while (output < n_outputs && output < from.output && tile == outputs[output].n_tiles) {
            output++;
            tile = 0;
        }
        /* outputs without tiles may be passed over */
        while (output < from.output && outputs[output].n_tiles == 0)
            output++;
        assert_int_equal(from.output, output);
        assert_int_equal(from.tile, tile);
        if (from.tile != 0)
            assert_int_equal(from.tile % unit, 0);

        uint64_t share = 0;
        for (; output < n_outputs && output <= to.output; output++) {
            const uint32_t end = output == to.output ? to.tile : outputs[output].n_tiles;
            assert_true(tile <= end);
            share += (uint64_t)(end - tile) * outputs[output].cost;
            tile = end;
            if (output == to.output)
                break;
            tile = 0;
        }
        /* equal to the others of its turn, up to one unit (and its cost rounded down to a whole) */
        const double equal = turn_cost(total, i / n_lanes, n_turns) / n_lanes;
        assert_true((double)share <= equal + (double)largest_unit + 1);
        assert_true((double)share + (double)largest_unit + 1 >= equal);
    }
    assert_int_equal(points[n_shares].output, n_outputs);
    assert_int_equal(points[n_shares].tile, 0);
    while (output < n_outputs && (tile == outputs[output].n_tiles)) {
        output++;
        tile = 0;
    }
    assert_int_equal(output, n_outputs); /* nothing is left over */
}

static void check_cut(const struct schedule_output *outputs, size_t n_outputs, uint32_t unit,
                      uint32_t n_lanes)
{
    for (uint32_t n_turns = 1; n_turns <= SCHEDULE_MOST_TURNS; n_turns++)
        check_turns(outputs, n_outputs, unit, n_lanes, n_turns);
}

static void test_ragged_batches_are_covered_in_equal_shares(void **state)
{
    for (int round = 0; round < 10000; round++) {
        struct schedule_output outputs[MAX_OUTPUTS];
        const size_t n_outputs = random_below(&seed, MAX_OUTPUTS + 1);
        for (size_t i = 0; i < n_outputs; i++) {
            outputs[i].n_tiles = random_below(&seed, 4) == 0
                                     ? random_below(&seed, 3)
                                     : random_below(&seed, 1u << (1 + random_below(&seed, 13)));
            outputs[i].cost = random_below(&seed, 2) ? 1 : 1 + random_below(&seed, 200);
        }
        check_cut(outputs, n_outputs, UINT32_C(1) << random_below(&seed, 5),
                  1 + random_below(&seed, MAX_LANES));
    }
}

static void test_large_lines_do_not_overflow(void **state)
{
    struct schedule_output outputs[MAX_OUTPUTS];
    for (size_t i = 0; i < MAX_OUTPUTS; i++)
        outputs[i] = (struct schedule_output){.n_tiles = 1 << 24, .cost = 1000};
    check_cut(outputs, MAX_OUTPUTS, 4, MAX_LANES);
}

/* LeanAttention's worked example: two outputs of five tiles on five lanes. */
static void test_worked_example_of_the_paper(void **state)
{
    const struct schedule_output outputs[] = {{5, 1}, {5, 1}};
    const struct schedule_point expected[] = {{0, 0}, {0, 2}, {0, 4}, {1, 1}, {1, 3}, {2, 0}};
    struct schedule_point points[6];
    schedule_cut(outputs, 2, 1, 5, 1, points);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(points[i].output, expected[i].output);
        assert_int_equal(points[i].tile, expected[i].tile);
    }
}

static void test_empty_line_gives_empty_shares(void **state)
{
    const struct schedule_output outputs[] = {{0, 1}, {0, 5}};
    check_cut(outputs, 2, 4, 3);
    check_cut(outputs, 0, 4, 3);
}

/* Every tile once, in order; as many parts as asked for, or as there are tiles. */
static void test_fixed_parts_are_equal(void **state)
{
    const struct schedule_output outputs[] = {{10, 1}, {0, 1}, {3, 7}, {1, 1}, {64, 2}};
    struct schedule_point points[5 * 8 + 1];
    for (uint32_t n_parts = 1; n_parts <= 8; n_parts++) {
        const size_t n = schedule_fixed(outputs, 5, n_parts, points);
        assert_int_equal(schedule_fixed(outputs, 5, n_parts, NULL), n);
        assert_int_equal(points[n].output, 5);
        size_t share = 0;
        for (uint32_t i = 0; i < 5; i++) {
            const uint32_t n_tiles = outputs[i].n_tiles;
            const uint32_t parts = n_parts < n_tiles ? n_parts : n_tiles;
            for (uint32_t part = 0; part < parts; part++, share++) {
                const bool last = part + 1 == parts;
                const uint32_t end = last ? n_tiles : points[share + 1].tile;
                assert_int_equal(points[share].output, i);
                assert_true(end - points[share].tile >= n_tiles / parts);
                assert_true(end - points[share].tile <= n_tiles / parts + 1);
                assert_true(part > 0 || points[share].tile == 0);
            }
        }
        assert_int_equal(share, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_parts_are_equal),
        cmocka_unit_test(test_ragged_batches_are_covered_in_equal_shares),
        cmocka_unit_test(test_large_lines_do_not_overflow),
        cmocka_unit_test(test_worked_example_of_the_paper),
        cmocka_unit_test(test_empty_line_gives_empty_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

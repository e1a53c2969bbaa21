/* test_micro_batches.c - even loads, few moves, nobody left out. */
#include "coordinator/micro_batches.h"

#include "sys/random.h"
#include "tests/cmocka.h"

enum { MOST = 40, MOST_BATCHES = 6 };

static uint32_t count(const struct micro_batches_member *members, uint32_t n, uint32_t batch)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++)
        found += members[i].batch == batch;
    return found;
}

static uint64_t cost(const struct micro_batches_member *member)
{
    return (uint64_t)member->n_tokens + MICRO_BATCHES_ROW_TOKENS;
}

static void test_one_stage_has_one_batch(void **state)
{
    struct micro_batches_member members[] = {{MICRO_BATCHES_NONE, 5}, {MICRO_BATCHES_NONE, 100000}};
    uint64_t load[1];
    micro_batches_deal(members, 2, load, 1);
    assert_true(members[0].batch == 0 && members[1].batch == 0);
    assert_true(load[0] == 100005 + 2 * (uint64_t)MICRO_BATCHES_ROW_TOKENS);
    micro_batches_deal(members, 0, load, 1);
    assert_true(load[0] == 0);
}

static void test_two_sequences_of_two_stages_part(void **state)
{
    struct micro_batches_member members[] = {{MICRO_BATCHES_NONE, 5}, {MICRO_BATCHES_NONE, 100000}};
    uint64_t load[2];
    micro_batches_deal(members, 2, load, 2);
    assert_int_not_equal(members[0].batch, members[1].batch);
    /* also when they were together, because a third one has ended */
    members[0].batch = members[1].batch = 1;
    micro_batches_deal(members, 2, load, 2);
    assert_int_not_equal(members[0].batch, members[1].batch);
}

static void test_long_contexts_count(void **state)
{
    struct micro_batches_member members[] = {{MICRO_BATCHES_NONE, 100000},
                                             {MICRO_BATCHES_NONE, 1000},
                                             {MICRO_BATCHES_NONE, 1000},
                                             {MICRO_BATCHES_NONE, 1000}};
    uint64_t load[2];
    micro_batches_deal(members, 4, load, 2);
    assert_int_equal(count(members, 4, members[0].batch), 1);
}

/* Sequences come, grow and go at random. */
static void test_loads_stay_even_with_few_moves(void **state)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct random_state random;
        struct micro_batches_member members[MOST];
        uint64_t load[MOST_BATCHES];
        uint32_t n = 0, n_moves = 0, n_comings = 0;
        const uint32_t n_batches = 1 + (uint32_t)(seed % MOST_BATCHES);
        random_seed(&random, seed);
        for (uint32_t turn = 0; turn < 500; turn++) {
            const uint32_t event = (uint32_t)random_below(&random, 20);
            if (event == 0 && n < MOST) {
                members[n++] = (struct micro_batches_member){
                    MICRO_BATCHES_NONE, 1 + (uint32_t)random_below(&random, 50000)};
                n_comings++;
            } else if (event == 1 && n > 0) {
                members[random_below(&random, n)] = members[n - 1];
                n--;
                n_comings++;
            }
            struct micro_batches_member before[MOST];
            for (uint32_t i = 0; i < n; i++) {
                members[i].n_tokens++;
                before[i] = members[i];
            }
            micro_batches_deal(members, n, load, n_batches);
            uint64_t largest = 0, smallest = UINT64_MAX, lightest_of_largest = UINT64_MAX;
            uint32_t fullest = 0, emptiest = MOST;
            for (uint32_t b = 0; b < n_batches; b++) {
                uint64_t sum = 0;
                for (uint32_t i = 0; i < n; i++)
                    sum += members[i].batch == b ? cost(&members[i]) : 0;
                assert_true(sum == load[b]);
                const uint32_t c = count(members, n, b);
                fullest = c > fullest ? c : fullest;
                emptiest = c < emptiest ? c : emptiest;
                smallest = sum < smallest ? sum : smallest;
                largest = sum > largest ? sum : largest;
            }
            assert_true(emptiest > 0 || fullest <= 1); /* no stage idles for want of a split */
            for (uint32_t i = 0; i < n; i++) {
                assert_true(members[i].batch < n_batches);
                n_moves +=
                    before[i].batch != MICRO_BATCHES_NONE && before[i].batch != members[i].batch;
                if (load[members[i].batch] == largest && cost(&members[i]) < lightest_of_largest)
                    lightest_of_largest = cost(&members[i]);
            }
            /* No move of one sequence would make the heaviest batch clearly lighter. */
            if (n > 0 && largest > smallest)
                assert_true(smallest + lightest_of_largest + MICRO_BATCHES_ROW_TOKENS / 2 >
                            largest);
        }
        assert_true(n_moves <= 3 * n_comings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_stage_has_one_batch),
        cmocka_unit_test(test_two_sequences_of_two_stages_part),
        cmocka_unit_test(test_long_contexts_count),
        cmocka_unit_test(test_loads_stay_even_with_few_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

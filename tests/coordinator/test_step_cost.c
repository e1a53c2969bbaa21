/* test_step_cost.c - prices are learnt, follow what changes, and are not led astray. */
#include "coordinator/step_cost.h"

#include "sys/random.h"
#include "tests/cmocka.h"

#include <math.h>

static const struct step_prices machine = {
    .per_step = 3000.0, .per_token = 40.0, .per_attended = 0.003};

static struct step_work decode_step(uint32_t n, uint32_t position)
{
    struct step_work work = {0};
    for (uint32_t i = 0; i < n; i++)
        step_work_add(&work, position + i, 1);
    return work;
}

static struct step_work prompt_step(uint32_t position, uint32_t n)
{
    struct step_work work = decode_step(1, 500);
    step_work_add(&work, position, n);
    work.prompts = true;
    return work;
}

static void near(double value, double expected, double part)
{
    if (fabs(value - expected) > part * expected)
        fail_msg("%g instead of %g", value, expected);
}

static void test_tokens_fit_the_time(void **state)
{
    for (uint32_t position = 0; position < 200000; position += 7777) {
        const uint32_t n = step_prices_tokens(&machine, position, 30000.0, 100000);
        struct step_work work = {0}, more = {0};
        step_work_add(&work, position, n);
        step_work_add(&more, position, n + 1);
        assert_true(step_prices_of(&machine, &work) - machine.per_step <= 30000.0);
        assert_true(step_prices_of(&machine, &more) - machine.per_step > 30000.0);
    }
    const struct step_prices by_token = {.per_token = 1.0}, nothing = {0};
    assert_int_equal(step_prices_tokens(&by_token, 5, 512.0, 1000), 512);
    assert_int_equal(step_prices_tokens(&by_token, 5, 512.0, 100), 100);
    assert_int_equal(step_prices_tokens(&by_token, 5, -1.0, 100), 0);
    assert_int_equal(step_prices_tokens(&nothing, 5, 1.0, 100), 100);
}

/* Steps as a scheduler makes them, with noise, and some that somebody else made slow. */
static void test_learns_from_noisy_steps(void **state)
{
    struct random_state random;
    struct step_cost cost = {0};
    random_seed(&random, 1);
    uint32_t position = 0;
    for (int i = 0; i < 400; i++) {
        const struct step_work work =
            i % 3 == 0 ? decode_step(4, 1000 + (uint32_t)i) : prompt_step(position, 16u << (i % 5));
        position += work.prompts ? 16u << (i % 5) : 0;
        double us = step_prices_of(&machine, &work) * (1.0 + 0.1 * (random_f64(&random) - 0.5));
        us *= i % 41 == 40 ? 5.0 : 1.0;
        step_cost_learn(&cost, &work, us);
    }
    const struct step_work later = prompt_step(position, 200);
    near(step_prices_of(&cost.prices, &later), step_prices_of(&machine, &later), 0.1);
    const struct step_work decode = decode_step(4, 1500);
    near(step_prices_of(&cost.prices, &decode), step_prices_of(&machine, &decode), 0.15);
}

/* A long prompt alone varies little; an hour of decoding not at all. No price is negative, and what
 * was learnt of prompts is still there. */
static void test_does_not_forget_what_does_not_vary(void **state)
{
    struct step_cost cost = {0};
    for (uint32_t i = 0; i < 200; i++) {
        const struct step_work work = prompt_step(512 * i, 512);
        step_cost_learn(&cost, &work, step_prices_of(&machine, &work));
    }
    for (uint32_t i = 0; i < 20000; i++) {
        const struct step_work work = decode_step(1, 1000 + i);
        step_cost_learn(&cost, &work, step_prices_of(&machine, &work));
    }
    assert_true(cost.prices.per_step >= 0.0 && cost.prices.per_token >= 0.0 &&
                cost.prices.per_attended >= 0.0);
    const struct step_work prompt = prompt_step(100000, 512), decode = decode_step(1, 21000);
    near(step_prices_of(&cost.prices, &prompt), step_prices_of(&machine, &prompt), 0.05);
    near(step_prices_of(&cost.prices, &decode), step_prices_of(&machine, &decode), 0.05);
    assert_int_equal(step_cost_most_tokens(&cost), 2 * 513);
}

static void test_follows_a_change(void **state)
{
    struct step_cost cost = {0};
    for (uint32_t i = 0; i < 300; i++) {
        const struct step_work work = prompt_step(100 * i, 16 + 16 * (i % 8));
        step_cost_learn(&cost, &work, step_prices_of(&machine, &work) * (i < 150 ? 1.0 : 3.0));
    }
    const struct step_work work = prompt_step(30000, 64);
    near(step_prices_of(&cost.prices, &work), 3.0 * step_prices_of(&machine, &work), 0.15);
}

static void test_begins_carefully(void **state)
{
    struct step_cost cost = {0};
    assert_int_equal(step_cost_most_tokens(&cost), 16);
    const struct step_work decode = decode_step(60, 100), prompt = prompt_step(0, 16);
    step_cost_learn(&cost, &decode, 1000.0);
    assert_int_equal(step_cost_most_tokens(&cost), 16); /* says nothing about prompts */
    step_cost_learn(&cost, &prompt, 1000.0);
    assert_int_equal(step_cost_most_tokens(&cost), 34);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_fit_the_time),
        cmocka_unit_test(test_learns_from_noisy_steps),
        cmocka_unit_test(test_does_not_forget_what_does_not_vary),
        cmocka_unit_test(test_follows_a_change),
        cmocka_unit_test(test_begins_carefully),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

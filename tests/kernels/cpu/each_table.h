/* tests/kernels/cpu/each_table.h - runs tests once per table of kernels_all, and lends them a
 * device.
 *
 * A test's state is its table; one that this machine cannot run is reported as skipped. */
#ifndef LONGSPAN_TESTS_KERNELS_CPU_EACH_TABLE_H
#define LONGSPAN_TESTS_KERNELS_CPU_EACH_TABLE_H

#include "kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct each_table_test {
    const char *name;
    CMUnitTestFunction function;
};

/* "avx2: products_are_accurate" for each table and test; the result is main's. */
static inline int each_table_run(const struct each_table_test *tests, size_t n)
{
    enum { MAX_TESTS = 64 };
    struct CMUnitTest units[MAX_TESTS];
    char names[MAX_TESTS][96];
    size_t n_units = 0;
    memset(units, 0, sizeof(units));
    for (size_t t = 0; kernels_all[t] != NULL; t++)
        for (size_t i = 0; i < n && n_units < MAX_TESTS; i++, n_units++) {
            snprintf(names[n_units], sizeof(names[0]), "%s: %s", kernels_all[t]->name,
                     tests[i].name);
            units[n_units].name = names[n_units];
            units[n_units].test_func = tests[i].function;
            units[n_units].initial_state = (void *)(uintptr_t)kernels_all[t];
        }
    return _cmocka_run_group_tests("kernels", units, n_units, NULL, NULL);
}

/* The test's table, or the test ends here as skipped. */
static inline const struct kernels *each_table_usable(void **state)
{
    const struct kernels *kernels = *state;
    if (!kernels->usable())
        skip();
    return kernels;
}

struct lent_device {
    const struct kernels *kernels;
    struct thread_pool *pool;
    struct device *device;
};

static inline struct lent_device device_lend(const struct kernels *kernels, uint32_t n_lanes,
                                             uint32_t max_rows, uint32_t max_columns)
{
    struct lent_device d = {.kernels = kernels};
    assert_int_equal(thread_pool_create(&d.pool, n_lanes, NULL), STATUS_OK);
    assert_int_equal(kernels->open(&d.device, d.pool, 0, NULL), STATUS_OK);
    assert_int_equal(kernels->workspace_reserve(d.device, max_rows, max_columns, NULL), STATUS_OK);
    return d;
}

static inline void device_return(struct lent_device *d)
{
    d->kernels->close(d->device);
    thread_pool_destroy(d->pool);
}

static inline uint32_t random_u32(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* Uniform in [-1, 1). */
static inline float random_float(uint64_t *state)
{
    return (float)(int32_t)random_u32(state) * 0x1p-31f;
}

#endif

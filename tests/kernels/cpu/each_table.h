/* tests/kernels/cpu/each_table.h - runs tests once per table of kernels_all and of GPUs, and lends
 * them a device.
 *
 * A test's state is its table; one that this machine cannot run is reported as skipped, and for a
 * GPU the reason is said. LONGSPAN_TEST_TABLE: the name of the only one that is wanted. Arguments
 * of a table's functions are device memory: device_floats and its siblings carry numbers there and
 * back, whatever the device. */
#ifndef LONGSPAN_TESTS_KERNELS_CPU_EACH_TABLE_H
#define LONGSPAN_TESTS_KERNELS_CPU_EACH_TABLE_H

#include "kernels/kernels.h"
#include "tests/cmocka.h"
#include "tests/kernels/numbers.h"
#include "tests/thread_sanitizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct each_table_test {
    const char *name;
    CMUnitTestFunction function;
    bool cpu_only; /* lanes, or memory that is the host's */
};

static const struct kernels *const gpu_tables[] = {&kernels_cuda, NULL};

/* "avx2: products_are_accurate" for each table and test; the result is main's. */
static inline int each_table_run(const struct each_table_test *tests, size_t n)
{
    enum { MAX_TESTS = 64 };
    static const struct kernels *const *const lists[] = {kernels_all, gpu_tables};
    struct CMUnitTest units[MAX_TESTS];
    char names[MAX_TESTS][96];
    size_t n_units = 0;
    const char *only = getenv("LONGSPAN_TEST_TABLE");
    memset(units, 0, sizeof(units));
    for (size_t list = 0; list < 2; list++)
        for (size_t t = 0; lists[list][t] != NULL; t++)
            for (size_t i = 0; i < n; i++) {
                if (n_units == MAX_TESTS || (tests[i].cpu_only && !lists[list][t]->host_memory) ||
                    (only != NULL && strcmp(only, lists[list][t]->name) != 0))
                    continue;
                snprintf(names[n_units], sizeof(names[0]), "%s: %s", lists[list][t]->name,
                         tests[i].name);
                units[n_units].name = names[n_units];
                units[n_units].test_func = tests[i].function;
                units[n_units].initial_state = (void *)(uintptr_t)lists[list][t];
                n_units++;
            }
    return _cmocka_run_group_tests("kernels", units, n_units, NULL, NULL);
}

/* The test's table, or the test ends here as skipped. */
static inline const struct kernels *each_table_usable(void **state)
{
    const struct kernels *kernels = *state;
    struct error why = {.status = STATUS_OK};
    if (!kernels->host_memory && kernels->count(&why) == 0)
        print_message("%s: skipped: %s\n", kernels->name, why.text);
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

/* ---- numbers there and back ---- */

static inline void device_finish(const struct lent_device *d)
{
    struct error error = {.status = STATUS_OK};
    if (d->kernels->finish(d->device, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

/* Bytes of the host in device memory, until device_give. */
static inline void *device_bytes(const struct lent_device *d, const void *host, size_t bytes)
{
    void *memory;
    assert_int_equal(d->kernels->memory_take(d->device, &memory, bytes, NULL), STATUS_OK);
    d->kernels->upload(d->device, memory, host, bytes);
    device_finish(d); /* `host` may change now */
    return memory;
}

static inline float *device_floats(const struct lent_device *d, const float *host, size_t n)
{
    return device_bytes(d, host, n * sizeof(*host));
}

static inline void device_read(const struct lent_device *d, void *host, const void *memory,
                               size_t bytes)
{
    d->kernels->download(d->device, host, memory, bytes);
    device_finish(d);
}

/* Reads n numbers, and gives their memory back. */
static inline void device_floats_end(const struct lent_device *d, float *host, float *memory,
                                     size_t n)
{
    device_read(d, host, memory, n * sizeof(*host));
    d->kernels->memory_give(d->device, memory);
}

static inline void device_give(const struct lent_device *d, void *memory)
{
    device_finish(d);
    d->kernels->memory_give(d->device, memory);
}

/* y, [n_rows][y_stride] on the host, of what was prepared last; what is not written keeps its
 * value. */
static inline void device_matmul(const struct lent_device *d, float *y, uint32_t n_rows,
                                 size_t y_stride, const struct matrix *m)
{
    float *out = device_floats(d, y, n_rows * y_stride);
    d->kernels->matmul(d->device, &(struct product){out, y_stride, m}, 1);
    device_floats_end(d, y, out, n_rows * y_stride);
}

/* The same, of rows x on the host. */
static inline void device_product(const struct lent_device *d, float *y, size_t y_stride,
                                  const float *x, uint32_t n_rows, const struct matrix *m)
{
    float *in = device_floats(d, x, (size_t)n_rows * m->n_columns);
    d->kernels->prepare(d->device, in, n_rows, m->n_columns, 1u << m->type);
    device_matmul(d, y, n_rows, y_stride, m);
    device_give(d, in);
}

/* x += y, on the device. */
static inline void device_add(const struct lent_device *d, float *x, const float *y, size_t n)
{
    float *to = device_floats(d, x, n), *from = device_floats(d, y, n);
    d->kernels->add(d->device, to, from, n);
    device_floats_end(d, x, to, n);
    device_give(d, from);
}

/* Uniform in [-1, 1). */
static inline float random_float(uint64_t *state)
{
    return (float)(int32_t)random_u32(state) * 0x1p-31f;
}

#endif

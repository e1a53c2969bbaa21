/* test_fused.c - calls that become one kernel give the bits of each on its own. Skips without a
 * GPU. */
#include "kernels/cuda/product.h"
#include "tests/cmocka.h"
#include "tests/kernels/cuda/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, OUTPUTS = 48, MOST = 9216 };

static struct device *device;
static float *x, *y, *normed, *weight, *product; /* on the GPU */

static void finish(void)
{
    struct error error = {0};
    if (kernels_cuda.finish(device, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void fill(float *there, size_t n, uint32_t seed)
{
    float *here = malloc(n * sizeof(*here));
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        here[i] = (float)(int32_t)seed * 0x1p-31f;
    }
    kernels_cuda.upload(device, there, here, n * sizeof(*here));
    finish();
    free(here);
}

/* x += y, its norm, quantized, multiplied; or gate times up likewise. apart: one after the other.
 * What is left in x, normed and product goes to `out`. */
static void run(const struct matrix *matrix, uint32_t n, bool norm, bool apart, float *out)
{
    fill(x, (size_t)ROWS * n, 1);
    fill(y, (size_t)ROWS * n, 2);
    fill(weight, n, 3);
    if (norm) {
        kernels_cuda.add(device, x, y, (size_t)ROWS * n);
        if (apart)
            finish();
        kernels_cuda.rms_norm(device, normed, x, weight, ROWS, n, 1e-5f);
    } else {
        kernels_cuda.swiglu(device, x, y, (size_t)ROWS * n);
    }
    if (apart)
        finish();
    kernels_cuda.prepare(device, norm ? normed : x, ROWS, n, 1u << matrix->type);
    kernels_cuda.matmul(device, &(struct product){product, OUTPUTS, matrix}, 1);
    kernels_cuda.download(device, out, x, (size_t)ROWS * n * sizeof(*out));
    kernels_cuda.download(device, out + ROWS * MOST, normed, (size_t)ROWS * n * sizeof(*out));
    kernels_cuda.download(device, out + 2 * ROWS * MOST, product, ROWS * OUTPUTS * sizeof(*out));
    finish();
}

static void test_same_bits_fused_and_apart(void **state)
{
    static const uint32_t sizes[] = {32, 64, 288, 4096, 4128, MOST};
    static const enum weight_type types[] = {WEIGHT_Q8_0, WEIGHT_F32};
    const size_t room = 2 * ROWS * MOST + ROWS * OUTPUTS;
    float *one = calloc(room, sizeof(*one)), *other = calloc(room, sizeof(*other));
    struct error error = {0};
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            const size_t bytes = weight_row_bytes(types[t], sizes[i]) * OUTPUTS;
            uint8_t *source = malloc(bytes);
            struct matrix matrix;
            for (size_t at = 0; at < bytes; at++) /* numbers below 2^-20 or so */
                source[at] = (uint8_t)(at * 37 % 32);
            if (kernels_cuda.matrix_create(device, &matrix, types[t], source, sizes[i], 0, OUTPUTS,
                                           0, sizes[i], &error) != STATUS_OK)
                fail_msg("%s", error.text);
            for (int norm = 0; norm < 2; norm++) {
                run(&matrix, sizes[i], norm, false, one);
                run(&matrix, sizes[i], norm, true, other);
                assert_memory_equal(one, other, room * sizeof(*one));
            }
            kernels_cuda.matrix_destroy(device, &matrix);
            free(source);
        }
    free(one);
    free(other);
}

/* A norm of something else than the sum before it, and a download of what waits. */
static void test_what_does_not_belong_together_is_apart(void **state)
{
    float out[64], sum[64];
    fill(x, 64, 1);
    fill(y, 64, 2);
    fill(weight, 64, 3);
    kernels_cuda.add(device, x, y, 64);
    kernels_cuda.rms_norm(device, normed, y, weight, 1, 64, 1e-5f); /* not of x */
    kernels_cuda.swiglu(device, y, x, 64);
    kernels_cuda.download(device, sum, x, sizeof(sum));
    kernels_cuda.download(device, out, normed, sizeof(out));
    finish();
    fill(x, 64, 1);
    fill(y, 64, 2);
    float again[64];
    kernels_cuda.add(device, x, y, 64);
    kernels_cuda.download(device, again, x, sizeof(again));
    finish();
    assert_memory_equal(sum, again, sizeof(sum));
    kernels_cuda.rms_norm(device, normed, y, weight, 1, 64, 1e-5f);
    kernels_cuda.download(device, again, normed, sizeof(again));
    finish();
    assert_memory_equal(out, again, sizeof(out));
}

static float *take(size_t n)
{
    void *memory = NULL;
    struct error error = {0};
    if (kernels_cuda.memory_take(device, &memory, n * sizeof(float), &error) != STATUS_OK)
        fail_msg("%s", error.text);
    kernels_cuda.clear(device, memory, n * sizeof(float));
    return memory;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_fused_and_apart),
        cmocka_unit_test(test_what_does_not_belong_together_is_apart),
    };
    struct error error = {0};
    device = gpu_open();
    if (kernels_cuda.workspace_reserve(device, ROWS, MOST, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    float **const all[] = {&x, &y, &normed, &weight, &product};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        *all[i] = take((size_t)ROWS * MOST);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        kernels_cuda.memory_give(device, *all[i]);
    kernels_cuda.close(device);
    return failed;
}

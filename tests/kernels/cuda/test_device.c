/* test_device.c - what waits until finish, and indices. Skips without a GPU. */
#include "kernels/cuda/device.h"
#include "tests/cmocka.h"
#include "tests/kernels/cuda/gpu.h"

#include <stdlib.h>
#include <string.h>

static struct device *device;

static void finish(void)
{
    struct error error = {0};
    if (kernels_cuda.finish(device, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

/* CUDA keeps an error for whoever asks next: that is not the launch after it, of another kind. */
static void test_a_failure_is_told_once(void **state)
{
    enum { N = 100 };
    struct error error = {0};
    struct candidates_sum sum;
    struct candidate best;
    void *logits;
    float from[N];
    for (uint32_t i = 0; i < N; i++)
        from[i] = i == 42 ? 1.0f : 0.0f;
    if (kernels_cuda.memory_take(device, &logits, sizeof(from), &error) != STATUS_OK)
        fail_msg("%s", error.text);
    kernels_cuda.upload(device, logits, from, sizeof(from));
    finish();
    kernels_cuda.scale(device, logits, 1.0f, (size_t)1 << 40); /* more blocks than a grid has */
    assert_int_equal(kernels_cuda.finish(device, &error), STATUS_FAILED);
    assert_non_null(strstr(error.text, "scale"));
    kernels_cuda.candidates(device, &sum, &best, 1, logits, 1, N, 0, (const uint32_t[]){1});
    finish();
    assert_int_equal(best.id, 42);
    kernels_cuda.memory_give(device, logits);
}

/* Of any size; the host's array is free at once. */
static void test_indices_come_whole(void **state)
{
    enum { RING_HALF = CUDA_RING_BYTES / 2 };
    static const size_t sizes[] = {4,         RING_HALF - 4,     RING_HALF,
                                   12,        RING_HALF + 4,     2 * RING_HALF,
                                   RING_HALF, 5 * RING_HALF + 8, 8};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t n = sizes[i] / sizeof(uint32_t);
        uint32_t *indices = malloc(sizes[i]), *back = malloc(sizes[i]);
        assert_true(indices != NULL && back != NULL);
        for (size_t j = 0; j < n; j++)
            indices[j] = (uint32_t)(j * 2654435761u + i);
        const void *there = cuda_indices(device, CUDA_GATHERED, indices, sizes[i]);
        assert_non_null(there);
        memset(indices, 0, sizes[i]);
        kernels_cuda.download(device, back, there, sizes[i]);
        finish();
        for (size_t j = 0; j < n; j++)
            assert_true(back[j] == (uint32_t)(j * 2654435761u + i));
        free(indices);
        free(back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_is_told_once),
        cmocka_unit_test(test_indices_come_whole),
    };
    device = gpu_open();
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kernels_cuda.close(device);
    return failed;
}

/* test_variants.c - which attention kernel a GPU has, and how much of its shared memory it gets. Without a GPU it
 * says so and skips. */
#include "kernels/attention/cuda/attend_variants.h"
#include "tests/cmocka.h"
#include "tests/kernels/cuda/gpu.h"

static struct device *device;

static struct variants variants_of(enum kv_type type, uint32_t head_dim)
{
    const struct attend_shape shape = {
        .type = type, .head_dim = head_dim, .group = 4, .scale = 1.0f};
    struct variants variants;
    struct error error = {0};
    if (variants_choose(&variants, device, &shape, BLOCKS_WANTED, MOST_STAGES, &error) != STATUS_OK)
        fail_msg("%s of %u: %s", kv_type_name(type), head_dim, error.text);
    return variants;
}

/* Thread blocks of a multiprocessor, with so much shared memory each. */
static uint32_t blocks_with(const struct attend_kernel *kernel, uint32_t shared_bytes)
{
    int n = 0, most = 0;
    assert_int_equal(
        cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device->index),
        cudaSuccess);
    if ((int)shared_bytes > most)
        return 0;
    assert_int_equal(cudaFuncSetAttribute(kernel->function,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          (int)shared_bytes),
                     cudaSuccess);
    assert_int_equal(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                         &n, kernel->function, (int)kernel->threads, shared_bytes),
                     cudaSuccess);
    return (uint32_t)n < BLOCKS_WANTED ? (uint32_t)n : BLOCKS_WANTED;
}

static void check_pipelines(const struct variant *variant, const char *name)
{
    const struct attend_kernel *kernel = variant->kernel;
    for (uint32_t i = 0; i < variant->n_configs && kernel->stage_bytes > 0; i++) {
        const struct config *config = &variant->configs[i];
        const uint32_t n = config->n_blocks / (uint32_t)device->n_multiprocessors;
        const uint32_t more = config->shared_bytes + kernel->stage_bytes;
        print_message("%s of %u, %u rows: %u blocks, %u stages, %u near levels\n", name,
                      kernel->head_dim, kernel->rows, n, config->n_stages, config->n_near);
        assert_int_equal(blocks_with(kernel, config->shared_bytes), n);
        assert_true(i == 0 || config->n_blocks > config[-1].n_blocks);
        assert_true(config->n_stages == MOST_STAGES || blocks_with(kernel, more) < n);
    }
}

static void test_pipelines_are_as_deep_as_their_blocks_leave_room_for(void **state)
{
    for (int type = 0; type < KV_TYPES; type++)
        for (uint32_t head_dim = 64; head_dim <= 256; head_dim *= 2) {
            const struct variants variants = variants_of((enum kv_type)type, head_dim);
            for (uint32_t i = 0; i < variants.n; i++)
                check_pipelines(&variants.all[i], kv_type_name((enum kv_type)type));
        }
}

/* A GPU with 100 KiB of shared memory has these too. */
static void test_prompts_have_their_kernel_on_every_gpu(void **state)
{
    static const enum kv_type types[] = {KV_F16, KV_BF16, KV_Q8_0};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        for (uint32_t head_dim = 64; head_dim <= 128; head_dim *= 2) {
            const struct variants variants = variants_of(types[i], head_dim);
            assert_true(variants_for(&variants, 512)->kernel->rows >= 64);
            assert_true(variants_for(&variants, 1)->kernel->rows == 8);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipelines_are_as_deep_as_their_blocks_leave_room_for),
        cmocka_unit_test(test_prompts_have_their_kernel_on_every_gpu),
    };
    device = gpu_open();
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kernels_cuda.close(device);
    return failed;
}

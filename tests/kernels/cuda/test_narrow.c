/* test_narrow.c - however products of few rows are spread, a GPU has room for it, all at once. */
#include "kernels/cuda/narrow.h"

#include "kernels/kernels.h"
#include "tests/cmocka.h"

/* A100, A10 (8.6), L4 and RTX 4090 (8.9), H200, B200, RTX 5090 (12.0). */
static const struct {
    uint32_t n_multiprocessors;
    size_t shared_bytes;
} GPUS[] = {{108, 164 << 10}, {72, 100 << 10},  {58, 100 << 10}, {128, 100 << 10},
            {132, 228 << 10}, {148, 228 << 10}, {170, 100 << 10}};

static void check_spread(const struct narrow_product *p, uint32_t n_multiprocessors,
                         size_t shared_bytes)
{
    const struct narrow_spread s = narrow_spread(p, n_multiprocessors, shared_bytes);
    const uint32_t most = (p->lean ? NARROW_LEAN_THREADS : NARROW_THREADS) / CUDA_LANES;
    if (s.shared_bytes + NARROW_RESERVED > shared_bytes / 2)
        fail_msg("%u panels, %u spans, %u segments, %u tiles, stages of %zu bytes: %u warps and "
                 "%u stages take %zu of %zu bytes",
                 p->n_panels, p->n_spans, p->n_segments, p->n_tiles, p->stage_bytes, s.n_warps,
                 s.n_stages, s.shared_bytes, shared_bytes / 2);
    assert_in_range(s.n_warps, NARROW_LEAST / CUDA_LANES, most);
    assert_in_range(s.n_stages, 1, NARROW_STAGES);
    assert_int_equal(s.round_spans % s.n_warps, 0);
    assert_in_range(s.n_blocks, 1, p->n_panels);
    const uint32_t per_sm = (s.n_blocks + n_multiprocessors - 1) / n_multiprocessors;
    if (per_sm * s.n_warps > p->n_warps ||
        per_sm * (s.shared_bytes + NARROW_RESERVED) > shared_bytes)
        fail_msg("%u panels, %u spans, %u segments, %u tiles, stages of %zu bytes: %u blocks of %u "
                 "warps and %zu bytes on a multiprocessor of %u and %zu",
                 p->n_panels, p->n_spans, p->n_segments, p->n_tiles, p->stage_bytes, per_sm,
                 s.n_warps, s.shared_bytes, p->n_warps, shared_bytes);
    const size_t sums = (size_t)s.round_spans * p->n_tiles * TILE_SUMS * sizeof(float);
    assert_true(s.shared_bytes > s.n_stages * s.n_warps * p->stage_bytes + sums);
}

static void test_every_product_fits_every_gpu(void **state)
{
    static const uint32_t panels[] = {1, 2, 16, 64, 128, 192, 256, 384, 512, 1792, 9504};
    static const uint32_t tiles[] = {1, 2, 4};
    static const uint32_t warps[] = {8, 12, 16, 24, 36}; /* with 255, 168, 128, 80, 56 registers */
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        const struct cuda_format format = cuda_format(weight_types[t]);
        const bool quantized = format.low_bits > 0;
        const size_t stage = quantized ? chunk_vectors(format) * (size_t)VECTOR_BYTES : 2048;
        for (size_t gpu = 0; gpu < sizeof(GPUS) / sizeof(GPUS[0]); gpu++)
            for (size_t n = 0; n < sizeof(panels) / sizeof(panels[0]); n++)
                for (uint32_t n_spans = 1; n_spans <= 64; n_spans++)
                    for (uint32_t n_segments = 1;
                         n_segments <= MATRIX_SEGMENTS && n_segments <= n_spans; n_segments++)
                        for (size_t i = 0; i < 6; i++) {
                            const struct narrow_product p = {.n_panels = panels[n],
                                                             .n_spans = n_spans,
                                                             .n_segments = n_segments,
                                                             .n_tiles = tiles[i % 3],
                                                             .lean = i < 3 && i % 3 == 0,
                                                             .n_warps = warps[(n + n_spans) % 5],
                                                             .stage_bytes = stage};
                            check_spread(&p, GPUS[gpu].n_multiprocessors, GPUS[gpu].shared_bytes);
                        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_product_fits_every_gpu)};
    return cmocka_run_group_tests_name("kernels/cuda/narrow", tests, NULL, NULL);
}

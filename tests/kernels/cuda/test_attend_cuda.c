/* test_attend_cuda.c - attention on a GPU: attend_cases.h, hostile numbers, and K and V on their way into
 * tiles. Without a GPU it says so and skips. */
#include "kernels/attention/cuda/attend_device.h"
#include "kernels/attention/cuda/attend_launch.h"
#include "kernels/cuda/device.h"
#include "tests/cmocka.h"
#include "tests/kernels/attention/attend_cases.h"
#include "tests/kernels/cuda/gpu.h"

static void test_tiles_give_back_what_was_written(void **state)
{
    static const uint32_t dims[] = {8, 32, 64, 72, 96, 128, 256, 512};
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++)
        for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++) {
            if (tile_check(type, dims[i], NULL) != STATUS_OK)
                continue;
            struct made_kv *kv = place_kv_create(type, dims[i], 300, 1, 1.0f, i);
            const size_t row_bytes = kv_row_bytes(type, dims[i]), bytes = 300 * row_bytes;
            char *rows = place_take(2 * bytes), *got = malloc(2 * bytes), *expected = malloc(bytes);
            for (uint32_t first = 0; first < 300; first += TILE_TOKENS)
                place.kernels->attention_device->read(
                    place.device, type, dims[i], row_bytes,
                    place_page(kv->memory + first / TILE_TOKENS * tile_bytes(type, dims[i])), 0,
                    300 - first < TILE_TOKENS ? 300 - first : TILE_TOKENS, rows + first * row_bytes,
                    rows + bytes + first * row_bytes);
            place.kernels->download(place.device, got, rows, 2 * bytes);
            place_finish();
            kv_round(type, expected, kv->k, 300 * (size_t)dims[i]);
            assert_memory_equal(got, expected, bytes);
            kv_round(type, expected, kv->v, 300 * (size_t)dims[i]);
            assert_memory_equal(got + bytes, expected, bytes);
            place.kernels->memory_give(place.device, rows);
            free(got);
            free(expected);
            place_kv_destroy(kv);
        }
}

/* q times `factor`, of K as it is: against double, relative to the largest |v| of 1. Scores of thousands
 * leave one token with all weight; tiny ones make all tokens equal. */
static void check_scaled(enum kv_type type, uint32_t head_dim, float factor, double tolerance)
{
    enum { POSITION = 700, GROUP = 4 };
    struct made_kv *kv = place_kv_create(type, head_dim, POSITION + 1, 2, 1.0f, 3);
    const struct attend_shape shape = shape_of(kv, GROUP);
    struct thread_pool *pool = pool_of(3);
    struct attend *attend = attend_of(pool, "auto", &shape);
    float *q = made_floats(GROUP * head_dim, factor, 4), *out = made_floats(GROUP * head_dim, 1, 5);
    attend_all(attend, &shape, kv, q, POSITION, 1, 0, out);
    double m, l, expected[512];
    for (uint32_t g = 0; g < GROUP; g++) {
        reference_attend(kv, q + g * head_dim, 0, POSITION + 1, (double)shape.scale, 0, &m, &l,
                         expected);
        for (uint32_t d = 0; d < head_dim; d++)
            assert_true(fabs((double)out[g * head_dim + d] - expected[d]) < tolerance);
    }
    free(q);
    free(out);
    attend_destroy(attend);
    thread_pool_destroy(pool);
    place_kv_destroy(kv);
}

static void test_large_and_tiny_scores(void **state)
{
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++) {
        check_scaled(type, 64, 1e-30f, 2e-6);
        check_scaled(type, 128, 1e-42f, 2e-6); /* subnormal q */
        check_scaled(type, 128, 1.0f, 2e-6);
        /* a score of 1000 in f32 is off by 6e-5, and so is e^score */
        check_scaled(type, 128, 300.0f, 1e-3);
    }
}

/* Values of a tile that differ by 2^12, near the smallest, ordinary, and large: against double,
 * relative to the values that have weight, and to 2^-28 of the largest. */
static void check_values(enum kv_type type, uint32_t head_dim, int exponent)
{
    enum { POSITION = 400, GROUP = 4 };
    struct made_kv *kv = place_kv_create(type, head_dim, POSITION + 1, 2, 4.0f, 3);
    uint64_t random = 9;
    for (uint32_t t = 0; t <= POSITION; t++) {
        const int size = exponent - (int)random_below(&random, 13);
        for (uint32_t d = 0; d < head_dim; d++)
            kv->v[t * head_dim + d] = ldexpf(kv->v[t * head_dim + d], size);
    }
    place_kv_store(kv);
    const struct attend_shape shape = shape_of(kv, GROUP);
    struct thread_pool *pool = pool_of(3);
    struct attend *attend = attend_of(pool, "auto", &shape);
    float *q = made_floats(GROUP * head_dim, 4.0f, 4), *out = made_floats(GROUP * head_dim, 1, 5);
    attend_all(attend, &shape, kv, q, POSITION, 1, 0, out);
    double m, l, expected[512], sizes[512];
    for (uint32_t g = 0; g < GROUP; g++) {
        reference_attend(kv, q + g * head_dim, 0, POSITION + 1, (double)shape.scale, 0, &m, &l,
                         expected);
        struct made_kv absolute = *kv;
        absolute.v = malloc((POSITION + 1) * head_dim * sizeof(float));
        for (size_t i = 0; i < (POSITION + 1) * (size_t)head_dim; i++)
            absolute.v[i] = fabsf(kv->v[i]);
        reference_attend(&absolute, q + g * head_dim, 0, POSITION + 1, (double)shape.scale, 0, &m,
                         &l, sizes);
        free(absolute.v);
        for (uint32_t d = 0; d < head_dim; d++)
            if (!(fabs((double)out[g * head_dim + d] - expected[d]) <
                  5e-6 * sizes[d] + ldexp(1.0, exponent - 28)))
                fail_msg("%s, head_dim %u, 2^%d: %g where %g is expected, of values of %g",
                         kv_type_name(type), head_dim, exponent, (double)out[g * head_dim + d],
                         expected[d], sizes[d]);
    }
    free(q);
    free(out);
    attend_destroy(attend);
    thread_pool_destroy(pool);
    place_kv_destroy(kv);
}

static void test_values_of_any_size(void **state)
{
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++)
        for (int exponent = -6; exponent <= 12; exponent += 9) {
            check_values(type, 64, exponent);
            check_values(type, 128, exponent);
            check_values(type, 256, exponent);
        }
}

static void test_equal_scores_give_the_mean(void **state)
{
    enum { N = 1000, D = 128 };
    struct made_kv *kv = place_kv_create(KV_F16, D, N, 2, 1.0f, 3);
    const struct attend_shape shape = shape_of(kv, 1);
    struct thread_pool *pool = pool_of(2);
    struct attend *attend = attend_of(pool, "auto", &shape);
    float q[D] = {0}, out[D];
    attend_all(attend, &shape, kv, q, N - 1, 1, 0, out);
    for (uint32_t d = 0; d < D; d++) {
        double sum = 0;
        for (uint32_t t = 0; t < N; t++)
            sum += (double)kv->v[t * D + d];
        assert_true(fabs((double)out[d] - sum / N) < 1e-6);
    }
    attend_destroy(attend);
    thread_pool_destroy(pool);
    place_kv_destroy(kv);
}

/* What is no number stays visible in its row, and in no other. */
static void test_a_row_of_nan_stays_alone(void **state)
{
    enum { D = 64, GROUP = 4 };
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++) {
        struct made_kv *kv = place_kv_create(type, D, 300, 2, 1.0f, 3);
        const struct attend_shape shape = shape_of(kv, GROUP);
        struct thread_pool *pool = pool_of(2);
        struct attend *attend = attend_of(pool, "auto", &shape);
        float *q = made_floats(GROUP * D, 1.0f, 4), clean[GROUP * D], out[GROUP * D];
        const struct part whole = {{{0, 2}}, 1};
        attend_parts(attend, &shape, kv, q, 299, 1, 0, &whole, 1, true, clean);
        q[2 * D + 5] = NAN;
        attend_parts(attend, &shape, kv, q, 299, 1, 0, &whole, 1, true, out);
        for (uint32_t d = 0; d < D; d++)
            assert_true(isnan(out[2 * D + d]));
        assert_memory_equal(out, clean, 2 * D * sizeof(float));
        assert_memory_equal(out + 3 * D, clean + 3 * D, D * sizeof(float));
        free(q);
        attend_destroy(attend);
        thread_pool_destroy(pool);
        place_kv_destroy(kv);
    }
}

/* A scale of V of q8_0 that is no number: the rows before that token have their bits, and it shows in all others. */
static void check_nan_in_a_prompt(uint32_t head_dim)
{
    enum { GROUP = 4, POSITION = 200, N_TOKENS = 40, BAD = POSITION + 23 };
    struct made_kv *kv = place_kv_create(KV_Q8_0, head_dim, POSITION + N_TOKENS, 2, 1.0f, 3);
    const struct attend_shape shape = shape_of(kv, GROUP);
    struct thread_pool *pool = pool_of(2);
    struct attend *attend = attend_of(pool, "auto", &shape);
    const size_t row = (size_t)GROUP * head_dim, n = N_TOKENS * row;
    float *q = made_floats(n, 1.0f, 4), *clean = made_floats(n, 1, 5), *out = made_floats(n, 1, 6);
    attend_all(attend, &shape, kv, q, POSITION, N_TOKENS, 0, clean);
    for (size_t i = 0; i < n; i++) /* where no token was written, scales are no numbers either */
        assert_false(isnan(clean[i]));
    for (uint32_t d = 0; d < head_dim; d++)
        kv->v[BAD * (size_t)head_dim + d] = NAN;
    place_kv_store(kv);
    attend_all(attend, &shape, kv, q, POSITION, N_TOKENS, 0, out);
    assert_memory_equal(out, clean, (BAD - POSITION) * row * sizeof(*out));
    for (size_t i = (BAD - POSITION) * row; i < n; i++)
        assert_true(isnan(out[i]));
    free(q);
    free(clean);
    free(out);
    attend_destroy(attend);
    thread_pool_destroy(pool);
    place_kv_destroy(kv);
}

static void test_rows_before_a_value_that_is_no_number_stay_as_they_are(void **state)
{
    check_nan_in_a_prompt(64);
    check_nan_in_a_prompt(128);
}

/* Of one row and of as many as the largest kernel has, with pipelines as short as any GPU's shared memory makes them. */
static void test_same_bits_for_any_pipeline(void **state)
{
    enum { D = 64, GROUP = 4, N = 600, MOST_TOKENS = 40 };
    static const enum kv_type types[] = {KV_F16, KV_BF16, KV_Q8_0};
    struct thread_pool *pool = pool_of(2);
    float *q = made_floats(MOST_TOKENS * GROUP * D, 2.0f, 4);
    float expected[MOST_TOKENS * GROUP * D], got[MOST_TOKENS * GROUP * D];
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct made_kv *kv = place_kv_create(types[i], D, N, 2, 1.0f, 3);
        const struct attend_shape shape = shape_of(kv, GROUP);
        struct attend *attend = attend_of(pool, "auto", &shape);
        struct attend *tuned = attend_of(pool, "auto", &shape);
        const struct part whole = {{{0, 4}}, 1};
        for (uint32_t n = 1; n <= MOST_TOKENS; n += MOST_TOKENS - 1)
            for (uint32_t n_stages = LEAST_STAGES; n_stages <= 5; n_stages++) {
                const size_t bytes = (size_t)n * GROUP * D * sizeof(float);
                assert_int_equal(cuda_attend_tune(attend_device_state(tuned), 1, n_stages, 0, NULL),
                                 STATUS_OK);
                attend_parts(tuned, &shape, kv, q, 520, n, 0, &whole, 1, true, got);
                attend_parts(attend, &shape, kv, q, 520, n, 0, &whole, 1, true, expected);
                assert_memory_equal(got, expected, bytes);
            }
        attend_destroy(tuned);
        attend_destroy(attend);
        place_kv_destroy(kv);
    }
    thread_pool_destroy(pool);
    free(q);
}

/* One recorded launch serves whatever is prepared later and is of the same kind: here a sequence that grows over tiles. */
static void test_a_recorded_launch_serves_later_calls(void **state)
{
    enum { D = 64, GROUP = 4, N = 2000 };
    struct made_kv *kv = place_kv_create(KV_F16, D, N, 2, 1.0f, 3);
    const struct attend_shape shape = shape_of(kv, GROUP);
    struct thread_pool *pool = pool_of(3);
    struct attend *attend = attend_of(pool, "auto", &shape),
                  *other = attend_of(pool, "auto", &shape);
    float *q = made_floats(GROUP * D, 1.0f, 4), expected[GROUP * D], got[GROUP * D];
    cudaGraphExec_t recorded = NULL;
    uint64_t kind = 0, recorded_kind = 0;
    int n_recorded = 0, n_steps = 0;
    for (uint32_t position = 100; position < N; position += 100, n_steps++) {
        const struct tile_range range = {0, position / TILE_TOKENS};
        struct attend_work work = {.q = q,
                                   .q_token_stride = GROUP * D,
                                   .n_tokens = 1,
                                   .position = position,
                                   .source = made_kv_source(kv),
                                   .ranges = &range,
                                   .n_ranges = range.end > 0,
                                   .own_tile = true,
                                   .final_out = expected,
                                   .final_token_stride = GROUP * D};
        place_run(other, &shape, &work, 1);
        struct place_work there;
        struct attend_work moved = place_bring(&shape, &work, &there);
        assert_int_equal(attend_prepare(attend, 0, &moved, 1, NULL, &kind, NULL), STATUS_OK);
        cudaStream_t stream = place.device->stream;
        if (kind != recorded_kind) {
            cudaGraph_t graph;
            if (recorded != NULL)
                cudaGraphExecDestroy(recorded);
            recorded_kind = kind;
            n_recorded++;
            assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal),
                             cudaSuccess);
            assert_int_equal(attend_launch(attend, 0, NULL), STATUS_OK);
            assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
            assert_int_equal(cudaGraphInstantiate(&recorded, graph, 0), cudaSuccess);
            cudaGraphDestroy(graph);
        }
        assert_int_equal(cudaGraphLaunch(recorded, stream), cudaSuccess);
        place.kernels->download(place.device, got, there.out, sizeof(got));
        place_finish();
        assert_memory_equal(got, expected, sizeof(got));
        place.kernels->memory_give(place.device, there.q);
        place.kernels->memory_give(place.device, there.out);
        free(there.pages);
    }
    assert_true(n_recorded < n_steps / 2);
    cudaGraphExecDestroy(recorded);
    free(q);
    attend_destroy(attend);
    attend_destroy(other);
    thread_pool_destroy(pool);
    place_kv_destroy(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles_give_back_what_was_written),
        ATTEND_CASES,
        cmocka_unit_test(test_large_and_tiny_scores),
        cmocka_unit_test(test_values_of_any_size),
        cmocka_unit_test(test_equal_scores_give_the_mean),
        cmocka_unit_test(test_a_row_of_nan_stays_alone),
        cmocka_unit_test(test_rows_before_a_value_that_is_no_number_stay_as_they_are),
        cmocka_unit_test(test_same_bits_for_any_pipeline),
        cmocka_unit_test(test_a_recorded_launch_serves_later_calls),
    };
    place.kernels = &kernels_cuda;
    place.head_dim = 64;
    place.device = gpu_open();
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kernels_cuda.close(place.device);
    return failed;
}

/* attention.c - decode and prefill attention of this machine's KV holder, beside the limits.
 *
 *     attention [--lanes N] [--kernels NAME] [--runs N]
 *
 * Decode: one query token per sequence over contexts of 4k to 128k tokens, f16 KV; GB/s are the
 * bytes of K and V, beside the read bandwidth probed in the same run. Prefill: 512 rows over the
 * past; GFLOP/s counts 4 * head_dim for each row, query head and token. */
#include "bench/measure.h"
#include "kernels/attention/attend.h"
#include "sys/memory.h"
#include "sys/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEQUENCES = 8, MAX_WORKS = 1024 };

struct setting {
    uint32_t head_dim, group, n_kv_heads;
    uint32_t n_sequences, context[MAX_SEQUENCES];
    uint32_t n_tokens; /* query tokens of each sequence */
};

struct run {
    struct attend *attend;
    struct attend_work works[MAX_WORKS];
    struct tile_range ranges[MAX_SEQUENCES];
    void *pages[MAX_WORKS];
    size_t n_works;
};

static void attend_once(void *context)
{
    struct run *run = context;
    if (attend_run(run->attend, run->works, run->n_works, NULL) != STATUS_OK)
        abort();
}

static void measure_setting(struct thread_pool *pool, const char *kernels, uint32_t n_runs,
                            const struct setting *setting, double bandwidth)
{
    static struct run run;
    const struct attend_shape shape = {KV_F16, setting->head_dim, setting->group, 0.125f, 0};
    const size_t one = tile_bytes(shape.type, shape.head_dim);
    size_t kv_bytes = 0, out_floats = 0;
    double flops = 0;
    struct error error = {0};
    void *kv, *q, *out;
    memset(&run, 0, sizeof(run));
    if (attend_create(&run.attend, pool, kernels, &shape, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(status_exit_code(error.status));
    }
    for (uint32_t s = 0; s < setting->n_sequences; s++)
        kv_bytes += (size_t)(setting->context[s] / TILE_TOKENS) * setting->n_kv_heads * one;
    const size_t q_floats =
        (size_t)setting->n_tokens * setting->n_kv_heads * setting->group * setting->head_dim;
    if (memory_reserve(&kv, kv_bytes, &error) != STATUS_OK ||
        memory_reserve(&q, q_floats * sizeof(float), &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(4);
    }
    /* Small random halves: exponents of 2^-3 to 1, so that softmax is neither flat nor one-hot. */
    uint64_t state = 1;
    for (size_t i = 0; i < kv_bytes / 2; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ((uint16_t *)kv)[i] = (uint16_t)(0x3000 | ((state >> 40) & 0x8bff));
    }
    for (size_t i = 0; i < q_floats; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ((float *)q)[i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
    }
    char *next = kv;
    for (uint32_t s = 0; s < setting->n_sequences; s++) {
        const uint32_t n_tiles = setting->context[s] / TILE_TOKENS;
        run.ranges[s] = (struct tile_range){0, n_tiles};
        for (uint32_t h = 0; h < setting->n_kv_heads; h++) {
            for (uint32_t t = 0; t < setting->n_tokens; t += TILE_TOKENS) {
                struct attend_work *work = &run.works[run.n_works];
                const uint32_t left = setting->n_tokens - t;
                run.pages[run.n_works] = next;
                *work = (struct attend_work){
                    .q = (float *)q +
                         ((size_t)t * setting->n_kv_heads + h) * setting->group * setting->head_dim,
                    .q_token_stride =
                        (size_t)setting->n_kv_heads * setting->group * setting->head_dim,
                    .n_tokens = left < TILE_TOKENS ? left : TILE_TOKENS,
                    .position = n_tiles * TILE_TOKENS + t,
                    .source = {&run.pages[run.n_works], 0, UINT32_MAX},
                    .ranges = &run.ranges[s],
                    .n_ranges = 1,
                };
                out_floats += attend_out_floats(&shape, work);
                flops +=
                    4.0 * setting->head_dim * work->n_tokens * setting->group * setting->context[s];
                run.n_works++;
            }
            next += (size_t)n_tiles * one;
        }
    }
    if (memory_reserve(&out, out_floats * sizeof(float), &error) != STATUS_OK)
        exit(4);
    float *to = out;
    for (size_t i = 0; i < run.n_works; i++) {
        run.works[i].out = to;
        to += attend_out_floats(&shape, &run.works[i]);
    }
    const struct measure result = measure(n_runs, attend_once, &run);
    char contexts[64] = "";
    for (uint32_t s = 0; s < setting->n_sequences; s++)
        snprintf(contexts + strlen(contexts), sizeof(contexts) - strlen(contexts), "%s%uk",
                 s == 0 ? "" : "+", setting->context[s] / 1024);
    const double rate = (double)kv_bytes / result.median_s;
    printf("%4u x %-4u %-4u %-5u %-18s %9.3f %7.3f-%-8.3f %7.1f %5.0f%% %9.1f\n",
           setting->n_kv_heads, setting->group, setting->head_dim, setting->n_tokens, contexts,
           result.median_s * 1e3, result.min_s * 1e3, result.max_s * 1e3, rate / 1e9,
           100 * rate / bandwidth, flops / result.median_s / 1e9);
    fflush(stdout);
    attend_destroy(run.attend);
    memory_release(kv, kv_bytes);
    memory_release(q, q_floats * sizeof(float));
    memory_release(out, out_floats * sizeof(float));
}

int main(int argc, char **argv)
{
    uint32_t lanes = 0, runs = 5;
    const char *kernels = "auto";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--lanes") == 0)
            lanes = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--runs") == 0)
            runs = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--kernels") == 0)
            kernels = argv[i + 1];
    }
    static const struct setting settings[] = {
        {64, 4, 8, 1, {4096}, 1},    {64, 4, 8, 1, {32768}, 1},
        {64, 4, 8, 1, {131072}, 1},  {128, 4, 8, 1, {32768}, 1},
        {32, 1, 2, 1, {131072}, 1},  {64, 4, 8, 4, {1024, 4096, 16384, 65536}, 1},
        {32, 1, 2, 1, {32768}, 512}, {64, 4, 8, 1, {8192}, 512},
        {128, 4, 8, 1, {8192}, 512},
    };
    struct thread_pool *pool;
    struct error error = {0};
    if (thread_pool_create(&pool, lanes, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 4;
    }
    measure_print_machine();
    const double bandwidth = measure_read_bandwidth(pool, (size_t)1 << 30);
    printf("# kernels %s, %u lanes, f16 KV; read bandwidth with these lanes %.1f GB/s; median of "
           "%u runs\n",
           kernels, thread_pool_lanes(pool), bandwidth / 1e9, runs);
    printf("# KV heads x group, head_dim, query tokens, context\n");
    printf("%-11s %-4s %-5s %-18s %9s %16s %7s %6s %9s\n", "heads", "dim", "rows", "context", "ms",
           "min-max", "GB/s", "limit", "GFLOP/s");
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        measure_setting(pool, kernels, runs, &settings[i], bandwidth);
    thread_pool_destroy(pool);
    return 0;
}

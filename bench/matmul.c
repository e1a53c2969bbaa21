/* matmul.c - products with weights of each type, one row (decode) and many (prefill), beside the
 * limits.
 *
 *     matmul [--lanes N] [--kernels NAME] [--runs N]
 *
 * GB/s are the bytes of the weights, beside the read bandwidth probed in the same run; GFLOP/s
 * counts a multiplication and an addition for each weight and row. */
#include "bench/measure.h"
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    const struct kernels *kernels;
    struct device *device;
    struct matrix matrix;
    float *x, *y;
    uint32_t n_rows;
};

static void multiply(void *context)
{
    struct run *run = context;
    run->kernels->prepare(run->device, run->x, run->n_rows, run->matrix.n_columns,
                          1u << run->matrix.type);
    run->kernels->matmul(run->device, run->y, run->matrix.n_rows, &run->matrix);
}

int main(int argc, char **argv)
{
    static const enum weight_type types[] = {WEIGHT_F32, WEIGHT_F16, WEIGHT_Q8_0};
    static const uint32_t rows[] = {1, 4, 16, 512};
    const uint32_t n_outputs = 32768, n_columns = 8192; /* Q8_0: 285 MB, far more than caches */
    uint32_t lanes = 0, runs = 5;
    const char *name = "auto";
    struct error error = {0};
    struct run run = {0};
    struct thread_pool *pool;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--lanes") == 0)
            lanes = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--runs") == 0)
            runs = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--kernels") == 0)
            name = argv[i + 1];
    }
    float *source = malloc((size_t)n_outputs * n_columns * sizeof(float));
    void *weights = malloc((size_t)n_outputs * n_columns * sizeof(float));
    run.x = malloc((size_t)512 * n_columns * sizeof(float));
    run.y = malloc((size_t)512 * n_outputs * sizeof(float));
    if (source == NULL || weights == NULL || run.x == NULL || run.y == NULL ||
        thread_pool_create(&pool, lanes, &error) != STATUS_OK ||
        kernels_choose(&run.kernels, name, &error) != STATUS_OK ||
        run.kernels->open(&run.device, pool, &error) != STATUS_OK ||
        run.kernels->workspace_reserve(run.device, 512, n_columns, &error) != STATUS_OK) {
        fprintf(stderr, "matmul: %s\n", error.text);
        return 4;
    }
    uint64_t state = 1;
    for (size_t i = 0; i < (size_t)n_outputs * n_columns; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        source[i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
    }
    memcpy(run.x, source, (size_t)512 * n_columns * sizeof(float));
    measure_print_machine();
    const double bandwidth = measure_read_bandwidth(pool, (size_t)1 << 30);
    printf("# kernels %s, %u lanes, %u x %u; read bandwidth with these lanes %.1f GB/s; median of "
           "%u runs\n",
           run.kernels->name, thread_pool_lanes(pool), n_outputs, n_columns, bandwidth / 1e9, runs);
    printf("%-6s %5s %10s %18s %8s %6s %9s\n", "type", "rows", "ms", "min-max", "GB/s", "limit",
           "GFLOP/s");
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        weight_quantize(types[t], weights, source, (size_t)n_outputs * n_columns);
        if (run.kernels->matrix_create(run.device, &run.matrix, types[t], weights, n_columns, 0,
                                       n_outputs, 0, n_columns, &error) != STATUS_OK) {
            fprintf(stderr, "matmul: %s\n", error.text);
            return 4;
        }
        for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
            run.n_rows = rows[r];
            const struct measure result = measure(runs, multiply, &run);
            const double rate =
                (double)n_outputs * (double)weight_row_bytes(types[t], n_columns) / result.median_s;
            printf("%-6s %5u %10.3f %8.3f-%-9.3f %8.1f %5.0f%% %9.1f\n",
                   weight_traits(types[t])->name, rows[r], result.median_s * 1e3,
                   result.min_s * 1e3, result.max_s * 1e3, rate / 1e9, 100 * rate / bandwidth,
                   2.0 * n_outputs * n_columns * rows[r] / result.median_s / 1e9);
            fflush(stdout);
        }
        run.kernels->matrix_destroy(run.device, &run.matrix);
    }
    run.kernels->close(run.device);
    thread_pool_destroy(pool);
    free(source);
    free(weights);
    free(run.x);
    free(run.y);
    return 0;
}

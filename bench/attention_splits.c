/* attention_splits.c - the lean schedule against the best fixed split of each batch.
 *
 * The best of seven medians is below what each of them is on average: noise alone would make lean
 * look slower. So some rounds of all fixed splits pick one, and others, in which it and lean take
 * turns, compare the two. */
#include "bench/measure/kv_load.h"
#include "bench/measure/program.h"
#include "sys/clock.h"
#include "sys/samples.h"

#include <math.h>
#include <stddef.h>

static const struct table_column columns[] = {
    {.name = "batch", .width = 32},
    {.name = "dim", .kind = TABLE_NUMBER},
    {.name = "lean_ms", .kind = TABLE_NUMBER, .width = 8, .decimals = 3},
    {.name = "best_parts", .kind = TABLE_NUMBER},
    {.name = "fixed_ms", .kind = TABLE_NUMBER, .width = 8, .decimals = 3},
    {.name = "speed_up", .kind = TABLE_NUMBER, .decimals = 3},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "attention_splits",
    .words = "[OPTION...]",
    .about =
        "Decode attention (8 KV heads of 4 query heads, f16) with the lean schedule, and with "
        "every sequence and head in 1, 2, 4 ... 64 equal parts that lanes take in turn. --runs "
        "rounds of all these splits pick the fixed split with the least median, then ten times "
        "as many pairs compare it with the lean schedule, which is first in every other pair. "
        "Times are medians of the pairs, speed_up is the median of the fixed split's time over "
        "the lean schedule's of the same pair. The last two rows are the mean and the worst of "
        "all."};

/* Parts of the fixed splits. */
static const uint32_t splits[] = {1, 2, 4, 8, 16, 32, 64};
enum {
    N_SPLITS = sizeof(splits) / sizeof(splits[0]),
    LEAN = 0, /* as attend_set_parts takes it */
    PAIRS_PER_RUN = 10,
    MOST_PAIRS = PAIRS_PER_RUN * TIMING_MAX_RUNS
};

static const struct kv_load_shape batches[] = {
    {.n_sequences = 1, .contexts = {4096}},
    {.n_sequences = 1, .contexts = {65536}},
    {.n_sequences = 3, .contexts = {8192, 8192, 8192}},
    {.n_sequences = 8, .contexts = {4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096}},
    {.n_sequences = 4, .contexts = {1024, 4096, 16384, 65536}},
    {.n_sequences = 8, .contexts = {256, 512, 1024, 2048, 4096, 8192, 16384, 32768}},
    {.n_sequences = 5, .contexts = {32768, 512, 512, 512, 512}},
};

static double seconds_of(const struct kv_load *load, struct attend *attend, uint32_t n_parts)
{
    const uint64_t begin = clock_ns();
    attend_set_parts(attend, n_parts);
    if (kv_load_pass(load, attend, NULL) != STATUS_OK)
        return INFINITY;
    return (double)(clock_ns() - begin) * 1e-9 / load->n_layers;
}

/* The fixed split that was fastest in some rounds of all. */
static uint32_t pick(const struct kv_load *load, struct attend *attend, uint32_t n_rounds)
{
    static double seconds[N_SPLITS][TIMING_MAX_RUNS]; /* too large for a stack */
    double least = INFINITY;
    uint32_t best = 1;
    for (size_t i = 0; i < N_SPLITS; i++) /* not counted */
        seconds_of(load, attend, splits[i]);
    for (uint32_t round = 0; round < n_rounds; round++)
        for (size_t i = 0; i < N_SPLITS; i++)
            seconds[i][round] = seconds_of(load, attend, splits[i]);
    for (size_t i = 0; i < N_SPLITS; i++) {
        const double median = samples_of(seconds[i], n_rounds).median;
        best = median < least ? splits[i] : best;
        least = fmin(least, median);
    }
    return best;
}

struct comparison {
    double lean_s, fixed_s, speed_up; /* medians */
};

static struct comparison compare(const struct kv_load *load, struct attend *attend,
                                 uint32_t n_parts, uint32_t n_pairs)
{
    static double lean[MOST_PAIRS], fixed[MOST_PAIRS], ratios[MOST_PAIRS];
    for (uint32_t i = 0; i < n_pairs; i++) {
        if (i % 2 == 0)
            lean[i] = seconds_of(load, attend, LEAN);
        fixed[i] = seconds_of(load, attend, n_parts);
        if (i % 2 == 1)
            lean[i] = seconds_of(load, attend, LEAN);
        ratios[i] = fixed[i] / lean[i];
    }
    return (struct comparison){samples_of(lean, n_pairs).median, samples_of(fixed, n_pairs).median,
                               samples_of(ratios, n_pairs).median};
}

/* *speed_up: of lean over the best fixed split. */
static enum status measure_batch(struct program *program, const struct kv_load_shape *shape,
                                 double *speed_up, struct error *error)
{
    struct kv_load load;
    struct attend *attend = NULL;
    char name[64];
    enum status status = kv_load_create(&load, shape, error);
    if (status != STATUS_OK)
        return status;
    status = attend_create(&attend, program->table_of_kernels, NULL, program->pool, &shape->attend,
                           error);
    if (status == STATUS_OK) {
        const uint32_t best = pick(&load, attend, program->runs);
        const struct comparison told = compare(&load, attend, best, PAIRS_PER_RUN * program->runs);
        kv_load_name(shape, name, sizeof(name));
        table_text(program->table, name);
        table_number(program->table, shape->attend.head_dim);
        table_number(program->table, told.lean_s * 1e3);
        table_number(program->table, best);
        table_number(program->table, told.fixed_s * 1e3);
        table_number(program->table, told.speed_up);
        *speed_up = told.speed_up;
    }
    attend_destroy(attend);
    kv_load_destroy(&load);
    return status;
}

static void summary(struct table *table, const char *name, double speed_up)
{
    table_text(table, name);
    for (int i = 0; i < 4; i++)
        table_number(table, NAN);
    table_number(table, speed_up);
}

int main(int argc, char **argv)
{
    struct program program;
    struct error error = {0};
    int exit_code;
    if (!program_open(&program, &usage, NULL, columns, argc, argv, &exit_code))
        return exit_code;
    enum status status = STATUS_OK;
    double sum = 0, worst = INFINITY;
    uint32_t n = 0;
    for (uint32_t dim = 64; dim <= 128; dim *= 2)
        for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]) && status == STATUS_OK; i++) {
            struct kv_load_shape shape = batches[i];
            double speed_up = 0;
            shape.attend = (struct attend_shape){
                .type = KV_F16, .head_dim = dim, .group = 4, .scale = 1.0f / sqrtf((float)dim)};
            shape.n_kv_heads = KV_LOAD_HEADS;
            shape.n_tokens = 1;
            shape.least_bytes = kv_load_beyond_caches();
            status = measure_batch(&program, &shape, &speed_up, &error);
            sum += speed_up;
            worst = fmin(worst, speed_up);
            n++;
        }
    if (status == STATUS_OK) {
        summary(program.table, "mean", sum / n);
        summary(program.table, "worst", worst);
    }
    return program_close(&program, status, &error);
}

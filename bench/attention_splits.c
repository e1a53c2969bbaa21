/* attention_splits.c - the lean schedule against the best fixed split of each batch. */
#include "bench/measure/kv_load.h"
#include "bench/measure/program.h"
#include "sys/clock.h"
#include "sys/samples.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>

static const struct table_column columns[] = {
    {.name = "batch", .width = 32},
    {.name = "dim", .kind = TABLE_NUMBER},
    {.name = "lean_ms", .kind = TABLE_NUMBER, .width = 8, .decimals = 3},
    {.name = "best_parts", .kind = TABLE_NUMBER},
    {.name = "fixed_ms", .kind = TABLE_NUMBER, .width = 8, .decimals = 3},
    {.name = "one_part_ms", .kind = TABLE_NUMBER, .width = 8, .decimals = 3},
    {.name = "speed_up", .kind = TABLE_NUMBER, .decimals = 3},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "attention_splits",
    .words = "[OPTION...]",
    .about = "Decode attention (8 KV heads of 4 query heads, f16) with the lean schedule, and with "
             "every sequence and head in 1, 2, 4 ... 64 equal parts that lanes take in turn. All "
             "schedules take turns, --runs times; medians; speed_up is the best fixed split's time "
             "over the lean schedule's. The last two rows are the mean and the worst of all."};

/* Parts of the schedules that take turns; 0: lean. */
static const uint32_t schedules[] = {0, 1, 2, 4, 8, 16, 32, 64};
enum { N_SCHEDULES = sizeof(schedules) / sizeof(schedules[0]) };

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

/* *speed_up: of lean over the best fixed split. */
static enum status measure_batch(struct program *program, const struct kv_load_shape *shape,
                                 double *speed_up, struct error *error)
{
    static double seconds[N_SCHEDULES][TIMING_MAX_RUNS]; /* too large for a stack */
    struct kv_load load;
    struct attend *attend = NULL;
    double median[N_SCHEDULES];
    char name[64];
    enum status status = kv_load_create(&load, shape, error);
    if (status != STATUS_OK)
        return status;
    status = attend_create(&attend, program->pool, program->kernels, &shape->attend, error);
    if (status == STATUS_OK) {
        size_t best = 1;
        for (size_t i = 0; i < N_SCHEDULES; i++)
            seconds_of(&load, attend, schedules[i]);
        for (uint32_t run = 0; run < program->runs; run++)
            for (size_t i = 0; i < N_SCHEDULES; i++)
                seconds[i][run] = seconds_of(&load, attend, schedules[i]);
        for (size_t i = 0; i < N_SCHEDULES; i++) {
            median[i] = samples_of(seconds[i], program->runs).median;
            best = i > 1 && median[i] < median[best] ? i : best;
        }
        *speed_up = median[best] / median[0];
        kv_load_name(shape, name, sizeof(name));
        table_text(program->table, name);
        table_number(program->table, shape->attend.head_dim);
        table_number(program->table, median[0] * 1e3);
        table_number(program->table, schedules[best]);
        table_number(program->table, median[best] * 1e3);
        table_number(program->table, median[1] * 1e3);
        table_number(program->table, *speed_up);
    }
    attend_destroy(attend);
    kv_load_destroy(&load);
    return status;
}

static void summary(struct table *table, const char *name, double speed_up)
{
    table_text(table, name);
    for (int i = 0; i < 5; i++)
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

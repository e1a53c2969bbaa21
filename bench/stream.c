/* stream.c - what this machine can do at most: read bandwidth and arithmetic with 1 to N lanes. */
#include "bench/measure/program.h"
#include "sys/samples.h"

#include <math.h>
#include <stddef.h>

static const struct table_column columns[] = {
    {.name = "lanes", .kind = TABLE_NUMBER},
    {.name = "read_GB_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "f32_GFLOP_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "int8_Gop_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "bf16_GFLOP_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "stream",
    .words = "[OPTION...]",
    .about =
        "Read bandwidth is the limit of decode, arithmetic that of prefill: every other "
        "program here takes its limit the same way, in its own run. With 1 to --lanes lanes; "
        "bandwidth is the median of --runs probes of a tenth of a second, arithmetic is measured "
        "once, from registers, in the widest instructions of this processor."};

enum { READ_BUDGET_MS = 100 };
static const size_t READ_BYTES = (size_t)1 << 30;

/* "-" where the processor has no instruction for it. */
static double in_giga(double per_s)
{
    return per_s > 0 ? per_s / 1e9 : NAN;
}

static enum status measure_lanes(struct program *program, uint32_t lanes, struct error *error)
{
    struct thread_pool *pool;
    double rates[TIMING_MAX_RUNS];
    const enum status status = thread_pool_create(&pool, lanes, error);
    if (status != STATUS_OK)
        return status;
    for (uint32_t i = 0; i < program->runs; i++)
        rates[i] = limits_read(pool, READ_BYTES, READ_BUDGET_MS);
    table_number(program->table, lanes);
    table_number(program->table, in_giga(samples_of(rates, program->runs).median));
    table_number(program->table, in_giga(limits_f32(pool)));
    table_number(program->table, in_giga(limits_int8(pool)));
    table_number(program->table, in_giga(limits_bf16(pool)));
    thread_pool_destroy(pool);
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    struct program program;
    struct error error = {0};
    int exit_code;
    if (!program_open(&program, &usage, NULL, columns, argc, argv, &exit_code))
        return exit_code;
    enum status status = STATUS_OK;
    for (uint32_t lanes = 1; lanes <= program.lanes && status == STATUS_OK; lanes++)
        status = measure_lanes(&program, lanes, &error);
    return program_close(&program, status, &error);
}

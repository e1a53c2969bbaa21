/* attention_prefill.c - a chunk of a prompt against its past and itself, beside the arithmetic limit. */
#include "bench/measure/kv_load.h"
#include "bench/measure/program.h"
#include "sys/clock.h"
#include "sys/samples.h"

#include <math.h>
#include <stddef.h>

static const struct table_column columns[] = {
    {.name = "kv", .width = 5},
    {.name = "dim", .kind = TABLE_NUMBER},
    {.name = "past", .kind = TABLE_NUMBER, .width = 6},
    {.name = "rows", .kind = TABLE_NUMBER},
    {.name = "ms", .kind = TABLE_NUMBER, .width = 8, .decimals = 2},
    {.name = "ms_min", .kind = TABLE_NUMBER, .width = 8, .decimals = 2},
    {.name = "ms_max", .kind = TABLE_NUMBER, .width = 8, .decimals = 2},
    {.name = "GFLOP_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "f32_GFLOP_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "of_limit", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "attention_prefill",
    .words = "[OPTION...]",
    .about =
        "Attention of 512 query tokens, 8 KV heads of 4 query heads, against past tokens and each "
        "other (causal); one layer. GFLOP_s counts 4 * head_dim operations for each query head "
        "and token that it sees; the limit is f32 fused multiply-add from registers, taken "
        "between any two runs, which q8_0's integer scores may pass. of_limit is the median of "
        "the runs' shares, each of its own moment."};

/* Runs, each beside the mean of the limits before and after it, which move on a shared host. */
struct runs {
    double seconds[TIMING_MAX_RUNS]; /* of a layer */
    double limit[TIMING_MAX_RUNS], share[TIMING_MAX_RUNS];
};

static enum status take_runs(struct runs *runs, struct program *program, const struct kv_load *load,
                             struct attend *attend, struct error *error)
{
    enum status status = kv_load_pass(load, attend, error); /* not counted */
    double before = limits_f32(program->pool);
    for (uint32_t i = 0; i < program->runs && status == STATUS_OK; i++) {
        const uint64_t begin = clock_ns();
        status = kv_load_pass(load, attend, error);
        runs->seconds[i] = (double)(clock_ns() - begin) * 1e-9 / load->n_layers;
        const double after = limits_f32(program->pool);
        runs->limit[i] = (before + after) / 2;
        runs->share[i] = load->layer_flops / runs->seconds[i] / runs->limit[i];
        before = after;
    }
    return status;
}

static void tell(struct program *program, const struct kv_load *load, struct runs *runs)
{
    const struct kv_load_shape *shape = &load->shape;
    const struct samples seconds = samples_of(runs->seconds, program->runs);
    table_text(program->table, kv_type_name(shape->attend.type));
    table_number(program->table, shape->attend.head_dim);
    table_number(program->table, shape->contexts[0]);
    table_number(program->table, shape->n_tokens);
    table_number(program->table, seconds.median * 1e3);
    table_number(program->table, seconds.min * 1e3);
    table_number(program->table, seconds.max * 1e3);
    table_number(program->table, load->layer_flops / seconds.median / 1e9);
    table_number(program->table, samples_of(runs->limit, program->runs).median / 1e9);
    table_number(program->table, samples_of(runs->share, program->runs).median);
}

static enum status measure_load(struct program *program, const struct kv_load_shape *shape,
                                struct error *error)
{
    static struct runs runs; /* too large for a stack */
    struct kv_load load;
    struct attend *attend = NULL;
    enum status status = kv_load_create(&load, shape, error);
    if (status != STATUS_OK)
        return status;
    status = attend_create(&attend, program->table_of_kernels, NULL, program->pool, &shape->attend,
                           error);
    if (status == STATUS_OK)
        status = take_runs(&runs, program, &load, attend, error);
    if (status == STATUS_OK)
        tell(program, &load, &runs);
    attend_destroy(attend);
    kv_load_destroy(&load);
    return status;
}

int main(int argc, char **argv)
{
    static const uint32_t pasts[] = {0, 16384};
    struct program program;
    struct error error = {0};
    int exit_code;
    if (!program_open(&program, &usage, NULL, columns, argc, argv, &exit_code))
        return exit_code;
    enum status status = STATUS_OK;
    for (size_t t = 0; kv_type_choices[t] != NULL; t++)
        for (uint32_t dim = 64; dim <= 128; dim *= 2)
            for (size_t i = 0; i < 2 && status == STATUS_OK; i++) {
                struct kv_load_shape shape = {
                    .attend = {.head_dim = dim, .group = 4, .scale = 1.0f / sqrtf((float)dim)},
                    .n_kv_heads = KV_LOAD_HEADS,
                    .n_sequences = 1,
                    .contexts = {pasts[i]},
                    .n_tokens = 512,
                    .least_bytes = 1}; /* arithmetic: where K and V come from counts little */
                kv_type_parse(&shape.attend.type, kv_type_choices[t]);
                status = measure_load(&program, &shape, &error);
            }
    return program_close(&program, status, &error);
}

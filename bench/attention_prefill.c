/* attention_prefill.c - a chunk of a prompt against its past and itself, beside the arithmetic limit. */
#include "bench/measure/kv_load.h"
#include "bench/measure/program.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

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
        "Attention of 512 query tokens, 8 KV heads of 4 query heads, against past tokens and "
        "each other (causal); one layer. GFLOP_s counts 4 * head_dim operations for each query "
        "head and token that it sees; the limit is f32 fused multiply-add from registers, which "
        "q8_0's integer scores may pass."};

struct run {
    struct kv_load load;
    struct attend *attend;
};

static void pass(void *context)
{
    struct run *run = context;
    if (kv_load_pass(&run->load, run->attend, NULL) != STATUS_OK)
        abort(); /* memory for the plan was there in the run before */
}

static enum status measure_load(struct program *program, const struct kv_load_shape *shape,
                                struct error *error)
{
    struct run run = {0};
    enum status status = kv_load_create(&run.load, shape, error);
    if (status != STATUS_OK)
        return status;
    status = attend_create(&run.attend, program->table_of_kernels, NULL, program->pool,
                           &shape->attend, error);
    if (status == STATUS_OK)
        status = kv_load_pass(&run.load, run.attend, error);
    if (status == STATUS_OK) {
        const double before = limits_f32(program->pool);
        const struct timing timing = timing_measure(program->runs, pass, &run);
        const double limit = (before + limits_f32(program->pool)) / 2;
        const double layer_s = timing.median_s / run.load.n_layers;
        const double rate = run.load.layer_flops / layer_s;
        table_text(program->table, kv_type_name(shape->attend.type));
        table_number(program->table, shape->attend.head_dim);
        table_number(program->table, shape->contexts[0]);
        table_number(program->table, shape->n_tokens);
        table_number(program->table, layer_s * 1e3);
        table_number(program->table, timing.min_s / run.load.n_layers * 1e3);
        table_number(program->table, timing.max_s / run.load.n_layers * 1e3);
        table_number(program->table, rate / 1e9);
        table_number(program->table, limit / 1e9);
        table_number(program->table, rate / limit);
    }
    attend_destroy(run.attend);
    kv_load_destroy(&run.load);
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

/* attention.c - decode attention over a KV cache that no cache level holds, beside its two limits:
 * the bytes at the read bandwidth, and the same loop on data in the first-level cache. */
#include "bench/measure/kv_load.h"
#include "bench/measure/program.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

static const struct table_column columns[] = {
    {.name = "lanes", .kind = TABLE_NUMBER},
    {.name = "kv", .width = 5},
    {.name = "dim", .kind = TABLE_NUMBER},
    {.name = "batch", .width = 32},
    {.name = "ms", .kind = TABLE_NUMBER, .width = 8, .decimals = 3},
    {.name = "ms_min", .kind = TABLE_NUMBER, .width = 8, .decimals = 3},
    {.name = "ms_max", .kind = TABLE_NUMBER, .width = 8, .decimals = 3},
    {.name = "GB_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "read_GB_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "loop_GB_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "of_limit", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "attention",
    .words = "[OPTION...]",
    .about =
        "Decode attention: one query token of each sequence of a batch against its KV cache, with "
        "8 "
        "KV heads of --group query heads, with 1 and with --lanes lanes. The layers that are "
        "walked "
        "in a run are together four times the last-level cache or more; times are of one layer. "
        "GB_s counts the bytes of K and V. Limits are of the same lanes: read_GB_s is the "
        "memory's, "
        "probed before and after each row; loop_GB_s is the tile kernel's over data in the "
        "first-level cache; of_limit is the share of the lower of the two."};

static const uint32_t uniform[] = {4096, 16384, 65536, 131072};
static const struct kv_load_shape ragged[] = {
    {.n_sequences = 4, .contexts = {1024, 4096, 16384, 65536}},
    {.n_sequences = 8, .contexts = {256, 512, 1024, 2048, 4096, 8192, 16384, 32768}},
    {.n_sequences = 16,
     .contexts = {2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048,
                  2048, 2048, 2048}},
};

struct choice {
    const char *type;
    uint32_t head_dim, group, context;
};

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

static double read_limit(struct thread_pool *pool)
{
    return limits_read(pool, 2 * kv_load_beyond_caches(), 60);
}

static enum status measure_load(struct program *program, struct thread_pool *pool,
                                const struct kv_load_shape *shape, double loop_limit,
                                struct error *error)
{
    struct run run = {0};
    char name[64];
    enum status status = kv_load_create(&run.load, shape, error);
    if (status != STATUS_OK)
        return status;
    status = attend_create(&run.attend, pool, program->kernels, &shape->attend, error);
    if (status == STATUS_OK)
        status = kv_load_pass(&run.load, run.attend, error);
    if (status == STATUS_OK) {
        const double before = read_limit(pool);
        const struct timing timing = timing_measure(program->runs, pass, &run);
        const double read = (before + read_limit(pool)) / 2;
        const double layer_s = timing.median_s / run.load.n_layers;
        const double rate = (double)run.load.layer_bytes / layer_s;
        kv_load_name(shape, name, sizeof(name));
        table_number(program->table, thread_pool_lanes(pool));
        table_text(program->table, kv_type_name(shape->attend.type));
        table_number(program->table, shape->attend.head_dim);
        table_text(program->table, name);
        table_number(program->table, layer_s * 1e3);
        table_number(program->table, timing.min_s / run.load.n_layers * 1e3);
        table_number(program->table, timing.max_s / run.load.n_layers * 1e3);
        table_number(program->table, rate / 1e9);
        table_number(program->table, read / 1e9);
        table_number(program->table, loop_limit / 1e9);
        table_number(program->table, rate / fmin(read, loop_limit));
    }
    attend_destroy(run.attend);
    kv_load_destroy(&run.load);
    return status;
}

/* All batches of one type, head_dim and number of lanes. */
static enum status measure_shape(struct program *program, struct thread_pool *pool,
                                 const struct choice *choice, const struct attend_shape *attend,
                                 struct error *error)
{
    const double loop = kv_load_loop_limit(pool, program->kernels, attend, attend->group);
    struct kv_load_shape shape = {.attend = *attend,
                                  .n_kv_heads = KV_LOAD_HEADS,
                                  .n_sequences = 1,
                                  .n_tokens = 1,
                                  .least_bytes = kv_load_beyond_caches()};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof(uniform) / sizeof(uniform[0]) && status == STATUS_OK; i++) {
        shape.contexts[0] = choice->context > 0 ? choice->context : uniform[i];
        status = measure_load(program, pool, &shape, loop, error);
        if (choice->context > 0)
            return status;
    }
    for (size_t i = 0; i < sizeof(ragged) / sizeof(ragged[0]) && status == STATUS_OK; i++) {
        struct kv_load_shape batch = ragged[i];
        batch.attend = shape.attend;
        batch.n_kv_heads = shape.n_kv_heads;
        batch.n_tokens = 1;
        batch.least_bytes = shape.least_bytes;
        status = measure_load(program, pool, &batch, loop, error);
    }
    return status;
}

static enum status measure_lanes(struct program *program, const struct choice *choice,
                                 uint32_t lanes, struct error *error)
{
    static const uint32_t dims[] = {64, 128};
    struct thread_pool *pool;
    enum status status = thread_pool_create(&pool, lanes, error);
    if (status != STATUS_OK)
        return status;
    for (size_t t = 0; kv_type_choices[t] != NULL && status == STATUS_OK; t++)
        for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]) && status == STATUS_OK; d++) {
            struct attend_shape shape = {.head_dim = dims[d], .group = choice->group};
            kv_type_parse(&shape.type, kv_type_choices[t]);
            if ((choice->type != NULL ? kv_type_choices[t] != choice->type
                                      : shape.type == KV_F32) ||
                (choice->head_dim > 0 && d > 0))
                continue;
            if (choice->head_dim > 0)
                shape.head_dim = choice->head_dim;
            shape.scale = 1.0f / sqrtf((float)shape.head_dim);
            status = measure_shape(program, pool, choice, &shape, error);
        }
    thread_pool_destroy(pool);
    return status;
}

int main(int argc, char **argv)
{
    struct choice choice = {0};
    const struct option options[] = {{.kind = OPTION_SECTION, .help = "What is measured"},
                                     {.name = "kv-type",
                                      .kind = OPTION_CHOICE,
                                      .value = &choice.type,
                                      .choices = kv_type_choices,
                                      .help = "one type; f16, bf16 and q8_0 unless given"},
                                     {.name = "head-dim",
                                      .kind = OPTION_U32,
                                      .value = &choice.head_dim,
                                      .argument = "N",
                                      .least = 8,
                                      .most = 512,
                                      .help = "one head_dim; 64 and 128 unless given"},
                                     {.name = "group",
                                      .kind = OPTION_U32,
                                      .value = &choice.group,
                                      .argument = "N",
                                      .least = 1,
                                      .most = 64,
                                      .help = "query heads of each KV head",
                                      .fallback = "4"},
                                     {.name = "context",
                                      .kind = OPTION_U32,
                                      .value = &choice.context,
                                      .argument = "N",
                                      .least = TILE_TOKENS,
                                      .most = 1u << 22,
                                      .help = "tokens of one sequence; many batches unless given"},
                                     {.kind = 0}};
    struct program program;
    struct error error = {0};
    int exit_code;
    if (!program_open(&program, &usage, options, columns, argc, argv, &exit_code))
        return exit_code;
    enum status status = measure_lanes(&program, &choice, 1, &error);
    if (status == STATUS_OK && program.lanes > 1)
        status = measure_lanes(&program, &choice, program.lanes, &error);
    return program_close(&program, status, &error);
}

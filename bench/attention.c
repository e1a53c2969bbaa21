/* attention.c - decode attention over a KV cache that no cache level holds, beside its two limits:
 * the bytes at the read bandwidth, and the same loop on data in the first-level cache.
 *
 * Limits move within seconds on a shared host, so they are taken between any two runs: limits, run,
 * limits, run, limits. A run is put beside the mean of those before and after it; where these two
 * differ, nobody knows what the limit was during the run, and it is taken again. */
#include "bench/measure/kv_load.h"
#include "bench/measure/kv_loop.h"
#include "bench/measure/program.h"
#include "sys/clock.h"
#include "sys/samples.h"

#include <math.h>
#include <stddef.h>

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
    {.name = "of_limit", .kind = TABLE_NUMBER, .decimals = 3},
    {.name = "of_min", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "of_max", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "attention",
    .words = "[OPTION...]",
    .about =
        "Decode attention: one query token of each sequence of a batch against its KV cache, with "
        "8 KV heads of --group query heads, with 1 and with --lanes lanes. The layers that are "
        "walked in a run are together several times the last-level cache; times are of one layer. "
        "GB_s counts the bytes of K and V. Limits are of the same lanes, taken before and after "
        "each run: read_GB_s is the memory's, the fastest of several ways to read; loop_GB_s is "
        "the tile kernel's over data in the first-level cache. of_limit is the median of the runs' "
        "shares of the lower one, each of its own moment; a run whose limits before and after it "
        "differ by more than a tenth is taken again, at most --runs times in a row of the table."};

/* What is measured with one lane, and with all. */
struct side {
    struct thread_pool *pool;
    struct limits_reader *reader;
};

struct choice {
    const char *type;
    uint32_t head_dim, group, context;
};

static const struct kv_load_shape batches[] = {
    {.n_sequences = 1, .contexts = {4096}},
    {.n_sequences = 1, .contexts = {16384}},
    {.n_sequences = 1, .contexts = {65536}},
    {.n_sequences = 1, .contexts = {131072}},
    {.n_sequences = 4, .contexts = {1024, 4096, 16384, 65536}},
    {.n_sequences = 8, .contexts = {256, 512, 1024, 2048, 4096, 8192, 16384, 32768}},
    {.n_sequences = 16,
     .contexts = {2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048, 2048,
                  2048, 2048, 2048}},
};

/* ---- one row ------------------------------------------------------------------------------- */

struct limits {
    double read, loop; /* bytes per second */
};

static struct limits take_limits(const struct side *side, struct kv_loop *loop)
{
    return (struct limits){limits_reader_rate(side->reader), kv_loop_rate(loop)};
}

static double lower(struct limits limits)
{
    return fmin(limits.read, limits.loop);
}

/* Of each run. */
struct runs {
    uint32_t n;
    double seconds[TIMING_MAX_RUNS], read[TIMING_MAX_RUNS], loop[TIMING_MAX_RUNS],
        share[TIMING_MAX_RUNS];
};

static enum status take_runs(struct runs *runs, uint32_t n, const struct side *side,
                             const struct kv_load *load, struct attend *attend,
                             struct kv_loop *loop, struct error *error)
{
    enum status status = kv_load_pass(load, attend, error); /* not counted */
    struct limits before = take_limits(side, loop);
    runs->n = 0;
    for (uint32_t again = 0; runs->n < n && status == STATUS_OK;) {
        const uint64_t begin = clock_ns();
        status = kv_load_pass(load, attend, error);
        const double seconds = (double)(clock_ns() - begin) * 1e-9 / load->n_layers;
        const struct limits after = take_limits(side, loop);
        const struct limits during = {(before.read + after.read) / 2,
                                      (before.loop + after.loop) / 2};
        const bool moved = fabs(lower(after) - lower(before)) > 0.1 * lower(before);
        before = after;
        if (moved && again++ < n)
            continue;
        runs->seconds[runs->n] = seconds;
        runs->read[runs->n] = during.read;
        runs->loop[runs->n] = during.loop;
        runs->share[runs->n++] = (double)load->layer_bytes / seconds / lower(during);
    }
    return status;
}

static void tell(struct program *program, uint32_t lanes, const struct kv_load *load,
                 struct runs *runs)
{
    const struct samples seconds = samples_of(runs->seconds, runs->n);
    const struct samples share = samples_of(runs->share, runs->n);
    char name[64];
    kv_load_name(&load->shape, name, sizeof(name));
    table_number(program->table, lanes);
    table_text(program->table, kv_type_name(load->shape.attend.type));
    table_number(program->table, load->shape.attend.head_dim);
    table_text(program->table, name);
    table_number(program->table, seconds.median * 1e3);
    table_number(program->table, seconds.min * 1e3);
    table_number(program->table, seconds.max * 1e3);
    table_number(program->table, (double)load->layer_bytes / seconds.median / 1e9);
    table_number(program->table, samples_of(runs->read, runs->n).median / 1e9);
    table_number(program->table, samples_of(runs->loop, runs->n).median / 1e9);
    table_number(program->table, share.median);
    table_number(program->table, share.min);
    table_number(program->table, share.max);
}

static enum status measure_side(struct program *program, const struct side *side,
                                const struct kv_load *load, struct error *error)
{
    static struct runs runs; /* too large for a stack */
    struct attend *attend = NULL;
    struct kv_loop *loop = NULL;
    enum status status = attend_create(&attend, program->table_of_kernels, NULL, side->pool,
                                       &load->shape.attend, error);
    if (status == STATUS_OK)
        status = kv_loop_create(&loop, side->pool, program->kernels, load, error);
    if (status == STATUS_OK)
        status = take_runs(&runs, program->runs, side, load, attend, loop, error);
    if (status == STATUS_OK)
        tell(program, thread_pool_lanes(side->pool), load, &runs);
    kv_loop_destroy(loop);
    attend_destroy(attend);
    return status;
}

/* ---- all rows ------------------------------------------------------------------------------ */

/* All batches of one type and head_dim, on each side. */
static enum status measure_shape(struct program *program, const struct side *sides, size_t n_sides,
                                 const struct choice *choice, const struct attend_shape *attend,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    const size_t n = choice->context > 0 ? 1 : sizeof(batches) / sizeof(batches[0]);
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        struct kv_load load;
        struct kv_load_shape shape = batches[i];
        if (choice->context > 0)
            shape.contexts[0] = choice->context;
        shape.attend = *attend;
        shape.n_kv_heads = KV_LOAD_HEADS;
        shape.n_tokens = 1;
        shape.least_bytes = kv_load_beyond_caches();
        status = kv_load_create(&load, &shape, error);
        if (status != STATUS_OK)
            break;
        for (size_t side = 0; side < n_sides && status == STATUS_OK; side++)
            status = measure_side(program, &sides[side], &load, error);
        kv_load_destroy(&load);
    }
    return status;
}

static enum status measure(struct program *program, const struct choice *choice,
                           const struct side *sides, size_t n_sides, struct error *error)
{
    static const uint32_t dims[] = {64, 128};
    enum status status = STATUS_OK;
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
            status = measure_shape(program, sides, n_sides, choice, &shape, error);
        }
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
    struct thread_pool *alone = NULL;
    struct side sides[2] = {{0}};
    size_t n_sides = program.lanes > 1 ? 2 : 1;
    enum status status = thread_pool_create(&alone, 1, &error);
    sides[0].pool = alone;
    sides[1].pool = program.pool;
    for (size_t i = 0; i < n_sides && status == STATUS_OK; i++)
        status =
            limits_reader_create(&sides[i].reader, sides[i].pool, kv_load_beyond_caches(), &error);
    if (status == STATUS_OK)
        status = measure(&program, &choice, sides, n_sides, &error);
    for (size_t i = 0; i < n_sides; i++)
        limits_reader_destroy(sides[i].reader);
    thread_pool_destroy(alone);
    return program_close(&program, status, &error);
}

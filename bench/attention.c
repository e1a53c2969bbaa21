/* attention.c - decode attention over a KV cache that no cache level holds, beside its two limits:
 * the bytes at the read bandwidth, and the same loop on data in the first-level cache.
 *
 * Limits move within milliseconds on a shared host, so a run is cut in pieces of a few
 * milliseconds, and limits are taken between any two: limits, piece, limits, piece, limits. A piece
 * is put beside the mean of those before and after it, and the median is that of all pieces of all
 * runs. */
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
        "walked in a run are together several times the last-level cache. A run is taken in pieces "
        "of whole layers, 32 MiB and more; times are of one layer. "
        "GB_s counts the bytes of K and V. Limits are of the same lanes, taken before and after "
        "each piece: read_GB_s is the memory's, by the way to read whose median is the fastest in "
        "this row; loop_GB_s is the tile kernel's over data in the first-level cache. of_limit is "
        "the median of the pieces' shares of the lower one, each of its own moment; no piece is "
        "left out, and there are 15 at least."};

/* What is measured with one lane, and with all. */
struct side {
    struct thread_pool *pool;
    struct limits_reader *reader;
};

struct choice {
    const char *type, *batches;
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

enum {
    PIECE_BYTES = 32 << 20, /* of K and V, at least: a millisecond */
    PROBE_PARTS = 4,        /* a limit's look is at so many times fewer bytes than a piece has */
    LEAST_PIECES = 15,
};

/* In bytes per second. */
struct limits {
    double read[LIMITS_PATTERNS], loop;
};

static struct limits take_limits(const struct side *side, struct kv_loop *loop, size_t bytes)
{
    struct limits limits;
    limits_reader_rates(side->reader, bytes, limits.read);
    limits.loop = kv_loop_rate(loop, bytes);
    return limits;
}

/* Of each piece; limits[i] and limits[i + 1] were taken before and after piece i. */
struct pieces {
    uint32_t n;
    double seconds[TIMING_MAX_RUNS]; /* of a layer */
    struct limits limits[TIMING_MAX_RUNS + 1];
    double read[TIMING_MAX_RUNS], loop[TIMING_MAX_RUNS], share[TIMING_MAX_RUNS];
};

static enum status take_pieces(struct pieces *pieces, uint32_t n_passes, const struct side *side,
                               const struct kv_load *load, struct attend *attend,
                               struct kv_loop *loop, struct error *error)
{
    const uint32_t n_layers = (uint32_t)((PIECE_BYTES + load->layer_bytes - 1) / load->layer_bytes);
    const size_t probe_bytes = n_layers * load->layer_bytes / PROBE_PARTS;
    const uint64_t wanted = (uint64_t)n_passes * load->n_layers / n_layers;
    pieces->n = (uint32_t)fmin(fmax((double)wanted, LEAST_PIECES), TIMING_MAX_RUNS);

    enum status status = kv_load_pass(load, attend, error); /* not counted */
    pieces->limits[0] = take_limits(side, loop, probe_bytes);
    for (uint32_t i = 0, layer = 0; i < pieces->n && status == STATUS_OK; i++) {
        const uint64_t begin = clock_ns();
        status = kv_load_layers(load, attend, layer, n_layers, error);
        pieces->seconds[i] = (double)(clock_ns() - begin) * 1e-9 / n_layers;
        pieces->limits[i + 1] = take_limits(side, loop, probe_bytes);
        layer = (layer + n_layers) % load->n_layers;
    }
    return status;
}

/* The pattern that read fastest in this row, by its median. */
static uint32_t fastest_pattern(const struct pieces *pieces)
{
    double rates[TIMING_MAX_RUNS + 1], most = 0;
    uint32_t fastest = 0;
    for (uint32_t pattern = 0; pattern < LIMITS_PATTERNS; pattern++) {
        for (uint32_t i = 0; i <= pieces->n; i++)
            rates[i] = pieces->limits[i].read[pattern];
        const double median = samples_of(rates, pieces->n + 1).median;
        fastest = median > most ? pattern : fastest;
        most = fmax(median, most);
    }
    return fastest;
}

static void compare_pieces(struct pieces *pieces, size_t layer_bytes)
{
    const uint32_t pattern = fastest_pattern(pieces);
    for (uint32_t i = 0; i < pieces->n; i++) {
        const struct limits *before = &pieces->limits[i], *after = before + 1;
        pieces->read[i] = (before->read[pattern] + after->read[pattern]) / 2;
        pieces->loop[i] = (before->loop + after->loop) / 2;
        pieces->share[i] =
            (double)layer_bytes / pieces->seconds[i] / fmin(pieces->read[i], pieces->loop[i]);
    }
}

static void tell(struct program *program, uint32_t lanes, const struct kv_load *load,
                 struct pieces *pieces)
{
    const struct samples seconds = samples_of(pieces->seconds, pieces->n);
    const struct samples share = samples_of(pieces->share, pieces->n);
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
    table_number(program->table, samples_of(pieces->read, pieces->n).median / 1e9);
    table_number(program->table, samples_of(pieces->loop, pieces->n).median / 1e9);
    table_number(program->table, share.median);
    table_number(program->table, share.min);
    table_number(program->table, share.max);
}

static enum status measure_side(struct program *program, const struct side *side,
                                const struct kv_load *load, struct error *error)
{
    static struct pieces pieces; /* too large for a stack */
    struct attend *attend = NULL;
    struct kv_loop *loop = NULL;
    enum status status = attend_create(&attend, program->table_of_kernels, NULL, side->pool,
                                       &load->shape.attend, error);
    if (status == STATUS_OK)
        status = kv_loop_create(&loop, side->pool, program->kernels, load, error);
    if (status == STATUS_OK)
        status = take_pieces(&pieces, program->runs, side, load, attend, loop, error);
    if (status == STATUS_OK) {
        compare_pieces(&pieces, load->layer_bytes);
        tell(program, thread_pool_lanes(side->pool), load, &pieces);
    }
    kv_loop_destroy(loop);
    attend_destroy(attend);
    return status;
}

/* ---- all rows ------------------------------------------------------------------------------ */

/* The batches chosen of one type and head_dim, on each side. */
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
        char name[64];
        kv_load_name(&shape, name, sizeof(name));
        if (!program_names(choice->batches, name))
            continue;
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
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "What is measured"},
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
        {.name = "batches",
         .kind = OPTION_TEXT,
         .value = &choice.batches,
         .argument = "LIST",
         .help = "batches by name, as in 4k,16 x 2k; all unless given"},
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

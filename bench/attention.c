/* attention.c - decode attention over a KV cache that no cache level holds, beside its two limits:
 * the bytes at the read bandwidth, and the same loop on data in the first-level cache.
 *
 * Limits move within milliseconds on a shared host, and from minute to minute. So the batches of
 * one KV type and head_dim take turns, piece by piece of a few milliseconds, and the limits are
 * looked at between any two pieces: look, piece of 4k, look, piece of 16k, look ... A piece is put
 * beside the mean of the looks before and after it; a row's figures are medians of its pieces, which
 * are of the same seconds as all other rows'. */
#include "bench/measure/kv_load.h"
#include "bench/measure/kv_loop.h"
#include "bench/measure/program.h"
#include "sys/clock.h"
#include "sys/samples.h"

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
    {.name = "of_limit", .kind = TABLE_NUMBER, .decimals = 3},
    {.name = "of_min", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "of_max", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "attention",
    .words = "[OPTION...]",
    .about =
        "Decode attention: one query token of each sequence of a batch against its KV cache, with "
        "8 KV heads of --group query heads, with 1 and with --lanes lanes. Each batch has layers "
        "that together are several times the last-level cache, and walks them in turn. It does so "
        "in pieces of whole layers, 32 MiB and more; all batches of a KV type and head_dim take "
        "turns, piece by piece, in --runs rounds after one that is not counted. ms is a layer's. "
        "GB_s counts the bytes of K and V. Limits are of the same lanes, taken before and after "
        "each piece: read_GB_s is the memory's, by the way to read whose median is the fastest in "
        "this round of batches; loop_GB_s is the tile kernel's over data in the first-level cache. "
        "of_limit is the median of the pieces' shares of the lower one, each of its own moment; no "
        "piece is left out."};

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

/* ---- pieces, in turns ---------------------------------------------------------------------- */

enum {
    PIECE_BYTES = 32 << 20, /* of K and V, at least: a millisecond */
    LOOK_BYTES = 12 << 20,  /* in each of LIMITS_PATTERNS ways, and in the loop */
    N_BATCHES = sizeof(batches) / sizeof(batches[0]),
};

/* In bytes per second. */
struct look {
    double read[LIMITS_PATTERNS], loop;
};

struct row {
    struct kv_load load;
    struct attend *attend;           /* of the side that is measured */
    uint32_t piece_layers, at_layer; /* layers of a piece, and the first of the next one */
    double *seconds;                 /* [round] of a layer */
};

/* The batches of one KV type and head_dim, on one side. In round r, row i's piece lies between
 * looks[r * n_rows + i] and the one behind it. */
struct turns {
    const struct side *side;
    struct kv_loop *loop;
    struct row rows[N_BATCHES];
    uint32_t n_rows, n_rounds;
    struct look *looks; /* [n_rounds * n_rows + 1] */
    double *values;     /* [the same] scratch */
};

static struct look take_look(const struct turns *turns)
{
    struct look look;
    limits_reader_rates(turns->side->reader, LOOK_BYTES, look.read);
    look.loop = kv_loop_rate(turns->loop, LOOK_BYTES);
    return look;
}

static enum status take_piece(struct row *row, double *seconds, struct error *error)
{
    const uint64_t begin = clock_ns();
    const enum status status =
        kv_load_layers(&row->load, row->attend, row->at_layer, row->piece_layers, error);
    *seconds = (double)(clock_ns() - begin) * 1e-9 / row->piece_layers;
    row->at_layer = (row->at_layer + row->piece_layers) % row->load.n_layers;
    return status;
}

static enum status take_turns(struct turns *turns, struct error *error)
{
    enum status status = STATUS_OK;
    double uncounted;
    for (uint32_t i = 0; i < turns->n_rows && status == STATUS_OK; i++)
        status = take_piece(&turns->rows[i], &uncounted, error);
    struct look *look = turns->looks;
    *look = take_look(turns);
    for (uint32_t round = 0; round < turns->n_rounds; round++)
        for (uint32_t i = 0; i < turns->n_rows && status == STATUS_OK; i++) {
            status = take_piece(&turns->rows[i], &turns->rows[i].seconds[round], error);
            *++look = take_look(turns);
        }
    return status;
}

/* ---- rows ---------------------------------------------------------------------------------- */

/* The pattern that read fastest, by its median of all looks. */
static uint32_t fastest_pattern(const struct turns *turns)
{
    const uint32_t n = turns->n_rounds * turns->n_rows + 1;
    double most = 0;
    uint32_t fastest = 0;
    for (uint32_t pattern = 0; pattern < LIMITS_PATTERNS; pattern++) {
        for (uint32_t i = 0; i < n; i++)
            turns->values[i] = turns->looks[i].read[pattern];
        const double median = samples_of(turns->values, n).median;
        fastest = median > most ? pattern : fastest;
        most = fmax(median, most);
    }
    return fastest;
}

/* What a row's piece is put beside. */
struct beside {
    double read, loop, share;
};

static struct beside beside(const struct turns *turns, uint32_t row, uint32_t round,
                            uint32_t pattern)
{
    const struct look *before = &turns->looks[round * turns->n_rows + row], *after = before + 1;
    struct beside b = {.read = (before->read[pattern] + after->read[pattern]) / 2,
                       .loop = (before->loop + after->loop) / 2};
    b.share = (double)turns->rows[row].load.layer_bytes / turns->rows[row].seconds[round] /
              fmin(b.read, b.loop);
    return b;
}

static struct samples of_rounds(const struct turns *turns, uint32_t row, uint32_t pattern,
                                size_t field)
{
    for (uint32_t round = 0; round < turns->n_rounds; round++) {
        const struct beside b = beside(turns, row, round, pattern);
        turns->values[round] = *(const double *)(const void *)((const char *)&b + field);
    }
    return samples_of(turns->values, turns->n_rounds);
}

static void tell(struct program *program, const struct turns *turns, uint32_t index,
                 uint32_t pattern)
{
    const struct row *row = &turns->rows[index];
    const struct samples read = of_rounds(turns, index, pattern, offsetof(struct beside, read));
    const struct samples loop = of_rounds(turns, index, pattern, offsetof(struct beside, loop));
    const struct samples share = of_rounds(turns, index, pattern, offsetof(struct beside, share));
    const struct samples seconds = samples_of(row->seconds, turns->n_rounds); /* sorts: the last */
    char name[64];
    kv_load_name(&row->load.shape, name, sizeof(name));
    table_number(program->table, thread_pool_lanes(turns->side->pool));
    table_text(program->table, kv_type_name(row->load.shape.attend.type));
    table_number(program->table, row->load.shape.attend.head_dim);
    table_text(program->table, name);
    table_number(program->table, seconds.median * 1e3);
    table_number(program->table, seconds.min * 1e3);
    table_number(program->table, seconds.max * 1e3);
    table_number(program->table, (double)row->load.layer_bytes / seconds.median / 1e9);
    table_number(program->table, read.median / 1e9);
    table_number(program->table, loop.median / 1e9);
    table_number(program->table, share.median);
    table_number(program->table, share.min);
    table_number(program->table, share.max);
}

/* ---- all rows ------------------------------------------------------------------------------ */

/* The batches chosen, with layers of seeded values. */
static enum status load_batches(struct turns *turns, const struct choice *choice,
                                const struct attend_shape *attend, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < (choice->context > 0 ? 1 : N_BATCHES) && status == STATUS_OK; i++) {
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
        struct row *row = &turns->rows[turns->n_rows];
        status = kv_load_create(&row->load, &shape, error);
        if (status != STATUS_OK)
            break;
        turns->n_rows++;
        row->piece_layers =
            (uint32_t)((PIECE_BYTES + row->load.layer_bytes - 1) / row->load.layer_bytes);
        row->seconds = calloc(turns->n_rounds, sizeof(*row->seconds));
        if (row->seconds == NULL)
            status = error_set(error, STATUS_NO_MEMORY, "no memory for %u rounds", turns->n_rounds);
    }
    const size_t n_looks = (size_t)turns->n_rounds * turns->n_rows + 1;
    turns->looks = calloc(n_looks, sizeof(*turns->looks));
    turns->values = calloc(n_looks, sizeof(*turns->values));
    if (status == STATUS_OK && (turns->looks == NULL || turns->values == NULL))
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %zu looks", n_looks);
    return status;
}

static enum status measure_side(struct program *program, struct turns *turns,
                                const struct side *side, struct error *error)
{
    turns->side = side;
    enum status status =
        kv_loop_create(&turns->loop, side->pool, program->kernels, &turns->rows[0].load, error);
    for (uint32_t i = 0; i < turns->n_rows && status == STATUS_OK; i++)
        status = attend_create(&turns->rows[i].attend, program->table_of_kernels, NULL, side->pool,
                               &turns->rows[i].load.shape.attend, error);
    if (status == STATUS_OK)
        status = take_turns(turns, error);
    const uint32_t pattern = status == STATUS_OK ? fastest_pattern(turns) : 0;
    for (uint32_t i = 0; i < turns->n_rows; i++) {
        if (status == STATUS_OK)
            tell(program, turns, i, pattern);
        attend_destroy(turns->rows[i].attend);
        turns->rows[i].attend = NULL;
    }
    kv_loop_destroy(turns->loop);
    turns->loop = NULL;
    return status;
}

/* The batches chosen of one type and head_dim, on each side. */
static enum status measure_shape(struct program *program, const struct side *sides, size_t n_sides,
                                 const struct choice *choice, const struct attend_shape *attend,
                                 struct error *error)
{
    struct turns turns = {.n_rounds = program->runs};
    enum status status = load_batches(&turns, choice, attend, error);
    for (size_t i = 0; i < n_sides && turns.n_rows > 0 && status == STATUS_OK; i++)
        status = measure_side(program, &turns, &sides[i], error);
    for (uint32_t i = 0; i < turns.n_rows; i++) {
        kv_load_destroy(&turns.rows[i].load);
        free(turns.rows[i].seconds);
    }
    free(turns.looks);
    free(turns.values);
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
                                      .otherwise = "f16, bf16 and q8_0",
                                      .help = "one type"},
                                     {.name = "head-dim",
                                      .kind = OPTION_U32,
                                      .value = &choice.head_dim,
                                      .argument = "N",
                                      .least = 8,
                                      .most = 512,
                                      .otherwise = "64 and 128",
                                      .help = "one head_dim"},
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
                                      .otherwise = "many batches",
                                      .help = "tokens of one sequence"},
                                     {.name = "batches",
                                      .kind = OPTION_TEXT,
                                      .value = &choice.batches,
                                      .argument = "LIST",
                                      .otherwise = "all",
                                      .help = "batches by name, as in 4k,16 x 2k"},
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

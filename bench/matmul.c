/* matmul.c - products with weights of each type, from one row (decode) to many (prefill), beside
 * both limits. */
#include "bench/measure/program.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct table_column columns[] = {
    {.name = "type", .width = 5},
    {.name = "outputs", .kind = TABLE_NUMBER},
    {.name = "columns", .kind = TABLE_NUMBER},
    {.name = "rows", .kind = TABLE_NUMBER},
    {.name = "us", .kind = TABLE_NUMBER, .width = 9, .decimals = 1},
    {.name = "min_us", .kind = TABLE_NUMBER, .width = 9, .decimals = 1},
    {.name = "max_us", .kind = TABLE_NUMBER, .width = 9, .decimals = 1},
    {.name = "GB_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "Gop_s", .kind = TABLE_NUMBER, .width = 6, .decimals = 1},
    {.name = "read_GB_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "limit_Gop_s", .kind = TABLE_NUMBER, .decimals = 0},
    {.name = "of_read", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "of_arithmetic", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "matmul",
    .words = "[OPTION...]",
    .about =
        "Products of activations with weights, preparing the activations included. GB_s are the "
        "bytes of the weights in the file, of_read their share of the read bandwidth; Gop_s "
        "counts a multiplication and an addition for each weight and row, of_arithmetic is its "
        "share of what the lanes can do from registers: f32 multiply-adds for floats, 8-bit "
        "products for blocks. Both limits are taken before and after each line, and the mean of "
        "the two counts. A run takes the next of several copies of the matrix, which together are "
        "larger than four times the last-level cache. One line for each shape and number of rows: "
        "the median of --runs."};

static const struct shape {
    uint32_t outputs, columns;
} shapes[] = {{2048, 2048}, {8192, 2048}, {2048, 8192}, {32000, 2048}};
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };
static const uint32_t row_counts[] = {1, 4, 8, 16, 128, 512};
enum { N_ROW_COUNTS = sizeof(row_counts) / sizeof(row_counts[0]) };
enum { MAX_ROWS = 512, MAX_COLUMNS = 8192, MAX_OUTPUTS = 32000, MAX_COPIES = 128 };

struct bench {
    struct program program;
    const char *type, *rows, *shape; /* NULL: all */
    uint32_t cache_mib;
    const struct kernels *kernels;
    struct device *device;
    struct matrix copies[MAX_COPIES];
    uint32_t n_copies, next;
    float *x, *y;
    uint32_t n_rows;
    struct limits_reader *reader;
};

/* In bytes and operations per second. */
struct limits {
    double read, arithmetic;
};

static struct limits take_limits(const struct bench *b, bool quantized)
{
    struct thread_pool *pool = b->program.pool;
    return (struct limits){.read = limits_reader_median(b->reader, 0),
                           .arithmetic = quantized ? limits_int8(pool) : limits_f32(pool)};
}

static void multiply(void *context)
{
    struct bench *b = context;
    const struct matrix *m = &b->copies[b->next];
    b->next = (b->next + 1) % b->n_copies;
    b->kernels->prepare(b->device, b->x, b->n_rows, m->n_columns, 1u << m->type);
    b->kernels->matmul(b->device, &(struct product){b->y, m->n_rows, m}, 1);
}

/* A list "1,16" has the number; NULL has all. */
static bool chosen(const char *list, uint32_t number)
{
    while (list != NULL && *list != '\0') {
        char *end;
        if (strtoul(list, &end, 10) == number)
            return true;
        list = *end == ',' ? end + 1 : NULL;
        if (list == NULL)
            return false;
    }
    return list == NULL;
}

static void measure_rows(struct bench *b)
{
    const struct matrix *m = &b->copies[0];
    const double weights = (double)m->n_rows * m->n_columns;
    const bool quantized = weight_traits(m->type)->block_elements > 1;
    struct table *t = b->program.table;
    struct limits before = take_limits(b, quantized);
    for (size_t i = 0; i < N_ROW_COUNTS; i++) {
        if (!chosen(b->rows, row_counts[i]))
            continue;
        b->n_rows = row_counts[i];
        const struct timing time = timing_measure(b->program.runs, multiply, b);
        const double bytes =
            (double)m->n_rows * (double)weight_row_bytes(m->type, m->n_columns) / time.median_s;
        const double operations = 2.0 * weights * b->n_rows / time.median_s;
        const struct limits after = take_limits(b, quantized);
        const double read = (before.read + after.read) / 2;
        const double limit = (before.arithmetic + after.arithmetic) / 2;
        table_text(t, weight_traits(m->type)->name);
        table_number(t, m->n_rows);
        table_number(t, m->n_columns);
        table_number(t, b->n_rows);
        table_number(t, time.median_s * 1e6);
        table_number(t, time.min_s * 1e6);
        table_number(t, time.max_s * 1e6);
        table_number(t, bytes / 1e9);
        table_number(t, operations / 1e9);
        table_number(t, read / 1e9);
        table_number(t, limit / 1e9);
        table_number(t, bytes / read);
        table_number(t, limit > 0 ? operations / limit : NAN);
        before = after;
    }
}

/* Copies of one matrix, as many as the caches cannot hold. */
static enum status measure_shape(struct bench *b, enum weight_type type, const uint8_t *weights,
                                 struct shape shape, struct error *error)
{
    const size_t bytes = shape.outputs * weight_row_bytes(type, shape.columns);
    const size_t wanted = (size_t)b->cache_mib * 4 * 1024 * 1024 / bytes + 1;
    enum status status = STATUS_OK;
    b->next = b->n_copies = 0;
    while (b->n_copies < wanted && b->n_copies < MAX_COPIES && status == STATUS_OK) {
        status =
            b->kernels->matrix_create(b->device, &b->copies[b->n_copies], type, weights,
                                      shape.columns, 0, shape.outputs, 0, shape.columns, error);
        b->n_copies += status == STATUS_OK;
    }
    if (status == STATUS_OK)
        measure_rows(b);
    for (uint32_t i = 0; i < b->n_copies; i++)
        b->kernels->matrix_destroy(b->device, &b->copies[i]);
    return status;
}

/* Any bytes are integers of a block; the halves of random floats are scales. Repeats after 1 MiB,
 * which nothing here can notice. */
static void fill_weights(uint8_t *weights, enum weight_type type, size_t bytes)
{
    enum { ELEMENTS = 1 << 18 };
    static float values[ELEMENTS];
    uint64_t state = 1;
    for (size_t i = 0; i < ELEMENTS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
    }
    const size_t piece = weight_row_bytes(type, ELEMENTS);
    weight_quantize(type, weights, values, ELEMENTS);
    for (size_t at = piece; at < bytes; at += piece)
        memcpy(weights + at, weights, bytes - at < piece ? bytes - at : piece);
}

static enum status measure_types(struct bench *b, struct error *error)
{
    const size_t most = (size_t)MAX_OUTPUTS * MAX_COLUMNS / 4 * sizeof(float);
    uint8_t *weights = malloc(most);
    enum status status = STATUS_OK;
    b->x = malloc((size_t)MAX_ROWS * MAX_COLUMNS * sizeof(*b->x));
    b->y = malloc((size_t)MAX_ROWS * MAX_OUTPUTS * sizeof(*b->y));
    if (weights == NULL || b->x == NULL || b->y == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for matrices");
    for (size_t i = 0; status == STATUS_OK && i < (size_t)MAX_ROWS * MAX_COLUMNS; i++)
        b->x[i] = (float)(i * 2654435761u % 2001) * 1e-3f - 1.0f;
    for (size_t t = 0; status == STATUS_OK && t < WEIGHT_TYPES; t++) {
        const enum weight_type type = weight_types[t];
        if (!program_names(b->type, weight_traits(type)->name))
            continue;
        fill_weights(weights, type, weight_row_bytes(type, (uint32_t)(most / sizeof(float))));
        for (size_t s = 0; s < N_SHAPES && status == STATUS_OK; s++)
            if (chosen(b->shape, (uint32_t)s + 1))
                status = measure_shape(b, type, weights, shapes[s], error);
    }
    free(weights);
    free(b->x);
    free(b->y);
    return status;
}

int main(int argc, char **argv)
{
    static struct bench b;
    const struct option own[] = {
        {.name = "types",
         .kind = OPTION_TEXT,
         .value = &b.type,
         .argument = "LIST",
         .otherwise = "all",
         .help = "weight types, as in Q4_0,Q4_K"},
        {.name = "shapes",
         .kind = OPTION_TEXT,
         .value = &b.shape,
         .argument = "LIST",
         .help = "1 to 4: outputs x columns 2048x2048, 8192x2048, 2048x8192, 32000x2048"},
        {.name = "rows",
         .kind = OPTION_TEXT,
         .value = &b.rows,
         .argument = "LIST",
         .help = "of 1,4,8,16,128,512"},
        {.name = "cache",
         .kind = OPTION_U32,
         .value = &b.cache_mib,
         .argument = "MIB",
         .fallback = "32",
         .least = 1,
         .most = 1024,
         .help = "the last-level cache"},
        {.kind = 0}};
    struct error error = {0};
    int exit_code;
    if (!program_open(&b.program, &usage, own, columns, argc, argv, &exit_code))
        return exit_code;
    enum status status = kernels_choose(&b.kernels, b.program.kernels, &error);
    if (status == STATUS_OK)
        status = limits_reader_create(&b.reader, b.program.pool,
                                      (size_t)b.cache_mib * 4 * 1024 * 1024, &error);
    if (status == STATUS_OK)
        status = b.kernels->open(&b.device, b.program.pool, 0, &error);
    if (status == STATUS_OK) {
        status = b.kernels->workspace_reserve(b.device, MAX_ROWS, MAX_COLUMNS, &error);
        if (status == STATUS_OK)
            status = measure_types(&b, &error);
        b.kernels->close(b.device);
    }
    limits_reader_destroy(b.reader);
    return program_close(&b.program, status, &error);
}

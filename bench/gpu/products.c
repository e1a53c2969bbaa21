/* products.c - what a GPU reads, and how near products of the table `cuda` come to it.
 *
 *     products [--types Q4_0,F16] [--shapes 14336x4096] [--rows 1,8]
 *              [--kernels NAME] [--csv FILE]
 *
 * For each type, shape (outputs x columns) and number of rows: microseconds of one product, bytes
 * of weights per second, their share of the read rate measured first, and TFLOP/s. Several copies
 * of a matrix take turns, 320 MiB together at least, so that weights come from memory. Products are
 * recorded in a CUDA graph, one after the other as in a decode step, and replayed: the time is that
 * of the whole chain divided by the number of products, so what lies between two of them counts,
 * and launches from the host do not. The median of seven replays. Exit status 3: there is no GPU,
 * or no cuBLASLt; 4: a row has failed (rows.h: it has no line in the CSV file, and the others are measured).
 * Built by bench/gpu.sh. */
#include "bench/gpu/rows.h"
#include "kernels/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_COPIES = 512,
    MOST_ROWS = 2048,
    MOST_COLUMNS = 14336,
    MOST_OUTPUTS = 16384,
    MOST_CHOSEN = 16,
    REPLAYS = 7
};
static const size_t LEAST_BYTES = (size_t)320 << 20; /* of all copies */

struct bench {
    struct rows *rows;
    const struct kernels *kernels;
    struct device *device;
    FILE *csv;
    double read_rate;
    float *x, *y;
    struct matrix copies[MOST_COPIES];
    uint32_t n_copies;
    /* chosen on the command line; none: the usual ones */
    const char *name;
    uint32_t chosen_types, rows_chosen[MOST_CHOSEN], n_rows, shapes[MOST_CHOSEN][2], n_shapes;
};

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void check(struct bench *b, cudaError_t result, const char *what)
{
    if (result == cudaSuccess)
        return;
    fprintf(stderr, "products: %s: %s\n", what, cudaGetErrorString(result));
    b->kernels->close(b->device);
    exit(ROWS_FAILED);
}

static void check_status(struct bench *b, enum status status, const struct error *error)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "products: %s\n", error->text);
    b->kernels->close(b->device);
    exit(ROWS_FAILED);
}

static uint32_t random_u32(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* ---- memory ---- */

static void measure_memory(struct bench *b)
{
    const size_t bytes = (size_t)4 << 30;
    void *from, *to;
    struct error error;
    cudaEvent_t begin, end;
    float ms[REPLAYS];
    b->read_rate = b->kernels->read_rate(b->device, bytes, 500);
    check_status(b, b->kernels->memory_take(b->device, &from, bytes / 2, &error), &error);
    check_status(b, b->kernels->memory_take(b->device, &to, bytes / 2, &error), &error);
    check(b, cudaEventCreate(&begin), "event");
    check(b, cudaEventCreate(&end), "event");
    b->kernels->copy(b->device, to, from, bytes / 2);
    for (int i = 0; i < REPLAYS; i++) {
        check(b, cudaEventRecord(begin, b->device->stream), "copy");
        b->kernels->copy(b->device, to, from, bytes / 2);
        check(b, cudaEventRecord(end, b->device->stream), "copy");
        check(b, cudaEventSynchronize(end), "copy");
        check(b, cudaEventElapsedTime(&ms[i], begin, end), "copy");
    }
    qsort(ms, REPLAYS, sizeof(ms[0]), by_value);
    printf("read %.0f GB/s, copy %.0f GB/s (read and written)\n", b->read_rate / 1e9,
           (double)bytes / (ms[REPLAYS / 2] * 1e-3) / 1e9);
    b->kernels->memory_give(b->device, from);
    b->kernels->memory_give(b->device, to);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
}

/* ---- products ---- */

static void create_copies(struct bench *b, enum weight_type type, uint32_t n_outputs,
                          uint32_t n_columns)
{
    const struct weight_traits *traits = weight_traits(type);
    const size_t bytes = weight_row_bytes(type, n_columns) * n_outputs;
    uint8_t *source = malloc(bytes);
    uint64_t seed = 1;
    struct error error;
    if (source == NULL) {
        fprintf(stderr, "products: no memory\n");
        exit(ROWS_FAILED);
    }
    /* Random bytes; scales, at the block's begin or end, are small numbers. */
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        const uint32_t word = random_u32(&seed);
        memcpy(source + i, &word, 4);
    }
    for (size_t i = 0; i < bytes; i += traits->block_bytes) {
        const uint16_t scale = 0x2000; /* 2^-7 */
        if (traits->block_elements == 1) {
            if (type == WEIGHT_F32) {
                source[i + 3] = (source[i + 3] & 0x80) | 0x3c;
            } else {
                source[i + 1] = (source[i + 1] & 0x80) | (type == WEIGHT_F16 ? 0x20 : 0x3c);
            }
        } else {
            memcpy(source + i + (type == WEIGHT_Q6_K ? 208 : 0), &scale, 2);
            if (type == WEIGHT_Q4_1 || type == WEIGHT_Q5_1 || type == WEIGHT_Q4_K ||
                type == WEIGHT_Q5_K)
                memcpy(source + i + 2, &scale, 2);
        }
    }
    b->n_copies = (uint32_t)(LEAST_BYTES / bytes) + 2;
    if (b->n_copies > MOST_COPIES)
        b->n_copies = MOST_COPIES;
    for (uint32_t i = 0; i < b->n_copies; i++)
        check_status(b,
                     b->kernels->matrix_create(b->device, &b->copies[i], type, source, n_columns, 0,
                                               n_outputs, 0, n_columns, &error),
                     &error);
    free(source);
}

/* Seconds of one product. */
static double measure(struct bench *b, uint32_t n_rows)
{
    const struct matrix *m = &b->copies[0];
    const uint32_t n = n_rows > 64 && b->n_copies > 8 ? 8 : b->n_copies;
    struct error error;
    cudaGraph_t graph;
    cudaGraphExec_t program;
    cudaEvent_t begin, end;
    float ms[REPLAYS];
    b->kernels->prepare(b->device, b->x, n_rows, m->n_columns, 1u << m->type);
    b->kernels->matmul(b->device, &(struct product){b->y, m->n_rows, m}, 1); /* loads the kernel */
    check_status(b, b->kernels->finish(b->device, &error), &error);
    check(b, cudaStreamBeginCapture(b->device->stream, cudaStreamCaptureModeThreadLocal),
          "capture");
    for (uint32_t i = 0; i < n; i++)
        b->kernels->matmul(b->device, &(struct product){b->y, m->n_rows, &b->copies[i]}, 1);
    check(b, cudaStreamEndCapture(b->device->stream, &graph), "capture");
    check(b, cudaGraphInstantiate(&program, graph, 0), "graph");
    check(b, cudaEventCreate(&begin), "event");
    check(b, cudaEventCreate(&end), "event");
    for (int i = -2; i < REPLAYS; i++) {
        check(b, cudaEventRecord(begin, b->device->stream), "replay");
        check(b, cudaGraphLaunch(program, b->device->stream), "replay");
        check(b, cudaEventRecord(end, b->device->stream), "replay");
        check(b, cudaEventSynchronize(end), "replay");
        if (i >= 0)
            check(b, cudaEventElapsedTime(&ms[i], begin, end), "replay");
    }
    check_status(b, b->kernels->finish(b->device, &error), &error);
    qsort(ms, REPLAYS, sizeof(ms[0]), by_value);
    cudaGraphExecDestroy(program);
    cudaGraphDestroy(graph);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return ms[REPLAYS / 2] * 1e-3 / n;
}

/* What one row took. */
static void print_row(struct bench *b, uint32_t n_rows, double s)
{
    const struct matrix *m = &b->copies[0];
    const char *type = weight_traits(m->type)->name;
    const double bytes = (double)m->bytes, flops = 2.0 * n_rows * m->n_rows * m->n_columns;
    printf("%-5s %6u x %-6u %4u rows %9.2f us %7.0f GB/s %5.1f%% of read %8.2f TFLOP/s\n", type,
           m->n_rows, m->n_columns, n_rows, s * 1e6, bytes / s / 1e9,
           100 * bytes / s / b->read_rate, flops / s / 1e12);
    if (b->csv != NULL)
        fprintf(b->csv, "%s,%u,%u,%u,%.3f,%.1f,%.2f,%.3f\n", type, m->n_rows, m->n_columns, n_rows,
                s * 1e6, bytes / s / 1e9, 100 * bytes / s / b->read_rate, flops / s / 1e12);
}

static void measure_shape(struct bench *b, enum weight_type type, uint32_t n_outputs,
                          uint32_t n_columns, const uint32_t *rows, size_t n)
{
    if (b->chosen_types && !(b->chosen_types >> type & 1))
        return;
    if (b->n_rows > 0) {
        rows = b->rows_chosen;
        n = b->n_rows;
    }
    b->n_copies = 0;
    for (size_t i = 0; i < n; i++) {
        const bool wide = rows[i] > 32; /* other kernels */
        const enum row row = rows_begin(b->rows, (uint32_t)type + wide * (ROW_KINDS / 2));
        if (row == ROW_FAILED)
            printf("%-5s %6u x %-6u %4u rows not measured: failed\n", weight_traits(type)->name,
                   n_outputs, n_columns, rows[i]);
        if (row != ROW_NEW)
            continue;
        if (b->n_copies == 0)
            create_copies(b, type, n_outputs, n_columns);
        print_row(b, rows[i], measure(b, rows[i]));
        rows_end(b->rows);
    }
    for (uint32_t i = 0; i < b->n_copies; i++)
        b->kernels->matrix_destroy(b->device, &b->copies[i]);
}

/* ---- the command line ---- */

static void usage(void)
{
    fprintf(stderr, "usage: products [--types TYPE,...] [--shapes OUTPUTSxCOLUMNS,...] "
                    "[--rows N,...] [--kernels NAME] [--csv FILE]\n");
    exit(2);
}

static void choose_types(struct bench *b, char *names)
{
    for (char *name = strtok(names, ","); name != NULL; name = strtok(NULL, ",")) {
        bool found = false;
        for (size_t t = 0; t < WEIGHT_TYPES; t++)
            if (strcmp(name, weight_traits(weight_types[t])->name) == 0) {
                b->chosen_types |= 1u << weight_types[t];
                found = true;
            }
        if (!found)
            usage();
    }
}

static void choose_shapes(struct bench *b, char *text)
{
    for (char *s = strtok(text, ","); s != NULL; s = strtok(NULL, ",")) {
        uint32_t *shape = b->shapes[b->n_shapes];
        if (b->n_shapes == MOST_CHOSEN || sscanf(s, "%ux%u", &shape[0], &shape[1]) != 2 ||
            shape[0] < 2 || shape[1] == 0 || shape[1] > MOST_COLUMNS || shape[1] % 256 != 0 ||
            shape[0] > MOST_OUTPUTS)
            usage();
        b->n_shapes++;
    }
}

static void choose_rows(struct bench *b, char *text)
{
    for (char *s = strtok(text, ","); s != NULL; s = strtok(NULL, ",")) {
        const long n = strtol(s, NULL, 10);
        if (b->n_rows == MOST_CHOSEN || n < 1 || n > MOST_ROWS)
            usage();
        b->rows_chosen[b->n_rows++] = (uint32_t)n;
    }
}

static void choose(struct bench *b, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            usage();
        if (strcmp(argv[i], "--types") == 0)
            choose_types(b, argv[i + 1]);
        else if (strcmp(argv[i], "--shapes") == 0)
            choose_shapes(b, argv[i + 1]);
        else if (strcmp(argv[i], "--rows") == 0)
            choose_rows(b, argv[i + 1]);
        else if (strcmp(argv[i], "--kernels") == 0)
            b->name = argv[i + 1];
        else if (strcmp(argv[i], "--csv") != 0 || (b->csv = fopen(argv[i + 1], "w")) == NULL)
            usage();
    }
    if (b->csv != NULL) {
        setvbuf(b->csv, NULL, _IOLBF, 0); /* rows outlive a time limit */
        fprintf(b->csv, "type,outputs,columns,rows,us,gb_s,percent_of_read,tflops\n");
    }
}

static const uint32_t all_rows[] = {1, 2, 4, 8, 16, 32, 64, 128, 512}, few_rows[] = {1, 8, 16, 512};
static const enum weight_type main_types[] = {WEIGHT_Q4_0, WEIGHT_Q8_0, WEIGHT_Q4_K, WEIGHT_F16};
static const uint32_t usual_shapes[][2] = {
    {14336, 4096}, {4096, 14336}, {4096, 4096}, {1024, 4096}}; /* the first: of all types */

enum { N_MAIN_TYPES = sizeof(main_types) / sizeof(main_types[0]) };

static bool is_main(enum weight_type type)
{
    bool is = false;
    for (size_t i = 0; i < N_MAIN_TYPES; i++)
        is = is || main_types[i] == type;
    return is;
}

/* Main types in all shapes and numbers of rows, the others in some; or what was chosen. The first
 * shape comes first, of all types: acceptance figures are made of it (bench/gpu/verdicts.py). */
static void measure_all(struct bench *b)
{
    const uint32_t(*shapes)[2] = b->n_shapes > 0 ? (const uint32_t(*)[2])b->shapes : usual_shapes;
    const size_t n_shapes =
        b->n_shapes > 0 ? b->n_shapes : sizeof(usual_shapes) / sizeof(usual_shapes[0]);
    for (size_t s = 0; s < n_shapes; s++) {
        for (size_t t = 0; t < N_MAIN_TYPES; t++)
            measure_shape(b, main_types[t], shapes[s][0], shapes[s][1], all_rows,
                          sizeof(all_rows) / sizeof(all_rows[0]));
        for (size_t t = 0; t < WEIGHT_TYPES && (s == 0 || b->n_shapes > 0); t++)
            if (!is_main(weight_types[t]))
                measure_shape(b, weight_types[t], shapes[s][0], shapes[s][1], few_rows,
                              sizeof(few_rows) / sizeof(few_rows[0]));
    }
}

/* All of it, as a child of rows.h. */
static int measure_rows(void *bench, struct rows *rows)
{
    struct bench *b = bench;
    struct error error;
    b->rows = rows;
    if (kernels_choose_device(&b->kernels, "cuda", b->name, &error) != STATUS_OK ||
        b->kernels->open(&b->device, NULL, 0, &error) != STATUS_OK ||
        b->kernels->workspace_reserve(b->device, MOST_ROWS, MOST_COLUMNS, &error) != STATUS_OK) {
        fprintf(stderr, "products: %s\n", error.text);
        return 3;
    }
    measure_memory(b);

    const size_t n = (size_t)MOST_ROWS * MOST_COLUMNS;
    float *x = malloc(sizeof(float) * n);
    uint64_t seed = 7;
    for (size_t i = 0; x != NULL && i < n; i++)
        x[i] = (float)(int32_t)random_u32(&seed) * 0x1p-31f;
    const size_t y_floats = (size_t)MOST_ROWS * MOST_OUTPUTS;
    void *memory[2] = {NULL, NULL};
    check_status(b, b->kernels->memory_take(b->device, &memory[0], sizeof(float) * n, &error),
                 &error);
    check_status(b,
                 b->kernels->memory_take(b->device, &memory[1], sizeof(float) * y_floats, &error),
                 &error);
    b->x = memory[0];
    b->y = memory[1];
    b->kernels->upload(b->device, b->x, x, sizeof(float) * n);
    check_status(b, b->kernels->finish(b->device, &error), &error);
    free(x);

    measure_all(b);
    for (int i = 0; i < 2; i++)
        b->kernels->memory_give(b->device, memory[i]);
    b->kernels->close(b->device);
    return 0;
}

int main(int argc, char **argv)
{
    static struct bench b;
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* lines outlive who prints them */
    choose(&b, argc, argv);
    const int status = rows_run(measure_rows, &b, ROW_SECONDS);
    if (b.csv != NULL)
        fclose(b.csv);
    return status;
}

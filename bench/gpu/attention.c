/* attention.c - attention on a GPU beside what its memory gives: decode by context, heads, batch and KV
 * type, with finished rows, one launch per call; then prefill.
 *
 *     attention [CSV [SECONDS]]
 *
 * For each shape: no split, the best fixed split of 2, 4 ... 64, the lean schedule, and the lean schedule with
 * tiles merged as they come (what the canonical order costs). GB/s of K and V, and their share of the
 * read rate that is measured first. Layers take turns, of 320 MB at least, so that K and V come from
 * memory; pages lie in random order. Medians of rounds, by CUDA events; calls follow each other without a
 * wait, and host_us is what the host needs for one: where that is more than `us`, it is what was
 * measured. Shapes that do not fit are left out; after SECONDS (100) no new one begins. Built by
 * bench/gpu.sh. */
#include "kernels/attention/device.h"
#include "kernels/attention/kv_holder.h"
#include "kernels/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_SEQUENCES = 64, ROUNDS = 7, FIXED_ROUNDS = 3, SAMPLE_BYTES = 34 * 64 * 4096 };
static const size_t LEAST_BYTES = (size_t)320 << 20, MOST_BYTES = (size_t)60 << 30;

struct shape {
    enum kv_type type;
    uint32_t head_dim, n_heads, n_kv_heads, n_sequences, n_tokens; /* n_tokens: of a query chunk */
    uint32_t contexts[MOST_SEQUENCES];                             /* with the query's tokens */
    const char *name;
};

struct bench {
    const struct kernels *kernels;
    struct device *device;
    FILE *csv;
    double read_rate, started, seconds;
    char *pool; /* pages */
    size_t pool_bytes;
    float *q, *out;
    cudaEvent_t begin, end;
};

/* One shape's calls. */
struct load {
    struct attend *attend;
    struct attend_work *works; /* [n_layers][n_works] */
    struct tile_range *ranges;
    void **pages;
    size_t n_works, bytes; /* bytes: of K and V that a layer's call reads */
    double flops;
    uint32_t n_layers;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void stop(const char *what)
{
    fprintf(stderr, "attention: %s\n", what);
    exit(4);
}

static void check(cudaError_t result)
{
    if (result != cudaSuccess)
        stop(cudaGetErrorString(result));
}

static void check_status(enum status status, const struct error *error)
{
    if (status != STATUS_OK)
        stop(error->text);
}

static uint32_t random_u32(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* Ordinary numbers: f16 and bf16 in (-2, 2), q8_0 of any integers and a scale of about 1/64. */
static void fill_pool(struct bench *b, enum kv_type type, uint32_t head_dim)
{
    static uint16_t sample[SAMPLE_BYTES / 2];
    uint64_t random = 1;
    const size_t values = 64 * (size_t)head_dim, piece = 64 * kv_row_bytes(type, head_dim);
    for (size_t i = 0; i < SAMPLE_BYTES / 2; i++) {
        const uint32_t x = random_u32(&random);
        if (type == KV_Q8_0)
            sample[i] = i * 2 % piece < values ? (uint16_t)x : (uint16_t)(0x2400 | (x & 0xff));
        else if (type == KV_BF16)
            sample[i] = (uint16_t)((x & 0x807f) | (125 + x / 65536 % 3) << 7);
        else
            sample[i] = (uint16_t)((x & 0x83ff) | (12 + x / 65536 % 4) << 10);
    }
    size_t done = SAMPLE_BYTES / piece * piece;
    check(cudaMemcpy(b->pool, sample, done, cudaMemcpyHostToDevice));
    for (size_t n; done < b->pool_bytes; done += n) {
        n = done < b->pool_bytes - done ? done : b->pool_bytes - done;
        check(cudaMemcpy(b->pool + done, b->pool, n, cudaMemcpyDeviceToDevice));
    }
    check(cudaDeviceSynchronize());
}

static size_t plane_pages(const struct shape *shape)
{
    size_t n = 0;
    for (uint32_t s = 0; s < shape->n_sequences; s++)
        n += (shape->contexts[s] + PAGE_TOKENS - 1) / PAGE_TOKENS;
    return n;
}

/* Pages of all layers, in random order. */
static void place_pages(const struct bench *b, struct load *load, size_t n, size_t page_bytes)
{
    uint64_t random = 7;
    load->pages = malloc((n + 1) * sizeof(*load->pages));
    for (size_t i = 0; i < n; i++)
        load->pages[i] = b->pool + i * page_bytes;
    for (size_t i = n; i > 1; i--) {
        const size_t j = random_u32(&random) % i;
        void *page = load->pages[i - 1];
        load->pages[i - 1] = load->pages[j];
        load->pages[j] = page;
    }
}

/* The last n_tokens tokens of each sequence ask, tile by tile. */
static void add_works(const struct bench *b, const struct shape *shape, struct load *load,
                      uint32_t layer, void **pages)
{
    const uint32_t group = shape->n_heads / shape->n_kv_heads;
    const size_t token = (size_t)shape->n_heads * shape->head_dim;
    struct attend_work *work = load->works + layer * load->n_works;
    struct tile_range *range = load->ranges + layer * load->n_works;
    size_t row = 0;
    for (uint32_t s = 0; s < shape->n_sequences; s++) {
        const uint32_t end = shape->contexts[s];
        for (uint32_t h = 0; h < shape->n_kv_heads; h++) {
            for (uint32_t at = end - shape->n_tokens, n; at < end; at += n) {
                const uint32_t own = at / TILE_TOKENS;
                const size_t first = row + at - (end - shape->n_tokens);
                n = (own + 1) * TILE_TOKENS < end ? (own + 1) * TILE_TOKENS - at : end - at;
                *range = (struct tile_range){0, own};
                *work++ = (struct attend_work){
                    .q = b->q + first * token + h * (size_t)group * shape->head_dim,
                    .q_token_stride = token,
                    .n_tokens = n,
                    .position = at,
                    .source = {pages, 0, PAGE_TILES},
                    .ranges = range++,
                    .n_ranges = own > 0,
                    .own_tile = true,
                    .final_out = b->out + first * token + h * (size_t)group * shape->head_dim,
                    .final_token_stride = token};
            }
            pages += (end + PAGE_TOKENS - 1) / PAGE_TOKENS;
        }
        row += shape->n_tokens;
    }
}

/* false: it does not fit. */
static bool make_load(const struct bench *b, const struct shape *shape, struct load *load)
{
    const size_t page_bytes = PAGE_TILES * tile_bytes(shape->type, shape->head_dim);
    const size_t layer_pages = plane_pages(shape) * shape->n_kv_heads;
    const struct attend_shape attend = {.type = shape->type,
                                        .head_dim = shape->head_dim,
                                        .group = shape->n_heads / shape->n_kv_heads,
                                        .scale = 0.08f};
    struct error error = {0};
    memset(load, 0, sizeof(*load));
    for (uint32_t s = 0; s < shape->n_sequences; s++) {
        const double n = shape->n_tokens, before = shape->contexts[s] - n;
        load->bytes += (size_t)shape->n_kv_heads * shape->contexts[s] * 2 *
                       kv_row_bytes(shape->type, shape->head_dim);
        load->flops += 4.0 * shape->head_dim * shape->n_heads * (n * before + n * (n + 1) / 2);
        for (uint32_t at = shape->contexts[s] - shape->n_tokens; at < shape->contexts[s];
             at = (at / TILE_TOKENS + 1) * TILE_TOKENS)
            load->n_works += shape->n_kv_heads;
    }
    load->n_layers = (uint32_t)((LEAST_BYTES + load->bytes - 1) / load->bytes);
    if (load->n_layers * layer_pages * page_bytes > b->pool_bytes)
        return false;
    place_pages(b, load, load->n_layers * layer_pages, page_bytes);
    load->works = calloc(load->n_layers * load->n_works, sizeof(*load->works));
    load->ranges = calloc(load->n_layers * load->n_works, sizeof(*load->ranges));
    for (uint32_t layer = 0; layer < load->n_layers; layer++)
        add_works(b, shape, load, layer, load->pages + layer * layer_pages);
    check_status(attend_create(&load->attend, b->kernels, b->device, NULL, &attend, &error),
                 &error);
    return true;
}

static void drop_load(struct load *load)
{
    attend_destroy(load->attend);
    free(load->works);
    free(load->ranges);
    free(load->pages);
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Microseconds of one call; host_us may be NULL. */
static double measure(struct bench *b, const struct load *load, int rounds, double *host_us)
{
    float times[ROUNDS];
    double host = 0;
    struct error error = {0};
    for (int round = -1; round < rounds; round++) {
        check(cudaEventRecord(b->begin, b->device->stream));
        const double from = now();
        for (uint32_t layer = 0; layer < load->n_layers; layer++)
            check_status(attend_run(load->attend, load->works + layer * load->n_works,
                                    load->n_works, &error),
                         &error);
        host = now() - from;
        check(cudaEventRecord(b->end, b->device->stream));
        check(cudaEventSynchronize(b->end));
        if (round >= 0)
            check(cudaEventElapsedTime(&times[round], b->begin, b->end));
    }
    check_status(b->kernels->finish(b->device, &error), &error);
    qsort(times, (size_t)rounds, sizeof(times[0]), by_value);
    if (host_us != NULL)
        *host_us = host / load->n_layers * 1e6;
    return (double)times[rounds / 2] / load->n_layers * 1e3;
}

static void measure_decode(struct bench *b, const struct shape *shape)
{
    const struct attention_device *device = b->kernels->attention_device;
    struct load load;
    if (now() - b->started > b->seconds || !make_load(b, shape, &load))
        return;
    double host_us, none = 0, best = 0;
    uint32_t best_parts = 0;
    const double lean = measure(b, &load, ROUNDS, &host_us);
    for (uint32_t parts = 1; parts <= 64; parts *= 2) {
        attend_set_parts(load.attend, parts);
        const double us = measure(b, &load, FIXED_ROUNDS, NULL);
        if (parts == 1)
            none = us;
        if (best_parts == 0 || us < best) {
            best = us;
            best_parts = parts;
        }
    }
    attend_set_parts(load.attend, 0);
    device->set_any_order(attend_device_state(load.attend), true);
    const double any = measure(b, &load, ROUNDS, NULL);
    device->set_any_order(attend_device_state(load.attend), false);
    const double again = measure(b, &load, ROUNDS, NULL);
    const double us = lean < again ? lean : again, rate = (double)load.bytes / us * 1e-3;
    printf("%-5s %4u %3u/%-2u %3u %-8s %9.1f %8.1f %6.3f %8.1f %9.1f %9.1f %2u %6.2f %6.3f\n",
           kv_type_name(shape->type), shape->head_dim, shape->n_heads, shape->n_kv_heads,
           shape->n_sequences, shape->name, us, rate, rate * 1e9 / b->read_rate, host_us, none,
           best, best_parts, best / us, us / any);
    fflush(stdout);
    if (b->csv != NULL)
        fprintf(b->csv, "decode,%s,%u,%u,%u,%u,%s,%u,%.2f,%.1f,%.4f,%.2f,%.2f,%.2f,%u,%.2f\n",
                kv_type_name(shape->type), shape->head_dim, shape->n_heads, shape->n_kv_heads,
                shape->n_sequences, shape->name, shape->contexts[0], us, rate,
                rate * 1e9 / b->read_rate, host_us, none, best, best_parts, any);
    drop_load(&load);
}

static void measure_prefill(struct bench *b, const struct shape *shape)
{
    struct load load;
    if (now() - b->started > b->seconds || !make_load(b, shape, &load))
        return;
    load.n_layers = load.n_layers < 4 ? load.n_layers : 4;
    const double us = measure(b, &load, 5, NULL);
    printf("%-5s %4u %3u/%-2u %5u of %-8s %10.1f us %8.2f TFLOP/s\n", kv_type_name(shape->type),
           shape->head_dim, shape->n_heads, shape->n_kv_heads, shape->n_tokens, shape->name, us,
           load.flops / us * 1e-6);
    fflush(stdout);
    if (b->csv != NULL)
        fprintf(b->csv, "prefill,%s,%u,%u,%u,%u,%s,%u,%.2f,%.2f,,,,,,\n", kv_type_name(shape->type),
                shape->head_dim, shape->n_heads, shape->n_kv_heads, shape->n_tokens, shape->name,
                shape->contexts[0], us, load.flops / us * 1e-6);
    drop_load(&load);
}

/* Contexts: one for all, or 0: ragged, each twice the one before in a turn of 8. */
static struct shape shape_of(enum kv_type type, uint32_t head_dim, uint32_t n_heads,
                             uint32_t n_kv_heads, uint32_t batch, uint32_t context, char *name)
{
    struct shape shape = {type, head_dim, n_heads, n_kv_heads, batch, 1, {0}, name};
    for (uint32_t s = 0; s < batch; s++)
        shape.contexts[s] = context > 0 ? context : 1024u << s * 5 % 8;
    if (context == 0)
        snprintf(name, 16, "ragged");
    else if (context < 1 << 20)
        snprintf(name, 16, "%uk", context / 1024);
    else
        snprintf(name, 16, "%uM", context >> 20);
    return shape;
}

static void measure_type(struct bench *b, enum kv_type type, uint32_t head_dim)
{
    static const uint32_t heads[][2] = {{32, 8}, {64, 8}, {32, 32}};
    static const uint32_t batches[] = {1, 8, 64};
    static const uint32_t contexts[] = {65536, 262144, 1 << 20, 16384, 4096, 1024, 0};
    char name[16];
    fill_pool(b, type, head_dim);
    for (size_t c = 0; c < sizeof(contexts) / sizeof(contexts[0]); c++)
        for (size_t h = 0; h < 3; h++)
            for (size_t n = 0; n < 3; n++) {
                if (contexts[c] == 0 && batches[n] == 1)
                    continue;
                const struct shape shape = shape_of(type, head_dim, heads[h][0], heads[h][1],
                                                    batches[n], contexts[c], name);
                measure_decode(b, &shape);
            }
}

static void measure_prefills(struct bench *b)
{
    static const uint32_t contexts[] = {2048, 16384, 65536};
    char name[16];
    printf("# prefill\n");
    for (int type = KV_F16; type <= KV_Q8_0; type++) {
        fill_pool(b, (enum kv_type)type, 128);
        for (size_t c = 0; c < 3; c++) {
            struct shape shape = shape_of((enum kv_type)type, 128, 32, 8, 1, contexts[c], name);
            shape.n_tokens = 2048;
            measure_prefill(b, &shape);
        }
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.kernels = &kernels_cuda, .started = now(), .seconds = 100};
    struct error error = {0};
    if (b.kernels->count(&error) == 0 || b.kernels->open(&b.device, NULL, 0, &error) != STATUS_OK) {
        fprintf(stderr, "attention: %s\n", error.text);
        return 77;
    }
    if (argc > 1 && (b.csv = fopen(argv[1], "w")) == NULL)
        stop("cannot write the CSV file");
    if (argc > 2)
        b.seconds = atof(argv[2]);
    if (b.csv != NULL)
        fprintf(b.csv, "kind,type,head_dim,heads,kv_heads,batch,name,context,us,GB_s,share,host_us,"
                       "no_split_us,best_fixed_us,best_parts,any_order_us\n");
    check(cudaEventCreate(&b.begin));
    check(cudaEventCreate(&b.end));
    b.read_rate = b.kernels->read_rate(b.device, (size_t)4 << 30, 500);
    b.pool_bytes = b.kernels->memory_available(b.device) / 10 * 8;
    b.pool_bytes = b.pool_bytes < MOST_BYTES ? b.pool_bytes : MOST_BYTES;
    void *memory;
    check_status(b.kernels->memory_take(b.device, &memory, b.pool_bytes, &error), &error);
    b.pool = memory;
    const size_t n_floats = (size_t)2048 * 64 * 256;
    check_status(b.kernels->memory_take(b.device, &memory, n_floats * sizeof(float), &error),
                 &error);
    b.out = memory;
    check_status(b.kernels->memory_take(b.device, &memory, n_floats * sizeof(float), &error),
                 &error);
    b.q = memory;
    float *q = malloc(n_floats * sizeof(*q));
    uint64_t random = 3;
    for (size_t i = 0; i < n_floats; i++)
        q[i] = (float)random_u32(&random) / 2147483648.0f - 1.0f;
    b.kernels->upload(b.device, b.q, q, n_floats * sizeof(*q));
    check_status(b.kernels->finish(b.device, &error), &error);
    free(q);

    printf("read %.1f GB/s\n", b.read_rate * 1e-9);
    printf("type   dim heads  seq context         us     GB/s  share  host_us  no split     fixed "
           " n  lean/f  order\n");
    measure_type(&b, KV_F16, 128);
    measure_type(&b, KV_Q8_0, 128);
    measure_prefills(&b);
    measure_type(&b, KV_BF16, 128);
    measure_type(&b, KV_F16, 64);
    measure_type(&b, KV_Q8_0, 64);
    measure_type(&b, KV_BF16, 64);
    if (b.csv != NULL)
        fclose(b.csv);
    b.kernels->memory_give(b.device, b.q);
    b.kernels->memory_give(b.device, b.out);
    b.kernels->memory_give(b.device, b.pool);
    b.kernels->close(b.device);
    return 0;
}

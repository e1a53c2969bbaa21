/* attention.c - attention on a GPU beside what its memory gives: decode by context, heads, batch and KV
 * type, with finished rows, one launch per call; then prefill.
 *
 *     attention [-o CSV] [-s SECONDS] [-k KIND] [-t TYPE] [-d HEAD_DIM] [-H HEADS/KV_HEADS] [-b BATCH]
 *               [-c CONTEXT] [-B BLOCKS] [-S STAGES] [-U UNITS] [-m GIB] [-q]
 *
 * Lists with commas say what is measured (-k decode,prefill -t f16,q8_0 -c 65536,ragged); without one,
 * all. -B, -S and -U: thread blocks per multiprocessor and stages of their pipelines, at most, and tiles at whose
 * multiples shares are cut; all of the three lists with each other. -m: of memory for K and V (60). -q: the lean schedule only.
 *
 * For each shape: no split, the best fixed split of 2, 4 ... 64, the lean schedule, and the lean schedule with
 * tiles merged as they come (what the canonical order costs). GB/s of K and V, and their share of the
 * read rate that is measured first. Layers take turns, of 320 MB at least, so that K and V come from
 * memory; pages lie in random order. Medians of rounds, by CUDA events, of prepared calls (attend_launch)
 * that were recorded in a graph, of TURN_BYTES of K and V or one turn of all layers; run_us: of calls
 * that are planned between (attend_run). plan_us
 * and host_us: what the host needs for such a call when it must plan, and for the next layer's.
 * Rows that acceptance figures are made of come first (bench/gpu/verdicts.py). After SECONDS (100)
 * no new one begins. A row that is left out is said, with the reason, "no time", "no memory" or "failed" (rows.h:
 * the others are measured); in the CSV file its kind is "decode: no time" ..., without numbers. Exit status 77: there
 * is no GPU; 4: a row has failed. Built by bench/gpu.sh. */
#include "bench/gpu/rows.h"
#include "kernels/attention/cuda/attend_device.h"
#include "kernels/attention/kv_holder.h"
#include "kernels/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_SEQUENCES = 64,
    MOST_LIST = 16,
    ROUNDS = 7,
    FIXED_ROUNDS = 3,
    SAMPLE_BYTES = 34 * 64 * 4096
};
static const size_t LEAST_BYTES = (size_t)320 << 20, TURN_BYTES = (size_t)2 << 30;

struct shape {
    enum kv_type type;
    uint32_t head_dim, n_heads, n_kv_heads, n_sequences, n_tokens; /* n_tokens: of a query chunk */
    uint32_t contexts[MOST_SEQUENCES];                             /* with the query's tokens */
    const char *name;
};

/* What the command line chose. */
struct choice {
    const char *kinds, *types, *dims, *heads, *batches, *contexts;   /* NULL: all */
    uint32_t blocks[MOST_LIST], stages[MOST_LIST], units[MOST_LIST]; /* 0: as they come */
    uint32_t n_blocks, n_stages, n_units;
    bool lean_only;
};

struct bench {
    struct choice choice;
    struct rows *rows;
    const struct kernels *kernels;
    struct device *device;
    FILE *csv;
    double read_rate, started, seconds;
    char *pool; /* pages */
    size_t pool_bytes;
    int filled_type; /* what the pool holds; -1: nothing yet */
    uint32_t filled_dim;
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
    uint32_t first_slot; /* of prepared calls: those of another schedule have others */
};

static void stop(const char *what)
{
    fprintf(stderr, "attention: %s\n", what);
    exit(ROWS_FAILED);
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
    b->filled_type = (int)type;
    b->filled_dim = head_dim;
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
                    .settled_tiles = n == 1 ? own : 0, /* a chunk has written some of its own */
                    .own_tile = true,
                    .final_out = b->out + first * token + h * (size_t)group * shape->head_dim,
                    .final_token_stride = token};
            }
            pages += (end + PAGE_TOKENS - 1) / PAGE_TOKENS;
        }
        row += shape->n_tokens;
    }
}

static size_t page_bytes(const struct shape *shape)
{
    return PAGE_TILES * tile_bytes(shape->type, shape->head_dim);
}

/* What it takes; false: it does not fit. */
static bool size_load(const struct bench *b, const struct shape *shape, struct load *load)
{
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
    return load->n_layers * plane_pages(shape) * shape->n_kv_heads * page_bytes(shape) <=
           b->pool_bytes;
}

static void make_load(const struct bench *b, const struct shape *shape, struct load *load)
{
    const size_t layer_pages = plane_pages(shape) * shape->n_kv_heads;
    const struct attend_shape attend = {.type = shape->type,
                                        .head_dim = shape->head_dim,
                                        .group = shape->n_heads / shape->n_kv_heads,
                                        .scale = 0.08f};
    struct error error = {0};
    place_pages(b, load, load->n_layers * layer_pages, page_bytes(shape));
    load->works = calloc(load->n_layers * load->n_works, sizeof(*load->works));
    load->ranges = calloc(load->n_layers * load->n_works, sizeof(*load->ranges));
    for (uint32_t layer = 0; layer < load->n_layers; layer++)
        add_works(b, shape, load, layer, load->pages + layer * layer_pages);
    check_status(attend_create(&load->attend, b->kernels, b->device, NULL, &attend, &error),
                 &error);
}

/* Whether the row can be measured, of what its load takes; if not, that is said. */
static bool begin_row(const struct bench *b, const char *kind, const struct shape *shape,
                      struct load *load)
{
    const uint32_t rows = shape->n_tokens > 1 ? shape->n_tokens : shape->n_sequences;
    const uint32_t of_kind = ((uint32_t)shape->type * 2 + (shape->head_dim == 64)) * 2;
    const enum row row = rows_begin(b->rows, of_kind + (shape->n_tokens > 1));
    if (row == ROW_SETTLED)
        return false;
    const char *why = row == ROW_FAILED                      ? "failed"
                      : !size_load(b, shape, load)           ? "no memory"
                      : rows_now() - b->started > b->seconds ? "no time"
                                                             : NULL;
    if (why == NULL)
        return true;
    rows_end(b->rows);
    printf("%-5s %4u %3u/%-2u %3u %-7s not measured: %s\n", kv_type_name(shape->type),
           shape->head_dim, shape->n_heads, shape->n_kv_heads, rows, shape->name, why);
    if (b->csv != NULL)
        fprintf(b->csv, "%s: %s,%s,%u,%u,%u,%u,%s,%u,,,,,,,,,,,,,\n", kind, why,
                kv_type_name(shape->type), shape->head_dim, shape->n_heads, shape->n_kv_heads, rows,
                shape->name, shape->contexts[0]);
    return false;
}

static void end_row(const struct bench *b, struct load *load)
{
    attend_destroy(load->attend);
    free(load->works);
    free(load->ranges);
    free(load->pages);
    rows_end(b->rows);
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Calls of all layers, of which the device knows already, or not. */
static void call_layers(const struct load *load, bool prepared)
{
    struct error error = {0};
    const uint32_t first = prepared ? load->first_slot : 0;
    for (uint32_t layer = 0; layer < load->n_layers; layer++)
        check_status(prepared ? attend_launch(load->attend, first + layer, &error)
                              : attend_run(load->attend, load->works + layer * load->n_works,
                                           load->n_works, &error),
                     &error);
}

/* Turns of all layers in a round. */
static uint32_t turns_of(const struct load *load)
{
    const size_t n = TURN_BYTES / (load->bytes * load->n_layers);
    return n > 0 ? (uint32_t)n : 1;
}

/* Prepared calls of all layers, so many turns, as a graph. */
static cudaGraphExec_t record(struct bench *b, const struct load *load, uint32_t n_turns)
{
    struct error error = {0};
    cudaGraph_t graph;
    cudaGraphExec_t recorded;
    for (uint32_t layer = 0; layer < load->n_layers; layer++)
        check_status(attend_prepare(load->attend, load->first_slot + layer,
                                    load->works + layer * load->n_works, load->n_works, NULL, NULL,
                                    &error),
                     &error);
    check(cudaStreamBeginCapture(b->device->stream, cudaStreamCaptureModeThreadLocal));
    for (uint32_t turn = 0; turn < n_turns; turn++)
        call_layers(load, true);
    check(cudaStreamEndCapture(b->device->stream, &graph));
    check(cudaGraphInstantiate(&recorded, graph, 0));
    check(cudaGraphDestroy(graph));
    return recorded;
}

/* Microseconds of one call. */
static double measure(struct bench *b, const struct load *load, int rounds, bool prepared)
{
    float times[ROUNDS];
    struct error error = {0};
    const uint32_t n_turns = prepared ? turns_of(load) : 1;
    cudaGraphExec_t recorded = prepared ? record(b, load, n_turns) : NULL;
    for (int round = -1; round < rounds; round++) {
        check(cudaEventRecord(b->begin, b->device->stream));
        if (prepared)
            check(cudaGraphLaunch(recorded, b->device->stream));
        else
            call_layers(load, false);
        check(cudaEventRecord(b->end, b->device->stream));
        check(cudaEventSynchronize(b->end));
        if (round >= 0)
            check(cudaEventElapsedTime(&times[round], b->begin, b->end));
    }
    check_status(b->kernels->finish(b->device, &error), &error);
    if (prepared)
        check(cudaGraphExecDestroy(recorded));
    qsort(times, (size_t)rounds, sizeof(times[0]), by_value);
    return (double)times[rounds / 2] / (load->n_layers * n_turns) * 1e3;
}

/* What the host needs for a call: one that is planned, and one like the call before. */
static void measure_host(struct bench *b, const struct load *load, double *plan_us, double *host_us)
{
    double times[2] = {1e9, 1e9};
    struct error error = {0};
    for (int round = 0; round < ROUNDS; round++) {
        attend_set_parts(load->attend, 2); /* another plan, so that the next call has none */
        check_status(attend_run(load->attend, load->works, load->n_works, &error), &error);
        attend_set_parts(load->attend, 0);
        check_status(b->kernels->finish(b->device, &error), &error);
        for (int i = 0; i < 2; i++) {
            const double from = rows_now();
            check_status(attend_run(load->attend, load->works, load->n_works, &error), &error);
            const double time = rows_now() - from;
            times[i] = time < times[i] ? time : times[i];
        }
        check_status(b->kernels->finish(b->device, &error), &error);
    }
    *plan_us = times[0] * 1e6;
    *host_us = times[1] * 1e6;
}

struct decode_times {
    double lean, run, plan, host, none, fixed, any; /* microseconds */
    uint32_t fixed_parts;
};

static void measure_splits(struct bench *b, struct load *load, struct decode_times *t)
{
    const struct attention_device *device = b->kernels->attention_device;
    const uint32_t first_slot = load->first_slot;
    for (uint32_t parts = 1; parts <= 64; parts *= 2) {
        attend_set_parts(load->attend, parts);
        load->first_slot += load->n_layers;
        const double us = measure(b, load, FIXED_ROUNDS, true);
        if (parts == 1)
            t->none = us;
        if (parts == 1 || us < t->fixed) {
            t->fixed = us;
            t->fixed_parts = parts;
        }
    }
    attend_set_parts(load->attend, 0);
    load->first_slot = first_slot;
    device->set_any_order(attend_device_state(load->attend), true);
    t->any = measure(b, load, ROUNDS, true);
    device->set_any_order(attend_device_state(load->attend), false);
}

static void print_decode(struct bench *b, const struct shape *shape, const struct load *load,
                         const uint32_t tuned[3], const struct decode_times *t)
{
    const double rate = (double)load->bytes / t->lean * 1e-3, share = rate * 1e9 / b->read_rate;
    printf("%-5s %4u %3u/%-2u %3u %-7s %1u %2u %3u %9.1f %7.1f %6.3f %9.1f %6.1f %6.1f",
           kv_type_name(shape->type), shape->head_dim, shape->n_heads, shape->n_kv_heads,
           shape->n_sequences, shape->name, tuned[0], tuned[1], tuned[2], t->lean, rate, share,
           t->run, t->plan, t->host);
    if (t->any > 0)
        printf(" %9.1f %9.1f %2u %6.3f %6.3f", t->none, t->fixed, t->fixed_parts,
               t->fixed / t->lean, t->lean / t->any);
    printf("\n");
    fflush(stdout);
    if (b->csv != NULL)
        fprintf(b->csv,
                "decode,%s,%u,%u,%u,%u,%s,%u,%u,%u,%u,%.2f,%.1f,%.4f,%.2f,%.2f,%.2f,%.2f,%.2f,%u,"
                "%.2f\n",
                kv_type_name(shape->type), shape->head_dim, shape->n_heads, shape->n_kv_heads,
                shape->n_sequences, shape->name, shape->contexts[0], tuned[0], tuned[1], tuned[2],
                t->lean, rate, share, t->run, t->plan, t->host, t->none, t->fixed, t->fixed_parts,
                t->any);
}

static void measure_decode(struct bench *b, const struct shape *shape)
{
    struct load load;
    struct error error = {0};
    const struct choice *choice = &b->choice;
    if (!begin_row(b, "decode", shape, &load))
        return;
    make_load(b, shape, &load);
    for (uint32_t i = 0; i < choice->n_blocks * choice->n_stages * choice->n_units; i++) {
        const uint32_t rest = i / choice->n_units;
        rows_again(b->rows);
        const uint32_t tuned[3] = {choice->blocks[rest / choice->n_stages],
                                   choice->stages[rest % choice->n_stages],
                                   choice->units[i % choice->n_units]};
        if (cuda_attend_tune(attend_device_state(load.attend), tuned[0], tuned[1], tuned[2],
                             &error) != STATUS_OK)
            continue;
        load.first_slot = i * 8 * load.n_layers;
        struct decode_times t = {.lean = measure(b, &load, ROUNDS, true)};
        if (!choice->lean_only) {
            t.run = measure(b, &load, ROUNDS, false);
            measure_host(b, &load, &t.plan, &t.host);
            measure_splits(b, &load, &t);
            const double again = measure(b, &load, ROUNDS, true);
            t.lean = again < t.lean ? again : t.lean;
        }
        print_decode(b, shape, &load, tuned, &t);
    }
    end_row(b, &load);
}

static void measure_prefill(struct bench *b, const struct shape *shape)
{
    struct load load;
    if (!begin_row(b, "prefill", shape, &load))
        return;
    make_load(b, shape, &load);
    load.n_layers = load.n_layers < 4 ? load.n_layers : 4;
    const double us = measure(b, &load, 3, true);
    printf("%-5s %4u %3u/%-2u %5u of %-8s %10.1f us %8.2f TFLOP/s\n", kv_type_name(shape->type),
           shape->head_dim, shape->n_heads, shape->n_kv_heads, shape->n_tokens, shape->name, us,
           load.flops / us * 1e-6);
    fflush(stdout);
    if (b->csv != NULL)
        fprintf(b->csv, "prefill,%s,%u,%u,%u,%u,%s,%u,,,,%.2f,%.2f,,,,,,,,\n",
                kv_type_name(shape->type), shape->head_dim, shape->n_heads, shape->n_kv_heads,
                shape->n_tokens, shape->name, shape->contexts[0], us, load.flops / us * 1e-6);
    end_row(b, &load);
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

/* Whether a list with commas has the word; NULL has all. */
static bool listed(const char *list, const char *word)
{
    const size_t n = strlen(word);
    if (list == NULL)
        return true;
    for (; list != NULL; list = strchr(list, ',')) {
        list += *list == ',';
        if (strncmp(list, word, n) == 0 && (list[n] == ',' || list[n] == '\0'))
            return true;
    }
    return false;
}

static bool number_listed(const char *list, uint32_t number)
{
    char word[16];
    snprintf(word, sizeof(word), "%u", number);
    return listed(list, word);
}

static bool heads_listed(const char *list, const uint32_t heads[2])
{
    char word[32];
    snprintf(word, sizeof(word), "%u/%u", heads[0], heads[1]);
    return listed(list, word);
}

/* All numbers of heads and batches with one context; 0: ragged. */
static void measure_context(struct bench *b, enum kv_type type, uint32_t head_dim, uint32_t context)
{
    static const uint32_t heads[][2] = {{32, 8}, {64, 8}, {32, 32}};
    static const uint32_t batches[] = {1, 8, 64};
    const struct choice *choice = &b->choice;
    char name[16];
    if (!listed(choice->types, kv_type_name(type)) || !number_listed(choice->dims, head_dim))
        return;
    if (context == 0 ? !listed(choice->contexts, "ragged")
                     : !number_listed(choice->contexts, context))
        return;
    if (b->filled_type != (int)type || b->filled_dim != head_dim)
        fill_pool(b, type, head_dim);
    for (size_t h = 0; h < 3; h++)
        for (size_t n = 0; n < 3; n++) {
            if ((context == 0 && batches[n] == 1) || !heads_listed(choice->heads, heads[h]) ||
                !number_listed(choice->batches, batches[n]))
                continue;
            const struct shape shape =
                shape_of(type, head_dim, heads[h][0], heads[h][1], batches[n], context, name);
            measure_decode(b, &shape);
        }
}

/* Context by context, each with all KV types: what comes late may have no time. */
static void measure_contexts(struct bench *b, const uint32_t *contexts, size_t n)
{
    static const struct {
        enum kv_type type;
        uint32_t head_dim;
    } kinds[] = {{KV_F16, 128}, {KV_Q8_0, 128}, {KV_BF16, 128},
                 {KV_F16, 64},  {KV_Q8_0, 64},  {KV_BF16, 64}};
    if (!listed(b->choice.kinds, "decode"))
        return;
    for (size_t c = 0; c < n; c++)
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
            measure_context(b, kinds[i].type, kinds[i].head_dim, contexts[c]);
}

static void measure_prefills(struct bench *b)
{
    static const uint32_t contexts[] = {2048, 16384, 65536};
    const struct choice *choice = &b->choice;
    char name[16];
    if (!listed(choice->kinds, "prefill"))
        return;
    printf("# prefill\n");
    for (int type = KV_F16; type <= KV_Q8_0; type++) {
        if (!listed(choice->types, kv_type_name((enum kv_type)type)))
            continue;
        fill_pool(b, (enum kv_type)type, 128);
        for (size_t c = 0; c < 3; c++) {
            struct shape shape = shape_of((enum kv_type)type, 128, 32, 8, 1, contexts[c], name);
            shape.n_tokens = 2048;
            measure_prefill(b, &shape);
        }
    }
}

/* Numbers with commas; none: one 0. */
static uint32_t numbers(const char *text, uint32_t *list)
{
    uint32_t n = 0;
    for (; text != NULL && n < MOST_LIST; text = strchr(text, ',')) {
        text += *text == ',';
        list[n++] = (uint32_t)strtoul(text, NULL, 10);
    }
    if (n == 0)
        list[n++] = 0;
    return n;
}

static void read_arguments(struct bench *b, int argc, char **argv)
{
    struct choice *choice = &b->choice;
    const char *blocks = NULL, *stages = NULL, *units = NULL;
    for (int option; (option = getopt(argc, argv, "o:s:k:t:d:H:b:c:B:S:U:m:q")) != -1;)
        switch (option) {
        case 'o':
            if ((b->csv = fopen(optarg, "w")) == NULL)
                stop("cannot write the CSV file");
            setvbuf(b->csv, NULL, _IOLBF, 0); /* rows outlive a time limit */
            break;
        case 's':
            b->seconds = atof(optarg);
            break;
        case 'k':
            choice->kinds = optarg;
            break;
        case 't':
            choice->types = optarg;
            break;
        case 'd':
            choice->dims = optarg;
            break;
        case 'H':
            choice->heads = optarg;
            break;
        case 'b':
            choice->batches = optarg;
            break;
        case 'c':
            choice->contexts = optarg;
            break;
        case 'B':
            blocks = optarg;
            break;
        case 'S':
            stages = optarg;
            break;
        case 'U':
            units = optarg;
            break;
        case 'm':
            b->pool_bytes = (size_t)strtoul(optarg, NULL, 10) << 30;
            break;
        case 'q':
            choice->lean_only = true;
            break;
        default:
            exit(2);
        }
    choice->n_blocks = numbers(blocks, choice->blocks);
    choice->n_stages = numbers(stages, choice->stages);
    choice->n_units = numbers(units, choice->units);
}

/* All of it, as a child of rows.h. */
static int measure_all(void *bench, struct rows *rows)
{
    struct bench b = *(const struct bench *)bench;
    struct error error = {0};
    b.rows = rows;
    if (b.kernels->count(&error) == 0 || b.kernels->open(&b.device, NULL, 0, &error) != STATUS_OK) {
        fprintf(stderr, "attention: %s\n", error.text);
        return 77;
    }
    if (b.csv != NULL && rows->n_settled == 0)
        fprintf(
            b.csv,
            "kind,type,head_dim,heads,kv_heads,batch,name,context,blocks,stages,unit,us,GB_s,share,"
            "run_us,plan_us,host_us,no_split_us,best_fixed_us,best_parts,any_order_us\n");
    check(cudaEventCreate(&b.begin));
    check(cudaEventCreate(&b.end));
    b.read_rate = b.kernels->read_rate(b.device, (size_t)4 << 30, 300);
    const size_t room = b.kernels->memory_available(b.device) / 10 * 8;
    b.pool_bytes = b.pool_bytes < room ? b.pool_bytes : room;
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
    printf(
        "type   dim heads  seq context B  S   U        us    GB/s  share    run us   plan   host  "
        "no split     fixed  n   f/us  order\n");
    measure_contexts(&b, (const uint32_t[]){65536, 0, 262144, 1 << 20}, 4);
    measure_prefills(&b);
    measure_contexts(&b, (const uint32_t[]){16384, 4096, 1024}, 3);
    rows_end(rows);
    b.kernels->memory_give(b.device, b.q);
    b.kernels->memory_give(b.device, b.out);
    b.kernels->memory_give(b.device, b.pool);
    b.kernels->close(b.device);
    return 0;
}

int main(int argc, char **argv)
{
    struct bench b = {.kernels = &kernels_cuda,
                      .started = rows_now(),
                      .seconds = 100,
                      .pool_bytes = (size_t)60 << 30,
                      .filled_type = -1};
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* lines outlive who prints them */
    read_arguments(&b, argc, argv);
    const int status = rows_run(measure_all, &b, ROW_SECONDS);
    if (b.csv != NULL)
        fclose(b.csv);
    return status;
}

/* limits.c - see limits.h. */
#include "kernels/cpu/limits.h"

#include "kernels/cpu/limits_loops.h"
#include "kernels/cpu/limits_read.h"
#include "kernels/kernels.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/samples.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_PASSES = 64,
    MOST_LANES = 1024, /* of a pool */
    PIECE_WORDS = 512, /* a page */
    ARITHMETIC_PASSES = 5,
    ARITHMETIC_NS = 10000000, /* of a pass, at least half of it */
};

/* ---- the loops of this processor ------------------------------------------------------------- */

static float f32_loop(uint64_t rounds)
{
    float sums[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (uint64_t round = 0; round < rounds; round++)
        for (int i = 0; i < 8; i++)
            sums[i] = sums[i] * 0.5f + 0.25f; /* without fma that is a call of the library */
    float sum = 0;
    for (int i = 0; i < 8; i++)
        sum += sums[i];
    return sum;
}

static const struct limits_loops scalar_loops = {.f32 = {f32_loop, 16},
                                                 .read = LIMITS_READ_PATTERNS};

static struct limits_loops best_loops(void)
{
    struct limits_loops loops = scalar_loops;
#if defined(__x86_64__)
    if (kernels_cpu_avx512.usable())
        loops = limits_loops_avx512;
    else if (kernels_cpu_avx2.usable())
        loops = limits_loops_avx2;
    if (!__builtin_cpu_supports("avx512bf16"))
        loops.bf16 = (struct limits_loop){NULL, 0};
#endif
    return loops;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct limits_reader {
    struct thread_pool *pool;
    uint64_t *words;
    size_t n_words, n_bytes; /* n_bytes: as reserved */
    size_t at, piece;        /* words of each lane's part to read; piece 0: all of it */
    void (*pattern)(const uint64_t *words, size_t n, uint64_t sum[8]);
    uint64_t sums[MOST_LANES][8]; /* a cache line each: the reads are used for something */
};

static void touch_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct limits_reader *reader = context;
    size_t begin, end;
    thread_pool_share(reader->n_words, PIECE_WORDS, lane, n_lanes, &begin, &end);
    memset(reader->words + begin, (int)lane + 1, (end - begin) * sizeof(uint64_t));
}

static void read_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct limits_reader *reader = context;
    uint64_t sum[8] = {0};
    size_t begin, end;
    thread_pool_share(reader->n_words, PIECE_WORDS, lane, n_lanes, &begin, &end);
    if (reader->piece > 0) {
        begin += reader->at;
        end = begin + reader->piece;
    }
    reader->pattern(reader->words + begin, end - begin, sum);
    memcpy(reader->sums[lane], sum, sizeof(sum));
}

enum status limits_reader_create(struct limits_reader **reader, struct thread_pool *pool,
                                 size_t bytes, struct error *error)
{
    struct limits_reader *r = calloc(1, sizeof(*r));
    void *memory = NULL;
    bytes -= bytes % (PIECE_WORDS * sizeof(uint64_t));
    if (r == NULL || bytes == 0 || memory_reserve(&memory, bytes, NULL) != STATUS_OK) {
        free(r);
        return error_set(error, STATUS_NO_MEMORY, "limits: no %zu bytes to read", bytes);
    }
    r->pool = pool;
    r->words = memory;
    r->n_words = bytes / sizeof(uint64_t);
    r->n_bytes = bytes;
    thread_pool_run(pool, touch_lane, r);
    *reader = r;
    return STATUS_OK;
}

void limits_reader_destroy(struct limits_reader *reader)
{
    if (reader != NULL)
        memory_release(reader->words, reader->n_bytes);
    free(reader);
}

void limits_reader_rates(struct limits_reader *reader, size_t bytes, double rates[LIMITS_PATTERNS])
{
    const struct limits_loops loops = best_loops();
    const size_t n_lanes = thread_pool_lanes(reader->pool);
    const size_t part = reader->n_words / PIECE_WORDS / n_lanes * PIECE_WORDS; /* every lane's */
    const size_t piece = bytes / sizeof(uint64_t) / PIECE_WORDS / n_lanes * PIECE_WORDS;
    reader->piece = piece < part ? piece : 0;
    for (uint32_t i = 0; i < LIMITS_PATTERNS; i++) {
        if (reader->at + reader->piece > part)
            reader->at = 0;
        reader->pattern = loops.read[i];
        const uint64_t begin = clock_ns();
        thread_pool_run(reader->pool, read_lane, reader);
        const uint64_t took = clock_ns() - begin + 1;
        const size_t n = reader->piece > 0 ? reader->piece * n_lanes : reader->n_words;
        rates[i] = (double)(n * sizeof(uint64_t)) * 1e9 / (double)took;
        reader->at += reader->piece;
    }
}

double limits_reader_median(struct limits_reader *reader, uint32_t budget_ms)
{
    double rates[LIMITS_PATTERNS][MOST_PASSES], best = 0;
    uint32_t n = 0;
    const uint64_t end = clock_ns() + (uint64_t)budget_ms * 1000000;
    do {
        double once[LIMITS_PATTERNS];
        limits_reader_rates(reader, reader->n_bytes, once);
        for (uint32_t i = 0; i < LIMITS_PATTERNS; i++)
            rates[i][n] = once[i];
    } while (++n < MOST_PASSES && clock_ns() < end);
    for (uint32_t i = 0; i < LIMITS_PATTERNS; i++) {
        const double median = samples_of(rates[i], n).median;
        best = median > best ? median : best;
    }
    return best;
}

double limits_read(struct thread_pool *pool, size_t bytes, uint32_t budget_ms)
{
    struct limits_reader *reader = NULL;
    if (limits_reader_create(&reader, pool, bytes, NULL) != STATUS_OK)
        return 0;
    const double rate = limits_reader_median(reader, budget_ms);
    limits_reader_destroy(reader);
    return rate;
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

struct arithmetic {
    const struct limits_loop *loop;
    uint64_t rounds;
    float results[MOST_LANES];
};

static void calculate_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct arithmetic *arithmetic = context;
    (void)n_lanes;
    arithmetic->results[lane] = arithmetic->loop->run(arithmetic->rounds);
}

/* Nanoseconds of a pass. */
static double calculate_once(struct thread_pool *pool, struct arithmetic *arithmetic)
{
    const uint64_t begin = clock_ns();
    thread_pool_run(pool, calculate_lane, arithmetic);
    return (double)(clock_ns() - begin);
}

/* Rounds are doubled until they take long enough to be timed; then the median of some passes: a
 * host that takes a processor away does so for milliseconds. */
static double calculate(struct thread_pool *pool, const struct limits_loop *loop)
{
    if (loop->run == NULL)
        return 0;
    struct arithmetic arithmetic = {.loop = loop, .rounds = 1 << 12};
    while (calculate_once(pool, &arithmetic) < ARITHMETIC_NS / 2 &&
           arithmetic.rounds <= UINT64_MAX / 4)
        arithmetic.rounds *= 2;
    double took[ARITHMETIC_PASSES];
    for (uint32_t i = 0; i < ARITHMETIC_PASSES; i++)
        took[i] = calculate_once(pool, &arithmetic);
    return (double)(arithmetic.rounds * loop->operations) * thread_pool_lanes(pool) * 1e9 /
           samples_of(took, ARITHMETIC_PASSES).median;
}

double limits_f32(struct thread_pool *pool)
{
    const struct limits_loops loops = best_loops();
    return calculate(pool, &loops.f32);
}

double limits_int8(struct thread_pool *pool)
{
    const struct limits_loops loops = best_loops();
    return calculate(pool, &loops.int8);
}

double limits_bf16(struct thread_pool *pool)
{
    const struct limits_loops loops = best_loops();
    return calculate(pool, &loops.bf16);
}

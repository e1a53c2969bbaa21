/* limits.c - see limits.h. */
#include "kernels/cpu/limits.h"

#include "kernels/cpu/limits_loops.h"
#include "kernels/cpu/limits_read.h"
#include "kernels/kernels.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/samples.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_PASSES = 64,
    MOST_LANES = 1024, /* of a pool */
    PIECE_WORDS = 512, /* a page */
    STEAL_WORDS = 16 * PIECE_WORDS,
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
#elif defined(__aarch64__)
    loops = limits_loops_neon;
    if (kernels_cpu_dotprod.usable())
        loops.int8 = limits_int8_dotprod;
#endif
    return loops;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Of one lane, on cache lines of its own. */
struct read_part {
    _Alignas(64) atomic_size_t next; /* [next, end): words that nobody has begun to read */
    size_t end;
    uint64_t sum[8]; /* the reads are used for something */
};

struct limits_reader {
    struct thread_pool *pool;
    uint64_t *words;
    size_t n_words, n_bytes; /* n_bytes: as reserved */
    size_t at;               /* words of each lane's part that were read last */
    void (*pattern)(const uint64_t *words, size_t n, uint64_t sum[8]);
    struct read_part parts[MOST_LANES];
};

static void touch_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct limits_reader *reader = context;
    size_t begin, end;
    thread_pool_share(reader->n_words, PIECE_WORDS, lane, n_lanes, &begin, &end);
    memset(reader->words + begin, (int)lane + 1, (end - begin) * sizeof(uint64_t));
}

/* Its own part, then what the others have not begun: a lane that the host slows down for a
 * moment would else be taken for slow memory. */
static void read_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct limits_reader *reader = context;
    uint64_t sum[8] = {0};
    for (uint32_t i = 0; i < n_lanes; i++) {
        struct read_part *part = &reader->parts[(lane + i) % n_lanes];
        size_t begin, end;
        while (thread_pool_take(&part->next, part->end, n_lanes > 1 ? 2 : 1, STEAL_WORDS, &begin,
                                &end))
            reader->pattern(reader->words + begin, end - begin, sum);
    }
    memcpy(reader->parts[lane].sum, sum, sizeof(sum));
}

/* Of every lane's part the `piece` words behind those read last; 0: all of it. */
static void deal_parts(struct limits_reader *reader, size_t piece)
{
    const uint32_t n_lanes = thread_pool_lanes(reader->pool);
    for (uint32_t lane = 0; lane < n_lanes; lane++) {
        struct read_part *part = &reader->parts[lane];
        size_t begin;
        thread_pool_share(reader->n_words, PIECE_WORDS, lane, n_lanes, &begin, &part->end);
        if (piece > 0) {
            begin += reader->at;
            part->end = begin + piece;
        }
        atomic_init(&part->next, begin);
    }
}

enum status limits_reader_create(struct limits_reader **reader, struct thread_pool *pool,
                                 size_t bytes, struct error *error)
{
    struct limits_reader *r = aligned_alloc(_Alignof(struct limits_reader), sizeof(*r));
    void *memory = NULL;
    bytes -= bytes % (PIECE_WORDS * sizeof(uint64_t));
    if (r == NULL || bytes == 0 || memory_reserve(&memory, bytes, NULL) != STATUS_OK) {
        free(r);
        return error_set(error, STATUS_NO_MEMORY, "limits: no %zu bytes to read", bytes);
    }
    memset(r, 0, sizeof(*r));
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
    const size_t wanted = bytes / sizeof(uint64_t) / PIECE_WORDS / n_lanes * PIECE_WORDS;
    const size_t piece = wanted < part ? wanted : 0;
    for (uint32_t i = 0; i < LIMITS_PATTERNS; i++) {
        if (reader->at + piece > part)
            reader->at = 0;
        deal_parts(reader, piece);
        reader->pattern = loops.read[i];
        const uint64_t begin = clock_ns();
        thread_pool_run(reader->pool, read_lane, reader);
        const uint64_t took = clock_ns() - begin + 1;
        const size_t n = piece > 0 ? piece * n_lanes : reader->n_words;
        rates[i] = (double)(n * sizeof(uint64_t)) * 1e9 / (double)took;
        reader->at += piece;
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

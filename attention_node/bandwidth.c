/* bandwidth.c - every lane sums its share, which it touched first, until the time is over. Decode
 * attention reads each page once and does little with it, so this is what it can reach at best. */
#include "attention_node/bandwidth.h"

#include "sys/clock.h"
#include "sys/memory.h"

#include <stdatomic.h>
#include <string.h>

enum { TOTAL_US = 300000, MEASURE_US = 150000, BLOCK_WORDS = 1 << 16 };
static const uint64_t MOST_BYTES = UINT64_C(256) << 20;

struct measurement {
    uint64_t *words;
    size_t n_words;
    uint64_t until_us;
    atomic_ullong bytes, sum; /* the sum keeps the compiler from leaving the reads out */
};

static void touch(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct measurement *m = context;
    size_t begin, end;
    thread_pool_share(m->n_words, BLOCK_WORDS, lane, n_lanes, &begin, &end);
    memset(m->words + begin, 1, (end - begin) * sizeof(*m->words));
}

static uint64_t sum_block(const uint64_t *words, size_t n)
{
    uint64_t sums[8] = {0}; /* independent, so that the additions do not wait for each other */
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] += words[i + j];
    return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

static void read_share(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct measurement *m = context;
    size_t begin, end;
    uint64_t sum = 0, words = 0;
    thread_pool_share(m->n_words, BLOCK_WORDS, lane, n_lanes, &begin, &end);
    for (size_t at = begin; begin < end && clock_us() < m->until_us;) {
        const size_t n = end - at < BLOCK_WORDS ? end - at : BLOCK_WORDS;
        sum += sum_block(m->words + at, n);
        words += n;
        at = at + n < end ? at + n : begin;
    }
    atomic_fetch_add(&m->sum, sum);
    atomic_fetch_add(&m->bytes, words * sizeof(*m->words));
}

double bandwidth_measure(struct thread_pool *pool, uint64_t most_bytes)
{
    const uint64_t began = clock_us();
    uint64_t bytes = most_bytes < MOST_BYTES ? most_bytes : MOST_BYTES;
    bytes -= bytes % (BLOCK_WORDS * sizeof(uint64_t));
    void *memory = NULL;
    if (bytes == 0 || memory_reserve(&memory, bytes, NULL) != STATUS_OK)
        return 0.0;
    struct measurement m = {.words = memory, .n_words = bytes / sizeof(uint64_t)};
    thread_pool_run(pool, touch, &m);

    const uint64_t start = clock_us();
    m.until_us = start + MEASURE_US < began + TOTAL_US ? start + MEASURE_US : began + TOTAL_US;
    if (m.until_us < start + MEASURE_US / 10)
        m.until_us = start + MEASURE_US / 10; /* touching took long: a rough number is enough */
    thread_pool_run(pool, read_share, &m);
    const uint64_t took = clock_us() - start;
    memory_release(memory, bytes);
    return took > 0 ? (double)m.bytes * 1e6 / (double)took : 0.0;
}

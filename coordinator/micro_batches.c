/* micro_batches.c - greedy, and lazy: each move must pay, so there are few of them. */
#include "coordinator/micro_batches.h"

/* A move must take this much from the heaviest batch: less is not worth a sequence's wait. */
enum { LEAST_GAIN = MICRO_BATCHES_ROW_TOKENS / 2 };

static uint64_t cost(const struct micro_batches_member *member)
{
    return (uint64_t)member->n_tokens + MICRO_BATCHES_ROW_TOKENS;
}

static uint32_t lightest(const uint64_t *load, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (load[i] < load[best])
            best = i;
    return best;
}

/* The member whose move to `to` gains most: makes the heavier of the two batches lighter than its
 * own is now. NONE: no move pays. */
static uint32_t best_move(const struct micro_batches_member *members, uint32_t n_members,
                          const uint64_t *load, uint32_t to)
{
    uint32_t best = MICRO_BATCHES_NONE;
    uint64_t most = LEAST_GAIN - 1;
    for (uint32_t i = 0; i < n_members; i++) {
        const uint32_t from = members[i].batch;
        const uint64_t c = cost(&members[i]), left = load[from] - c, grown = load[to] + c;
        const uint64_t larger = left > grown ? left : grown;
        if (from != to && larger + most < load[from]) {
            most = load[from] - larger;
            best = i;
        }
    }
    return best;
}

void micro_batches_deal(struct micro_batches_member *members, uint32_t n_members, uint64_t *load,
                        uint32_t n_batches)
{
    for (uint32_t i = 0; i < n_batches; i++)
        load[i] = 0;
    for (uint32_t i = 0; i < n_members; i++)
        if (members[i].batch < n_batches)
            load[members[i].batch] += cost(&members[i]);
    for (uint32_t i = 0; i < n_members; i++)
        if (members[i].batch >= n_batches) {
            members[i].batch = lightest(load, n_batches);
            load[members[i].batch] += cost(&members[i]);
        }
    /* Each move lowers the sum of the squares of the loads: this ends. */
    for (;;) {
        const uint32_t to = lightest(load, n_batches);
        const uint32_t i = best_move(members, n_members, load, to);
        if (i == MICRO_BATCHES_NONE)
            return;
        load[members[i].batch] -= cost(&members[i]);
        load[to] += cost(&members[i]);
        members[i].batch = to;
    }
}

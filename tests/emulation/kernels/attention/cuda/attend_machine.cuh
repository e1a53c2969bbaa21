/* tests/emulation/kernels/attention/cuda/attend_machine.cuh - the functions of that file in the tree, for the host.
 *
 * Copies are there when they are asked for, so that what waits for them too late is not found here. */
#ifndef LONGSPAN_TESTS_EMULATION_ATTEND_MACHINE_CUH
#define LONGSPAN_TESTS_EMULATION_ATTEND_MACHINE_CUH

#include "tests/emulation/device.h"
#include "tests/emulation/kernels/cuda/machine.cuh"

#include <assert.h>

/* Of an mbarrier's 8 bytes. */
struct emulated_barrier {
    uint16_t arrivals, missing; /* of a phase; of this phase */
    uint32_t phase;
};

static inline struct emulated_barrier barrier_of(const uint64_t *barrier)
{
    struct emulated_barrier b;
    emulation::move(&b, barrier, sizeof(b));
    return b;
}

static inline void mbarrier_init(uint64_t *barrier, uint32_t n_arrivals)
{
    const struct emulated_barrier b = {(uint16_t)n_arrivals, (uint16_t)n_arrivals, 0};
    memcpy(barrier, &b, sizeof(b));
}

static inline void mbarrier_init_fence()
{
}

static inline void mbarrier_arrive(uint64_t *barrier)
{
    struct emulated_barrier b = barrier_of(barrier);
    assert(b.missing > 0);
    const bool ends = --b.missing == 0;
    if (ends) {
        b.missing = b.arrivals;
        b.phase++;
    }
    emulation::move(barrier, &b, sizeof(b));
    emulation::races::mbarrier_arrives(barrier, ends);
    emulation::give_way(true);
}

static inline void mbarrier_wait(uint64_t *barrier, uint32_t parity)
{
    while ((barrier_of(barrier).phase & 1) == parity)
        emulation::give_way(false);
    emulation::races::mbarrier_waits(barrier);
}

#define COPY_ARRIVALS 1

static inline uint32_t blocks_of_grid()
{
    return gridDim.x;
}

static inline void touch(const void *)
{
}

static inline void copy_piece(void *to, const char *from, uint32_t bytes, uint64_t *full,
                              uint32_t lane, bool)
{
    assert(bytes % 16 == 0 && (uintptr_t)to % 16 == 0 && (uintptr_t)from % 16 == 0);
    if (lane == 0) {
        emulation::races::copies_bulk(to, from, bytes, full);
        emulation::move(to, from, bytes);
        mbarrier_arrive(full);
    }
}

/* Two halves of an atomic operation: no other thread has its turn between them. */
static inline uint32_t counted(const uint32_t *counter)
{
    uint32_t n;
    emulation::move(&n, counter, sizeof(n));
    return n;
}

static inline void count(uint32_t *counter, uint32_t n, bool of_block)
{
    emulation::races::counts(counter, of_block);
    emulation::move(counter, &n, sizeof(n));
}

static inline uint32_t count_down(uint32_t *counter)
{
    const uint32_t before = counted(counter);
    count(counter, before - 1, false);
    return before;
}

static inline uint32_t count_round(uint32_t *counter, uint32_t last)
{
    const uint32_t before = counted(counter);
    count(counter, before == last ? 0 : before + 1, true);
    emulation::give_way(true);
    return before;
}

static inline void threads_wait(uint32_t id, uint32_t n_threads)
{
    emulation::meet_block(id, n_threads);
}

static inline float exp2_fast(float x)
{
    const float y = exp2f(fabsf(x) < 0x1p-126f ? 0.0f : x);
    return y < 0x1p-126f ? 0.0f : y;
}

static inline float inverse_fast(float x)
{
    return 1.0f / x;
}

#endif

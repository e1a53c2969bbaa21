/* tests/emulation/kernels/cuda/machine.cuh - the functions of that file in the tree, for the host.
 *
 * A copy is there as late as it may be: when its lane waits for it. */
#ifndef LONGSPAN_TESTS_EMULATION_MACHINE_CUH
#define LONGSPAN_TESTS_EMULATION_MACHINE_CUH

#include "tests/emulation/device.h"

#include <assert.h>

#include <deque>
#include <vector>

static inline void chain_next()
{
}
static inline void chain_wait()
{
    emulation::races::waits_for_kernels_ahead();
}

static inline uint32_t thread_again()
{
    return threadIdx.x;
}

/* A thread's copies by groups, of which the last is still open. */
struct emulated_copies {
    std::deque<std::vector<std::pair<uint4 *, const uint4 *>>> groups{1};
};

static inline emulated_copies &copies_of_thread()
{
    static emulated_copies threads[1024];
    return threads[threadIdx.x];
}

static inline void copy_vector(uint4 *to_shared, const uint4 *from)
{
    assert((uintptr_t)to_shared % 16 == 0 && (uintptr_t)from % 16 == 0);
    static const uint4 nothing = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    emulation::races::copies(to_shared, from, sizeof(*from));
    emulation::move(to_shared, &nothing, sizeof(nothing));
    copies_of_thread().groups.back().push_back({to_shared, from});
}

static inline void copies_commit()
{
    copies_of_thread().groups.emplace_back();
    emulation::races::copies_group();
}

template <int N>
static inline void copies_wait()
{
    auto &groups = copies_of_thread().groups;
    for (; groups.size() > N + 1; groups.pop_front())
        for (const auto &copy : groups.front())
            emulation::move(copy.first, copy.second, sizeof(uint4));
    emulation::races::copies_done(N);
}

static inline void mma_bf16(float acc[4], const uint32_t a[4], const uint32_t b[2], HERE)
{
    emulation::multiply<double, 2, 2, emulation::two_bf16, emulation::two_bf16>(
        {file, line}, *(float(*)[4])acc, *(const uint32_t(*)[4])a, *(const uint32_t(*)[2])b);
}

static inline void mma_f16(float acc[4], const uint32_t a[4], const uint32_t b[2], HERE)
{
    emulation::multiply<double, 2, 2, emulation::two_f16, emulation::two_f16>(
        {file, line}, *(float(*)[4])acc, *(const uint32_t(*)[4])a, *(const uint32_t(*)[2])b);
}

static inline void mma_32(int d[4], const uint32_t a[4], const uint32_t b[2], HERE)
{
    emulation::multiply_bytes<2, false>({file, line}, *(int(*)[4])d, *(const uint32_t(*)[4])a,
                                        *(const uint32_t(*)[2])b);
}

static inline void mma_32_unsigned(int d[4], const uint32_t a[4], const uint32_t b[2], HERE)
{
    emulation::multiply_bytes<2, true>({file, line}, *(int(*)[4])d, *(const uint32_t(*)[4])a,
                                       *(const uint32_t(*)[2])b);
}

static inline void mma_16(int d[4], const uint32_t a[2], uint32_t b, HERE)
{
    const uint32_t column[1] = {b};
    emulation::multiply_bytes<1, false>({file, line}, *(int(*)[4])d, *(const uint32_t(*)[2])a,
                                        column);
}

static inline void mma_16_unsigned(int d[4], const uint32_t a[2], uint32_t b, HERE)
{
    const uint32_t column[1] = {b};
    emulation::multiply_bytes<1, true>({file, line}, *(int(*)[4])d, *(const uint32_t(*)[2])a,
                                       column);
}

#endif

/* kernels/attention/cuda/attend_machine.cuh - the instructions of the attention kernels that CUDA C has no words
 * for, one function each.
 *
 * Shared memory is named by its 32-bit address in that window. A barrier (mbarrier) is 8 bytes there;
 * one phase is over when its arrivals have come and, where bytes were announced, those too. PTX ISA,
 * "mbarrier", "cp.async.bulk". tests/emulation has the same functions for the host. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_MACHINE_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_MACHINE_CUH

#include "kernels/cuda/machine.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define ATTEND_BULK 1 /* one thread has whole pieces copied */
#else
#define ATTEND_BULK 0 /* a warp copies 16 bytes a lane at a time */
#endif

static __device__ __forceinline__ uint32_t shared_address(const void *memory)
{
    return (uint32_t)__cvta_generic_to_shared(memory);
}

static __device__ __forceinline__ void mbarrier_init(uint64_t *barrier, uint32_t n_arrivals)
{
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(n_arrivals)
                 : "memory");
}

/* After all inits, before the others use them. */
static __device__ __forceinline__ void mbarrier_init_fence()
{
#if ATTEND_BULK
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

static __device__ __forceinline__ void mbarrier_arrive(uint64_t *barrier)
{
    asm volatile("{\n .reg .b64 state;\n mbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(
                     shared_address(barrier))
                 : "memory");
}

/* Waits for the end of the phase of that parity. */
static __device__ __forceinline__ void mbarrier_wait(uint64_t *barrier, uint32_t parity)
{
    uint32_t over;
    do {
#if ATTEND_BULK
        asm volatile("{\n .reg .pred p;\n"
                     " mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
                     " selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(over)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
#else
        asm volatile("{\n .reg .pred p;\n"
                     " mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
                     " selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(over)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
#endif
    } while (over == 0);
}

/* Threads whose arrivals a phase of copy_piece needs. */
#define COPY_ARRIVALS (ATTEND_BULK ? 1 : 32)

/* gridDim.x, looked up where it is called: the compiler cannot keep it in a register. */
static __device__ __forceinline__ uint32_t blocks_of_grid()
{
    uint32_t n;
    asm volatile("mov.u32 %0, %%nctaid.x;" : "=r"(n));
    return n;
}

/* What lies there is wanted soon. */
static __device__ __forceinline__ void touch(const void *memory)
{
    asm volatile("prefetch.global.L1 [%0];" ::"l"(__cvta_generic_to_global(memory)));
}

/* All lanes of one warp: copies a piece (a multiple of 16 bytes, 16-byte aligned) to shared memory;
 * `full` hears of it. once: nobody will read it again soon, so that what others need stays in L2. */
static __device__ __forceinline__ void copy_piece(void *to, const char *from, uint32_t bytes,
                                                  uint64_t *full, uint32_t lane, bool once)
{
#if ATTEND_BULK
    if (lane == 0) {
        uint64_t policy;
        if (once)
            asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
        else
            asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
        asm volatile(
            "{\n .reg .b64 state;\n"
            " mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;\n}" ::"r"(shared_address(full)),
            "r"(bytes)
            : "memory");
        asm volatile(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
            "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to)),
            "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(full)), "l"(policy)
            : "memory");
    }
#else
    (void)once;
    for (uint32_t at = lane * 16; at < bytes; at += 32 * 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to) + at),
                     "l"(__cvta_generic_to_global(from + at))
                     : "memory");
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(full))
                 : "memory");
#endif
}

/* Counts down what lies there: everything that this thread, and those it has met at a barrier, wrote is
 * seen by who comes after; and what those before wrote by this thread, and those that it meets. */
static __device__ __forceinline__ uint32_t count_down(uint32_t *counter)
{
    uint32_t before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(__cvta_generic_to_global(counter)), "r"(0xffffffffu)
                 : "memory");
    return before;
}

/* Counts up in shared memory, and from `last` to 0: what those before have read and written there is done for who
 * comes after. Returns the number before. */
static __device__ __forceinline__ uint32_t count_round(uint32_t *counter, uint32_t last)
{
    uint32_t before;
    asm volatile("atom.acq_rel.cta.shared.inc.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "r"(shared_address(counter)), "r"(last)
                 : "memory");
    return before;
}

/* The n_threads threads (a multiple of 32) that use barrier `id` wait for each other. */
static __device__ __forceinline__ void threads_wait(uint32_t id, uint32_t n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

/* 2^x, with a relative error of about 2^-22; 1 for 0, 0 for -inf. */
static __device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1 / x, with a relative error of 2^-23. */
static __device__ __forceinline__ float inverse_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

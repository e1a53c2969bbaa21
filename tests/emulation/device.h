/* tests/emulation/device.h - what nvcc knows and a C++ compiler does not: included in front of every .cu file
 * that is compiled for the host.
 *
 * A launch runs its blocks one after another, in an order that changes from launch to launch; the threads of
 * a block are fibers of one host thread (fibers.cc), which take turns at every barrier and every
 * instruction that a warp executes together. Float operations round as a GPU's do; what is approximate
 * there (2^x, 1 / x, sums inside a tensor core) has other last bits here. */
#ifndef LONGSPAN_TESTS_EMULATION_DEVICE_H
#define LONGSPAN_TESTS_EMULATION_DEVICE_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tests/emulation/races.h"

#include <functional>
#include <type_traits>

#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#define __shared__ thread_local /* one block at a time runs on a thread */
#define __launch_bounds__(...)
#define __grid_constant__

/* What runs for a whole warp, and touches no memory of the device: it need not be watched for races, and is long. */
#ifdef __SANITIZE_THREAD__
#define UNWATCHED __attribute__((no_sanitize_thread, optimize("O3")))
#else
#define UNWATCHED
#endif

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

/* ---- fibers and launches: fibers.cc, runtime.cc ----------------------------------------------------------- */

namespace emulation
{

/* Put behind what the stream has; recorded, while the stream is captured. */
void enqueue(cudaStream_t stream, races::job_kind kind, std::function<void()> call);

/* Whether a GPU would not launch it; cudaGetLastError then says so. */
bool refused(const void *kernel, dim3 grid, dim3 block, size_t shared_bytes);

/* All threads of a grid, until the last one has ended. */
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread);

/* The other fibers have their turn; the caller's comes again. `hopeful`: something has changed since. */
void give_way(bool hopeful);

/* As memcpy; of accesses that are not those of the thread that calls it. */
void move(void *to, const void *from, size_t bytes);

/* As bar.sync. */
void meet_block(uint32_t barrier, uint32_t n_threads);

/* Where an instruction stands that a warp executes together: all lanes in the same place, or the program ends, as a GPU
 * says nothing of what comes out. */
struct place_of {
    const char *file;
    int line;
};
#define HERE const char *file = __builtin_FILE(), int line = __builtin_LINE() /* of the caller */

/* The 32 lanes of a warp meet, each with what it has left in its slot: those of all lanes, SLOT bytes
 * apart, which stay until the lanes meet again. together: what the last one to arrive does with the slots before. */
enum { SLOT = 128 };
char *warp_slot();
[[noreturn]] void whole_warps_only(place_of where, uint32_t mask);
const char *meet_warp(place_of where, void (*together)(char *slots) = NULL);

/* They meet, and see what each has written: __syncwarp, which may stand in several places. */
void order_warp();

template <class T>
T of_lane(place_of where, uint32_t mask, const T &mine, uint32_t lane)
{
    T other;
    if (mask != UINT32_MAX)
        whole_warps_only(where, mask);
    memcpy(warp_slot(), &mine, sizeof(mine));
    memcpy(&other, meet_warp(where) + lane * SLOT, sizeof(other));
    return other;
}

static inline uint32_t lane()
{
    return threadIdx.x % 32;
}

template <class... P>
struct launcher {
    void (*kernel)(P...);
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
    races::job_kind kind;

    static_assert((sizeof(P) + ... + 0) <= 4096,
                  "every driver and compiler takes parameters of 4 KiB");

    cudaError_t operator()(P... arguments) const
    {
        const launcher launch = *this;
        if (refused((const void *)kernel, grid, block, shared_bytes))
            return cudaErrorInvalidConfiguration;
        enqueue(stream, kind, [=] {
            run_grid(launch.grid, launch.block, launch.shared_bytes,
                     [&] { launch.kernel(arguments...); });
        });
        return cudaSuccess;
    }
};

/* kernel<<<grid, block, shared_bytes, stream>>> as the Makefile writes it. */
template <class... P>
launcher<P...> configured(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                          cudaStream_t stream)
{
    return {kernel, grid, block, shared_bytes, stream, races::JOB_KERNEL};
}

template <class... P>
launcher<P...> configured(void (*kernel)(P...), const cudaLaunchConfig_t &config)
{
    races::job_kind kind = races::JOB_KERNEL;
    for (unsigned i = 0; i < config.numAttrs; i++)
        if (config.attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization &&
            config.attrs[i].val.programmaticStreamSerializationAllowed)
            kind = races::JOB_CHAINED;
    return {kernel, config.gridDim, config.blockDim, config.dynamicSmemBytes, config.stream, kind};
}

} // namespace emulation

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                               A... arguments)
{
    return emulation::configured(kernel, *config)(arguments...);
}

/* ---- functions of CUDA C ------------------------------------------------------------------------- */

static inline void __syncthreads()
{
    emulation::meet_block(0, blockDim.x * blockDim.y * blockDim.z);
}
static inline void __syncwarp(uint32_t lanes = UINT32_MAX, HERE)
{
    if (lanes != UINT32_MAX)
        emulation::whole_warps_only({file, line}, lanes);
    emulation::order_warp();
}
template <class T>
T __shfl_xor_sync(uint32_t lanes, T x, int mask, HERE)
{
    return emulation::of_lane({file, line}, lanes, x, emulation::lane() ^ (uint32_t)mask);
}
template <class T>
T __shfl_sync(uint32_t lanes, T x, uint32_t from, uint32_t width = 32, HERE)
{
    return emulation::of_lane({file, line}, lanes, x,
                              emulation::lane() / width * width + from % width);
}

static inline float __fadd_rn(float x, float y)
{
    return x + y;
}
static inline float __fsub_rn(float x, float y)
{
    return x - y;
}
static inline float __fmul_rn(float x, float y)
{
    return x * y;
}
static inline float __fdiv_rn(float x, float y)
{
    return x / y;
}
static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}
static inline double __fma_rn(double x, double y, double z)
{
    return fma(x, y, z);
}
static inline int __float2int_rn(float x)
{
    return (int)lrintf(x);
}
static inline uint32_t __float2uint_rn(float x)
{
    return x >= 0x1p32f ? UINT32_MAX : x > 0.0f ? (uint32_t)llrintf(x) : 0; /* 0: of NaN too */
}

template <class To, class From>
To emulated_bits(From x)
{
    To y;
    static_assert(sizeof(x) == sizeof(y), "the same bits");
    memcpy(&y, &x, sizeof(y));
    return y;
}
#define __float_as_int(x)  emulated_bits<int, float>(x)
#define __float_as_uint(x) emulated_bits<uint32_t, float>(x)
#define __int_as_float(x)  emulated_bits<float, int>((int)(x))
#define __uint_as_float(x) emulated_bits<float, uint32_t>(x)

static inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}
static inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector)
{
    const uint64_t both = (uint64_t)y << 32 | x;
    uint32_t picked = 0;
    for (int i = 0; i < 4; i++) {
        const uint32_t nibble = selector >> 4 * i,
                       byte = (uint32_t)(both >> (nibble & 7) * 8) & 255;
        picked |= (nibble & 8 ? byte >> 7 & 1 ? 255u : 0u : byte) << 8 * i;
    }
    return picked;
}

/* Loads past a cache. */
template <class T>
T __ldcg(const T *memory)
{
    return *memory;
}
template <class T>
T __ldcs(const T *memory)
{
    return *memory;
}

template <class A, class B>
std::common_type_t<A, B> min(A a, B b)
{
    using type = std::common_type_t<A, B>;
    return (type)b < (type)a ? (type)b : (type)a;
}
template <class A, class B>
std::common_type_t<A, B> max(A a, B b)
{
    using type = std::common_type_t<A, B>;
    return (type)a < (type)b ? (type)b : (type)a;
}

/* ---- tensor cores -------------------------------------------------------------------------------- */

namespace emulation
{

/* c += a b of m16n8: register r of a lane holds row lane / 4 (+ 8: C, r / 2; A, r % 2) and, of C, column
 * 2 (lane % 4) + r % 2; of A and B, EACH numbers of the summed dimension from EACH * (lane % 4) on, and
 * 4 * EACH further for the second half of the registers. PTX ISA, "Matrix fragments for mma.m16n8k16" and
 * "mma.m16n8k32". unpack: a register's numbers, of A
 * unpack_a. The last lane to arrive multiplies for all. */
template <class Sum, int EACH, int HALVES, class C>
struct multiplication {
    C c[4];
    uint32_t a[2 * HALVES], b[HALVES];

    template <void (*unpack_a)(uint32_t bits, Sum *to), void (*unpack)(uint32_t bits, Sum *to)>
    UNWATCHED static void together(char *slots)
    {
        enum { ROWS = 16, COLUMNS = 8, K = 4 * EACH * HALVES };
        Sum a[ROWS][K], b[K][COLUMNS], c[ROWS][COLUMNS];
        for (int lane = 0; lane < 32; lane++) {
            const multiplication &part = *(const multiplication *)(slots + lane * SLOT);
            const int row = lane / 4, four = lane % 4;
            for (int half = 0; half < HALVES; half++) {
                const int k = (half * 4 + four) * EACH;
                Sum column[EACH];
                unpack_a(part.a[2 * half], &a[row][k]);
                unpack_a(part.a[2 * half + 1], &a[row + 8][k]);
                unpack(part.b[half], column);
                for (int i = 0; i < EACH; i++)
                    b[k + i][row] = column[i];
            }
            for (int i = 0; i < 4; i++)
                c[row + i / 2 * 8][2 * four + i % 2] = (Sum)part.c[i];
        }
        for (int row = 0; row < ROWS; row++) {
            Sum sums[COLUMNS];
            memcpy(sums, c[row], sizeof(sums));
            for (int k = 0; k < K; k++)
                for (int column = 0; column < COLUMNS; column++)
                    sums[column] += a[row][k] * b[k][column];
            memcpy(c[row], sums, sizeof(sums));
        }
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++)
                ((multiplication *)(slots + lane * SLOT))->c[i] =
                    (C)c[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
    }
};

template <class Sum, int EACH, int HALVES, void (*unpack_a)(uint32_t bits, Sum *to),
          void (*unpack)(uint32_t bits, Sum *to), class C>
void multiply(place_of where, C (&c)[4], const uint32_t (&a)[2 * HALVES],
              const uint32_t (&b)[HALVES])
{
    using mine = multiplication<Sum, EACH, HALVES, C>;
    static_assert(sizeof(mine) <= SLOT, "a lane's numbers");
    mine part;
    memcpy(part.a, a, sizeof(a));
    memcpy(part.b, b, sizeof(b));
    memcpy(part.c, c, sizeof(c));
    memcpy(warp_slot(), &part, sizeof(part));
    const char *all = meet_warp(where, mine::template together<unpack_a, unpack>);
    memcpy(c, ((const mine *)(all + lane() * SLOT))->c, sizeof(c));
}

UNWATCHED static inline void two_f16(uint32_t bits, double *to)
{
    for (int i = 0; i < 2; i++)
        to[i] = __half2float(__ushort_as_half((uint16_t)(bits >> 16 * i)));
}

UNWATCHED static inline void two_bf16(uint32_t bits, double *to)
{
    to[0] = __uint_as_float(bits << 16);
    to[1] = __uint_as_float(bits & 0xffff0000u);
}

UNWATCHED static inline void four_s8(uint32_t bits, int *to)
{
    for (int i = 0; i < 4; i++)
        to[i] = (int8_t)(bits >> 8 * i);
}

UNWATCHED static inline void four_u8(uint32_t bits, int *to)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(bits >> 8 * i);
}

/* K 16 (HALVES 1) or 32; bytes of a from 0 to 255 where UNSIGNED. */
template <int HALVES, bool UNSIGNED>
void multiply_bytes(place_of where, int (&c)[4], const uint32_t (&a)[2 * HALVES],
                    const uint32_t (&b)[HALVES])
{
    multiply<int, 4, HALVES, UNSIGNED ? four_u8 : four_s8, four_s8>(where, c, a, b);
}

} // namespace emulation

#endif

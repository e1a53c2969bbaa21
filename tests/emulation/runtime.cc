/* runtime.cc - fibers that are a block's threads, and the part of CUDA's runtime that the tree calls.
 *
 * Fibers are made once and used by every block: each waits for a block that has a thread for it. They
 * change by longjmp, which saves no signal mask and so costs nanoseconds. Whoever waits gives way to
 * the next fiber in the ring; a ring that goes round and round without any change is a deadlock, which
 * ends the program.
 *
 * Streams do at once what is put on them, but while they are captured. Memory of the device is host memory
 * with 0xff in it: no number. Blocks come in another order at each launch. */
#include "tests/emulation/device.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include <utility>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

/* What `extern __shared__` arrays are. */
thread_local __attribute__((aligned(1024))) char shared[228 << 10];

namespace emulation
{

/* ---- fibers -------------------------------------------------------------------------------------- */

enum { MOST_THREADS = 1024, STACK_BYTES = 256 << 10, WARP = 32, BARRIERS = 16, PATIENCE = 10000 };

struct fiber {
    jmp_buf at;
    uint3 index;
    bool made, running;
};

/* Threads that meet; they may meet again while some have not left yet, but not twice. */
struct meeting {
    uint32_t n_here, round;
    alignas(16) char slots[2][WARP * SLOT];
};

static fiber fibers[MOST_THREADS];
static uint32_t current, n_running, n_fibers;
static uint32_t hopeless; /* turns since something changed */
static jmp_buf whole;     /* who runs the block */
static const std::function<void()> *thread_body;
static meeting warps[MOST_THREADS / WARP], blocks[BARRIERS];

static void life()
{
    for (;;) {
        (*thread_body)();
        fibers[current].running = false;
        n_running--;
        give_way(true); /* and comes back with the next block */
    }
}

static void enter(uint32_t i)
{
    static ucontext_t fresh, unused;
    current = i;
    threadIdx = fibers[i].index;
    if (fibers[i].made)
        _longjmp(fibers[i].at, 1);
    fibers[i].made = true;
    getcontext(&fresh);
    fresh.uc_stack.ss_size = STACK_BYTES;
    fresh.uc_stack.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh.uc_stack.ss_sp == MAP_FAILED)
        abort();
    makecontext(&fresh, life, 0);
    swapcontext(&unused, &fresh);
}

void give_way(bool hopeful)
{
    hopeless = hopeful ? 0 : hopeless + 1;
    if (hopeless > PATIENCE * n_fibers) {
        fprintf(stderr, "emulation: block %u: %u of %u threads wait for ever\n", blockIdx.x,
                n_running, n_fibers);
        abort();
    }
    if (_setjmp(fibers[current].at) != 0)
        return;
    if (n_running == 0)
        _longjmp(whole, 1);
    uint32_t next = current;
    do
        next = next + 1 < n_fibers ? next + 1 : 0;
    while (!fibers[next].running);
    enter(next);
}

static void meet(meeting &m, uint32_t n)
{
    const uint32_t round = m.round;
    if (++m.n_here == n) {
        m.n_here = 0;
        m.round++;
        hopeless = 0;
        return;
    }
    while (m.round == round)
        give_way(false);
}

void meet_block(uint32_t barrier, uint32_t n_threads)
{
    meet(blocks[barrier], n_threads);
}

char *warp_slot()
{
    meeting &m = warps[current / WARP];
    return m.slots[m.round % 2] + current % WARP * SLOT;
}

const char *meet_warp()
{
    meeting &m = warps[current / WARP];
    const char *slots = m.slots[m.round % 2];
    meet(m, WARP);
    return slots;
}

static void run_block(const std::function<void()> &thread)
{
    n_fibers = n_running = blockDim.x * blockDim.y * blockDim.z;
    thread_body = &thread;
    hopeless = 0;
    memset(shared, 0xff, sizeof(shared));
    for (uint32_t i = 0; i < n_fibers; i++) {
        fibers[i].running = true;
        fibers[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y,
                           i / blockDim.x / blockDim.y};
    }
    if (_setjmp(whole) == 0)
        enter(0);
    for (meeting &m : warps)
        if (m.n_here != 0)
            abort(); /* lanes ended while others waited for them */
}

void run_grid(dim3 grid, dim3 block, const std::function<void()> &thread)
{
    static uint64_t random = 1;
    const uint32_t n = grid.x * grid.y * grid.z;
    std::vector<uint32_t> order(n);
    gridDim = grid;
    blockDim = block;
    for (uint32_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const uint32_t j = (uint32_t)(random >> 32) % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t i : order) {
        blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
        run_block(thread);
    }
}

} // namespace emulation

/* ---- the runtime: streams, events, graphs ---------------------------------------------------------- */

using calls = std::vector<std::function<void()>>;

struct CUstream_st {
    bool captured;
    calls recorded;
};
struct CUevent_st {
    double ms;
};
struct CUgraph_st {
    calls recorded;
};
struct CUgraphExec_st {
    calls recorded;
};

void emulation::enqueue(cudaStream_t stream, std::function<void()> call)
{
    if (stream != NULL && stream->captured)
        stream->recorded.push_back(std::move(call));
    else
        call();
}

static double now_ms()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

#define DOES(name, parameters, ...)                                                                \
    extern "C" cudaError_t name parameters                                                         \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
        return cudaSuccess;                                                                        \
    }

DOES(cudaDriverGetVersion, (int *version), *version = CUDART_VERSION)
DOES(cudaGetDeviceCount, (int *n), *n = 1)
DOES(cudaSetDevice, (int))
DOES(cudaGetLastError, (void))
DOES(cudaDeviceSynchronize, (void))
DOES(cudaMemGetInfo, (size_t * available, size_t *total), *available = *total = (size_t)1 << 32)
DOES(cudaFuncSetAttribute, (const void *, enum cudaFuncAttribute, int))

/* A small GPU of compute capability 8.0. */
enum { MULTIPROCESSORS = 6, SHARED_BYTES = 164 << 10, MOST_PER_BLOCK = 163 << 10, RESERVED = 1024 };

DOES(cudaGetDeviceProperties, (struct cudaDeviceProp * properties, int), *properties = {};
     strcpy(properties->name, "emulated"); properties->major = 8;
     properties->multiProcessorCount = MULTIPROCESSORS;
     properties->sharedMemPerMultiprocessor = SHARED_BYTES)
DOES(cudaDeviceGetAttribute, (int *value, enum cudaDeviceAttr attribute, int),
     *value = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? MOST_PER_BLOCK : SHARED_BYTES)
DOES(cudaOccupancyMaxActiveBlocksPerMultiprocessor, (int *n, const void *, int, size_t bytes),
     *n = (int)(SHARED_BYTES / (bytes + RESERVED)))

static void *take(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 256, bytes) != 0)
        return NULL;
    return memset(memory, 0xff, bytes);
}
extern "C" cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    return (*memory = take(bytes)) != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}
extern "C" cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned)
{
    return cudaMalloc(memory, bytes);
}
DOES(cudaFree, (void *memory), free(memory))
DOES(cudaFreeHost, (void *memory), free(memory))
DOES(cudaMemcpy, (void *to, const void *from, size_t bytes, enum cudaMemcpyKind),
     memcpy(to, from, bytes))
DOES(cudaMemcpyAsync,
     (void *to, const void *from, size_t bytes, enum cudaMemcpyKind, cudaStream_t stream),
     emulation::enqueue(stream, [=] { memcpy(to, from, bytes); }))
DOES(cudaMemsetAsync, (void *to, int value, size_t bytes, cudaStream_t stream),
     emulation::enqueue(stream, [=] { memset(to, value, bytes); }))

DOES(cudaStreamCreateWithFlags, (cudaStream_t * stream, unsigned), *stream = new CUstream_st())
DOES(cudaStreamDestroy, (cudaStream_t stream), delete stream)
DOES(cudaStreamSynchronize, (cudaStream_t))
DOES(cudaStreamWaitEvent, (cudaStream_t, cudaEvent_t, unsigned))
DOES(cudaEventCreateWithFlags, (cudaEvent_t * event, unsigned), *event = new CUevent_st())
DOES(cudaEventCreate, (cudaEvent_t * event), *event = new CUevent_st())
DOES(cudaEventDestroy, (cudaEvent_t event), delete event)
DOES(cudaEventRecord, (cudaEvent_t event, cudaStream_t), event->ms = now_ms())
DOES(cudaEventSynchronize, (cudaEvent_t))
DOES(cudaEventElapsedTime, (float *ms, cudaEvent_t begin, cudaEvent_t end),
     *ms = (float)(end->ms - begin->ms))

DOES(cudaStreamBeginCapture, (cudaStream_t stream, enum cudaStreamCaptureMode),
     stream->captured = true)
DOES(cudaStreamEndCapture, (cudaStream_t stream, cudaGraph_t *graph), stream->captured = false;
     *graph = new CUgraph_st{std::move(stream->recorded)}; stream->recorded.clear())
DOES(cudaGraphInstantiate, (cudaGraphExec_t * made, cudaGraph_t graph, unsigned long long),
     *made = new CUgraphExec_st{graph->recorded})
DOES(cudaGraphUpload, (cudaGraphExec_t, cudaStream_t))
DOES(cudaGraphLaunch, (cudaGraphExec_t graph, cudaStream_t),
     for (const auto &call
          : graph->recorded) call())
DOES(cudaGraphDestroy, (cudaGraph_t graph), delete graph)
DOES(cudaGraphExecDestroy, (cudaGraphExec_t graph), delete graph)

extern "C" const char *cudaGetErrorString(cudaError_t)
{
    return "an emulated error";
}

/* Of what C code launches: attention's kernels, all with the same parameters. */
extern "C" cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel,
                                           void **arguments)
{
    const auto function = (void (*)(const void *, uint32_t))kernel;
    emulation::configured(function, config->gridDim, config->blockDim, 0,
                          config->stream)(*(const void **)arguments[0], *(uint32_t *)arguments[1]);
    return cudaSuccess;
}

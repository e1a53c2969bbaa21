/* runtime.cc - the part of CUDA's runtime that the tree calls: memory, streams, events, graphs.
 *
 * A stream does what was put on it as late as it may: when somebody waits for it, and then in one of the orders
 * that its events allow, another one each time. So what is changed too early, as pinned memory of which
 * a copy is still under way, or is not waited for, makes a test fail. Pageable memory is read at once. Memory of
 * the device is host memory with 0xff in it: no number; who touches what lies behind it, or it when it was given back, ends the
 * program. What a GPU refuses is refused: too much shared
 * memory, too large grids, allocating and waiting while calls are captured. */
#include "tests/emulation/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

using emulation::races::job_kind;
namespace races = emulation::races;

struct call {
    job_kind kind;
    std::function<void()> function;
};
using calls = std::vector<call>;

/* False: not yet. */
using job = std::function<bool()>;

struct CUstream_st {
    races::stream order;
    std::deque<job> waiting;
    bool captured, invalid; /* invalid: something was called that cannot be captured */
    calls recorded;
};
struct CUevent_st {
    double ms;
    uint64_t asked, done; /* records so far */
    races::history known; /* with the last one that is done */
};
struct CUgraph_st {
    calls recorded;
};
struct CUgraphExec_st {
    std::shared_ptr<const calls> recorded;
};

static std::set<CUstream_st *> streams;
static std::map<char *, size_t> pinned;                  /* and their sizes */
static std::map<char *, std::pair<char *, size_t>> lent; /* and what was mapped for it */
static std::map<const void *, size_t> shares; /* of shared memory that kernels may ask for */
static cudaError_t last_error = cudaSuccess;
static uint64_t random_state = 1;

static uint32_t chance(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static cudaError_t failed(cudaError_t error)
{
    last_error = error;
    return error;
}

/* ---- streams --------------------------------------------------------------------------------------- */

/* One job of a stream that can go on; the wanted one has no precedence. */
static void advance()
{
    std::vector<CUstream_st *> some;
    for (CUstream_st *stream : streams)
        if (!stream->waiting.empty())
            some.push_back(stream);
    while (!some.empty()) {
        const uint32_t i = chance((uint32_t)some.size());
        CUstream_st *stream = some[i];
        const job next = stream->waiting.front();
        if (next()) {
            stream->waiting.pop_front();
            return;
        }
        some.erase(some.begin() + i);
    }
    fprintf(stderr, "emulation: streams wait for each other\n");
    abort();
}

/* The host waits. */
static void drain(const CUstream_st *stream)
{
    while (!stream->waiting.empty())
        advance();
    races::host_hears(stream->order.all);
}

static void drain_all()
{
    for (const CUstream_st *stream : streams)
        drain(stream);
}

static void run(CUstream_st *stream, const races::history &asked, const call &call)
{
    races::begin_job(&stream->order, asked, call.kind);
    call.function();
    races::end_job(&stream->order, call.kind);
}

/* What must not be called while a stream is captured. */
static bool captures()
{
    bool any = false;
    for (CUstream_st *stream : streams)
        if (stream->captured)
            any = stream->invalid = true;
    return any;
}

void emulation::enqueue(cudaStream_t stream, job_kind kind, std::function<void()> function)
{
    static CUstream_st of_all; /* NULL: all others, and the host, wait */
    if (stream == NULL) {
        if (of_all.order.number == 0)
            races::open_stream(&of_all.order);
        drain_all();
        run(&of_all, races::asked(), {kind, function});
        races::host_hears(of_all.order.all);
    } else if (stream->captured) {
        stream->recorded.push_back({kind, std::move(function)});
    } else {
        const call one = {kind, std::move(function)};
        stream->waiting.push_back([=, asked = races::asked()] {
            run(stream, asked, one);
            return true;
        });
    }
}

bool emulation::refused(const void *kernel, dim3 grid, dim3 block, size_t shared_bytes)
{
    enum { MOST_THREADS = 1024, MOST_BLOCKS = 65535 };
    const size_t unasked = 48 << 10;
    const auto share = shares.find(kernel);
    const size_t most = share != shares.end() && share->second > unasked ? share->second : unasked;
    const size_t threads = (size_t)block.x * block.y * block.z;
    if (shared_bytes <= most && threads > 0 && threads <= MOST_THREADS && grid.x > 0 &&
        grid.x <= INT32_MAX && grid.y > 0 && grid.y <= MOST_BLOCKS && grid.z > 0 &&
        grid.z <= MOST_BLOCKS)
        return false;
    fprintf(stderr, "emulation: a launch of (%u, %u, %u) x %zu threads, %zu of %zu bytes\n", grid.x,
            grid.y, grid.z, threads, shared_bytes, most);
    failed(cudaErrorInvalidConfiguration);
    return true;
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

/* As DOES, but not while calls are captured. */
#define WAITS(name, parameters, ...)                                                               \
    extern "C" cudaError_t name parameters                                                         \
    {                                                                                              \
        if (captures())                                                                            \
            return failed(cudaErrorStreamCaptureUnsupported);                                      \
        __VA_ARGS__;                                                                               \
        return cudaSuccess;                                                                        \
    }

DOES(cudaStreamCreateWithFlags, (cudaStream_t * stream, unsigned),
     streams.insert(*stream = new CUstream_st());
     races::open_stream(&(*stream)->order))
WAITS(cudaStreamDestroy, (cudaStream_t stream), drain(stream); streams.erase(stream); delete stream)
WAITS(cudaStreamSynchronize, (cudaStream_t stream), drain(stream))
WAITS(cudaDeviceSynchronize, (void), drain_all())

DOES(cudaEventCreateWithFlags, (cudaEvent_t * event, unsigned), *event = new CUevent_st())
DOES(cudaEventCreate, (cudaEvent_t * event), *event = new CUevent_st())
WAITS(cudaEventDestroy, (cudaEvent_t event), drain_all(); delete event)
WAITS(cudaEventRecord, (cudaEvent_t event, cudaStream_t stream), const uint64_t n = ++event->asked;
      stream->waiting.push_back([=] {
          event->ms = now_ms();
          event->done = n;
          event->known = stream->order.all;
          return true;
      }))
WAITS(cudaStreamWaitEvent, (cudaStream_t stream, cudaEvent_t event, unsigned),
      const uint64_t n = event->asked;
      stream->waiting.push_back([=] {
          if (event->done < n)
              return false;
          races::stream_hears(&stream->order, event->known);
          return true;
      }))
WAITS(cudaEventSynchronize, (cudaEvent_t event), while (event->done < event->asked) advance();
      races::host_hears(event->known))
DOES(cudaEventElapsedTime, (float *ms, cudaEvent_t begin, cudaEvent_t end),
     *ms = (float)(end->ms - begin->ms))

/* ---- the device ------------------------------------------------------------------------------------ */

/* A small GPU of compute capability 8.0; of 9.0, on which kernels are chained, where races are looked for. */
enum { MULTIPROCESSORS = 6, RESERVED = 1024, THREADS_WITH_REGISTERS = 512 };

/* LONGSPAN_EMULATED_SHARED: KiB of a multiprocessor, if not 164 as 8.0 has; 100 as 8.6, 8.9 and 12.0. */
static size_t shared_memory()
{
    const char *kib = getenv("LONGSPAN_EMULATED_SHARED");
    return (kib != NULL ? strtoul(kib, NULL, 10) : 164) << 10;
}

static int capability()
{
    return races::watching ? 90 : 80;
}

DOES(cudaDriverGetVersion, (int *version), *version = CUDART_VERSION)
DOES(cudaGetDeviceCount, (int *n), *n = 1)
DOES(cudaSetDevice, (int))
DOES(cudaMemGetInfo, (size_t * available, size_t *total), *available = *total = (size_t)1 << 32)
DOES(cudaGetDeviceProperties, (struct cudaDeviceProp * properties, int), *properties = {};
     strcpy(properties->name, "emulated"); properties->major = capability() / 10;
     properties->multiProcessorCount = MULTIPROCESSORS;
     properties->sharedMemPerMultiprocessor = shared_memory())
DOES(cudaDeviceGetAttribute, (int *value, enum cudaDeviceAttr attribute, int),
     const size_t reserved = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? RESERVED : 0;
     *value = (int)(shared_memory() - reserved))
DOES(cudaFuncGetAttributes, (struct cudaFuncAttributes * attributes, const void *),
     *attributes = {};
     attributes->ptxVersion = capability())
DOES(cudaOccupancyMaxActiveBlocksPerMultiprocessor,
     (int *n, const void *, int threads, size_t bytes),
     const int room = THREADS_WITH_REGISTERS / threads;
     *n = std::min(room, (int)(shared_memory() / (bytes + RESERVED))))

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute,
                                            int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if ((size_t)value + RESERVED > shared_memory())
        return failed(cudaErrorInvalidValue);
    shares[kernel] = (size_t)value;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

extern "C" const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation           ? "out of memory"
           : error == cudaErrorInvalidConfiguration     ? "invalid configuration"
           : error == cudaErrorStreamCaptureUnsupported ? "not while a stream is captured"
                                                        : "an emulated error";
}

/* ---- memory ---------------------------------------------------------------------------------------- */

/* 256-byte aligned, as is its end, right before a page that nobody may touch. NULL: there is no more. */
static void *guarded(size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    const size_t page = 4096, taken = (bytes + 255) / 256 * 256,
                 room = (taken + page - 1) / page * page;
    char *whole = (char *)mmap(NULL, room + page, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED)
        return NULL;
    if (mprotect(whole + room, page, PROT_NONE) != 0)
        abort();
    lent[whole + room - taken] = {whole, room + page};
    return whole + room - taken;
}

static cudaError_t take(void **memory, size_t bytes)
{
    if (captures())
        return failed(cudaErrorStreamCaptureUnsupported);
    *memory = races::watching ? races::take(bytes) : guarded(bytes);
    if (*memory == NULL)
        return failed(cudaErrorMemoryAllocation);
    memset(*memory, 0xff, bytes);
    return cudaSuccess;
}

static void give(void *memory)
{
    const auto of = lent.find((char *)memory);
    if (races::watching) {
        races::give(memory);
    } else if (of != lent.end()) { /* NULL is not */
        /* nobody gets the place again: to touch it stays a mistake */
        if (mmap(of->second.first, of->second.second, PROT_NONE,
                 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
            abort();
        lent.erase(of);
    }
}

extern "C" cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    return take(memory, bytes);
}

extern "C" cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned)
{
    const cudaError_t result = take(memory, bytes);
    if (result == cudaSuccess)
        pinned[(char *)*memory] = bytes;
    return result;
}

WAITS(cudaFree, (void *memory), drain_all(); give(memory))
WAITS(cudaFreeHost, (void *memory), drain_all(); pinned.erase((char *)memory); give(memory))

static bool is_pinned(const void *memory)
{
    auto after = pinned.upper_bound((char *)memory);
    return after != pinned.begin() &&
           (char *)memory < std::prev(after)->first + std::prev(after)->second;
}

static void copy(void *to, const void *from, size_t bytes)
{
    races::reads(from, bytes);
    races::writes(to, bytes);
    memcpy(to, from, bytes);
}

WAITS(cudaMemcpy, (void *to, const void *from, size_t bytes, enum cudaMemcpyKind),
      copy(to, from, bytes))

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes,
                                       enum cudaMemcpyKind kind, cudaStream_t stream)
{
    const bool up = kind == cudaMemcpyHostToDevice && !is_pinned(from);
    const bool down = kind == cudaMemcpyDeviceToHost && !is_pinned(to);
    if ((up || down) && stream->captured) {
        stream->invalid = true;
        return failed(cudaErrorStreamCaptureUnsupported);
    }
    if (up) {
        const char *bytes_there = (const char *)from;
        const std::vector<char> content(bytes_there, bytes_there + bytes);
        emulation::enqueue(stream, races::JOB_COPY, [=] { copy(to, content.data(), bytes); });
    } else {
        emulation::enqueue(stream, races::JOB_COPY, [=] { copy(to, from, bytes); });
    }
    if (down)
        drain(stream);
    return cudaSuccess;
}

DOES(cudaMemsetAsync, (void *to, int value, size_t bytes, cudaStream_t stream),
     emulation::enqueue(stream, races::JOB_COPY, [=] {
         races::writes(to, bytes);
         memset(to, value, bytes);
     }))

/* ---- graphs ---------------------------------------------------------------------------------------- */

DOES(cudaStreamBeginCapture, (cudaStream_t stream, enum cudaStreamCaptureMode),
     stream->captured = true;
     stream->invalid = false)

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    const bool invalid = stream->invalid;
    *graph = invalid ? NULL : new CUgraph_st{std::move(stream->recorded)};
    stream->recorded.clear();
    stream->captured = stream->invalid = false;
    return invalid ? failed(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}

DOES(cudaGraphInstantiate, (cudaGraphExec_t * made, cudaGraph_t graph, unsigned long long),
     *made = new CUgraphExec_st{std::make_shared<const calls>(graph->recorded)})
DOES(cudaGraphUpload, (cudaGraphExec_t, cudaStream_t))
/* Its first kernel waits for all that was asked of the stream before. */
DOES(cudaGraphLaunch, (cudaGraphExec_t graph, cudaStream_t stream),
     emulation::enqueue(stream, races::JOB_COPY, [] {});
     stream->waiting.push_back([=, recorded = graph->recorded, asked = races::asked()] {
         for (const call &one : *recorded)
             run(stream, asked, one);
         return true;
     }))
DOES(cudaGraphDestroy, (cudaGraph_t graph), delete graph)
DOES(cudaGraphExecDestroy, (cudaGraphExec_t graph), delete graph)

/* Of what C code launches: attention's kernels, all with the same parameters. */
extern "C" cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel,
                                           void **arguments)
{
    const auto function = (void (*)(const void *, uint32_t))kernel;
    return emulation::configured(function, *config)(*(const void **)arguments[0],
                                                    *(uint32_t *)arguments[1]);
}

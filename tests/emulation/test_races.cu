/* test_races.cu - whoever forgets to wait is found out, and whoever waits is not accused.
 *
 * Each kernel has a flaw of one kind; with RIGHT it has none. */
#include "kernels/attention/cuda/attend_machine.cuh"
#include "tests/emulation/races.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

extern "C" {
#include <cmocka.h>
}

enum { LANES = 32, THREADS = 64, PIECE = 16 * LANES };

/* ---- threads of a block ---- */

template <bool RIGHT>
__global__ void reads_of_others(float *out)
{
    __shared__ float values[THREADS];
    values[threadIdx.x] = (float)threadIdx.x;
    if (RIGHT)
        __syncthreads();
    out[threadIdx.x] = values[THREADS - 1 - threadIdx.x];
}

template <bool RIGHT>
__global__ void overwrites(float *out)
{
    __shared__ float value;
    if (threadIdx.x == 0)
        value = 1;
    __syncthreads();
    out[threadIdx.x] = value;
    if (RIGHT)
        __syncthreads();
    if (threadIdx.x == THREADS - 1)
        value = 2;
}

/* Whom a barrier of some threads does not name is not ordered by it. */
template <bool RIGHT>
__global__ void barrier_of_one_warp(float *out)
{
    __shared__ float values[THREADS];
    values[threadIdx.x] = (float)threadIdx.x;
    threads_wait(1 + (RIGHT ? 0 : threadIdx.x / LANES), RIGHT ? THREADS : LANES);
    out[threadIdx.x] = values[THREADS - 1 - threadIdx.x];
}

/* A shuffle waits for the lanes, and orders no memory. */
template <bool RIGHT>
__global__ void shuffles(float *out)
{
    __shared__ float values[THREADS];
    values[threadIdx.x] = (float)threadIdx.x;
    (void)__shfl_xor_sync(0xffffffffu, 0, 1);
    if (RIGHT)
        __syncwarp();
    out[threadIdx.x] = values[threadIdx.x ^ 1];
}

/* ---- copies ---- */

template <bool RIGHT>
__global__ void waits_for_too_few_copies(uint4 *out, const uint4 *in)
{
    __shared__ uint4 values[2 * THREADS];
    copy_vector(&values[threadIdx.x], &in[threadIdx.x]);
    copies_commit();
    copy_vector(&values[THREADS + threadIdx.x], &in[threadIdx.x]);
    copies_commit();
    copies_wait<RIGHT ? 0 : 1>();
    out[threadIdx.x] = values[threadIdx.x];
    out[threadIdx.x] = values[THREADS + threadIdx.x];
}

template <bool RIGHT>
__global__ void copies_of_other_lanes(uint4 *out, const uint4 *in)
{
    __shared__ uint4 values[THREADS];
    copy_vector(&values[threadIdx.x], &in[threadIdx.x]);
    copies_commit();
    copies_wait<0>();
    if (RIGHT)
        __syncwarp();
    out[threadIdx.x] = values[threadIdx.x ^ 1];
}

struct stage {
    uint4 piece[LANES];
    uint64_t full[2], empty;
};

__device__ void open_stage(struct stage *stage)
{
    if (threadIdx.x == 0) {
        mbarrier_init(&stage->full[0], COPY_ARRIVALS);
        mbarrier_init(&stage->full[1], COPY_ARRIVALS);
        mbarrier_init(&stage->empty, 1);
        mbarrier_init_fence();
    }
    __syncthreads();
}

template <bool RIGHT>
__global__ void piece_before_its_time(uint4 *out, const char *in)
{
    __shared__ struct stage stage;
    const uint32_t lane = threadIdx.x % LANES;
    open_stage(&stage);
    if (threadIdx.x < LANES)
        copy_piece(stage.piece, in, PIECE, &stage.full[0], lane, false);
    __syncthreads(); /* orders the threads, not the copy */
    if (RIGHT)
        mbarrier_wait(&stage.full[0], 0);
    out[threadIdx.x] = stage.piece[lane];
}

enum overwriting { WAITS, WAITS_NOT, LEAVES_TOO_EARLY };

/* Warp 0 brings two pieces to one place, warp 1 reads them. */
template <overwriting FLAW>
__global__ void stage_overwritten(uint4 *out, const char *in)
{
    __shared__ struct stage stage;
    const uint32_t lane = threadIdx.x % LANES;
    open_stage(&stage);
    for (uint32_t turn = 0; turn < 2; turn++)
        if (threadIdx.x < LANES) {
            if (FLAW != WAITS_NOT && turn == 1)
                mbarrier_wait(&stage.empty, 0);
            copy_piece(stage.piece, in + turn * PIECE, PIECE, &stage.full[turn], lane, false);
        } else {
            mbarrier_wait(&stage.full[turn], 0);
            out[turn * LANES + lane] = stage.piece[lane];
            if (FLAW != LEAVES_TOO_EARLY)
                __syncwarp();
            if (lane == 0)
                mbarrier_arrive(&stage.empty);
        }
}

/* The last warp to leave overwrites what all have read. */
template <bool RIGHT>
__global__ void last_overwrites(float *out)
{
    __shared__ float value;
    __shared__ uint32_t left;
    uint32_t before = 1;
    if (threadIdx.x == 0) {
        value = 1;
        left = 0;
    }
    __syncthreads();
    out[threadIdx.x] = value;
    __syncwarp();
    if (threadIdx.x % LANES == 0 && RIGHT)
        before = count_round(&left, 1);
    if (threadIdx.x == LANES && before == 1)
        value = 2;
}

/* ---- blocks ---- */

template <bool RIGHT>
__global__ void blocks_write(float *out)
{
    out[RIGHT ? blockIdx.x * THREADS + threadIdx.x : threadIdx.x] = 1;
}

enum joining { JOINS, COUNTS_NOT, COUNTS_TOO_EARLY, READS_TOO_EARLY };

/* The last block to come reads what all have left. */
template <joining FLAW>
__global__ void parts(float *out, float *left, uint32_t *counter)
{
    __shared__ bool last;
    left[blockIdx.x * THREADS + threadIdx.x] = 1;
    if (FLAW != COUNTS_TOO_EARLY)
        __syncthreads();
    if (threadIdx.x == 0)
        last = FLAW == COUNTS_NOT ? true : count_down(counter) == 1;
    __syncthreads();
    if (!last && FLAW != READS_TOO_EARLY)
        return;
    for (uint32_t block = 0; block < gridDim.x; block++)
        out[blockIdx.x * THREADS + threadIdx.x] += left[block * THREADS + threadIdx.x];
}

/* ---- kernels, streams and the host ---- */

template <bool RIGHT>
__global__ void chained(float *out, const float *in)
{
    float value = 0;
    chain_next();
    if (!RIGHT)
        value = in[threadIdx.x];
    chain_wait();
    if (RIGHT)
        value = in[threadIdx.x];
    out[threadIdx.x] = value + 1;
}

/* Does not wait for those ahead, so that who waits for it has not waited for them. */
template <bool RIGHT>
__global__ void link(float *)
{
    chain_next();
    if (RIGHT)
        chain_wait();
}

template <class... P, class... A>
static void launch(cudaStream_t stream, bool is_chained, void (*kernel)(P...), unsigned blocks,
                   A... arguments)
{
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = blocks;
    config.blockDim = THREADS;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = is_chained;
    assert_int_equal(cudaLaunchKernelEx(&config, kernel, P(arguments)...), cudaSuccess);
}

/* ---- tests ---- */

enum { BLOCKS = 4, BYTES = 2 * BLOCKS * THREADS * sizeof(uint4) };

static cudaStream_t streams[2];
static char *in, *out, *more, *pinned;

static uint32_t found_in_the_end(void)
{
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    return emulation::races::take_found();
}

/* Launches something; whether it is to be found out. */
#define RACES(...)                                                                                 \
    do {                                                                                           \
        __VA_ARGS__;                                                                               \
        assert_int_not_equal(found_in_the_end(), 0);                                               \
    } while (0)
#define RACES_NOT(...)                                                                             \
    do {                                                                                           \
        __VA_ARGS__;                                                                               \
        assert_int_equal(found_in_the_end(), 0);                                                   \
    } while (0)

#define FLOATS (float *)out

static void test_threads_that_do_not_wait(void **)
{
    RACES(launch(streams[0], false, reads_of_others<false>, 1, FLOATS));
    RACES_NOT(launch(streams[0], false, reads_of_others<true>, 1, FLOATS));
    RACES(launch(streams[0], false, overwrites<false>, 1, FLOATS));
    RACES_NOT(launch(streams[0], false, overwrites<true>, 1, FLOATS));
    RACES(launch(streams[0], false, barrier_of_one_warp<false>, 1, FLOATS));
    RACES_NOT(launch(streams[0], false, barrier_of_one_warp<true>, 1, FLOATS));
    RACES(launch(streams[0], false, shuffles<false>, 1, FLOATS));
    RACES_NOT(launch(streams[0], false, shuffles<true>, 1, FLOATS));
}

static void test_copies_that_nobody_waits_for(void **)
{
    RACES(launch(streams[0], false, waits_for_too_few_copies<false>, 1, (uint4 *)out, (uint4 *)in));
    RACES_NOT(
        launch(streams[0], false, waits_for_too_few_copies<true>, 1, (uint4 *)out, (uint4 *)in));
    RACES(launch(streams[0], false, copies_of_other_lanes<false>, 1, (uint4 *)out, (uint4 *)in));
    RACES_NOT(launch(streams[0], false, copies_of_other_lanes<true>, 1, (uint4 *)out, (uint4 *)in));
    RACES(launch(streams[0], false, piece_before_its_time<false>, 1, (uint4 *)out, in));
    RACES_NOT(launch(streams[0], false, piece_before_its_time<true>, 1, (uint4 *)out, in));
}

static void test_stages_that_are_overwritten_too_early(void **)
{
    RACES(launch(streams[0], false, stage_overwritten<WAITS_NOT>, 1, (uint4 *)out, in));
    RACES(launch(streams[0], false, stage_overwritten<LEAVES_TOO_EARLY>, 1, (uint4 *)out, in));
    RACES_NOT(launch(streams[0], false, stage_overwritten<WAITS>, 1, (uint4 *)out, in));
    RACES(launch(streams[0], false, last_overwrites<false>, 1, FLOATS));
    RACES_NOT(launch(streams[0], false, last_overwrites<true>, 1, FLOATS));
}

static void test_blocks_that_do_not_wait(void **)
{
    RACES(launch(streams[0], false, blocks_write<false>, BLOCKS, FLOATS));
    RACES_NOT(launch(streams[0], false, blocks_write<true>, BLOCKS, FLOATS));
    uint32_t *counter = (uint32_t *)more;
    const uint32_t n = BLOCKS;
#define PARTS(flaw)                                                                                \
    (void)cudaMemcpyAsync(counter, &n, sizeof(n), cudaMemcpyHostToDevice, streams[0]);             \
    launch(streams[0], false, parts<flaw>, BLOCKS, FLOATS, (float *)in, counter)
    RACES(PARTS(COUNTS_NOT));
    RACES(PARTS(COUNTS_TOO_EARLY));
    RACES(PARTS(READS_TOO_EARLY));
    RACES_NOT(PARTS(JOINS));
}

static void test_kernels_that_do_not_wait(void **)
{
    float *a = (float *)in, *b = (float *)out, *c = (float *)more;
    RACES(launch(streams[0], true, chained<true>, 1, b, a);
          launch(streams[0], true, chained<false>, 1, c, b));
    RACES_NOT(launch(streams[0], true, chained<true>, 1, b, a);
              launch(streams[0], true, chained<true>, 1, c, b));
    RACES_NOT(launch(streams[0], true, chained<true>, 1, b, a);
              launch(streams[0], false, chained<false>, 1, c, b));
    RACES(launch(streams[0], true, chained<true>, 1, b, a);
          launch(streams[0], true, link<false>, 1, a);
          launch(streams[0], true, chained<true>, 1, c, b));
    RACES_NOT(launch(streams[0], true, chained<true>, 1, b, a);
              launch(streams[0], true, link<true>, 1, a);
              launch(streams[0], true, chained<true>, 1, c, b));
}

static void test_streams_that_do_not_wait(void **)
{
    float *a = (float *)in, *b = (float *)out, *c = (float *)more;
    cudaEvent_t event;
    assert_int_equal(cudaEventCreate(&event), cudaSuccess);
    for (int waits = 0; waits < 2; waits++) {
        launch(streams[0], false, chained<true>, 1, b, a);
        assert_int_equal(cudaEventRecord(event, streams[0]), cudaSuccess);
        if (waits)
            assert_int_equal(cudaStreamWaitEvent(streams[1], event, 0), cudaSuccess);
        launch(streams[1], false, chained<true>, 1, c, b);
        assert_int_equal(found_in_the_end() == 0, waits);
    }
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
}

static void test_hosts_that_do_not_wait(void **)
{
    for (int waits = 0; waits < 2; waits++) {
        pinned[0] = 1;
        (void)cudaMemcpyAsync(in, pinned, BYTES, cudaMemcpyHostToDevice, streams[0]);
        if (waits)
            assert_int_equal(cudaStreamSynchronize(streams[0]), cudaSuccess);
        pinned[0] = 2;
        assert_int_equal(found_in_the_end() == 0, waits);
    }
    /* Nor what comes back is there before it was waited for; by an event, and in a graph. */
    cudaEvent_t event;
    cudaGraph_t graph;
    cudaGraphExec_t recorded;
    assert_int_equal(cudaEventCreate(&event), cudaSuccess);
    assert_int_equal(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeThreadLocal),
                     cudaSuccess);
    (void)cudaMemcpyAsync(pinned, in, BYTES, cudaMemcpyDeviceToHost, streams[0]);
    assert_int_equal(cudaStreamEndCapture(streams[0], &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&recorded, graph, 0), cudaSuccess);
    for (int waits = 0; waits < 2; waits++) {
        assert_int_equal(cudaGraphLaunch(recorded, streams[0]), cudaSuccess);
        assert_int_equal(cudaEventRecord(event, streams[0]), cudaSuccess);
        if (waits)
            assert_int_equal(cudaEventSynchronize(event), cudaSuccess);
        assert_int_equal(pinned[0] < 0, 0);
        assert_int_equal(found_in_the_end() == 0, waits);
    }
    assert_int_equal(cudaGraphExecDestroy(recorded), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_that_do_not_wait),
        cmocka_unit_test(test_copies_that_nobody_waits_for),
        cmocka_unit_test(test_stages_that_are_overwritten_too_early),
        cmocka_unit_test(test_blocks_that_do_not_wait),
        cmocka_unit_test(test_kernels_that_do_not_wait),
        cmocka_unit_test(test_streams_that_do_not_wait),
        cmocka_unit_test(test_hosts_that_do_not_wait),
    };
    for (cudaStream_t &stream : streams)
        (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    (void)cudaMalloc((void **)&in, BYTES);
    (void)cudaMalloc((void **)&out, BYTES);
    (void)cudaMalloc((void **)&more, BYTES);
    (void)cudaHostAlloc((void **)&pinned, BYTES, cudaHostAllocDefault);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_ends.cu - what a GPU may let pass, and does not do as it was meant, ends the program here.
 *
 * Each kernel has a flaw of one kind; with RIGHT it has none. They run in processes of their own. */
#include "kernels/attention/cuda/attend_machine.cuh"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

enum { LANES = 32, THREADS = 64, BYTES = 4096 };

static cudaStream_t stream;
static char *memory;

/* ---- warps ---- */

/* Lanes that took another way execute another instruction. */
template <bool RIGHT>
__global__ void shuffles_on_two_ways(int *out)
{
    int x = (int)threadIdx.x;
    if (RIGHT || threadIdx.x % 2 == 0)
        x += __shfl_xor_sync(0xffffffffu, x, 2);
    else
        x -= __shfl_xor_sync(0xffffffffu, x, 2);
    out[threadIdx.x] = x;
}

template <bool RIGHT>
__global__ void products_on_two_ways(float *out)
{
    const uint32_t a[4] = {}, b[2] = {};
    float c[4] = {};
    if (RIGHT || threadIdx.x % LANES < 16)
        mma_f16(c, a, b);
    else
        mma_bf16(c, a, b);
    out[threadIdx.x] = c[0];
}

template <bool RIGHT>
__global__ void shuffles_of_half_a_warp(int *out)
{
    out[threadIdx.x] = __shfl_sync(RIGHT ? 0xffffffffu : 0x0000ffffu, (int)threadIdx.x, 0);
}

template <bool RIGHT>
__global__ void barrier_on_one_way(int *out)
{
    if (RIGHT || threadIdx.x > 0)
        __syncthreads();
    out[threadIdx.x] = 1;
}

/* ---- memory ---- */

template <bool RIGHT>
__global__ void reads_behind(int *out, const int *in)
{
    out[threadIdx.x] = in[BYTES / sizeof(int) - (RIGHT ? 1 : 0)];
}

/* A vector lies where its size divides the address. */
template <bool RIGHT>
__global__ void copies_from_anywhere(uint4 *out, const char *in)
{
    __shared__ uint4 values[THREADS];
    copy_vector(&values[threadIdx.x],
                (const uint4 *)(in + threadIdx.x * sizeof(uint4) + (RIGHT ? 0 : 8)));
    copies_commit();
    copies_wait<0>();
    out[threadIdx.x] = values[threadIdx.x];
}

/* ---- the tests ---- */

/* The signal that ends a process in which the kernel runs, or 0. */
template <class... P, class... A>
static int end_of(void (*kernel)(P...), A... arguments)
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        (void)close(STDERR_FILENO);
        emulation::configured(kernel, 2, THREADS, 0, stream)(arguments...);
        _exit(cudaStreamSynchronize(stream) == cudaSuccess ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void test_lanes_of_a_warp_go_together(void **)
{
    assert_int_equal(end_of(shuffles_on_two_ways<false>, (int *)memory), SIGABRT);
    assert_int_equal(end_of(shuffles_on_two_ways<true>, (int *)memory), 0);
    assert_int_equal(end_of(products_on_two_ways<false>, (float *)memory), SIGABRT);
    assert_int_equal(end_of(products_on_two_ways<true>, (float *)memory), 0);
    assert_int_equal(end_of(shuffles_of_half_a_warp<false>, (int *)memory), SIGABRT);
    assert_int_equal(end_of(shuffles_of_half_a_warp<true>, (int *)memory), 0);
}

static void test_a_barrier_is_reached_by_all(void **)
{
    assert_int_equal(end_of(barrier_on_one_way<false>, (int *)memory), SIGABRT);
    assert_int_equal(end_of(barrier_on_one_way<true>, (int *)memory), 0);
}

static void test_memory_ends_where_it_was_said_to(void **)
{
    char *in, *gone;
    assert_int_equal(cudaMalloc((void **)&in, BYTES), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&gone, BYTES), cudaSuccess);
    assert_int_equal(cudaFree(gone), cudaSuccess);
    assert_int_equal(end_of(reads_behind<false>, (int *)memory, (const int *)in), SIGSEGV);
    assert_int_equal(end_of(reads_behind<true>, (int *)memory, (const int *)in), 0);
    assert_int_equal(end_of(reads_behind<true>, (int *)memory, (const int *)gone), SIGSEGV);
    assert_int_equal(cudaFree(in), cudaSuccess);
}

static void test_vectors_are_aligned(void **)
{
    assert_int_equal(end_of(copies_from_anywhere<false>, (uint4 *)memory, memory), SIGABRT);
    assert_int_equal(end_of(copies_from_anywhere<true>, (uint4 *)memory, memory), 0);
}

static void test_what_waits_is_not_captured(void **)
{
    cudaGraph_t graph;
    void *more;
    for (int what = 0; what < 3; what++) {
        assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                         cudaSuccess);
        assert_int_equal(what == 0   ? cudaMalloc(&more, 1)
                         : what == 1 ? cudaStreamSynchronize(stream)
                                     : cudaMemcpy(memory, memory, 1, cudaMemcpyDeviceToDevice),
                         cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    }
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_of_a_warp_go_together),
        cmocka_unit_test(test_a_barrier_is_reached_by_all),
        cmocka_unit_test(test_memory_ends_where_it_was_said_to),
        cmocka_unit_test(test_vectors_are_aligned),
        cmocka_unit_test(test_what_waits_is_not_captured),
    };
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    (void)cudaMalloc((void **)&memory, BYTES);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

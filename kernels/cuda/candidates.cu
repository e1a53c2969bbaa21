/* candidates.cu - the best logits of a row by sorting: pieces of it, then what is best of each.
 *
 * A logit and its place make one key, larger for a larger logit and, where they are equal, for a lower
 * place, so that any order of work gives the same candidates. A block sorts a piece of the row in shared
 * memory and keeps the best; lists of those are joined and sorted in turn until one is left: for
 * some tens of candidates of any vocabulary two launches. The sum of exponentials is made on the way: of each
 * piece relative to its own largest logit, in one order. */
#include "kernels/cuda/device.h"
#include "kernels/cuda/panel.h"
#include "kernels/numeric.h"

namespace
{

enum {
    THREADS = 1024,
    WARPS = THREADS / CUDA_LANES,
    SORTED = 4096, /* keys that a block sorts */
    EACH = SORTED / THREADS,
};
static_assert(CUDA_MOST_CANDIDATES <= SORTED / 2, "two lists must fit, or lists never become one");

/* 0 is less than any logit's key: what fills a list up. */
__device__ uint64_t key_of(float logit, uint32_t place)
{
    const uint32_t bits = __float_as_uint(logit + 0.0f); /* -0 equals 0 */
    const uint32_t order = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)order << 32 | (0xffffffffu - place);
}

__device__ uint32_t place_of(uint64_t key)
{
    return 0xffffffffu - (uint32_t)key;
}

/* Largest first (Batcher 1968, the bitonic sorter). All threads call it; keys are complete before and
 * after. */
__device__ void sort_keys(uint64_t *keys)
{
    __syncthreads();
    for (uint32_t size = 2; size <= SORTED; size *= 2)
        for (uint32_t step = size / 2; step > 0; step /= 2) {
            for (uint32_t t = threadIdx.x; t < SORTED / 2; t += THREADS) {
                const uint32_t i = 2 * t - (t & (step - 1)), j = i + step;
                const uint64_t a = keys[i], b = keys[j];
                if ((a < b) == ((i & size) == 0)) {
                    keys[i] = b;
                    keys[j] = a;
                }
            }
            __syncthreads();
        }
}

/* Of the values of all threads; every thread gets it. */
__device__ float largest_of_block(float x, float *scratch)
{
#pragma unroll
    for (int step = CUDA_LANES / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    if (threadIdx.x % CUDA_LANES == 0)
        scratch[threadIdx.x / CUDA_LANES] = x;
    __syncthreads();
    x = scratch[0];
    for (int i = 1; i < WARPS; i++)
        x = fmaxf(x, scratch[i]);
    __syncthreads();
    return x;
}

template <class number>
__device__ number sum_of_block(number x, number *scratch)
{
#pragma unroll
    for (int step = CUDA_LANES / 2; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    if (threadIdx.x % CUDA_LANES == 0)
        scratch[threadIdx.x / CUDA_LANES] = x;
    __syncthreads();
    x = scratch[0];
    for (int i = 1; i < WARPS; i++)
        x += scratch[i];
    __syncthreads();
    return x;
}

union scratch {
    float largest[WARPS];
    double sums[WARPS];
    uint32_t counts[WARPS];
};

/* Block (piece, row): the piece's sum, and its `kept` best keys. */
__global__ void __launch_bounds__(THREADS, 1)
    look_at_pieces(const float *logits, uint32_t n, struct candidates_sum *sums, uint64_t *lists,
                   uint32_t kept)
{
    __shared__ uint64_t keys[SORTED];
    __shared__ union scratch scratch;
    const size_t piece = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const float *row = logits + (size_t)blockIdx.y * n;
    const uint32_t begin = blockIdx.x * SORTED;
    float values[EACH], largest = -INFINITY;
    uint32_t bad = 0;
    double sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) {
        const uint32_t at = i * THREADS + threadIdx.x;
        const bool there = at < n - begin;
        values[i] = there ? row[begin + at] : -INFINITY;
        keys[at] = there ? key_of(values[i], begin + at) : 0;
        bad += values[i] < INFINITY ? 0 : 1; /* NaN too */
        largest = fmaxf(largest, values[i]); /* not NaN */
    }
    largest = largest_of_block(largest, scratch.largest);
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++)
        if (largest > -INFINITY)
            sum += (double)exp_f32(values[i] - largest);
    sum = sum_of_block(sum, scratch.sums);
    bad = sum_of_block(bad, scratch.counts);
    if (threadIdx.x == 0) {
        sums[piece].sum = sum;
        sums[piece].largest = largest;
        sums[piece].bad = bad;
    }
    if (kept == 0)
        return;
    sort_keys(keys);
    for (uint32_t i = threadIdx.x; i < kept; i += THREADS)
        lists[piece * kept + i] = keys[i];
}

/* The lists [first, end) of a row's n_lists, each of `kept` keys, sorted to `keys`. */
__device__ void join_lists(uint64_t *keys, const uint64_t *lists, uint32_t row, uint32_t n_lists,
                           uint32_t first, uint32_t end, uint32_t kept)
{
    const uint64_t *from = lists + ((size_t)row * n_lists + first) * kept;
    for (uint32_t i = threadIdx.x; i < SORTED; i += THREADS)
        keys[i] = i < (end - first) * kept ? from[i] : 0;
    sort_keys(keys);
}

/* Block (group, row): a group's lists become one. */
__global__ void __launch_bounds__(THREADS, 1)
    join_groups(uint64_t *out, const uint64_t *lists, uint32_t n_lists, uint32_t group,
                uint32_t kept)
{
    __shared__ uint64_t keys[SORTED];
    const uint32_t first = blockIdx.x * group;
    join_lists(keys, lists, blockIdx.y, n_lists, first,
               n_lists - first < group ? n_lists : first + group, kept);
    uint64_t *to = out + ((size_t)blockIdx.y * gridDim.x + blockIdx.x) * kept;
    for (uint32_t i = threadIdx.x; i < kept; i += THREADS)
        to[i] = keys[i];
}

/* Block (row): its last lists become candidates, its pieces' sums one. */
__global__ void __launch_bounds__(THREADS, 1)
    finish_rows(struct candidates_sum *sums, struct candidate *best, uint32_t stride,
                const struct candidates_sum *pieces, uint32_t n_pieces, const uint64_t *lists,
                uint32_t n_lists, uint32_t kept, const float *logits, uint32_t n, int32_t first,
                const uint32_t *k)
{
    __shared__ uint64_t keys[SORTED];
    __shared__ union scratch scratch;
    const uint32_t row = blockIdx.x, count = k[row] < n ? k[row] : n;
    const struct candidates_sum *of_row = pieces + (size_t)row * n_pieces;
    float largest = -INFINITY;
    uint32_t bad = 0;
    double sum = 0;
    for (uint32_t i = threadIdx.x; i < n_pieces; i += THREADS) {
        largest = fmaxf(largest, of_row[i].largest);
        bad += of_row[i].bad;
    }
    largest = largest_of_block(largest, scratch.largest);
    bad = sum_of_block(bad, scratch.counts);
    for (uint32_t i = threadIdx.x; i < n_pieces; i += THREADS)
        if (of_row[i].largest > -INFINITY)
            sum += of_row[i].sum * (double)exp_f32(of_row[i].largest - largest);
    sum = sum_of_block(sum, scratch.sums);
    if (threadIdx.x == 0) {
        struct candidates_sum of_all;
        of_all.sum = bad > 0 ? 0 : sum;
        of_all.largest = largest;
        of_all.count = count;
        of_all.bad = bad;
        sums[row] = of_all;
    }
    if (kept > 0)
        join_lists(keys, lists, row, n_lists, 0, n_lists, kept);
    for (uint32_t i = threadIdx.x; i < stride; i += THREADS) {
        struct candidate one;
        one.logit = i < count ? logits[(size_t)row * n + place_of(keys[i])] : 0;
        one.id = i < count ? first + (int32_t)place_of(keys[i]) : 0;
        best[(size_t)row * stride + i] = one;
    }
}

} // namespace

/* Cuts `bytes` off the front of *memory. */
static void *cut(char **memory, size_t bytes)
{
    void *at = *memory;
    *memory += (bytes + 15) / 16 * 16;
    return at;
}

/* What the calls need, in one block. */
struct tables {
    struct candidates_sum *sums, *pieces;
    struct candidate *best;
    uint64_t *lists[2];
};

static size_t lay_tables(struct tables *tables, char *memory, size_t n_rows, size_t stride,
                         size_t n_pieces, size_t kept)
{
    char *at = memory;
    tables->sums = (struct candidates_sum *)cut(&at, n_rows * sizeof(*tables->sums));
    tables->best = (struct candidate *)cut(&at, n_rows * stride * sizeof(*tables->best));
    tables->pieces = (struct candidates_sum *)cut(&at, n_rows * n_pieces * sizeof(*tables->pieces));
    for (int i = 0; i < 2; i++)
        tables->lists[i] = (uint64_t *)cut(&at, n_rows * n_pieces * kept * sizeof(uint64_t));
    return (size_t)(at - memory);
}

extern "C" void cuda_candidates(struct device *device, struct candidates_sum *sums,
                                struct candidate *best, size_t stride, const float *logits,
                                uint32_t n_rows, uint32_t n, int32_t first, const uint32_t *k)
{
    const uint32_t n_pieces = n / SORTED + (n % SORTED != 0);
    const uint32_t kept = stride < n ? (uint32_t)stride : n;
    struct tables tables;
    struct error error;
    if (n_rows == 0 || n == 0)
        return;
    if (stride > CUDA_MOST_CANDIDATES || n_rows > 65535) { /* the most blocks in a grid's y */
        cuda_fail(device, STATUS_UNSUPPORTED, "%zu candidates of %u rows", stride, n_rows);
        return;
    }
    const uint32_t *counts =
        (const uint32_t *)cuda_indices(device, CUDA_COUNTS, k, n_rows * sizeof(*k));
    const size_t bytes = lay_tables(&tables, NULL, n_rows, stride, n_pieces, kept);
    if (counts == NULL)
        return;
    if (cuda_grow(device, &device->candidates, &device->candidates_bytes, bytes, &error) !=
        STATUS_OK) {
        cuda_fail(device, error.status, "%s", error.text);
        return;
    }
    lay_tables(&tables, (char *)device->candidates, n_rows, stride, n_pieces, kept);

    look_at_pieces<<<dim3(n_pieces, n_rows), THREADS, 0, cuda_stream(device)>>>(
        logits, n, tables.pieces, tables.lists[0], kept);
    cuda_launched(device, "the best of pieces");
    uint32_t n_lists = n_pieces;
    int at = 0;
    for (; kept > 0 && (size_t)n_lists * kept > SORTED; at = 1 - at) {
        const uint32_t group = SORTED / kept, n_groups = (n_lists + group - 1) / group;
        join_groups<<<dim3(n_groups, n_rows), THREADS, 0, cuda_stream(device)>>>(
            tables.lists[1 - at], tables.lists[at], n_lists, group, kept);
        cuda_launched(device, "the best of lists");
        n_lists = n_groups;
    }
    finish_rows<<<n_rows, THREADS, 0, cuda_stream(device)>>>(
        tables.sums, tables.best, (uint32_t)stride, tables.pieces, n_pieces, tables.lists[at],
        n_lists, kept, logits, n, first, counts);
    cuda_launched(device, "candidates");
    cuda_download(device, sums, tables.sums, n_rows * sizeof(*sums));
    cuda_download(device, best, tables.best, n_rows * stride * sizeof(*best));
}

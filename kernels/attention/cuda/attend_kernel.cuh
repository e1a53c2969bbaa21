/* kernels/attention/cuda/attend_kernel.cuh - LeanAttention on a device: one launch, reduction included.
 *
 * A thread block walks one share of the schedule (attend_jobs.h): for each tile, a partial from nothing,
 * which is merged along the tree of kernels/attention/tree.h. What a thread holds of a partial (some
 * rows, some dimensions) it holds of every partial of the walk: levels of the tree and parts lie in
 * memory thread by thread, and merging needs no other thread.
 *
 * How a tile becomes a partial is the Evaluator's business: attend_mma.cuh and attend_rows.cuh for tensor
 * cores, attend_any.cu for every other shape. It has
 *     ROWS, VALUES            a thread's rows, and its values of each
 *     THREADS                 that compute
 *     n_near(launch)          levels of the tree that lie in shared memory, at near_levels()
 *     last()                  there: is this block the last to arrive
 *     PART_LOADS              of 8 bytes, that registers suffice for when parts are merged
 *     LOOKS_AGAIN             registers are short: a segment, where a share ends and how many blocks there are
 *                             are looked up each time
 *     row(thread, i)          the block's row that is the thread's i-th; dim(thread, j) likewise
 *     load_rows, evaluate
 * Every float operation of a row is written out (no contraction), so that a row has the same bits in
 * every variant of a kernel. LeanAttention (arXiv 2405.10480), section 4; Dao et al. 2022. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_KERNEL_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_KERNEL_CUH

#include "kernels/attention/cuda/attend_launch.h"
#include "kernels/attention/cuda/attend_machine.cuh"
#include "kernels/attention/cuda/attend_tile.h"
#include "kernels/numeric.h"

#include <type_traits>

enum { TOKENS = 128 }; /* TILE_TOKENS */

#define LOG2_E  1.44269504088896341f
#define NOTHING __int_as_float(0xff800000) /* -inf */

/* A thread's share of a partial. */
template <int ROWS, int VALUES>
struct rows {
    float m[ROWS], l[ROWS], o[ROWS][VALUES];
};

/* ---- a row's tokens ------------------------------------------------------------------------ */

/* Tokens [first, last) of a tile, seen from a position. */
struct seen {
    int first, last;
};

static __device__ __forceinline__ struct seen tokens_seen_from(const struct job_output &output,
                                                               uint32_t position, uint32_t tile)
{
    /* positions are below 2^31: TREE_MAX_TILES */
    const int begin = (int)(tile * TOKENS);
    const uint32_t from =
        output.window != 0 && position >= output.window ? position - output.window + 1 : 0;
    return {min(max((int)from - begin, 0), (int)TOKENS),
            min(max((int)position + 1 - begin, 0), (int)TOKENS)};
}

/* Row r of the block sees these. Its token: a division by the group, of numbers below 2^8. */
static __device__ __forceinline__ struct seen tokens_seen(const struct attend_launch &launch,
                                                          const struct job_output &output,
                                                          uint32_t tile, uint32_t r)
{
    const uint32_t token = (output.row_offset + r) * launch.group_inverse >> 16;
    return tokens_seen_from(output, output.first_position + token, tile);
}

/* What any row of the block sees, of rows whose windows overlap or meet. */
static __device__ __forceinline__ struct seen tokens_any(const struct job_output &output,
                                                         uint32_t tile)
{
    return {tokens_seen_from(output, output.first_position, tile).first,
            tokens_seen_from(output, output.last_position, tile).last};
}

/* In a pair of tokens t and t + 1 of V, ones for those in [first, last). */
static __device__ __forceinline__ uint32_t pair_mask(int t, struct seen any)
{
    return (t >= any.first && t < any.last ? 0x0000ffffu : 0) |
           (t + 1 >= any.first && t + 1 < any.last ? 0xffff0000u : 0);
}

/* Of 8 tokens from t on, those in `any`: memory that was never written may hold NaN. */
static __device__ __forceinline__ uint4 mask_tokens(uint4 x, int t, struct seen any)
{
    return make_uint4(x.x & pair_mask(t, any), x.y & pair_mask(t + 2, any),
                      x.z & pair_mask(t + 4, any), x.w & pair_mask(t + 6, any));
}

/* cap * tanh(score / cap), by (1 - e) / (1 + e), e = 2^(-|score| * factor): to 2^-21 of the cap. No division,
 * whose rare cases would cost registers. */
static __device__ __forceinline__ float soft_capped(float score, float cap, float factor)
{
    const float e = exp2_fast(__fmul_rn(-fabsf(score), factor));
    const float x = __fmul_rn(__fsub_rn(1.0f, e), inverse_fast(__fadd_rn(1.0f, e)));
    return __fmul_rn(cap, copysignf(x, score));
}

/* Where a tile lies. */
static __device__ __forceinline__ const char *tile_of(const struct attend_launch &launch,
                                                      const struct job_output &output,
                                                      uint32_t tile, size_t tile_bytes)
{
    const uint32_t at = tile - output.page_tile;
    return launch.pages[output.first_page + at / output.page_tiles] +
           at % output.page_tiles * tile_bytes;
}

/* ---- partials ------------------------------------------------------------------------------ */

/* e^(a - b) for a <= b; b is not -inf. Of scores, to 2^-21. */
static __device__ __forceinline__ float weight(float a, float b)
{
    return exp2_fast(__fmul_rn(__fsub_rn(a, b), LOG2_E));
}

template <int ROWS, int VALUES>
static __device__ __forceinline__ void clear(struct rows<ROWS, VALUES> &x)
{
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        x.m[i] = NOTHING;
        x.l[i] = 0.0f;
#pragma unroll
        for (int j = 0; j < VALUES; j++)
            x.o[i][j] = 0.0f;
    }
}

/* float2s that a partial takes for each thread. */
template <int ROWS, int VALUES>
struct stored {
    enum { FLOAT2S = ROWS * (VALUES / 2 + 1) };
};

/* Lies at `at`, float2 i of thread t at i * n_threads + t. */
template <int ROWS, int VALUES>
static __device__ __forceinline__ void store(const struct rows<ROWS, VALUES> &x, float2 *at,
                                             uint32_t n_threads, uint32_t thread)
{
    at += thread;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < VALUES; j += 2, at += n_threads)
            *at = make_float2(x.o[i][j], x.o[i][j + 1]);
        *at = make_float2(x.m[i], x.l[i]);
        at += n_threads;
    }
}

/* far: of another thread block's, which may be in no cache of this one. */
template <bool far, int ROWS, int VALUES>
static __device__ __forceinline__ void load(struct rows<ROWS, VALUES> &x, const float2 *at,
                                            uint32_t n_threads, uint32_t thread)
{
    at += thread;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < VALUES; j += 2, at += n_threads) {
            const float2 o = far ? __ldcg(at) : *at;
            x.o[i][j] = o.x;
            x.o[i][j + 1] = o.y;
        }
        const float2 ml = far ? __ldcg(at) : *at;
        x.m[i] = ml.x;
        x.l[i] = ml.y;
        at += n_threads;
    }
}

/* e^x with the bits of exp_f32 (kernels/numeric.h): hosts merge the same partials, and whoever does must
 * not matter. */
static __device__ __forceinline__ float exp_exact(float x)
{
    x = x < EXP_F32_LOW ? EXP_F32_LOW : x;
    x = x > EXP_F32_HIGH ? EXP_F32_HIGH : x;
    const float shifted = __fmaf_rn(x, EXP_F32_LOG2E, EXP_F32_MAGIC);
    const float n = __fsub_rn(shifted, EXP_F32_MAGIC);
    float r = __fmaf_rn(-n, EXP_F32_LN2_HIGH, x);
    r = __fmaf_rn(-n, EXP_F32_LN2_LOW, r);
    float p = EXP_F32_C6;
    p = __fmaf_rn(p, r, EXP_F32_C5);
    p = __fmaf_rn(p, r, EXP_F32_C4);
    p = __fmaf_rn(p, r, EXP_F32_C3);
    p = __fmaf_rn(p, r, EXP_F32_C2);
    p = __fmaf_rn(p, r, 1.0f);
    p = __fmaf_rn(p, r, 1.0f);
    if (p != p)
        return p;
    const int exponent = __float_as_int(shifted) - EXP_F32_MAGIC_BIT;
    const int half = (exponent + 256) / 2 - 128;
    return __fmul_rn(__fmul_rn(p, __int_as_float((half + 127) << 23)),
                     __int_as_float((exponent - half + 127) << 23));
}

/* What the rows of two partials are multiplied by. The other row's bits are to stay where one is empty,
 * so that it is all +0: with -0 for its factor, -0 is added. */
static __device__ __forceinline__ void merge_factors(float m_left, float m_right, float *left,
                                                     float *right)
{
    const float above = __fsub_rn(m_left, m_right); /* one of the two factors is e^0 */
    const float small = exp_exact(-fabsf(above));
    const bool no_left = m_left == NOTHING, no_right = m_right == NOTHING;
    *left = no_right ? 1.0f : no_left ? -0.0f : above >= 0.0f ? 1.0f : small;
    *right = no_right ? -0.0f : no_left ? 1.0f : above <= 0.0f ? 1.0f : small;
}

/* x = merge(left, x), with the bits of partial_merge. */
template <int ROWS, int VALUES>
static __device__ __forceinline__ void merge_left(struct rows<ROWS, VALUES> &x,
                                                  const struct rows<ROWS, VALUES> &left)
{
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        float a, b;
        merge_factors(left.m[i], x.m[i], &a, &b);
#pragma unroll
        for (int j = 0; j < VALUES; j++)
            x.o[i][j] = __fmaf_rn(x.o[i][j], b, __fmul_rn(left.o[i][j], a));
        x.l[i] = __fmaf_rn(x.l[i], b, __fmul_rn(left.l[i], a));
        x.m[i] = fmaxf(left.m[i], x.m[i]);
    }
}

/* The largest power of two that is not above x; x > 0. */
static __device__ __forceinline__ uint32_t power_below(uint32_t x)
{
    return 1u << (31 - __clz((int)x));
}

/* As tree_step. */
static __device__ __forceinline__ uint32_t step_of(uint32_t begin, uint32_t end)
{
    const uint32_t room = power_below(end - begin), alignment = begin & (0u - begin);
    return begin == 0 || room < alignment ? room : alignment;
}

/* Brings what the kernel is told to shared memory; a barrier must follow. Whoever reads more than tables
 * or writes waits for the work before this kernel first: copies of tables end before it begins. */
static __device__ __forceinline__ void fetch_launch(struct attend_launch *to,
                                                    const struct attend_launch *from)
{
    static_assert(sizeof(struct attend_launch) % sizeof(uint32_t) == 0, "copied word by word");
    for (uint32_t i = threadIdx.x; i < sizeof(*to) / sizeof(uint32_t); i += blockDim.x)
        ((uint32_t *)to)[i] = ((const uint32_t *)from)[i];
}

/* ---- the walk ------------------------------------------------------------------------------ */

template <class Evaluator>
struct walker {
    enum { ROWS = Evaluator::ROWS, VALUES = Evaluator::VALUES, THREADS = Evaluator::THREADS };
    enum {
        PARTIAL = stored<ROWS, VALUES>::FLOAT2S * THREADS, /* float2s of all threads */
        FITTING = Evaluator::PART_LOADS / stored<ROWS, VALUES>::FLOAT2S,
        BATCH = FITTING < 1            ? 1 /* parts that are on their way at a time */
                : FITTING > JOIN_PARTS ? (int)JOIN_PARTS
                                       : FITTING
    };
    using values = struct rows<ROWS, VALUES>;
    using segment_held = std::conditional_t<Evaluator::LOOKS_AGAIN, const struct job_segment &,
                                            const struct job_segment>;

    struct attend_launch &launch; /* in shared memory */
    Evaluator &evaluator;
    uint32_t thread;

    /* Near levels apart: so the compiler knows that they lie in shared memory. */
    __device__ __forceinline__ void store_level(uint32_t k, const values &x)
    {
        if (k < evaluator.n_near(launch))
            store(x, evaluator.near_levels() + k * PARTIAL, THREADS, thread);
        else
            store(x, launch.levels + (size_t)k * PARTIAL, THREADS, thread);
    }

    /* x = merge(level k, x). */
    __device__ __forceinline__ void merge_level(uint32_t k, values &x)
    {
        values left;
        if (k < evaluator.n_near(launch))
            load<false>(left, evaluator.near_levels() + k * PARTIAL, THREADS, thread);
        else
            load<false>(left, launch.levels + (size_t)k * PARTIAL, THREADS, thread);
        merge_left(x, left);
    }

    /* The values of a segment. Slot k holds the left half of an interval of 2^(k + 1) tiles whose
     * right half is not complete: with the tiles before tile i of an aligned interval, bit k of i says
     * whether slot k is full. A prefix of the tree, D1..Dj, is held apart. */
    __device__ __forceinline__ void evaluate(const struct job_output &output,
                                             const struct job_segment &segment, values &x)
    {
        const bool any_order = launch.any_order;
        uint32_t base = segment.begin, size = segment.end - base, tile = base;
        if (base == 0 && output.n_tiles > 0 && power_below(output.n_tiles) < segment.end)
            size = power_below(output.n_tiles);
        for (;;) {
            uint32_t step = 1;
            if (tile < output.visible_from) {
                step = step_of(tile, min(output.visible_from, segment.end));
                if (step > size - (tile - base))
                    step = size - (tile - base);
                clear(x);
            } else {
                evaluator.evaluate(launch, output, tile, x);
            }
            if (any_order) {
                if (tile != segment.begin)
                    merge_level(0, x);
                tile += step;
                if (tile == segment.end)
                    return;
                store_level(0, x);
                continue;
            }
            uint32_t k = 31 - __clz((int)step);
            for (; ((tile - base) >> k & 1) != 0; k++)
                merge_level(k, x);
            tile += step;
            if (tile - base < size) {
                store_level(k, x);
                continue;
            }
            /* Registers are short: what is wanted now only is looked up now. */
            const uint32_t n = output.n_tiles, prefix = launch.n_levels - 1;
            if (base != segment.begin)
                merge_level(prefix, x);
            if (tile == segment.end)
                return;
            store_level(prefix, x);
            base = tile;
            size = base == n ? 1 : power_below(n - base); /* n: the own tile */
        }
    }

    __device__ __forceinline__ void write_partial(const struct job_output &output, uint32_t node,
                                                  const values &x)
    {
        const uint32_t head_dim = launch.head_dim, n = output.work_rows;
        float *partial = output.out + (size_t)node * n * (head_dim + 2);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const uint32_t r = evaluator.row(thread, i), row = output.row_begin + r;
            if (r >= output.n_rows)
                continue;
            if (evaluator.writes_row(thread)) {
                partial[row] = x.m[i];
                partial[n + row] = x.l[i];
            }
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                if (evaluator.dim(thread, j) < head_dim)
                    partial[2 * (size_t)n + (size_t)row * head_dim + evaluator.dim(thread, j)] =
                        x.o[i][j];
        }
    }

    __device__ __forceinline__ void write_rows(const struct job_output &output, const values &x)
    {
        const uint32_t head_dim = launch.head_dim, group = launch.group;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const uint32_t r = evaluator.row(thread, i), row = output.row_begin + r;
            if (r >= output.n_rows)
                continue;
            float *to = output.final_out + row / group * output.final_token_stride +
                        (size_t)(row % group) * head_dim;
            const float l = x.l[i];
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                if (evaluator.dim(thread, j) < head_dim)
                    to[evaluator.dim(thread, j)] = l > 0.0f    ? __fdiv_rn(x.o[i][j], l)
                                                   : l == 0.0f ? 0.0f
                                                               : l; /* a NaN stays visible */
        }
    }

    /* The finished rows, or a node's partial. */
    __device__ __forceinline__ void write(const struct job_output &output, uint32_t node,
                                          const values &x)
    {
        if (node == JOBS_NONE)
            write_rows(output, x);
        else
            write_partial(output, node, x);
    }

    /* Arrives at a join, and says whether all of its parts are there now. */
    __device__ __forceinline__ bool last_at(uint32_t join)
    {
        threads_wait(1, THREADS);
        if (thread == 0)
            *evaluator.last() = count_down(&launch.pending[join]) == 1;
        threads_wait(1, THREADS);
        return *evaluator.last() != 0;
    }

    /* Merges a join's parts into x. They come from afar: BATCH of them are on their way at a time. */
    __device__ __forceinline__ void merge_parts(const struct job_join &join, values &x)
    {
        uint32_t top = 0;
#pragma unroll 1
        for (uint32_t first = 0; first < join.n_parts; first += BATCH) {
            values
                parts[BATCH > 1 ? BATCH : 1]; /* one by one: in x itself, as registers are short */
            values(&part)[BATCH] = *(values(*)[BATCH])(BATCH > 1 ? parts : &x);
            uint32_t n_merges[BATCH];
#pragma unroll
            for (uint32_t i = 0; i < BATCH; i++) {
                const uint32_t at =
                    join.first_part + (first + i < join.n_parts ? first + i : join.n_parts - 1);
                load<true>(part[i], launch.parts + (size_t)at * PARTIAL, THREADS, thread);
                n_merges[i] = launch.merges[at];
            }
#pragma unroll
            for (uint32_t i = 0; i < BATCH; i++) {
                if (first + i >= join.n_parts)
                    continue;
#pragma unroll 1
                for (uint32_t n = n_merges[i]; n > 0; n--)
                    merge_level(--top, part[i]);
                if (first + i + 1 < join.n_parts)
                    store_level(top++, part[i]);
                else
                    x = part[i];
            }
        }
    }

    /* Leaves a part of a join. Whoever brings the last one has what comes of the join: a part of another
     * one, and so on. */
    __device__ __forceinline__ void leave_part(const struct job_segment &segment, values &x)
    {
        uint32_t number = segment.join, part = segment.part;
        bool arrives = segment.arrives != 0;
#pragma unroll 1
        for (;;) {
            const struct job_join join = launch.joins[number]; /* it comes while others arrive */
            store(x, launch.parts + (size_t)part * PARTIAL, THREADS, thread);
            if (!arrives || !last_at(number))
                return;
            if (thread == 0)
                launch.pending[number] = join.n_arrivals; /* for the next call */
            merge_parts(join, x);
            if (join.join == JOBS_NONE) {
                write(launch.outputs[join.output], join.node, x);
                return;
            }
            number = join.join;
            part = join.part;
            arrives = true;
        }
    }

    __device__ __forceinline__ void run()
    {
        uint32_t loaded = JOBS_NONE; /* the output whose rows are there */
        if (thread == 0)             /* this block's, from the barrier before its first rows on */
            launch.levels += (size_t)blockIdx.x * launch.n_levels * PARTIAL;
        for (uint32_t share = blockIdx.x; share < launch.n_shares;
             share += Evaluator::LOOKS_AGAIN ? blocks_of_grid() : gridDim.x) {
            const uint32_t end = launch.shares[share + 1];
            for (uint32_t i = launch.shares[share];
                 i < (Evaluator::LOOKS_AGAIN ? launch.shares[share + 1] : end); i++) {
                segment_held segment = launch.segments[i];
                const struct job_output &output = launch.outputs[segment.output];
                values x;
                if (loaded == JOBS_NONE) {
                    touch(&output);
                    chain_wait();
                }
                if (segment.output != loaded) {
                    threads_wait(1, THREADS); /* all are done with the rows before */
                    evaluator.load_rows(launch, output);
                    threads_wait(1, THREADS);
                    loaded = segment.output;
                }
                touch(&launch.segments[i + 1]); /* of the next share, or behind the table */
                evaluate(output, segment, x);
                if (segment.join == JOBS_NONE)
                    write(output, segment.node, x);
                else
                    leave_part(segment, x);
            }
        }
    }
};

/* Tile by tile what the evaluate calls of a thread block will want, for whoever copies. */
struct tiles_ahead {
    const struct attend_launch &launch;
    uint32_t share, segment, end, tile, last;
    uint32_t n_known; /* of the first segment, that need not be told any more */
    const struct job_output *output;

    __device__ __forceinline__ tiles_ahead(const struct attend_launch &attend_launch,
                                           uint32_t known)
        : launch(attend_launch), share(blockIdx.x), segment(0), end(0), tile(0), last(0),
          n_known(known), output(nullptr)
    {
    }

    /* Whether the tile that `next` gave may be read before the kernels ahead of this one end. */
    __device__ __forceinline__ bool is_settled() const
    {
        return tile <= output->n_settled;
    }

    /* false: that was all. */
    __device__ __forceinline__ bool next(size_t tile_bytes, const char **memory)
    {
        while (tile >= last) {
            if (segment >= end) {
                if (share >= launch.n_shares)
                    return false;
                segment = launch.shares[share];
                end = launch.shares[share + 1];
                share += gridDim.x;
                continue;
            }
            const struct job_segment s = launch.segments[segment++];
            output = &launch.outputs[s.output];
            tile = (s.begin > output->visible_from ? s.begin : output->visible_from) + n_known;
            last = s.end;
            n_known = 0;
        }
        *memory = tile_of(launch, *output, tile++, tile_bytes);
        return true;
    }
};

#endif

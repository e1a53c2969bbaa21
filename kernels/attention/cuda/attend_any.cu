/* attend_any.cu - attention of any KV type and head_dim: plain, and slower.
 *
 * For f32, and for a head_dim that tensor cores have no variant for. A thread has one token of the scores,
 * for all 8 rows of a block, and every 128th dimension of the values. */
#include "kernels/attention/cuda/attend_kernel.cuh"

enum { ANY_ROWS = 8, ANY_THREADS = 128, ANY_MAX_DIM = 512 };

struct any_evaluator {
    enum {
        ROWS = ANY_ROWS,
        VALUES = ANY_MAX_DIM / ANY_THREADS,
        THREADS = ANY_THREADS,
        LOOKS_AGAIN = 0,
        PART_LOADS = 24
    };
    float *q;             /* [8][head_dim]; q8_0: integers */
    float *scales;        /* [8][head_dim / 32], q8_0 only */
    float *weights;       /* [8][TOKENS] */
    float *maxima, *sums; /* [4 warps][8] */
    uint32_t thread;
    uint32_t *is_last;

    __device__ __forceinline__ static uint32_t n_near(const struct attend_launch &)
    {
        return 0;
    }
    __device__ __forceinline__ static float2 *near_levels()
    {
        return nullptr;
    }
    __device__ __forceinline__ uint32_t *last() const
    {
        return is_last;
    }
    __device__ __forceinline__ uint32_t row(uint32_t, int i) const
    {
        return (uint32_t)i;
    }
    __device__ __forceinline__ uint32_t dim(uint32_t t, int j) const
    {
        return t + (uint32_t)j * ANY_THREADS;
    }
    __device__ __forceinline__ bool writes_row(uint32_t t) const
    {
        return t == 0;
    }

    __device__ __forceinline__ static float element(uint32_t type, const char *piece, uint32_t at)
    {
        if (type == KV_F32)
            return ((const float *)piece)[at];
        if (type == KV_F16)
            return __half2float(((const __half *)piece)[at]);
        if (type == KV_BF16)
            return __bfloat162float(((const __nv_bfloat16 *)piece)[at]);
        return (float)((const int8_t *)piece)[at];
    }

    __device__ __forceinline__ static size_t row_bytes(uint32_t type, uint32_t head_dim)
    {
        return type == KV_F32 ? 4 * head_dim : type == KV_Q8_0 ? head_dim / 32 * 34 : 2 * head_dim;
    }

    /* A block of a query row as tile_query_write makes it. */
    __device__ __forceinline__ void quantize(float *x, float *scale) const
    {
        float largest = 0.0f;
        bool finite = true;
        for (int i = 0; i < SCALE_DIMS; i++) {
            largest = fmaxf(largest, fabsf(x[i]));
            finite = finite && fabsf(x[i]) < __int_as_float(0x7f800000);
        }
        const bool some = finite && largest >= 0x1p-100f;
        const float inverse = some ? __fdiv_rn(127.0f, largest) : 0.0f;
        for (int i = 0; i < SCALE_DIMS; i++)
            x[i] = some ? rintf(__fmul_rn(x[i], inverse)) : 0.0f;
        *scale = !finite ? __int_as_float(0x7fc00000) : some ? __fdiv_rn(largest, 127.0f) : 0.0f;
    }

    __device__ __forceinline__ void load_rows(const struct attend_launch &launch,
                                              const struct job_output &output)
    {
        const uint32_t head_dim = launch.head_dim;
        for (uint32_t i = thread; i < ANY_ROWS * head_dim; i += ANY_THREADS) {
            const uint32_t r = i / head_dim, of = output.row_begin + r;
            q[i] = r < output.n_rows
                       ? output.q[of / launch.group * output.q_token_stride +
                                  (size_t)(of % launch.group) * head_dim + i % head_dim]
                       : 0.0f;
        }
        threads_wait(1, ANY_THREADS);
        if (launch.type == KV_Q8_0)
            for (uint32_t i = thread; i < ANY_ROWS * head_dim / SCALE_DIMS; i += ANY_THREADS)
                quantize(q + i * SCALE_DIMS, scales + i);
    }

    __device__ __forceinline__ void multiply(const struct attend_launch &launch, const char *piece,
                                             float (&s)[ANY_ROWS]) const
    {
        const uint32_t head_dim = launch.head_dim, type = launch.type, t = thread % PIECE_TOKENS;
        const bool q8 = type == KV_Q8_0;
        const uint32_t block = q8 ? SCALE_DIMS : head_dim;
        const __half *k_scales = (const __half *)(piece + (size_t)PIECE_TOKENS * head_dim);
#pragma unroll
        for (int r = 0; r < ANY_ROWS; r++)
            s[r] = 0.0f;
        for (uint32_t first = 0; first < head_dim; first += block) {
            float dot[ANY_ROWS];
#pragma unroll
            for (int r = 0; r < ANY_ROWS; r++)
                dot[r] = 0.0f;
            for (uint32_t d = first; d < first + block; d++) {
                const float k = element(
                    type, piece, q8 ? piece_k_byte_at(head_dim, t, d) : piece_k_at(head_dim, t, d));
#pragma unroll
                for (int r = 0; r < ANY_ROWS; r++)
                    dot[r] = __fmaf_rn(q[r * head_dim + d], k, dot[r]);
            }
            if (!q8) {
#pragma unroll
                for (int r = 0; r < ANY_ROWS; r++)
                    s[r] = dot[r];
                return;
            }
            const float k = __half2float(k_scales[piece_k_scale_at(head_dim, t, first / block)]);
#pragma unroll
            for (int r = 0; r < ANY_ROWS; r++)
                s[r] = __fmaf_rn(dot[r],
                                 __fmul_rn(k, scales[r * (head_dim / SCALE_DIMS) + first / block]),
                                 s[r]);
        }
    }

    __device__ __forceinline__ void evaluate(const struct attend_launch &launch,
                                             const struct job_output &output, uint32_t tile,
                                             struct rows<ROWS, VALUES> &x) const
    {
        const uint32_t head_dim = launch.head_dim, type = launch.type, warp = thread / 32;
        const size_t piece_bytes = PIECE_TOKENS * row_bytes(type, head_dim);
        const char *memory = tile_of(launch, output, tile, TILE_PIECES * piece_bytes);
        float s[ANY_ROWS];
        multiply(launch, memory + thread / PIECE_TOKENS * piece_bytes, s);
#pragma unroll
        for (int r = 0; r < ANY_ROWS; r++) {
            s[r] = __fmul_rn(s[r], launch.scale);
            if (launch.soft_cap > 0.0f)
                s[r] = soft_capped(s[r], launch.soft_cap, launch.cap_factor);
            const struct seen seen = tokens_seen(launch, output, tile, (uint32_t)r);
            if ((int)thread < seen.first || (int)thread >= seen.last)
                s[r] = NOTHING;
            float largest = s[r];
            for (int lane = 16; lane > 0; lane /= 2)
                largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, lane));
            if (thread % 32 == 0)
                maxima[warp * ANY_ROWS + r] = largest;
        }
        threads_wait(1, ANY_THREADS);
#pragma unroll
        for (int r = 0; r < ANY_ROWS; r++) {
            float m = NOTHING;
            for (int i = 0; i < 4; i++)
                m = fmaxf(m, maxima[i * ANY_ROWS + r]);
            x.m[r] = __fadd_rn(m, 0.0f);
            float p = weight(s[r], m == NOTHING ? 0.0f : m);
            weights[r * TOKENS + thread] = p;
            for (int lane = 16; lane > 0; lane /= 2)
                p = __fadd_rn(p, __shfl_xor_sync(0xffffffff, p, lane));
            if (thread % 32 == 0)
                sums[warp * ANY_ROWS + r] = p;
        }
        threads_wait(1, ANY_THREADS);
#pragma unroll
        for (int r = 0; r < ANY_ROWS; r++) {
            x.l[r] = __fadd_rn(__fadd_rn(sums[r], sums[ANY_ROWS + r]),
                               __fadd_rn(sums[2 * ANY_ROWS + r], sums[3 * ANY_ROWS + r]));
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                x.o[r][j] = 0.0f;
        }
        for (uint32_t t = 0; t < TOKENS; t++) {
            const uint32_t in_piece = t % PIECE_TOKENS;
            const char *piece = memory + (2 + t / PIECE_TOKENS) * piece_bytes;
            const __half *v_scales = (const __half *)(piece + (size_t)PIECE_TOKENS * head_dim);
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
                const uint32_t d = dim(thread, j);
                if (d >= head_dim)
                    continue;
                const float v = element(type, piece, piece_v_at(head_dim, in_piece, d));
                const float scale =
                    type == KV_Q8_0
                        ? __half2float(
                              v_scales[piece_v_scale_at(head_dim, in_piece, d / SCALE_DIMS)])
                        : 1.0f;
#pragma unroll
                for (int r = 0; r < ANY_ROWS; r++) {
                    const float p = weights[r * TOKENS + t];
                    if (p != 0.0f) /* else the token may hold anything */
                        x.o[r][j] = __fmaf_rn(__fmul_rn(p, scale), v, x.o[r][j]);
                }
            }
        }
    }
};

__global__ void __launch_bounds__(ANY_THREADS)
    attend_any(const struct attend_launch *call, uint32_t)
{
    __shared__ struct attend_launch launch;
    __shared__ float q[ANY_ROWS * ANY_MAX_DIM], scales[ANY_ROWS * ANY_MAX_DIM / SCALE_DIMS];
    __shared__ float weights[ANY_ROWS * TOKENS], maxima[4 * ANY_ROWS], sums[4 * ANY_ROWS];
    __shared__ uint32_t last;
    chain_wait();
    fetch_launch(&launch, call);
    __syncthreads();
    any_evaluator evaluator = {q, scales, weights, maxima, sums, threadIdx.x, &last};
    walker<any_evaluator> walk = {launch, evaluator, threadIdx.x};
    walk.run();
}

extern "C" const struct attend_kernel *attend_kernels_any(size_t *n)
{
    static const struct attend_kernel kernel = {(const void *)attend_any,
                                                KV_F32,
                                                0,
                                                ANY_ROWS,
                                                ANY_THREADS,
                                                0,
                                                0,
                                                walker<any_evaluator>::PARTIAL *
                                                    (uint32_t)sizeof(float2),
                                                0};
    *n = 1;
    return &kernel;
}

/* product_quant.cu - products of blocks: integers by the tensor cores, scales in f32.
 *
 * A warp multiplies a piece, 16 outputs times 32 columns, with 8 rows at once. The integer sum
 * starts at the pattern of 1.5 * 2^23, so that the result read as an f32 is that number plus the
 * dot product, exactly; subtracting it, and dividing the shift of signed integers out, is one
 * fused multiply-add that rounds nothing. Then, as on a CPU, sum = fma(dot, ws * xs, sum), and
 * sum = fma(wm, xsum, sum).
 *
 * The next chunk of weights is on its way to registers while one is multiplied: 2 to 9 KiB a warp. */
#include "kernels/cuda/product.cuh"

#include <cuda_fp16.h>

namespace
{

#define MAGIC     12582912.0f
#define MAGIC_BIT 0x4b400000

template <int TYPE>
struct format_of;
#define FORMAT(name, low, high, is_signed, min, super)                                             \
    template <>                                                                                    \
    struct format_of<name> {                                                                       \
        static __host__ __device__ constexpr struct cuda_format get()                              \
        {                                                                                          \
            return {low, high, is_signed, min, super};                                             \
        }                                                                                          \
    };
CUDA_QUANT_FORMATS(FORMAT)
#undef FORMAT

__device__ __forceinline__ void mma_32(int d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %10, %10, %10};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(MAGIC_BIT));
}

__device__ __forceinline__ void mma_16(int d[4], const uint32_t a[2], uint32_t b)
{
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%7, %7, %7, %7};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b), "r"(MAGIC_BIT));
}

/* Small unsigned integers to f32 without the slow conversion. */
__device__ __forceinline__ float small_float(uint32_t value)
{
    return __uint_as_float(value | 0x4b000000u) - 8388608.0f;
}

__device__ __forceinline__ float half_of(const uint32_t *words, int i)
{
    return __half2float(__ushort_as_half((unsigned short)(words[i / 2] >> i % 2 * 16)));
}

/* Formats whose products of many rows leave no registers to fetch ahead. */
__device__ constexpr bool tight(struct cuda_format f)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
    return f.high_bits == 2 || f.min; /* its code takes some more */
#else
    return f.high_bits == 2;
#endif
}

/* A lane's part of PIECES pieces of a chunk, in registers: all eight, four or two. */
template <int TYPE, int PIECES>
struct weights {
    static constexpr struct cuda_format F = format_of<TYPE>::get();
    static constexpr bool PACKED = F.super && F.min; /* 6-bit scales and minima */
    static constexpr int HALVES =
        F.high_bits == 2 ? 2 : 1; /* of a piece that have their own scale */
    static constexpr int RECORDS = F.min && !F.super ? 2 : 1;
    static constexpr int LOW = PIECES * F.low_bits / 2, HIGH = PIECES * F.high_bits / 2;
    static constexpr int RECORD = PACKED ? 4 : PIECES / 2; /* words */

    uint32_t low[LOW], high[HIGH > 0 ? HIGH : 1];
    uint32_t record[2][RECORDS][RECORD]; /* of outputs lane / 4 and lane / 4 + 8 */
    float d[2];                          /* Q6_K */

    /* `chunk` is where the chunk begins. */
    __device__ __forceinline__ void load(const uint4 *chunk, int first_piece, uint32_t lane)
    {
#pragma unroll
        for (int o = 0; o < 2; o++)
#pragma unroll
            for (int r = 0; r < RECORDS; r++)
                load_weights<RECORD>(
                    record[o][r], (const uint32_t *)(chunk + r * PANEL_OUTPUTS + o * 8 + lane / 4) +
                                      (PACKED ? 0 : first_piece / 2));
        if constexpr (HALVES == 2) {
            const __half *halves = (const __half *)(chunk + PANEL_OUTPUTS);
            d[0] = __half2float(halves[lane / 4]);
            d[1] = __half2float(halves[lane / 4 + 8]);
        }
        const uint4 *at = chunk + chunk_scale_vectors(F) + lane;
#pragma unroll
        for (int v = 0; v < LOW / 4; v++)
            load_weights<4>(
                low + 4 * v,
                (const uint32_t *)(at + (first_piece * F.low_bits / 8 + v) * CUDA_LANES));
        at += F.low_bits * CUDA_LANES;
        if constexpr (HIGH >= 4) {
#pragma unroll
            for (int v = 0; v < HIGH / 4; v++)
                load_weights<4>(
                    high + 4 * v,
                    (const uint32_t *)(at + (first_piece * F.high_bits / 8 + v) * CUDA_LANES));
        } else if constexpr (HIGH > 0) {
            const int word = first_piece * F.high_bits / 2;
            load_weights<HIGH>(high, (const uint32_t *)(at + word / 4 * CUDA_LANES) + word % 4);
        }
    }

    __device__ __forceinline__ void unpack(uint32_t a[4], int piece) const
    {
        uint32_t upper = 0;
        if constexpr (F.high_bits > 0)
            upper = high[piece * F.high_bits / 2];
        piece_unpack(a, F, low + piece * (F.low_bits / 2), upper, piece);
    }

    /* Of output o (0 or 1). scale: of the piece, or of its two halves. */
    __device__ __forceinline__ void scales(float scale[HALVES], float *min, int first_piece,
                                           int piece, int o) const
    {
        const uint32_t *r = record[o][0];
        if constexpr (HALVES == 2) {
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
                const int i = 2 * piece + half;
                const uint32_t code = (r[i / 4] >> i % 4 * 8 & 255u) ^ 128u;
                scale[half] = d[o] * (__uint_as_float(code | 0x4b000000u) - 8388736.0f);
            }
        } else if constexpr (PACKED) {
            const int part = first_piece + piece;
            scale[0] = half_of(r, 0) * small_float(packed_part(r[1], r[3], part, 0));
            *min = -half_of(r, 1) * small_float(packed_part(r[2], r[3], part, 4));
        } else {
            scale[0] = half_of(r, piece);
            if constexpr (F.min)
                *min = half_of(record[o][RECORDS - 1], piece);
        }
    }
};

template <int TYPE>
struct terms {
    static constexpr struct cuda_format F = format_of<TYPE>::get();

    /* One step for a fragment: sum = fma(dot, ws * xs, sum). */
    static __device__ __forceinline__ void add_dots(float acc[4], const int dot[4],
                                                    const float ws[2], float2 xs)
    {
        constexpr float unshift = 1.0f / (1 << (F.is_signed ? 8 - F.low_bits - F.high_bits : 0));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float exact = __fmaf_rn(__int_as_float(dot[i]), unshift, -MAGIC * unshift);
            acc[i] = __fmaf_rn(exact, __fmul_rn(ws[i / 2], i % 2 ? xs.y : xs.x), acc[i]);
        }
    }

    template <int TILES, int PIECES>
    static __device__ __forceinline__ void add_piece(float acc[TILES][4],
                                                     const weights<TYPE, PIECES> &w,
                                                     int first_piece, int piece,
                                                     const uint32_t x[TILES][4],
                                                     const float4 x_scale[TILES])
    {
        constexpr int HALVES = weights<TYPE, PIECES>::HALVES;
        uint32_t a[4];
        float scale[2][HALVES], min[2] = {0, 0};
        w.unpack(a, piece);
        w.scales(scale[0], &min[0], first_piece, piece, 0);
        w.scales(scale[1], &min[1], first_piece, piece, 1);
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            const uint32_t *b = x[tile] + piece % 2 * 2;
            const float4 xs = x_scale[tile];
            int dot[4];
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
                const float ws[2] = {scale[0][half], scale[1][half]};
                if constexpr (HALVES == 2)
                    mma_16(dot, a + 2 * half, b[half]);
                else
                    mma_32(dot, a, b);
                add_dots(acc[tile], dot, ws, make_float2(xs.x, xs.y));
            }
#pragma unroll
            for (int i = 0; F.min && i < 4; i++)
                acc[tile][i] = __fmaf_rn(min[i / 2], i % 2 ? xs.w : xs.z, acc[tile][i]);
        }
    }

    /* The pieces from `column` on that lie in [begin, end); WHOLE: all of them. */
    template <int TILES, int PIECES, bool WHOLE>
    static __device__ __forceinline__ void add_pieces(float acc[TILES][4],
                                                      const weights<TYPE, PIECES> &w,
                                                      const struct cuda_product &p, uint32_t column,
                                                      uint32_t begin, uint32_t end,
                                                      uint32_t first_tile, uint32_t lane)
    {
        const int first_piece =
            PIECES < CHUNK_PIECES ? (int)(column / QUANT_PIECE % CHUNK_PIECES) : 0;
        const uint4 *x =
            (const uint4 *)p.x + column / 64 * (X_PAIR_BYTES / VECTOR_BYTES) + lane % 4;
        const float4 *x_scales =
            (const float4 *)p.x_scales + (size_t)(column / QUANT_PIECE) * p.n_row_pairs + lane % 4;
#pragma unroll
        for (int pair = 0; pair < PIECES / 2; pair++) {
            uint32_t b[TILES][4];
            if (!WHOLE && (column + pair * 64 + 64 <= begin || column + pair * 64 >= end))
                continue;
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                const uint32_t row = (first_tile + tile) * ROW_TILE + lane / 4;
                uint4 v = make_uint4(0, 0, 0, 0);
                if (row < p.n_rows)
                    v = __ldg(x + row * p.x_row_vectors + pair * (X_PAIR_BYTES / VECTOR_BYTES));
                put_words(b[tile], v);
            }
#pragma unroll
            for (int piece = 2 * pair; piece < 2 * pair + 2; piece++) {
                const uint32_t at = column + piece * QUANT_PIECE;
                float4 scale[TILES];
                if (!WHOLE && (at < begin || at >= end))
                    continue;
#pragma unroll
                for (int tile = 0; tile < TILES; tile++)
                    scale[tile] = __ldg(x_scales + (size_t)piece * p.n_row_pairs +
                                        min(first_tile + tile, p.n_row_tiles - 1) * (ROW_TILE / 2));
                add_piece<TILES, PIECES>(acc, w, first_piece, piece, b, scale);
            }
        }
    }

    /* AHEAD: where whole chunks lie in the span, the weights of one are on their way while another is
     * multiplied (of half a one where there are more rows, and for Q5_1, which has most of them); two
     * pieces at a time else, and where there are many rows, whose sums need the registers. */
    template <int TILES, bool AHEAD>
    static __device__ __forceinline__ void add_span(float acc[TILES][4],
                                                    const struct cuda_product &p,
                                                    const uint4 *panel, uint32_t begin,
                                                    uint32_t end, uint32_t first_tile,
                                                    uint32_t lane)
    {
        constexpr bool HALF = TILES > 2 || (F.min && !F.super && F.high_bits > 0);
        constexpr int PIECES = AHEAD ? (HALF ? CHUNK_PIECES / 2 : CHUNK_PIECES) : 2;
        constexpr bool WHOLE = AHEAD || !tight(F);
        constexpr uint32_t COLUMNS = PIECES * QUANT_PIECE, PAIR = 2 * QUANT_PIECE;
        uint32_t column = begin;
        while (column < end) {
            if (WHOLE && column % COLUMNS == 0 && column + COLUMNS <= end) {
                weights<TYPE, PIECES> now, next;
                load(now, panel, column, lane);
#pragma unroll 1
                for (; column + COLUMNS <= end; column += COLUMNS, now = next) {
                    if (column + 2 * COLUMNS <= end)
                        load(next, panel, column + COLUMNS, lane);
                    add_pieces<TILES, PIECES, true>(acc, now, p, column, begin, end, first_tile,
                                                    lane);
                }
            } else {
                weights<TYPE, 2> now;
                const uint32_t pair = column / PAIR * PAIR;
                load(now, panel, pair, lane);
                add_pieces<TILES, 2, false>(acc, now, p, pair, begin, end, first_tile, lane);
                column = pair + PAIR;
            }
        }
    }

    template <int PIECES>
    static __device__ __forceinline__ void load(weights<TYPE, PIECES> &w, const uint4 *panel,
                                                uint32_t column, uint32_t lane)
    {
        w.load(panel + (size_t)(column / CHUNK_COLUMNS) * chunk_vectors(F),
               PIECES < CHUNK_PIECES ? (int)(column / QUANT_PIECE % CHUNK_PIECES) : 0, lane);
    }
};

} // namespace

extern "C" void cuda_product_quant(struct device *device, enum weight_type type,
                                   const struct cuda_product *product)
{
    switch (type) {
#define CASE(name, low, high, is_signed, min, super)                                               \
    case name:                                                                                     \
        launch<terms<name>>(device, product);                                                      \
        break;
        CUDA_QUANT_FORMATS(CASE)
#undef CASE
    default:
        break;
    }
    cuda_launched(device, "a product of blocks");
}

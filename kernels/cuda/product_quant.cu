/* product_quant.cu - products of blocks: integers by the tensor cores, scales in f32.
 *
 * A warp multiplies a piece, 16 outputs times 32 columns, with 8 rows at once. The integer sum
 * starts at the pattern of 1.5 * 2^23, so that the result read as an f32 is that number plus the
 * dot product, exactly; subtracting it, and dividing the shift of signed integers out, is one
 * fused multiply-add that rounds nothing. Then, as on a CPU, sum = fma(dot, ws * xs, sum), and
 * sum = fma(wm, xsum, sum).
 *
 * A stage of the ring is a chunk; pieces of it go to registers two or four at a time. */
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/quant_weights.cuh"

#include <type_traits>

namespace
{

#define MAGIC     12582912.0f
#define MAGIC_BIT 0x4b400000

/* One row. Of the eight columns of an instruction's activations only one would be of use; instead
 * they are the eight pieces of a chunk: piece i, multiplied with activations that are zero but for
 * column i, is added to the same sums, so that eight instructions leave the dot product of output o
 * and piece i in row o, column i. A lane then scales those of two pieces, and the fused multiply-adds,
 * which must be done in order, go round the four lanes that share an output. */
template <int TYPE>
struct single {
    static constexpr struct cuda_format F = format_of<TYPE>::get();
    static constexpr int HALVES = weights<TYPE, 2>::HALVES;

    /* Scales and minima of outputs lane / 4 and lane / 4 + 8, pieces 2 (lane % 4) and one more. */
    static __device__ __forceinline__ void scales(float scale[2][2][HALVES], float min[2][2],
                                                  const uint4 *chunk, uint32_t lane)
    {
        const uint32_t t = lane % 4;
#pragma unroll
        for (int o = 0; o < 2; o++) {
            const uint4 *record = chunk + o * 8 + lane / 4;
            if constexpr (F.high_bits == 2) {
                const uint32_t codes = ((const uint32_t *)record)[t] ^ 0x80808080u;
                const float d =
                    __half2float(((const __half *)(chunk + PANEL_OUTPUTS))[o * 8 + lane / 4]);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    scale[o][i / 2][i % 2] = d * (byte_float(codes, i) - 128.0f);
            } else if constexpr (F.super) {
                uint32_t r[4];
                put_words(r, *record);
                weights<TYPE, 2>::unpack_parts(r, t < 2 ? 0 : 4);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    scale[o][i][0] = half_of(r, 0) * byte_float(r[1] >> t % 2 * 16, i);
                    min[o][i] = -half_of(r, 1) * byte_float(r[2] >> t % 2 * 16, i);
                }
            } else {
                const uint32_t word = ((const uint32_t *)record)[t];
                scale[o][0][0] = half_of(&word, 0);
                scale[o][1][0] = half_of(&word, 1);
                if constexpr (F.min) {
                    const uint32_t m = ((const uint32_t *)(record + PANEL_OUTPUTS))[t];
                    min[o][0] = half_of(&m, 0);
                    min[o][1] = half_of(&m, 1);
                }
            }
        }
    }

    /* What a lane multiplies of a chunk's activations: piece lane / 4, and the scales of its two
     * pieces. Those that do not lie in [begin, end) are zero. */
    struct activations {
        uint2 x;
        float scale[2], sum[2];
        bool valid[2];

        __device__ __forceinline__ activations(const struct cuda_product &p, uint32_t column,
                                               uint32_t begin, uint32_t end, uint32_t lane)
        {
            const uint32_t t = lane % 4, g = lane / 4;
            const uint32_t at = column + g * QUANT_PIECE, mine = column + 2 * t * QUANT_PIECE;
            x = make_uint2(0, 0);
            if (at >= begin && at < end)
                x = *(const uint2 *)((const char *)p.x + column + g / 2 * X_PAIR_BYTES +
                                     t * VECTOR_BYTES + g % 2 * sizeof(uint2));
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float *from =
                    (const float *)p.x_scales + (mine / QUANT_PIECE + i) * (2 * ROW_TILE);
                valid[i] = mine + i * QUANT_PIECE >= begin && mine + i * QUANT_PIECE < end;
                scale[i] = valid[i] ? from[0] : 0.0f;
                sum[i] = valid[i] && F.min ? from[2] : 0.0f;
            }
        }
    };

    /* acc[0] and acc[2], of two outputs, are the same in four lanes. */
    static __device__ __forceinline__ void add_chunk(float acc[4], const uint4 *chunk,
                                                     const activations &x, uint32_t lane)
    {
        constexpr float unshift = 1.0f / (1 << (F.is_signed ? 8 - F.low_bits - F.high_bits : 0));
        const uint32_t g = lane / 4;
        int dot[HALVES][4];
        float scale[2][2][HALVES], min[2][2];

#pragma unroll
        for (int i = 0; i < 4 * HALVES; i++)
            dot[i / 4][i % 4] = MAGIC_BIT;
#pragma unroll
        for (int pair = 0; pair < CHUNK_PIECES; pair += 2) {
            weights<TYPE, 2> w;
            w.load_integers(chunk, pair, lane);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const uint32_t b[2] = {g == pair + i ? x.x.x : 0, g == pair + i ? x.x.y : 0};
                uint32_t a[4];
                w.unpack(a, i);
                if constexpr (HALVES == 2) {
                    mma_16(dot[0], a, b[0]);
                    mma_16(dot[1], a + 2, b[1]);
                } else {
                    mma_32(dot[0], a, b);
                }
            }
        }
        scales(scale, min, chunk, lane);
        float exact[HALVES][4];
#pragma unroll
        for (int i = 0; i < 4 * HALVES; i++)
            exact[i / 4][i % 4] =
                __fmaf_rn(__int_as_float(dot[i / 4][i % 4]), unshift, -MAGIC * unshift);
#pragma unroll
        for (int turn = 0; turn < 4; turn++)
#pragma unroll
            for (int o = 0; o < 2; o++) {
                float sum = acc[2 * o];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float next = sum;
#pragma unroll
                    for (int half = 0; half < HALVES; half++)
                        next = __fmaf_rn(exact[half][2 * o + i],
                                         __fmul_rn(scale[o][i][half], x.scale[i]), next);
                    if constexpr (F.min)
                        next = __fmaf_rn(min[o][i], x.sum[i], next);
                    sum = x.valid[i] ? next : sum;
                }
                acc[2 * o] = __shfl_sync(0xffffffffu, sum, turn, 4);
            }
    }
};

template <int TYPE>
struct terms {
    static constexpr struct cuda_format F = format_of<TYPE>::get();
    static constexpr bool SINGLE = true; /* one row has a kernel of its own */
    static constexpr uint32_t SPAN = QUANT_SPAN;
    static constexpr int PAIR_VECTORS = X_PAIR_BYTES / VECTOR_BYTES;

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
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
                int dot[4] = {MAGIC_BIT, MAGIC_BIT, MAGIC_BIT, MAGIC_BIT};
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

    /* Where a lane reads activations of the chunk that begins with `column`. Rows that there are not
     * repeat the last one. */
    template <int TILES>
    struct rows_at {
        const uint4 *x[TILES];
        const float4 *scales[TILES];

        __device__ __forceinline__ rows_at(const struct cuda_product &p, uint32_t column,
                                           uint32_t first_tile, uint32_t lane)
        {
#pragma unroll
            for (uint32_t tile = 0; tile < TILES; tile++) {
                const uint32_t row = min((first_tile + tile) * ROW_TILE + lane / 4, p.n_rows - 1);
                x[tile] = (const uint4 *)p.x + (size_t)row * p.x_row_vectors +
                          column / 64 * PAIR_VECTORS + lane % 4;
                scales[tile] = (const float4 *)p.x_scales +
                               ((size_t)min(first_tile + tile, p.n_row_tiles - 1) * p.n_blocks +
                                column / QUANT_PIECE) *
                                   (ROW_TILE / 2) +
                               lane % 4;
            }
        }
    };

    /* PIECES pieces of the chunk that begins with `column`, from `first_piece` on, as far as they lie
     * in [begin, end); WHOLE: all of them do. */
    template <int TILES, int PIECES, bool WHOLE>
    static __device__ __forceinline__ void add_pieces(float acc[TILES][4],
                                                      const weights<TYPE, PIECES> &w,
                                                      const rows_at<TILES> &rows, uint32_t column,
                                                      int first_piece, uint32_t begin, uint32_t end)
    {
#pragma unroll
        for (int pair = 0; pair < PIECES / 2; pair++) {
            const int at = first_piece + 2 * pair;
            const uint32_t first = column + at * QUANT_PIECE;
            uint32_t b[TILES][4];
            if (!WHOLE && (first + 2 * QUANT_PIECE <= begin || first >= end))
                continue;
#pragma unroll
            for (int tile = 0; tile < TILES; tile++)
                put_words(b[tile], rows.x[tile][at / 2 * PAIR_VECTORS]);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float4 scale[TILES];
                if (!WHOLE && (first + i * QUANT_PIECE < begin || first + i * QUANT_PIECE >= end))
                    continue;
#pragma unroll
                for (int tile = 0; tile < TILES; tile++)
                    scale[tile] = rows.scales[tile][(at + i) * (ROW_TILE / 2)];
                add_piece<TILES, PIECES>(acc, w, first_piece, 2 * pair + i, b, scale);
            }
        }
    }

    static constexpr uint32_t STAGE_COLUMNS = CHUNK_COLUMNS, STAGE_VECTORS = chunk_vectors(F);

    template <int ROWS>
    struct none {
        __device__ none(const struct cuda_product &, uint32_t, uint32_t, uint32_t, uint32_t)
        {
        }
    };
    template <int ROWS>
    using early = std::conditional_t<ROWS == 1, typename single<TYPE>::activations, none<ROWS>>;
    static constexpr int LEAN_ROWS = 1;
    static constexpr int WEIGHT = TYPE;

    template <int TILES, int ROWS>
    static __device__ __forceinline__ void add_stage(float acc[TILES][4],
                                                     const struct cuda_product &p,
                                                     const uint4 *stage, const early<ROWS> &x,
                                                     uint32_t column, uint32_t begin, uint32_t end,
                                                     uint32_t lane)
    {
        if constexpr (ROWS == 1) {
            single<TYPE>::add_chunk(acc[0], stage, x, lane);
        } else {
            const bool whole = column >= begin && column + CHUNK_COLUMNS <= end;
            constexpr int PIECES =
                TILES > 2 || (F.super && (TILES > 1 || F.high_bits == 1)) ? 2 : 4;
            const rows_at<TILES> rows(p, column, 0, lane);
            if (whole)
#pragma unroll 1
                for (int piece = 0; piece < CHUNK_PIECES; piece += PIECES) {
                    weights<TYPE, PIECES> w;
                    w.load(stage, piece, lane);
                    add_pieces<TILES, PIECES, true>(acc, w, rows, column, piece, begin, end);
                }
            else
#pragma unroll 1
                for (int piece = 0; piece < CHUNK_PIECES; piece += 2) {
                    weights<TYPE, 2> w;
                    w.load(stage, piece, lane);
                    add_pieces<TILES, 2, false>(acc, w, rows, column, piece, begin, end);
                }
        }
    }

    template <int TILES>
    static __device__ __forceinline__ void add_span(float acc[TILES][4],
                                                    const struct cuda_product &p,
                                                    const uint4 *panel, uint32_t begin,
                                                    uint32_t end, uint32_t first_tile,
                                                    uint32_t lane)
    {
        constexpr uint32_t PAIR = 2 * QUANT_PIECE;
#pragma unroll 1
        for (uint32_t column = begin / PAIR * PAIR; column < end; column += PAIR) {
            weights<TYPE, 2> w;
            const uint32_t chunk = column / CHUNK_COLUMNS;
            const int piece = (int)(column / QUANT_PIECE % CHUNK_PIECES);
            const rows_at<TILES> rows(p, chunk * CHUNK_COLUMNS, first_tile, lane);
            w.load(panel + (size_t)chunk * chunk_vectors(F), piece, lane);
            add_pieces<TILES, 2, false>(acc, w, rows, chunk * CHUNK_COLUMNS, piece, begin, end);
        }
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
}

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

/* One row. Of the eight columns of an instruction's activations only one would be of use; instead they are
 * the eight pieces of a chunk. Two pieces of weights are multiplied with activations that are zero but for
 * their columns, and those of all pairs are added up, first pieces and second ones by themselves: so the dot
 * product of output o and piece i is in row o, column i of one of two sums. A lane scales those of two
 * pieces, and the fused multiply-adds, which must be done in order, go round the four lanes that share an
 * output. */
template <int TYPE>
struct single {
    static constexpr struct cuda_format F = format_of<TYPE>::get();
    static constexpr int HALVES = weights<TYPE, 2>::HALVES;
    static constexpr uint32_t SCALE_BYTES =
        2 * ROW_TILE * sizeof(float) / QUANT_PIECE; /* of a column */
    static constexpr bool BYTES = F.low_bits == 8;  /* signed; others are multiplied unsigned */

    static __device__ __forceinline__ void add_piece(int sum[HALVES][4], const uint32_t a[4],
                                                     const uint32_t b[2])
    {
        if constexpr (HALVES == 2) {
            mma_16_unsigned(sum[0], a, b[0]);
            mma_16_unsigned(sum[1], a + 2, b[1]);
        } else if constexpr (BYTES) {
            mma_32(sum[0], a, b);
        } else {
            mma_32_unsigned(sum[0], a, b);
        }
    }

    /* As 1.5 * 2^23 and the dot product of outputs lane / 4 and lane / 4 + 8 with pieces 2 (lane % 4) and one
     * more, exactly: dot[..][2 * o + i]; of the second piece 2^pair_shift times. */
    static __device__ __forceinline__ void multiply(int dot[HALVES][4], const uint4 *chunk, uint2 x,
                                                    uint32_t lane)
    {
        int sum[2][HALVES][4] = {}, zero[HALVES][4] = {};
#pragma unroll
        for (int pair = 0; pair < CHUNK_PIECES / 2; pair++) {
            const bool own = lane / 8 == pair;
            const uint32_t b[2] = {own ? x.x : 0, own ? x.y : 0};
            weights<TYPE, 2> w;
            w.load_integers(chunk, 2 * pair, lane);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                uint32_t a[4];
                w.unpack_of_pair(a, 2 * pair, i);
                add_piece(sum[i], a, b);
            }
        }
        if constexpr (F.is_signed && !BYTES) { /* minus half of the range, of any output */
            constexpr uint32_t minus = 0x01010101u * (256u - (8u << F.high_bits));
            const uint32_t a[2] = {minus, minus};
            mma_16(zero[0], a, x.x);
            mma_16(zero[HALVES - 1], a, x.y);
        }
#pragma unroll
        for (int j = 0; j < 4 * HALVES; j++) {
            const int i = j % 2, half = j / 4;
            dot[half][j % 4] =
                sum[i][half][j % 4] + (MAGIC_BIT + (i ? 1 << pair_shift(F) : 1) * zero[half][i]);
            if (i == 1 && pair_shift(F) == 4)
                dot[half][j % 4] -= sum[0][half][j % 4];
        }
    }

    /* Scales and minima of outputs lane / 4 and lane / 4 + 8, pieces 2 (lane % 4) and one more. */
    static __device__ __forceinline__ void scales(float scale[2][2][HALVES], float min[2][2],
                                                  const uint4 *chunk, uint32_t lane)
    {
        const uint32_t t = lane % 4;
#pragma unroll
        for (int o = 0; o < 2; o++) {
            const uint32_t *words = (const uint32_t *)chunk + o * 32 + lane; /* t of the output's */
            if constexpr (F.high_bits == 2) {
                const uint32_t codes = *words ^ 0x80808080u;
                const float d =
                    __half2float(((const __half *)(chunk + PANEL_OUTPUTS))[o * 8 + lane / 4]);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    scale[o][i / 2][i % 2] = d * byte_float(codes, i, 128);
            } else if constexpr (F.super) {
                const uint4 r = chunk[o * 8 + lane / 4];
                const uint32_t own = t % 2 == 0 ? 0x5410u : 0x7632u; /* two bytes of each word */
                const uint32_t upper = __byte_perm(r.y, r.z, own);
                const uint32_t low = __byte_perm(r.w, r.w >> 4, own);
                const uint32_t codes =
                    t < 2 ? upper & 0x3f3f3f3fu : (low & 0x0f0f0f0fu) | (upper >> 2 & 0x30303030u);
                const float d = half_of(&r.x, 0), dmin = -half_of(&r.x, 1);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    scale[o][i][0] = d * byte_float(codes, i, 0);
                    min[o][i] = dmin * byte_float(codes, 2 + i, 0);
                }
            } else {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    scale[o][i][0] = half_of(words, i);
                    if constexpr (F.min)
                        min[o][i] = half_of(words + PANEL_OUTPUTS * 4, i);
                }
            }
        }
    }

    /* What a lane multiplies of a chunk's activations: integers of piece lane / 4, and the scales of its
     * two pieces; of those that do not lie in the span, what there is. */
    struct activations {
        uint32_t at; /* bytes of the row, of the lane's integers */
        uint32_t scales_at;
        uint32_t own, length; /* columns behind the span's begin: the first of the lane's pieces */
        uint2 x;
        float scale[2], sum[2];

        __device__ __forceinline__ activations(const struct cuda_product &p, uint32_t column,
                                               uint32_t begin, uint32_t end, uint32_t lane)
        {
            const uint32_t t = lane % 4, g = lane / 4;
            at = column + g / 2 * X_PAIR_BYTES + t * VECTOR_BYTES + g % 2 * sizeof(uint2);
            scales_at = column * SCALE_BYTES + 2 * t * (QUANT_PIECE * SCALE_BYTES);
            own = column + 2 * t * QUANT_PIECE - begin;
            length = end - begin;
            load_integers(p);
            load_scales(p);
        }

        /* Behind the last chunk too, where the workspace goes on (cuda_reserve). */
        __device__ __forceinline__ void load_integers(const struct cuda_product &p)
        {
            x = *(const uint2 *)((const char *)p.x + at);
            at += CHUNK_COLUMNS;
        }

        __device__ __forceinline__ void load_scales(const struct cuda_product &p)
        {
            const float *from = (const float *)((const char *)p.x_scales + scales_at);
            scales_at += CHUNK_COLUMNS * SCALE_BYTES;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                scale[i] = from[i * (2 * ROW_TILE)];
                sum[i] = F.min ? from[i * (2 * ROW_TILE) + 2] : 0.0f;
            }
        }

        __device__ __forceinline__ bool valid(uint32_t i) const
        {
            return own + i * QUANT_PIECE < length;
        }
    };

    /* acc[0] and acc[2], of two outputs, are the same in four lanes. Leaves x of the next chunk. */
    static __device__ __forceinline__ void add_chunk(float acc[4], const struct cuda_product &p,
                                                     const uint4 *chunk, activations &x,
                                                     uint32_t lane)
    {
        const bool valid[2] = {x.valid(0), x.valid(1)};
        int dot[HALVES][4];
        float scale[2][2][HALVES], min[2][2], exact[2][2][HALVES];

        multiply(dot, chunk, x.x, lane);
        x.own += CHUNK_COLUMNS;
        x.load_integers(p);
        scales(scale, min, chunk, lane);
#pragma unroll
        for (int j = 0; j < 4 * HALVES; j++) {
            const int o = j / 2 % 2, i = j % 2, half = j / 4;
            const float unshift = 1.0f / (1 << (i ? pair_shift(F) : 0));
            const float sum = __int_as_float(dot[half][2 * o + i]);
            exact[o][i][half] =
                unshift == 1 ? sum - MAGIC : __fmaf_rn(sum, unshift, -MAGIC * unshift);
            scale[o][i][half] = __fmul_rn(scale[o][i][half], x.scale[i]);
        }
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
                        next = __fmaf_rn(exact[o][i][half], scale[o][i][half], next);
                    if constexpr (F.min)
                        next = __fmaf_rn(min[o][i], x.sum[i], next);
                    sum = valid[i] ? next : sum;
                }
                acc[2 * o] = __shfl_sync(0xffffffffu, sum, turn, 4);
            }
        x.load_scales(p);
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
        constexpr float unshift = 1.0f / (1 << piece_shift(F));
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
    static constexpr bool WHOLE_STAGES = true;
    static constexpr int LEAN_ROWS = 1;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ != 900
    static constexpr bool ROOMY = F.high_bits == 2; /* spills with fewer registers there */
#else
    static constexpr bool ROOMY = false;
#endif
    static constexpr int LEAN_BOUND = ROOMY ? 768 : F.super && F.high_bits > 0 ? 512 : 576;
    static constexpr int LEAN_BLOCKS = ROOMY ? 1 : 2;
    static constexpr int WEIGHT = TYPE;

    template <int TILES, int ROWS>
    static __device__ __forceinline__ void add_stage(float acc[TILES][4],
                                                     const struct cuda_product &p,
                                                     const uint4 *stage, early<ROWS> &x,
                                                     uint32_t column, uint32_t begin, uint32_t end,
                                                     uint32_t lane)
    {
        if constexpr (ROWS == 1) {
            single<TYPE>::add_chunk(acc[0], p, stage, x, lane);
        } else {
            const bool whole = column >= begin && column + CHUNK_COLUMNS <= end;
            constexpr int PIECES = TILES > 2 || (F.super && (TILES > 1 || F.high_bits == 1)) ||
                                           (F.min && F.high_bits == 1 && TILES > 1)
                                       ? 2
                                       : 4;
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

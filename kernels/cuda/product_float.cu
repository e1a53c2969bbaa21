/* product_float.cu - products of F32, F16 and BF16 weights by the tensor cores, in parts.
 *
 * F16 weights are multiplied as they are; `prepare` has made each activation two f16 numbers, a large
 * and a small part, relative to the largest one of its 32 columns (panel.h). 32 columns are added up
 * by the tensor cores, then scaled and added to the span's sum.
 * BF16 weights are multiplied as they are with activations in three bf16 parts. F32 weights are cut
 * in three parts as well, by cutting bits off, which rounds nothing; of the nine products of parts the
 * three that are below 2^-22 of the whole are left out. Products of small parts are added first.
 * What is not finite stays so: its lower parts are no numbers. */
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/quant_weights.cuh"

namespace
{

/* The upper halves of two numbers, the first one below. */
__device__ __forceinline__ uint32_t upper_halves(float first, float second)
{
    return __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632);
}

__device__ __forceinline__ float below_upper(float value)
{
    return value - __uint_as_float(__float_as_uint(value) & 0xffff0000u);
}

template <int TYPE>
struct terms {
    static constexpr bool SINGLE = false;
    static constexpr uint32_t SPAN = FLOAT_SPAN;
    static constexpr int PARTS = TYPE == WEIGHT_F32 ? 3 : 1;
    static constexpr int ROW_PARTS = TYPE == WEIGHT_F16 ? X_HALVES : X_PARTS; /* of activations */
    static constexpr int WORDS = TYPE == WEIGHT_F32 ? 8 : 4; /* of a lane and piece */

    /* A piece's registers, part by part from the smallest up. */
    static __device__ __forceinline__ void unpack(uint32_t a[PARTS][4], const uint32_t words[WORDS])
    {
#pragma unroll
        for (int r = 0; r < 4; r++) {
            if constexpr (PARTS == 1) {
                a[0][r] = words[r];
            } else {
                float x = __uint_as_float(words[2 * r]), y = __uint_as_float(words[2 * r + 1]);
#pragma unroll
                for (int i = PARTS - 1; i >= 0; i--) {
                    a[i][r] = upper_halves(x, y);
                    x = below_upper(x);
                    y = below_upper(y);
                }
            }
        }
    }

    /* The two pieces of 32 columns. Parts are numbered from the smallest up; a sum of numbers tells
     * how small a product is. */
    static __device__ __forceinline__ void add_products(float acc[4], const uint32_t a[2][PARTS][4],
                                                        const uint32_t x[ROW_PARTS][4], bool first,
                                                        bool second)
    {
#pragma unroll
        for (int size = PARTS - 1; size < PARTS + ROW_PARTS - 1; size++)
#pragma unroll
            for (int i = 0; i < PARTS; i++) {
                const int j = size - i;
                if (j < 0 || j >= ROW_PARTS)
                    continue;
                if constexpr (TYPE == WEIGHT_F16) {
                    if (first)
                        mma_f16(acc, a[0][i], x[j]);
                    if (second)
                        mma_f16(acc, a[1][i], x[j] + 2);
                } else {
                    if (first)
                        mma_bf16(acc, a[0][i], x[j]);
                    if (second)
                        mma_bf16(acc, a[1][i], x[j] + 2);
                }
            }
    }

    static constexpr int PAIR = 2 * FLOAT_PIECE, PART_VECTORS = 4;
    static constexpr int POWERS = ROW_TILE / 2; /* pairs of them, of a block */

    /* Where a lane reads activations from `column` on. Rows that there are not repeat the last one. */
    template <int TILES>
    struct rows_at {
        const uint4 *x[TILES];
        const float2 *powers[TILES];

        __device__ __forceinline__ rows_at(const struct cuda_product &p, uint32_t column,
                                           uint32_t first_tile, uint32_t lane)
        {
#pragma unroll
            for (uint32_t tile = 0; tile < TILES; tile++) {
                const uint32_t row = min((first_tile + tile) * ROW_TILE + lane / 4, p.n_rows - 1);
                x[tile] = (const uint4 *)p.x + (size_t)row * p.x_row_vectors +
                          column / PAIR * (ROW_PARTS * PART_VECTORS) + lane % 4;
                powers[tile] = (const float2 *)p.x_scales +
                               ((size_t)min(first_tile + tile, p.n_row_tiles - 1) * p.n_blocks +
                                column / PAIR) *
                                   POWERS +
                               lane % 4;
            }
        }

        __device__ __forceinline__ void next()
        {
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                x[tile] += ROW_PARTS * PART_VECTORS;
                powers[tile] += POWERS;
            }
        }
    };

    /* The two pieces from `column` on, as far as they lie in [begin, end); WHOLE: both do. */
    template <int TILES, bool WHOLE>
    static __device__ __forceinline__ void add_pair(float acc[TILES][4],
                                                    const uint32_t words[2 * WORDS],
                                                    const rows_at<TILES> &rows, uint32_t column,
                                                    uint32_t begin, uint32_t end)
    {
        const bool first = WHOLE || (column >= begin && column < end);
        const bool second = WHOLE || (column + FLOAT_PIECE >= begin && column + FLOAT_PIECE < end);
        uint32_t a[2][PARTS][4];
        if (!first && !second)
            return;
        unpack(a[0], words);
        unpack(a[1], words + WORDS);
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            uint32_t b[ROW_PARTS][4];
#pragma unroll
            for (int part = 0; part < ROW_PARTS; part++)
                put_words(b[part], rows.x[tile][part * PART_VECTORS]);
            if constexpr (TYPE == WEIGHT_F16) {
                const float2 power = rows.powers[tile][0];
                float dot[4] = {0, 0, 0, 0};
                add_products(dot, a, b, first, second);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    acc[tile][i] = __fmaf_rn(dot[i], i % 2 ? power.y : power.x, acc[tile][i]);
            } else {
                add_products(acc[tile], a, b, first, second);
            }
        }
    }

    static constexpr uint32_t STAGE_COLUMNS = TYPE == WEIGHT_F32 ? 32 : 64,
                              STAGE_VECTORS = STAGE_COLUMNS / FLOAT_PIECE * WORDS / 4 * CUDA_LANES;

    /* A panel has whole pairs, so that a stage behind its end is cut between two of them. */
    template <int ROWS>
    struct early { /* none */
        __device__ early(const struct cuda_product &, uint32_t, uint32_t, uint32_t, uint32_t)
        {
        }
    };
    static constexpr bool WHOLE_STAGES = false;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
    static constexpr bool ROOMY = TYPE != WEIGHT_BF16; /* spills with fewer registers on 12.0 */
#else
    static constexpr bool ROOMY = false;
#endif
    static constexpr int LEAN_ROWS = ROW_TILE, LEAN_BOUND = ROOMY ? 768 : 448,
                         LEAN_BLOCKS = ROOMY ? 1 : 2, WEIGHT = TYPE;

    template <int TILES, int ROWS>
    static __device__ __forceinline__ void add_stage(float acc[TILES][4],
                                                     const struct cuda_product &p,
                                                     const uint4 *stage, early<ROWS> &,
                                                     uint32_t column, uint32_t begin, uint32_t end,
                                                     uint32_t lane)
    {
        if (column >= begin && column + STAGE_COLUMNS <= end)
            add_pairs<TILES, true>(acc, p, stage, column, begin, end, lane);
        else
            add_pairs<TILES, false>(acc, p, stage, column, begin, end, lane);
    }

    template <int TILES, bool WHOLE>
    static __device__ __forceinline__ void add_pairs(float acc[TILES][4],
                                                     const struct cuda_product &p,
                                                     const uint4 *stage, uint32_t column,
                                                     uint32_t begin, uint32_t end, uint32_t lane)
    {
        rows_at<TILES> rows(p, column, 0, lane);
#pragma unroll(WHOLE ? 2 : 1)
        for (uint32_t pair = 0; pair < STAGE_COLUMNS; pair += PAIR, rows.next()) {
            uint32_t words[2 * WORDS];
            load_pair(words, stage + pair / FLOAT_PIECE * (WORDS / 4 * CUDA_LANES) + lane);
            add_pair<TILES, WHOLE>(acc, words, rows, column + pair, begin, end);
        }
    }

    template <int TILES>
    static __device__ __forceinline__ void add_span(float acc[TILES][4],
                                                    const struct cuda_product &p,
                                                    const uint4 *panel, uint32_t begin,
                                                    uint32_t end, uint32_t first_tile,
                                                    uint32_t lane)
    {
        uint32_t column = begin / PAIR * PAIR, words[2 * WORDS], next[2 * WORDS];
        rows_at<TILES> rows(p, column, first_tile, lane);
        const uint4 *at = panel + (size_t)(column / FLOAT_PIECE) * (WORDS / 4 * CUDA_LANES) + lane;
        load_pair(words, at);
#pragma unroll 1
        for (; column < end; column += PAIR, rows.next()) {
            at += WORDS / 2 * CUDA_LANES;
            if (column + PAIR < end)
                load_pair(next, at);
            add_pair<TILES, false>(acc, words, rows, column, begin, end);
#pragma unroll
            for (int i = 0; i < 2 * WORDS; i++)
                words[i] = next[i];
        }
    }

    static __device__ __forceinline__ void load_pair(uint32_t words[2 * WORDS], const uint4 *at)
    {
#pragma unroll
        for (int v = 0; v < WORDS / 2; v++)
            load_words<4>(words + 4 * v, (const uint32_t *)(at + v * CUDA_LANES));
    }
};

} // namespace

extern "C" void cuda_product_float(struct device *device, enum weight_type type,
                                   const struct cuda_product *product)
{
    if (type == WEIGHT_F32)
        launch<terms<WEIGHT_F32>>(device, product);
    else if (type == WEIGHT_F16)
        launch<terms<WEIGHT_F16>>(device, product);
    else
        launch<terms<WEIGHT_BF16>>(device, product);
}

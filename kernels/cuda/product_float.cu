/* product_float.cu - products of F32, F16 and BF16 weights: exact parts, added by the tensor cores.
 *
 * bf16 has eight bits. An f32 is cut in three such parts by cutting its bits off, which rounds
 * nothing, an f16 in two; weights are cut as they are used, activations were by `prepare`. All
 * products of parts are made, those of the small parts first. In decode memory is the limit and the
 * additional products are free. What is not finite stays so: its lower parts are no numbers. */
#include "kernels/cuda/product.cuh"

#include <cuda_fp16.h>

namespace
{

__device__ __forceinline__ void mma_bf16(float acc[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The upper halves of two numbers, the first one below. */
__device__ __forceinline__ uint32_t upper_halves(float first, float second)
{
    return __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632);
}

__device__ __forceinline__ float below_upper(float value)
{
    return value - __uint_as_float(__float_as_uint(value) & 0xffff0000u);
}

/* PARTS registers of bf16, from the smallest up, of two numbers. */
template <int PARTS>
__device__ __forceinline__ void cut(uint32_t part[PARTS], float x, float y)
{
#pragma unroll
    for (int i = PARTS - 1; i >= 0; i--) {
        part[i] = upper_halves(x, y);
        x = below_upper(x);
        y = below_upper(y);
    }
}

template <int TYPE>
struct terms {
    static constexpr int PARTS = TYPE == WEIGHT_BF16 ? 1 : TYPE == WEIGHT_F16 ? 2 : 3;
    static constexpr int WORDS = TYPE == WEIGHT_F32 ? 8 : 4; /* of a lane and piece */

    /* A piece's registers, part by part. */
    static __device__ __forceinline__ void unpack(uint32_t a[PARTS][4], const uint32_t words[WORDS])
    {
#pragma unroll
        for (int r = 0; r < 4; r++) {
            uint32_t part[PARTS];
            if constexpr (TYPE == WEIGHT_BF16) {
                part[0] = words[r];
            } else if constexpr (TYPE == WEIGHT_F16) {
                cut<PARTS>(part, __half2float(__ushort_as_half((unsigned short)words[r])),
                           __half2float(__ushort_as_half((unsigned short)(words[r] >> 16))));
            } else {
                cut<PARTS>(part, __uint_as_float(words[2 * r]), __uint_as_float(words[2 * r + 1]));
            }
#pragma unroll
            for (int i = 0; i < PARTS; i++)
                a[i][r] = part[i];
        }
    }

    /* Parts are numbered from the smallest up; a sum of numbers tells how small a product is. */
    static __device__ __forceinline__ void add_piece(float acc[4], const uint32_t a[PARTS][4],
                                                     const uint32_t x[X_PARTS][4], int piece)
    {
#pragma unroll
        for (int size = 0; size < PARTS + X_PARTS - 1; size++)
#pragma unroll
            for (int i = 0; i < PARTS; i++)
                if (size - i >= 0 && size - i < X_PARTS)
                    mma_bf16(acc, a[i], x[size - i] + 2 * piece);
    }

    /* The two pieces from `column` on, as far as they lie in [begin, end). */
    template <int TILES>
    static __device__ __forceinline__ void add_pair(float acc[TILES][4],
                                                    const uint32_t words[2 * WORDS],
                                                    const struct cuda_product &p, uint32_t column,
                                                    uint32_t begin, uint32_t end,
                                                    uint32_t first_tile, uint32_t lane)
    {
        constexpr int PAIR = 2 * FLOAT_PIECE, PART_VECTORS = 4;
        const bool first = column >= begin && column < end;
        const bool second = column + FLOAT_PIECE >= begin && column + FLOAT_PIECE < end;
        const uint4 *x =
            (const uint4 *)p.x + (size_t)(column / PAIR) * (X_PARTS * PART_VECTORS) + lane % 4;
        uint32_t a[2][PARTS][4];
        if (!first && !second)
            return;
        unpack(a[0], words);
        unpack(a[1], words + WORDS);
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            const uint32_t row = (first_tile + tile) * ROW_TILE + lane / 4;
            uint32_t b[X_PARTS][4];
#pragma unroll
            for (int part = 0; part < X_PARTS; part++) {
                uint4 v = make_uint4(0, 0, 0, 0);
                if (row < p.n_rows)
                    v = __ldg(x + row * p.x_row_vectors + part * PART_VECTORS);
                put_words(b[part], v);
            }
            if (first)
                add_piece(acc[tile], a[0], b, 0);
            if (second)
                add_piece(acc[tile], a[1], b, 1);
        }
    }

    /* AHEAD: the weights of the next eight vectors of each lane are on their way while as many are
     * multiplied; else, of the next pair. */
    template <int TILES, bool AHEAD>
    static __device__ __forceinline__ void add_span(float acc[TILES][4],
                                                    const struct cuda_product &p,
                                                    const uint4 *panel, uint32_t begin,
                                                    uint32_t end, uint32_t first_tile,
                                                    uint32_t lane)
    {
        constexpr int PAIRS = AHEAD ? 16 / WORDS : 1, COLUMNS = PAIRS * 2 * FLOAT_PIECE;
        uint32_t now[PAIRS * 2 * WORDS], next[PAIRS * 2 * WORDS];
        uint32_t column = begin / COLUMNS * COLUMNS;
        load<PAIRS>(now, panel, column, p.panel_vectors, lane);
#pragma unroll 1
        for (; column < end; column += COLUMNS) {
            if (column + COLUMNS < end)
                load<PAIRS>(next, panel, column + COLUMNS, p.panel_vectors, lane);
#pragma unroll
            for (int pair = 0; pair < PAIRS; pair++)
                add_pair<TILES>(acc, now + pair * 2 * WORDS, p, column + pair * 2 * FLOAT_PIECE,
                                begin, end, first_tile, lane);
#pragma unroll
            for (int i = 0; i < PAIRS * 2 * WORDS; i++)
                now[i] = next[i];
        }
    }

    /* PAIRS pairs of pieces from `column` on; what lies behind the panel is not read. */
    template <int PAIRS>
    static __device__ __forceinline__ void load(uint32_t *words, const uint4 *panel,
                                                uint32_t column, size_t panel_vectors,
                                                uint32_t lane)
    {
        const size_t at = (size_t)(column / FLOAT_PIECE) * (WORDS / 4 * CUDA_LANES) + lane;
#pragma unroll
        for (int v = 0; v < PAIRS * 2 * WORDS / 4; v++)
            if (at + v * CUDA_LANES < panel_vectors)
                load_weights<4>(words + 4 * v, (const uint32_t *)(panel + at + v * CUDA_LANES));
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
    cuda_launched(device, "a product of floats");
}

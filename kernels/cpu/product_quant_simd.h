/* kernels/cpu/product_quant_simd.h - products with weights in blocks over vectors of any length;
 * the body of product_quant_avx2.c and its siblings, which include a vector_....h before and define
 * QUANT_ROWS(X): X(R, V) for every height R of a tile, with the number of vectors V that go
 * together; and fetches_ahead(R, low_bits): whether such a tile asks for its weights itself. It may
 * define ADDED_HERE(sum, R): the sum, which the compiler then does not move.
 *
 * Register tiles of V vectors of outputs times R rows, as for floats, with an integer and a float
 * sum for each output. Weights stay packed in memory and are unpacked in registers: a mask and a
 * shift per vector, paid once for R rows, on ports that the multiplications do not use. Scales of
 * super-blocks are unpacked once per super-block to a few lines of the first-level cache.
 *
 * A tile reads its panel in one line. Where fetches_ahead says so it asks for weights that are
 * still to come: the processor's own prefetcher loses time at the beginning of each page
 * (bench/matmul --rows 1,4,8,16), and where the activations of one tile end, whose successors are
 * fetched, too (--rows 512 --shapes 3). */
#include "kernels/cpu/product_simd.h"

#ifndef ADDED_HERE
#define ADDED_HERE(sum, R) (sum)
#endif

enum { QUANT_MAX_SUMS = 16, QUANT_MAX_VECTORS = 4, PIECES_OF_SUPER = 8 };

/* The scales of a super-block, ready to multiply with: [sub-block]. */
struct super_scales {
    _Alignas(64) float scale[16][LANES];
    _Alignas(64) float min[PIECES_OF_SUPER][LANES];
};

/* Four weights of each output: group g of a piece, whose first bytes of these outputs are at w. */
INLINE VECI unpack_group(const uint8_t *w, const enum weight_type type, const int g)
{
    const struct panel_format f = panel_format(type);
    const uint8_t *high = w + 4 * PANEL_LINE_BYTES;
    if (f.low_bits == 8)
        return flip_bytes(int_load(w + g * PANEL_LINE_BYTES));
    VECI v = int_load(w + g % 4 * PANEL_LINE_BYTES);
    v = int_and(g < 4 ? v : int_shift(v, -4), int_set1(0x0f0f0f0f));
    if (f.high_bits == 1)
        v = int_or(v, int_and(int_shift(int_load(high), 4 - g), int_set1(0x10101010)));
    else if (f.high_bits == 2)
        v = int_or(v, int_and(int_shift(int_load(high + g / 4 * PANEL_LINE_BYTES), 4 - g % 4 * 2),
                              int_set1(0x30303030)));
    return v;
}

/* Four values of six bits, or of eight with their sign: byte i of every lane as a float. */
INLINE VEC byte_to_float(VECI v, int i)
{
    return vec_from_int(int_and(int_shift(v, -8 * i), int_set1(0xff)));
}

INLINE VEC signed_byte_to_float(VECI v, int i)
{
    return vec_from_int(int_shift_right_signed(int_shift(v, 24 - 8 * i), 24));
}

/* `words` and `halves`: where a super-block's scales of these outputs begin. */
INLINE void unpack_scales(struct super_scales *out, const enum weight_type type,
                          const uint8_t *words, const uint8_t *halves)
{
    const VEC d = vec_load_f16(halves);
    if (type == WEIGHT_Q6_K) {
#pragma GCC unroll 4
        for (int w = 0; w < 4; w++) {
            const VECI four = int_load(words + w * 4 * PANEL_ROWS);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                vec_store(out->scale[4 * w + i], vec_mul(d, signed_byte_to_float(four, i)));
        }
        return;
    }
    const VEC m = vec_mul(vec_set1(-1.0f), vec_load_f16(halves + 2 * PANEL_ROWS));
    const VECI scales = int_load(words), mins = int_load(words + 4 * PANEL_ROWS),
               low = int_load(words + 8 * PANEL_ROWS);
    const VECI six = int_set1(0x3f3f3f3f), four = int_set1(0x0f0f0f0f), two = int_set1(0x30303030);
    const VECI scale[2] = {int_and(scales, six),
                           int_or(int_and(low, four), int_and(int_shift(scales, -2), two))};
    const VECI min[2] = {int_and(mins, six), int_or(int_and(int_shift(low, -4), four),
                                                    int_and(int_shift(mins, -2), two))};
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vec_store(out->scale[i], vec_mul(d, byte_to_float(scale[i / 4], i % 4)));
        vec_store(out->min[i], vec_mul(m, byte_to_float(min[i / 4], i % 4)));
    }
}

/* What a dot product of the weights as they are multiplied begins with, for row r. */
INLINE VECI dot_start(const int32_t *x, const enum weight_type type, const int half, const int R,
                      const int r)
{
    if (type == WEIGHT_Q6_K)
        return int_set1(x[(CPU_X_STARTS + half) * R + r]);
    const int zero = type == WEIGHT_Q8_0 ? BYTE_ZERO : panel_format(type).zero;
    const VECI eight = int_set1(x[CPU_X_START * R + r]);
    return zero == 0 ? int_zero() : zero == 8 ? eight : int_shift(eight, zero == 16 ? 1 : 4);
}

/* The lines of block b of what is multiplied after this tile: the calls of quant_tile that a tile
 * takes share them. */
INLINE void fetch_next(const struct cpu_product *p, uint32_t b, uint32_t call, uint32_t n_calls,
                       const int R)
{
    const size_t bytes = (size_t)CPU_X_BLOCK_BYTES * (size_t)R;
    const char *next = (const char *)p->next_x + b * bytes;
    for (size_t at = (size_t)call * PANEL_LINE_BYTES; at < bytes; at += n_calls * PANEL_LINE_BYTES)
        __builtin_prefetch(next + at, 0, 2); /* into the second level */
}

/* What a tile is, known when it is compiled. */
struct quant_tile {
    enum weight_type type;
    int V, R; /* vectors of outputs, rows */
    bool fetches;
};

/* dot[i * R + r]: one half of a piece, whose weights of these outputs are at w, times the rows at
 * x. A piece has halves only where they have scales of their own (Q6_K). */
INLINE void dot_half(VECI dot[QUANT_MAX_SUMS], const struct quant_tile t,
                     const struct cpu_product *p, const uint8_t *w, const int32_t *x,
                     const int half)
{
    const struct panel_format f = panel_format(t.type);
    const int halves = t.type == WEIGHT_Q6_K ? 2 : 1, groups = 8 / halves;
    const int part_groups = dot_groups(t.type) < groups ? dot_groups(t.type) : groups;
    const int piece_lines = (int)(panel_piece_bytes(t.type) / PANEL_LINE_BYTES);
    PART part[QUANT_MAX_SUMS];
#pragma GCC unroll 16
    for (int r = 0; r < t.R; r++)
#pragma GCC unroll 4
        for (int i = 0; i < t.V; i++)
            dot[i * t.R + r] = dot_start(x, t.type, half, t.R, r);
#pragma GCC unroll 8
    for (int step = 0; step < groups; step++) {
        /* the two nibbles of a byte one after the other, unless they belong to different halves */
        const int g = f.low_bits == 8 ? step
                      : halves == 2   ? half * groups + step
                                      : step / 2 + step % 2 * 4;
        VECI weight[QUANT_MAX_VECTORS];
#pragma GCC unroll 4
        for (int i = 0; i < t.V; i++)
            weight[i] = unpack_group(w + vector_offset(p, (uint32_t)i, 4 * LANES), t.type, g);
        if (t.fetches && g < piece_lines)
            prefetch(w + g * PANEL_LINE_BYTES, t.R);
#pragma GCC unroll 16
        for (int r = 0; r < t.R; r++) {
            const VECI value = int_set1(x[(CPU_X_VALUES + g) * t.R + r]);
#pragma GCC unroll 4
            for (int i = 0; i < t.V; i++) {
                const int at = i * t.R + r;
                if (step % part_groups == 0)
                    part[at] = dot_begin(dot[at]);
                part[at] = ADDED_HERE(dot_add(part[at], weight[i], value, t.type), t.R);
                if ((step + 1) % part_groups == 0)
                    dot[at] = ADDED_HERE(dot_end(dot[at], part[at]), t.R);
            }
        }
    }
}

/* sum += scale of the weights * scale of the row * dot. */
INLINE void add_scaled(VEC sum[QUANT_MAX_SUMS], const VECI dot[QUANT_MAX_SUMS],
                       const struct quant_tile t, const VEC scale[QUANT_MAX_VECTORS],
                       const int32_t *x)
{
#pragma GCC unroll 4
    for (int i = 0; i < t.V; i++)
#pragma GCC unroll 16
        for (int r = 0; r < t.R; r++) {
            const VEC x_scale = vec_from_bits(int_set1(x[CPU_X_SCALE * t.R + r]));
            sum[i * t.R + r] = vec_fma(vec_from_int(dot[i * t.R + r]), vec_mul(scale[i], x_scale),
                                       sum[i * t.R + r]);
        }
}

/* sum += minimum of the weights * sum of the row's values. */
INLINE void add_minima(VEC sum[QUANT_MAX_SUMS], const struct quant_tile t,
                       const VEC min[QUANT_MAX_VECTORS], const int32_t *x)
{
#pragma GCC unroll 4
    for (int i = 0; i < t.V; i++)
#pragma GCC unroll 16
        for (int r = 0; r < t.R; r++)
            sum[i * t.R + r] =
                vec_fma(min[i], vec_from_bits(int_set1(x[CPU_X_SUM * t.R + r])), sum[i * t.R + r]);
}

/* Vectors [first, first + V) with the R rows of the tile. */
INLINE void quant_tile(const struct cpu_product *p, uint32_t first, const enum weight_type type,
                       const int V, const int R)
{
    const struct panel_format f = panel_format(type);
    const struct quant_tile t = {type, V, R, fetches_ahead(R, f.low_bits)};
    const bool super = f.columns > PANEL_PIECE;
    const int halves = type == WEIGHT_Q6_K ? 2 : 1;
    const size_t words_bytes = (size_t)f.n_words * 4 * PANEL_ROWS;
    const size_t scales_bytes = panel_scales_bytes(type);
    /* where a block's words (and its weights), and its halves of these outputs begin */
    const uint8_t *w = p->weights + vector_offset(p, first, 4 * LANES);
    const uint8_t *d = p->weights + words_bytes + vector_offset(p, first, 2 * LANES);
    const int32_t *x = p->x;
    struct super_scales scales[QUANT_MAX_VECTORS];
    VEC sum[QUANT_MAX_SUMS], factor[QUANT_MAX_VECTORS];

#pragma GCC unroll 16
    for (int i = 0; i < V * R; i++)
        sum[i] = vec_zero();
    const uint32_t n_calls = panel_count(p->n_outputs) * PANEL_VECTORS / (uint32_t)V;
    for (uint32_t b = 0; b < p->n / PANEL_PIECE; b++, x += CPU_X_WORDS * R) {
        if (t.fetches && p->next_x != p->x)
            fetch_next(p, b, first / (uint32_t)V, n_calls, R);
        const uint32_t sub = super ? b % PIECES_OF_SUPER : 0;
        if (super && sub == 0)
#pragma GCC unroll 4
            for (int i = 0; i < V; i++)
                unpack_scales(&scales[i], type, w + vector_offset(p, (uint32_t)i, 4 * LANES),
                              d + vector_offset(p, (uint32_t)i, 2 * LANES));
        if (sub == 0) {
            for (size_t at = 0; t.fetches && at < scales_bytes; at += PANEL_LINE_BYTES)
                prefetch(w + at, R);
            w += scales_bytes;
        }
#pragma GCC unroll 2
        for (int half = 0; half < halves; half++) {
            VECI dot[QUANT_MAX_SUMS];
            dot_half(dot, t, p, w, x, half);
#pragma GCC unroll 4
            for (int i = 0; i < V; i++)
                factor[i] =
                    !super ? vec_load_f16(d + vector_offset(p, (uint32_t)i, 2 * LANES))
                           : vec_load(scales[i].scale[sub * (uint32_t)halves + (uint32_t)half]);
            add_scaled(sum, dot, t, factor, x);
        }
        if (f.min) {
#pragma GCC unroll 4
            for (int i = 0; i < V; i++)
                factor[i] = !super ? vec_load_f16(d + 2 * PANEL_ROWS +
                                                  vector_offset(p, (uint32_t)i, 2 * LANES))
                                   : vec_load(scales[i].min[sub]);
            add_minima(sum, t, factor, x);
        }
        w += panel_piece_bytes(type);
        if (!super || sub == PIECES_OF_SUPER - 1)
            d += panel_offset(type, f.columns);
    }
#pragma GCC unroll 4
    for (int i = 0; i < V; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            store(p, first + (uint32_t)i, (uint32_t)r, sum[i * R + r]);
}

/* All vectors of the call, V at a time, the rest one by one. */
INLINE void quant_tiles(const struct cpu_product *p, const enum weight_type type, const int V,
                        const int R)
{
    const uint32_t n_vectors = panel_count(p->n_outputs) * PANEL_VECTORS;
    uint32_t i = 0;
    for (; i + (uint32_t)V <= n_vectors; i += (uint32_t)V)
        quant_tile(p, i, type, V, R);
    if (PANEL_VECTORS % V != 0) /* else there is none, and its code would be compiled for nothing */
        for (; i < n_vectors; i++)
            quant_tile(p, i, type, 1, R);
}

#define QUANT_CASE(R, V)                                                                           \
    case R:                                                                                        \
        quant_tiles(p, type, V, R);                                                                \
        break;
#define QUANT_TYPE(name)                                                                           \
    static void product_##name(const struct cpu_product *p)                                        \
    {                                                                                              \
        const enum weight_type type = WEIGHT_##name;                                               \
        switch (p->n_rows) {                                                                       \
            QUANT_ROWS(QUANT_CASE)                                                                 \
        }                                                                                          \
    }
#define QUANT_TYPES(X) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q4_K) X(Q5_K) X(Q6_K)
QUANT_TYPES(QUANT_TYPE)

#define QUANT_CHOICE(name)                                                                         \
    case WEIGHT_##name:                                                                            \
        product_##name(p);                                                                         \
        break;
static void product_quant(const struct cpu_product *p)
{
    switch (p->type) {
        QUANT_TYPES(QUANT_CHOICE)
    default: /* the others are floats */
        break;
    }
}
#undef QUANT_CHOICE
#undef QUANT_TYPE
#undef QUANT_CASE

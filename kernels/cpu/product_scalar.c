/* product_scalar.c - the portable inner loops, and the plainest statement of the evaluation order.
 *
 * Sixteen sums side by side are what a panel asks for; a compiler may keep them in whatever vectors
 * the machine has. fmaf is a function call where the compiler may not assume the instruction. */
#include "kernels/cpu/panel.h"
#include "kernels/cpu/product.h"
#include "kernels/quant/half.h"

#include <math.h>
#include <string.h>

enum { TILE_ROWS = PRODUCT_FLOAT_ROWS_scalar };

static void store(const struct cpu_product *p, uint32_t panel, uint32_t row, const float *sums)
{
    const uint32_t begin = panel * PANEL_ROWS;
    const uint32_t n = p->n_outputs - begin < PANEL_ROWS ? p->n_outputs - begin : PANEL_ROWS;
    float *y = p->y + row * p->y_stride + begin;
    const float *before = p->before != NULL ? p->before + row * p->before_stride + begin : NULL;
    for (uint32_t j = 0; j < n; j++)
        y[j] = before != NULL ? before[j] + sums[j] : sums[j];
}

/* ---- floats ---------------------------------------------------------------------------------- */

static void read_column(float out[PANEL_ROWS], enum weight_type type, const uint8_t *column)
{
    uint16_t number;
    if (type == WEIGHT_F32) {
        memcpy(out, column, PANEL_ROWS * sizeof(*out));
        return;
    }
    for (size_t i = 0; i < PANEL_ROWS; i++) {
        memcpy(&number, column + i * sizeof(number), sizeof(number));
        out[i] = type == WEIGHT_F16 ? half_to_float(number) : bfloat16_to_float(number);
    }
}

void product_float_scalar(const struct cpu_product *p)
{
    for (uint32_t panel = 0; panel < panel_count(p->n_outputs); panel++) {
        const uint8_t *weights = p->weights + panel * p->panel_bytes;
        const float *x = p->x;
        float sums[TILE_ROWS][PANEL_ROWS] = {{0}};
        for (uint32_t k = 0; k < p->n; k++, x += p->n_rows) {
            float w[PANEL_ROWS];
            read_column(w, p->type, weights + panel_offset(p->type, k));
            for (uint32_t row = 0; row < p->n_rows; row++)
                for (int j = 0; j < PANEL_ROWS; j++)
                    sums[row][j] = fmaf(w[j], x[row], sums[row][j]);
        }
        for (uint32_t row = 0; row < p->n_rows; row++)
            store(p, panel, row, sums[row]);
    }
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* A piece of a panel taken apart: 32 columns of 16 outputs. */
struct piece {
    int8_t q[PANEL_PIECE][PANEL_ROWS];
    float scale[2][PANEL_ROWS]; /* of the first and the second 16 columns */
    float min[PANEL_ROWS];
};

static void read_integers(struct piece *piece, enum weight_type type, const uint8_t *bytes)
{
    const struct panel_format f = panel_format(type);
    const uint8_t *high = bytes + PANEL_PIECE / 2 * PANEL_ROWS;
    for (size_t column = 0; column < PANEL_PIECE; column++)
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            const size_t g = column / 4, at = row * 4 + column % 4; /* in a vector of [16][4] */
            int q;
            if (f.low_bits == 8)
                q = (int8_t)bytes[g * 64 + at];
            else
                q = bytes[g % 4 * 64 + at] >> g / 4 * 4 & 15;
            if (f.high_bits == 1)
                q |= (high[at] >> g & 1) << 4;
            else if (f.high_bits == 2)
                q |= (high[g / 4 * 64 + at] >> g % 4 * 2 & 3) << 4;
            piece->q[column][row] = (int8_t)(q - f.zero);
        }
}

static float read_half(const uint8_t *halves, size_t i)
{
    uint16_t half;
    memcpy(&half, halves + i * sizeof(half), sizeof(half));
    return half_to_float(half);
}

/* Small scale `part` of eight, or minimum `part` - 8, from the twelve packed bytes of one row, of
 * which four are in each of three words (superblock.h). */
static uint32_t packed_scale(const uint32_t words[3], uint32_t part)
{
    const uint32_t upper = words[part / 8] >> part % 4 * 8;
    if (part % 8 < 4)
        return upper & 63;
    return (words[2] >> part % 4 * 8 >> part / 8 * 4 & 15) | (upper >> 6 & 3) << 4;
}

/* The scales of piece `part` of a block, whose scales begin at `bytes`. */
static void read_scales(struct piece *piece, enum weight_type type, const uint8_t *bytes,
                        uint32_t part)
{
    const struct panel_format f = panel_format(type);
    const uint8_t *halves = bytes + (size_t)f.n_words * PANEL_ROWS * 4;
    for (size_t row = 0; row < PANEL_ROWS; row++) {
        const float d = read_half(halves, row), m = f.min ? read_half(halves, 16 + row) : 0.0f;
        uint32_t words[4];
        for (size_t i = 0; i < f.n_words; i++)
            memcpy(&words[i], bytes + (i * PANEL_ROWS + row) * 4, 4);
        float scale[2] = {d, d};
        piece->min[row] = m;
        if (type == WEIGHT_Q6_K) {
            for (uint32_t half = 0; half < 2; half++)
                scale[half] = d * (float)(int8_t)(words[part / 2] >> (part % 2 * 2 + half) * 8);
        } else if (f.n_words > 0) {
            scale[0] = scale[1] = d * (float)packed_scale(words, part);
            piece->min[row] = -m * (float)packed_scale(words, 8 + part);
        }
        piece->scale[0][row] = scale[0];
        piece->scale[1][row] = scale[1];
    }
}

/* One row's activations of a block; words of the tile's rows lie `step` words apart. */
static void add_piece(float *sums, const struct piece *piece, enum weight_type type,
                      const int32_t *x, size_t step)
{
    const uint32_t half = type == WEIGHT_Q6_K ? PANEL_PIECE / 2 : PANEL_PIECE;
    int8_t values[PANEL_PIECE];
    float x_scale, x_sum;
    for (size_t i = 0; i < PANEL_PIECE / 4; i++)
        memcpy(values + 4 * i, x + (CPU_X_VALUES + i) * step, 4);
    memcpy(&x_scale, x + CPU_X_SCALE * step, 4);
    memcpy(&x_sum, x + CPU_X_SUM * step, 4);
    for (uint32_t begin = 0; begin < PANEL_PIECE; begin += half) {
        int32_t dot[PANEL_ROWS] = {0};
        for (uint32_t i = begin; i < begin + half; i++)
            for (int j = 0; j < PANEL_ROWS; j++)
                dot[j] += piece->q[i][j] * values[i];
        for (int j = 0; j < PANEL_ROWS; j++)
            sums[j] = fmaf((float)dot[j], piece->scale[begin > 0][j] * x_scale, sums[j]);
    }
    if (panel_format(type).min)
        for (int j = 0; j < PANEL_ROWS; j++)
            sums[j] = fmaf(piece->min[j], x_sum, sums[j]);
}

void product_quant_scalar(const struct cpu_product *p)
{
    const uint32_t columns = panel_format(p->type).columns;
    for (uint32_t panel = 0; panel < panel_count(p->n_outputs); panel++) {
        const uint8_t *weights = p->weights + panel * p->panel_bytes;
        const int32_t *x = p->x;
        float sums[TILE_ROWS][PANEL_ROWS] = {{0}};
        for (uint32_t k = 0; k < p->n; k += PANEL_PIECE, x += (size_t)CPU_X_WORDS * p->n_rows) {
            const uint8_t *scales = weights + panel_offset(p->type, k / columns * columns);
            const uint32_t part = k % columns / PANEL_PIECE;
            struct piece piece;
            read_scales(&piece, p->type, scales, part);
            read_integers(&piece, p->type,
                          scales + panel_scales_bytes(p->type) + part * panel_piece_bytes(p->type));
            for (uint32_t row = 0; row < p->n_rows; row++)
                add_piece(sums[row], &piece, p->type, x + row, p->n_rows);
        }
        for (uint32_t row = 0; row < p->n_rows; row++)
            store(p, panel, row, sums[row]);
    }
}

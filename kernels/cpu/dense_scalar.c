/* dense_scalar.c - the portable inner loops, and the plainest statement of the evaluation order.
 *
 * Sixteen sums side by side are what a panel asks for; a compiler may keep them in whatever vectors
 * the machine has. fmaf is a function call where the compiler may not assume the instruction. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/variant.h"

#include <math.h>
#include <string.h>

enum { TILE_ROWS = 4 };

static void store(const struct cpu_product *p, uint32_t panel, uint32_t row, const float *sums)
{
    const uint32_t begin = panel * PANEL_ROWS;
    const uint32_t n = p->n_outputs - begin < PANEL_ROWS ? p->n_outputs - begin : PANEL_ROWS;
    float *y = p->y + row * p->y_stride + begin;
    for (uint32_t j = 0; j < n; j++)
        y[j] = p->add ? y[j] + sums[j] : sums[j];
}

static void product_float(const struct cpu_product *p, bool half)
{
    for (uint32_t panel = 0; panel < panel_count(p->n_outputs); panel++) {
        const uint8_t *weights = p->weights + panel * p->panel_bytes;
        const float *x = p->x;
        float sums[TILE_ROWS][PANEL_ROWS] = {{0}};
        for (uint32_t k = 0; k < p->n; k++, x += p->n_rows) {
            float w[PANEL_ROWS];
            if (half) {
                uint16_t halves[PANEL_ROWS];
                memcpy(halves, weights + (size_t)k * sizeof(halves), sizeof(halves));
                for (int j = 0; j < PANEL_ROWS; j++)
                    w[j] = half_to_float(halves[j]);
            } else {
                memcpy(w, weights + (size_t)k * sizeof(w), sizeof(w));
            }
            for (uint32_t row = 0; row < p->n_rows; row++)
                for (int j = 0; j < PANEL_ROWS; j++)
                    sums[row][j] = fmaf(w[j], x[row], sums[row][j]);
        }
        for (uint32_t row = 0; row < p->n_rows; row++)
            store(p, panel, row, sums[row]);
    }
}

static void product_f32(const struct cpu_product *p)
{
    product_float(p, false);
}

static void product_f16(const struct cpu_product *p)
{
    product_float(p, true);
}

/* One block of one panel with one row: sums[j] takes the scaled dot product of weight row j. */
static void add_block(float *sums, const int8_t *weights, const float *weight_scale,
                      const int8_t *x, size_t x_step, float x_scale)
{
    int32_t dot[PANEL_ROWS] = {0};
    for (size_t i = 0; i < 8; i++)
        for (size_t j = 0; j < PANEL_ROWS; j++)
            for (size_t e = 0; e < 4; e++)
                dot[j] += weights[(i * PANEL_ROWS + j) * 4 + e] * x[i * x_step + e];
    for (int j = 0; j < PANEL_ROWS; j++)
        sums[j] = fmaf((float)dot[j], weight_scale[j] * x_scale, sums[j]);
}

static void product_q8_0(const struct cpu_product *p)
{
    for (uint32_t panel = 0; panel < panel_count(p->n_outputs); panel++) {
        const uint8_t *weights = p->weights + panel * p->panel_bytes;
        const uint8_t *scales = p->scales + panel * p->panel_bytes;
        const uint8_t *x = p->x;
        float sums[TILE_ROWS][PANEL_ROWS] = {{0}};
        for (size_t b = 0; b < p->n; b++, x += (size_t)p->n_rows * CPU_Q8_BLOCK_BYTES) {
            float weight_scale[PANEL_ROWS];
            for (size_t j = 0; j < PANEL_ROWS; j++) {
                uint16_t half;
                memcpy(&half, scales + (b * PANEL_ROWS + j) * 2, 2);
                weight_scale[j] = half_to_float(half);
            }
            for (size_t row = 0; row < p->n_rows; row++) {
                float x_scale;
                memcpy(&x_scale, x + (8 * p->n_rows + row) * 4, 4);
                add_block(sums[row], (const int8_t *)weights + b * 32 * PANEL_ROWS, weight_scale,
                          (const int8_t *)x + row * 4, (size_t)p->n_rows * 4, x_scale);
            }
        }
        for (uint32_t row = 0; row < p->n_rows; row++)
            store(p, panel, row, sums[row]);
    }
}

static void swiglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = swiglu_one(gate[i], up[i]);
}

const struct cpu_variant cpu_variant_scalar = {
    .name = "scalar",
    .float_tile_rows = TILE_ROWS,
    .q8_tile_rows = TILE_ROWS,
    .product_f32 = product_f32,
    .product_f16 = product_f16,
    .product_q8_0 = product_q8_0,
    .pack_float = pack_float,
    .pack_q8_0 = pack_q8_0,
    .rms_norm = rms_norm_row,
    .rotate = rotate_row,
    .swiglu = swiglu,
    .add = add_vectors,
};

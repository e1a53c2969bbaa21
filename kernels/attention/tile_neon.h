/* kernels/attention/tile_neon.h - the tile kernel on vectors of 4: 32 registers hold 6 rows x 4
 * vectors. The body of tile_neon.c and tile_dotprod.c, which is compiled for the instruction sdot.
 */
#include "kernels/cpu/numeric_neon.h"

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VEC   float32x4_t
#define VECI  int32x4_t
#define LANES 4

enum { MAX_ROWS = 6, BLOCK_ROWS = 6, N_REGISTERS = 32 };
#define EACH_ROWS(half)                                                                            \
    ROWS_OF(1, half)                                                                               \
    ROWS_OF(2, half) ROWS_OF(3, half) ROWS_OF(4, half) ROWS_OF(5, half) ROWS_OF(6, half)

static inline VEC vec_zero(void)
{
    return vdupq_n_f32(0.0f);
}

static inline VEC vec_set1(float x)
{
    return vdupq_n_f32(x);
}

static inline VEC vec_load(const float *x)
{
    return vld1q_f32(x);
}

static inline void vec_store(float *x, VEC a)
{
    vst1q_f32(x, a);
}

/* The first n values, up to 4; zeros behind. */
static inline VEC vec_load_first(const float *x, size_t n)
{
    float values[LANES] = {0};
    if (n == LANES)
        return vld1q_f32(x);
    memcpy(values, x, n * sizeof(*x));
    return vld1q_f32(values);
}

/* The first n values, up to 4. */
static inline void vec_store_first(float *x, VEC a, size_t n)
{
    float values[LANES];
    if (n == LANES) {
        vst1q_f32(x, a);
    } else {
        vst1q_f32(values, a);
        memcpy(x, values, n * sizeof(*x));
    }
}

/* Whether any value is x. */
static inline bool vec_any_is(VEC a, float x)
{
    return vmaxvq_u32(vceqq_f32(a, vdupq_n_f32(x))) != 0;
}

/* 4 elements as f32. */
static inline VEC vec_widen_half(const void *x)
{
    return vcvt_f32_f16((float16x4_t)vld1_u16(x));
}

static inline VEC vec_widen_bfloat16(const void *x)
{
    return (VEC)vshll_n_u16(vld1_u16(x), 16);
}

static inline VEC vec_widen_int8(const void *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    const int16x8_t words = vmovl_s8((int8x8_t)vdup_n_s32(four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
}

/* The same 4 bytes everywhere. */
static inline VECI veci_set1_bytes(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return vdupq_n_s32(four);
}

/* What a block of q8_0 begins with, whose offset is -128 times the sum of its q: 0, since k gets its
 * sign back. */
static inline VECI veci_dot_start(int32_t offset)
{
    (void)offset;
    return vdupq_n_s32(0);
}

/* K's bytes, which lie as k + 128, as veci_dot takes them: k. */
static inline VECI veci_column(const void *x)
{
    return (VECI)veorq_u8(vld1q_u8(x), vdupq_n_u8(0x80));
}

/* sum + 4 products of a column's bytes and q's. Without sdot pairs are added in 16 bits, which is
 * room enough: 2 * 128 * 127 = 32512. */
static inline VECI veci_dot(VECI sum, VECI column, VECI q)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, (int8x16_t)column, (int8x16_t)q);
#else
    const int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)column), vget_low_s8((int8x16_t)q));
    const int16x8_t high = vmull_high_s8((int8x16_t)column, (int8x16_t)q);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}

static inline VEC vec_from_int(VECI x)
{
    return vcvtq_f32_s32(x);
}

static inline VEC vec_fma(VEC a, VEC b, VEC c)
{
    return vfmaq_f32(c, a, b);
}

static inline VEC vec_mul(VEC a, VEC b)
{
    return vmulq_f32(a, b);
}

static inline VEC vec_add(VEC a, VEC b)
{
    return vaddq_f32(a, b);
}

static inline VEC vec_sub(VEC a, VEC b)
{
    return vsubq_f32(a, b);
}

static inline VEC vec_div(VEC a, VEC b)
{
    return vdivq_f32(a, b);
}

/* Of a number and NaN the number, as in the scalar kernel. */
static inline VEC vec_max(VEC a, VEC b)
{
    return vmaxnmq_f32(a, b);
}

static inline VEC vec_abs(VEC a)
{
    return vabsq_f32(a);
}

static inline VEC vec_copysign(VEC a, VEC sign)
{
    return vbslq_f32(vdupq_n_u32(0x80000000), sign, a);
}

static inline VEC vec_exp(VEC a)
{
    return exp_f32_neon(a);
}

static inline float vec_largest(VEC a)
{
    return vmaxnmvq_f32(a);
}

/* 16 lanes, four vectors: i and i + 8, i and i + 4, i and i + 2, i and i + 1. */
static inline float vec_lane_sum(const VEC *lane)
{
    const float32x4_t four = vaddq_f32(vaddq_f32(lane[0], lane[2]), vaddq_f32(lane[1], lane[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static inline __attribute__((always_inline)) int scores_tokens(const int rows)
{
    return rows == 1 ? 16 : rows <= 3 ? 8 : 4;
}

static inline __attribute__((always_inline)) int q8_scores_tokens(const int rows)
{
    return rows == 1 ? 8 : rows <= 3 ? 4 : 2;
}

static inline __attribute__((always_inline)) int values_dims(const int rows)
{
    return rows <= 3 ? 8 : 4;
}

#include "kernels/attention/tile_simd.h"

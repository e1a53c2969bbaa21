/* tile.c - the layout of a tile, and the table of tile kernels.
 *
 * K lies transposed in blocks of tokens, so that one vector holds one dimension of several tokens:
 * the sums over head_dim of their scores then run side by side, and no kernel ever adds across a
 * vector. A block is what few rows take at a time, so that they read memory from end to end. */
#include "kernels/attention/tile.h"

#include "kernels/kernels.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    TILE_MAX_DIM = 512,
    Q8_BLOCK_BYTES = 34, /* of a row: an f16 scale, 32 integers */
};

enum status tile_check(enum kv_type type, uint32_t head_dim, struct error *error)
{
    if (kv_type_name(type) == NULL)
        return error_set(error, STATUS_UNSUPPORTED, "attention: unknown KV type %d", (int)type);
    const uint32_t block = kv_type_block(type), multiple = block < 8 ? 8 : block;
    if (head_dim == 0 || head_dim % multiple != 0 || head_dim > TILE_MAX_DIM)
        return error_set(
            error, STATUS_UNSUPPORTED,
            "attention: head_dim %u; with %s KV a multiple of %u up to %d is supported", head_dim,
            kv_type_name(type), multiple, TILE_MAX_DIM);
    return STATUS_OK;
}

size_t tile_bytes(enum kv_type type, uint32_t head_dim)
{
    return 2 * TILE_TOKENS * kv_row_bytes(type, head_dim);
}

/* One width of element at a time: the compiler sees plain copies. */
#define TILE_COPY(name, element)                                                                   \
    static void name##_write(void *tile, uint32_t head_dim, uint32_t first, uint32_t n_tokens,     \
                             const char *k, const char *v, size_t stride_bytes)                    \
    {                                                                                              \
        element *tile_k = tile, *tile_v = tile_k + (size_t)TILE_TOKENS * head_dim;                 \
        for (uint32_t i = 0; i < n_tokens; i++) {                                                  \
            const uint32_t token = first + i;                                                      \
            const element *row = (const element *)(const void *)(k + i * stride_bytes);            \
            element *column = tile_k + (size_t)(token / TILE_BLOCK) * TILE_BLOCK * head_dim +      \
                              token % TILE_BLOCK;                                                  \
            for (uint32_t d = 0; d < head_dim; d++)                                                \
                column[(size_t)d * TILE_BLOCK] = row[d];                                           \
            memcpy(tile_v + (size_t)token * head_dim, v + i * stride_bytes,                        \
                   head_dim * sizeof(element));                                                    \
        }                                                                                          \
    }                                                                                              \
    static void name##_read(const void *tile, uint32_t head_dim, uint32_t first,                   \
                            uint32_t n_tokens, char *k, char *v, size_t stride_bytes)              \
    {                                                                                              \
        const element *tile_k = tile, *tile_v = tile_k + (size_t)TILE_TOKENS * head_dim;           \
        for (uint32_t i = 0; i < n_tokens; i++) {                                                  \
            const uint32_t token = first + i;                                                      \
            element *row = (element *)(void *)(k + i * stride_bytes);                              \
            const element *column = tile_k +                                                       \
                                    (size_t)(token / TILE_BLOCK) * TILE_BLOCK * head_dim +         \
                                    token % TILE_BLOCK;                                            \
            for (uint32_t d = 0; d < head_dim; d++)                                                \
                row[d] = column[(size_t)d * TILE_BLOCK];                                           \
            memcpy(v + i * stride_bytes, tile_v + (size_t)token * head_dim,                        \
                   head_dim * sizeof(element));                                                    \
        }                                                                                          \
    }
TILE_COPY(halves, uint16_t)
TILE_COPY(floats, uint32_t)
#undef TILE_COPY

/* Where value d of a token is among K's integers. */
static size_t q8_k_at(uint32_t head_dim, uint32_t token, uint32_t d)
{
    return (size_t)(token / TILE_Q8_TOKENS) * TILE_Q8_TOKENS * head_dim +
           d / 4 * (4 * TILE_Q8_TOKENS) + token % TILE_Q8_TOKENS * 4 + d % 4;
}

/* Where the scales of block `block` are: of a K block, and of V. */
static size_t q8_k_scale_at(uint32_t head_dim, uint32_t token, uint32_t block)
{
    return (size_t)(token / TILE_Q8_TOKENS) * TILE_Q8_TOKENS * (head_dim / TILE_Q8_DIMS) +
           block * TILE_Q8_TOKENS + token % TILE_Q8_TOKENS;
}

/* A row's blocks, each an f16 scale and 32 integers, to and from their places. An integer of -128,
 * which kv_round never makes, is as good as any other. */
static void q8_write(void *tile, uint32_t head_dim, uint32_t first, uint32_t n_tokens,
                     const char *k, const char *v, size_t stride_bytes)
{
    uint8_t *tile_k = tile;
    int8_t *tile_v = (int8_t *)tile + tile_bytes(KV_Q8_0, head_dim) / 2;
    uint16_t *k_scales = (uint16_t *)(void *)(tile_k + (size_t)TILE_TOKENS * head_dim);
    uint16_t *v_scales = (uint16_t *)(void *)(tile_v + (size_t)TILE_TOKENS * head_dim);

    for (uint32_t i = 0; i < n_tokens; i++, k += stride_bytes, v += stride_bytes)
        for (uint32_t block = 0; block < head_dim / TILE_Q8_DIMS; block++) {
            const char *from_k = k + block * Q8_BLOCK_BYTES, *from_v = v + block * Q8_BLOCK_BYTES;
            const uint32_t token = first + i;
            memcpy(&k_scales[q8_k_scale_at(head_dim, token, block)], from_k, sizeof(*k_scales));
            memcpy(&v_scales[(size_t)block * TILE_TOKENS + token], from_v, sizeof(*v_scales));
            for (uint32_t d = 0; d < TILE_Q8_DIMS; d++)
                tile_k[q8_k_at(head_dim, token, block * TILE_Q8_DIMS + d)] =
                    (uint8_t)from_k[sizeof(*k_scales) + d] ^ 0x80;
            memcpy(tile_v + ((size_t)block * TILE_TOKENS + token) * TILE_Q8_DIMS,
                   from_v + sizeof(*v_scales), TILE_Q8_DIMS);
        }
}

static void q8_read(const void *tile, uint32_t head_dim, uint32_t first, uint32_t n_tokens, char *k,
                    char *v, size_t stride_bytes)
{
    const struct tile_q8 tile_k = tile_q8(tile, head_dim);
    const struct tile_q8 tile_v =
        tile_q8((const char *)tile + tile_bytes(KV_Q8_0, head_dim) / 2, head_dim);

    for (uint32_t i = 0; i < n_tokens; i++, k += stride_bytes, v += stride_bytes)
        for (uint32_t block = 0; block < head_dim / TILE_Q8_DIMS; block++) {
            char *to_k = k + block * Q8_BLOCK_BYTES, *to_v = v + block * Q8_BLOCK_BYTES;
            const uint32_t token = first + i;
            const size_t v_row = (size_t)block * TILE_TOKENS + token;
            memcpy(to_k, &tile_k.scales[q8_k_scale_at(head_dim, token, block)], sizeof(uint16_t));
            memcpy(to_v, &tile_v.scales[v_row], sizeof(uint16_t));
            for (uint32_t d = 0; d < TILE_Q8_DIMS; d++)
                to_k[sizeof(uint16_t) + d] =
                    (char)(((const uint8_t *)
                                tile_k.values)[q8_k_at(head_dim, token, block * TILE_Q8_DIMS + d)] ^
                           0x80);
            memcpy(to_v + sizeof(uint16_t), (const char *)tile_v.values + v_row * TILE_Q8_DIMS,
                   TILE_Q8_DIMS);
        }
}

void tile_write(void *tile, enum kv_type type, uint32_t head_dim, uint32_t first, uint32_t n_tokens,
                const void *k, const void *v, size_t stride_bytes)
{
    assert(first + n_tokens <= TILE_TOKENS);
    (type == KV_F32    ? floats_write
     : type == KV_Q8_0 ? q8_write
                       : halves_write)(tile, head_dim, first, n_tokens, k, v, stride_bytes);
}

void tile_read(const void *tile, enum kv_type type, uint32_t head_dim, uint32_t first,
               uint32_t n_tokens, void *k, void *v, size_t stride_bytes)
{
    assert(first + n_tokens <= TILE_TOKENS);
    (type == KV_F32    ? floats_read
     : type == KV_Q8_0 ? q8_read
                       : halves_read)(tile, head_dim, first, n_tokens, k, v, stride_bytes);
}

size_t tile_query_floats(enum kv_type type, uint32_t head_dim)
{
    return type == KV_Q8_0 ? head_dim / 4 + 2 * (head_dim / TILE_Q8_DIMS) : head_dim;
}

/* scale = max|q| / 127, kept in f32; the integers are q / scale to nearest, ties to even. */
static void query_block(const float *q, int8_t *to, float *scale, int32_t *offset)
{
    float largest = 0.0f;
    bool finite = true;
    for (int d = 0; d < TILE_Q8_DIMS; d++) {
        largest = fabsf(q[d]) > largest ? fabsf(q[d]) : largest;
        finite &= fabsf(q[d]) < INFINITY;
    }
    /* Below 2^-100 the quotient could overflow; such a query is as good as zero. */
    const bool some = finite && largest >= 0x1p-100f;
    const float inverse = some ? 127.0f / largest : 0.0f;
    int32_t sum = 0;
    for (int d = 0; d < TILE_Q8_DIMS; d++) {
        const float shifted = (some ? q[d] : 0.0f) * inverse + 0x1.8p23f; /* rounds to an integer */
        const int32_t value = (int32_t)(shifted - 0x1.8p23f);
        to[d] = (int8_t)value;
        sum += value;
    }
    *scale = finite ? (some ? largest / 127.0f : 0.0f) : NAN;
    *offset = -128 * sum;
}

void tile_query_write(enum kv_type type, uint32_t head_dim, float *query, const float *q)
{
    if (type != KV_Q8_0) {
        memcpy(query, q, head_dim * sizeof(*q));
        return;
    }
    int8_t *values = (int8_t *)query;
    float *scale = query + head_dim / 4;
    int32_t *offset = (int32_t *)(void *)(scale + head_dim / TILE_Q8_DIMS);
    for (uint32_t block = 0; block < head_dim / TILE_Q8_DIMS; block++)
        query_block(q + block * TILE_Q8_DIMS, values + block * TILE_Q8_DIMS, &scale[block],
                    &offset[block]);
}

const struct tile_kernels *tile_kernels_find(const char *name)
{
    static const struct tile_kernels *const all[] = {
        &tile_kernels_scalar,
#if defined(__x86_64__)
        &tile_kernels_avx2,
        &tile_kernels_avx512,
#elif defined(__aarch64__)
        &tile_kernels_neon,
        &tile_kernels_dotprod,
#endif
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}

const struct tile_kernels *tile_kernels_fastest(void)
{
    const struct tile_kernels *fastest = &tile_kernels_scalar;
    for (const struct kernels *const *k = kernels_all; *k != NULL; k++) /* slowest first */
        if (kernels_device_is_cpu((*k)->device) && tile_kernels_find((*k)->attention) != NULL &&
            (*k)->usable())
            fastest = tile_kernels_find((*k)->attention);
    return fastest;
}

size_t tile_scratch_floats(uint32_t head_dim)
{
    const size_t padded = (head_dim + 15) / 16 * 16;
    return 2 * TILE_TOKENS * padded + TILE_BLOCK_ROWS * (TILE_TOKENS + padded) +
           TILE_FOLDED_ROWS * TILE_TOKENS;
}

struct tile_partial tile_partial_at(float *partial, size_t n_rows, size_t head_dim, size_t row)
{
    return (struct tile_partial){.m = partial + row,
                                 .l = partial + n_rows + row,
                                 .o = partial + 2 * n_rows + row * head_dim};
}

void tile_partial_clear(struct tile_partial partial, size_t n_rows, size_t head_dim)
{
    for (size_t row = 0; row < n_rows; row++) {
        partial.m[row] = -INFINITY;
        partial.l[row] = 0.0f;
    }
    memset(partial.o, 0, n_rows * head_dim * sizeof(*partial.o));
}

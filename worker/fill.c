/* fill.c - a hash per head finds where its dimensions begin; they are a counter, hashed in turn. */
#include "worker/fill.h"

struct fill {
    const struct step *step;
    const struct fill_shape *shape;
    float *k, *v;
};

/* Steele, Lea and Flood 2014: a step of SplitMix64. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The difference of two uniform halves: a triangle of variance 1 / 6, times sqrt(6). */
static void fill_head(float *out, uint64_t state, uint32_t head_dim)
{
    const uint32_t begin = (uint32_t)state, step = (uint32_t)(state >> 32) | 1;
    for (uint32_t i = 0; i < head_dim; i++) {
        uint32_t x = begin + i * step; /* Wellons 2018, "lowbias32" */
        x = (x ^ (x >> 16)) * UINT32_C(0x7feb352d);
        x = (x ^ (x >> 15)) * UINT32_C(0x846ca68b);
        x ^= x >> 16;
        out[i] = (float)((int32_t)(x & 0xffff) - (int32_t)(x >> 16)) * 3.7375e-5f;
    }
}

static void fill_row(const struct fill *fill, uint64_t seed, uint32_t row)
{
    const struct fill_shape *shape = fill->shape;
    const uint64_t token = mix(mix(seed) + fill->step->positions[row]);
    for (uint32_t i = 0; i < shape->n_kv_heads; i++) {
        const uint64_t head =
            mix(token + ((uint64_t)shape->layer << 32) + shape->first_kv_head + i);
        const size_t at = ((size_t)row * shape->n_kv_heads + i) * shape->head_dim;
        fill_head(fill->k + at, mix(head), shape->head_dim);
        fill_head(fill->v + at, mix(head + 1), shape->head_dim);
    }
}

static void fill_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct fill *fill = context;
    const struct step *step = fill->step;
    size_t begin, end;
    thread_pool_share(step->n_rows, 1, lane, n_lanes, &begin, &end);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (segment->error.status != STATUS_OK)
            continue;
        for (uint32_t row = segment->row; row < segment->row + segment->n_tokens; row++)
            if (row >= begin && row < end)
                fill_row(fill, segment->fill_seed, row);
    }
}

void fill_rows(struct thread_pool *pool, const struct step *step, const struct fill_shape *shape,
               float *k, float *v)
{
    struct fill fill = {step, shape, k, v};
    thread_pool_run(pool, fill_lane, &fill);
}

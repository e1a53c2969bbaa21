/* tests/kernels/fake_operations.h - what a fake device (fake_device.h) computes: the CPU's, inside
 * its memory; or recorded. */
#ifndef LONGSPAN_TESTS_KERNELS_FAKE_OPERATIONS_H
#define LONGSPAN_TESTS_KERNELS_FAKE_OPERATIONS_H

#include "tests/kernels/fake_memory.h"

static inline enum status fake_workspace_reserve(struct device *device, uint32_t max_rows,
                                                 uint32_t max_columns, struct error *error)
{
    struct fake_device *f = fake_device(device);
    return f->cpu->workspace_reserve(f->inner, max_rows, max_columns, error);
}

static inline void fake_embed(struct device *device, float *out, const struct matrix *table,
                              const int32_t *tokens, uint32_t n_tokens, int32_t first)
{
    struct fake_device *f = fake_enter(device);
    const struct matrix inner = fake_inner(f, table);
    fake_inside(f, out, (size_t)n_tokens * table->n_columns * sizeof(*out), "embed");
    f->cpu->embed(f->inner, out, &inner, tokens, n_tokens, first);
    fake_leave(f);
}

static inline void fake_prepare(struct device *device, const float *x, uint32_t n_rows,
                                uint32_t n_columns, uint32_t types)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_PREPARE,
                                                .from = x,
                                                .n_rows = n_rows,
                                                .n_columns = n_columns,
                                                .types = types}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, (size_t)n_rows * n_columns * sizeof(*x), "prepare");
    f->cpu->prepare(f->inner, x, n_rows, n_columns, types);
    fake_leave(f);
}

static inline void fake_product(struct device *device, const struct product *p)
{
    if (fake_records(device,
                     (struct fake_call){
                         .what = FAKE_MATMUL, .to = p->y, .n = p->y_stride, .matrix = *p->weights}))
        return;
    struct fake_device *f = fake_enter(device);
    const struct matrix inner = fake_inner(f, p->weights);
    fake_inside(f, p->y, inner.n_rows * sizeof(*p->y), "matmul");
    f->cpu->matmul(f->inner, &(struct product){p->y, p->y_stride, &inner}, 1);
    fake_leave(f);
}

static inline void fake_matmul(struct device *device, const struct product *products, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        fake_product(device, &products[i]);
}

static inline void fake_rms_norm(struct device *device, float *y, const float *x,
                                 const float *weight, uint32_t n_rows, uint32_t n_columns,
                                 float epsilon)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_NORM,
                                                .to = y,
                                                .from = x,
                                                .weight = weight,
                                                .n_rows = n_rows,
                                                .n_columns = n_columns,
                                                .epsilon = epsilon}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, weight, n_columns * sizeof(*weight), "the weights of a norm");
    f->cpu->rms_norm(f->inner, y, x, weight, n_rows, n_columns, epsilon);
    fake_leave(f);
}

static inline void fake_turn_one(struct device *device, const struct heads *heads,
                                 const struct turn *turn)
{
    const struct recording *recording = fake_device(device)->recording;
    const size_t row = (size_t)heads->n_heads * turn->head_dim, n = turn->n_rows * row;
    fake_must(recording == NULL ||
                  (recording->positions == turn->positions && recording->n_rows == turn->n_rows),
              "a recorded rotation by other positions");
    if (fake_records(device, (struct fake_call){.what = FAKE_TURN, .heads = *heads, .turn = *turn}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, heads->x, n * sizeof(*heads->x), "heads");
    if (heads->bias != NULL)
        fake_inside(f, heads->bias, row * sizeof(*heads->bias), "a bias");
    if (heads->norm != NULL)
        fake_inside(f, heads->norm, turn->head_dim * sizeof(*heads->norm), "weights of a norm");
    if (heads->rounded != NULL)
        fake_inside(f, heads->rounded, kv_row_bytes(heads->type, n), "rounded heads");
    if (turn->rope != NULL)
        fake_inside(f, turn->rope->frequency, turn->rope->n_dims / 2 * sizeof(double),
                    "frequencies");
    f->cpu->turn(f->inner, heads, 1, turn);
    fake_leave(f);
}

static inline void fake_turn(struct device *device, const struct heads *heads, uint32_t n,
                             const struct turn *turn)
{
    for (uint32_t i = 0; i < n; i++)
        fake_turn_one(device, &heads[i], turn);
}

static inline void fake_swiglu(struct device *device, float *gate, const float *up, size_t n)
{
    if (fake_records(device,
                     (struct fake_call){.what = FAKE_SWIGLU, .to = gate, .from = up, .n = n}))
        return;
    struct fake_device *f = fake_enter(device);
    f->cpu->swiglu(f->inner, gate, up, n);
    fake_leave(f);
}

static inline void fake_geglu(struct device *device, float *gate, const float *up, size_t n)
{
    if (fake_records(device,
                     (struct fake_call){.what = FAKE_GEGLU, .to = gate, .from = up, .n = n}))
        return;
    struct fake_device *f = fake_enter(device);
    f->cpu->geglu(f->inner, gate, up, n);
    fake_leave(f);
}

static inline void fake_add_bias(struct device *device, float *x, const float *bias,
                                 uint32_t n_rows, uint32_t n_columns)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_ADD_BIAS,
                                                .to = x,
                                                .from = bias,
                                                .n_rows = n_rows,
                                                .n_columns = n_columns}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, bias, n_columns * sizeof(*bias), "a bias");
    f->cpu->add_bias(f->inner, x, bias, n_rows, n_columns);
    fake_leave(f);
}

static inline void fake_scale(struct device *device, float *x, float factor, size_t n)
{
    if (fake_records(device,
                     (struct fake_call){.what = FAKE_SCALE, .to = x, .factor = factor, .n = n}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, n * sizeof(*x), "scale of elsewhere");
    f->cpu->scale(f->inner, x, factor, n);
    fake_leave(f);
}

static inline void fake_soft_cap(struct device *device, float *x, float cap, size_t n)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, n * sizeof(*x), "soft_cap of elsewhere");
    f->cpu->soft_cap(f->inner, x, cap, n);
    fake_leave(f);
}

static inline void fake_add(struct device *device, float *x, const float *y, size_t n)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_ADD, .to = x, .from = y, .n = n}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, n * sizeof(*x), "add to elsewhere");
    fake_inside(f, y, n * sizeof(*y), "add from elsewhere");
    f->cpu->add(f->inner, x, y, n);
    fake_leave(f);
}

static inline void fake_gather(struct device *device, float *out, const float *x,
                               const uint32_t *rows, uint32_t n_rows, uint32_t n_columns)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, out, (size_t)n_rows * n_columns * sizeof(*out), "gathered rows");
    for (uint32_t i = 0; i < n_rows; i++)
        fake_inside(f, x + (size_t)rows[i] * n_columns, n_columns * sizeof(*x), "rows to gather");
    f->cpu->gather(f->inner, out, x, rows, n_rows, n_columns);
    fake_leave(f);
}

static inline void fake_multiply_groups(struct device *device, const float *x,
                                        const struct row_groups *groups, uint32_t n_columns,
                                        const struct group_product *products, uint32_t n_products)
{
    enum { MOST_PRODUCTS = 2 };
    struct fake_device *f = fake_enter(device);
    const uint32_t n = groups->n, n_rows = n > 0 ? groups->end[n - 1] : 0;
    struct group_product inner[MOST_PRODUCTS];
    struct matrix *matrices = calloc((size_t)n * n_products + 1, sizeof(*matrices));
    const struct matrix **weights = calloc((size_t)n * n_products + 1, sizeof(*weights));
    fake_must(n_products <= MOST_PRODUCTS && matrices != NULL && weights != NULL, "groups");
    fake_inside(f, x, (size_t)n_rows * n_columns * sizeof(*x), "rows of groups");
    for (uint32_t i = 0; i < n_products; i++) {
        inner[i] = products[i];
        inner[i].weights = weights + (size_t)i * n;
        for (uint32_t g = 0; g < n; g++) {
            matrices[(size_t)i * n + g] = fake_inner(f, products[i].weights[g]);
            weights[(size_t)i * n + g] = &matrices[(size_t)i * n + g];
        }
        fake_inside(f, products[i].y, (size_t)n_rows * products[i].y_stride * sizeof(float),
                    "products of groups");
    }
    f->cpu->multiply_groups(f->inner, x, groups, n_columns, inner, n_products);
    free(matrices);
    free(weights);
    fake_leave(f);
}

static inline void fake_combine(struct device *device, float *out, const float *y,
                                const struct combine_terms *terms, uint32_t n_rows,
                                uint32_t n_columns)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, out, (size_t)n_rows * n_columns * sizeof(*out), "combined rows");
    for (uint32_t i = 0; n_rows > 0 && i < terms->end[(size_t)n_rows * terms->n_ranges - 1]; i++)
        fake_inside(f, y + (size_t)terms->row[i] * n_columns, n_columns * sizeof(*y), "a term");
    f->cpu->combine(f->inner, out, y, terms, n_rows, n_columns);
    fake_leave(f);
}

static inline void fake_candidates(struct device *device, struct candidates_sum *sums,
                                   struct candidate *best, size_t stride, const float *logits,
                                   uint32_t n_rows, uint32_t n, int32_t first, const uint32_t *k)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, logits, (size_t)n_rows * n * sizeof(*logits), "logits from elsewhere");
    f->cpu->candidates(f->inner, sums, best, stride, logits, n_rows, n, first, k);
    fake_remember(f, sums, sums, n_rows * sizeof(*sums), true);
    memset(sums, FAKE_POISON, n_rows * sizeof(*sums));
    if (stride > 0) {
        fake_remember(f, best, best, n_rows * stride * sizeof(*best), true);
        memset(best, FAKE_POISON, n_rows * stride * sizeof(*best));
    }
    fake_leave(f);
}

#endif

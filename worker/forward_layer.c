/* forward_layer.c - the two halves of a layer: before its attention and behind it.
 *
 * The model's last layer makes k and v of all rows, since tokens to come attend to them. Everything
 * else there, from q on, is made of the rows alone that are needed behind it (needed_rows.h): a
 * chunk in the middle of a prompt has none. What a tensor group sums are the same rows on all
 * ranks, which see the same step; rows of segments that have failed on one of them are among these,
 * as zeros. */
#include "worker/forward_state.h"

void forward_prepare(struct forward *f, const float *x, uint32_t n_rows, uint32_t n_columns,
                     const struct matrix *const *used, size_t n_used)
{
    uint32_t types = 0;
    for (size_t i = 0; i < n_used; i++)
        types |= 1u << used[i]->type;
    f->kernels->prepare(f->device, x, n_rows, n_columns, types);
}

/* Of a step: all, or those that are needed behind the model's last layer. */
struct rows {
    uint32_t n;
    const uint32_t *positions;
};

static struct rows all_rows(const struct step *step)
{
    return (struct rows){step->n_rows, step->positions};
}

static struct rows needed_rows(const struct step *step)
{
    return (struct rows){step->n_needed, step->needed_positions};
}

/* Whether the layer is the one from whose attention on there are needed rows only. */
static bool is_narrow(const struct forward_place *place, uint32_t layer)
{
    return place->narrows && layer + 1 == place->f->shard->n_layers;
}

/* Where the model has it: adds a bias to n rows. */
static void add_bias(struct forward *f, float *x, const struct matrix *bias, uint32_t n)
{
    if (bias->data != NULL)
        f->kernels->add_bias(f->device, x, bias->data, n, bias->n_columns);
}

/* Likewise: norms n rows in place. */
static void norm(struct forward *f, float *x, const struct matrix *weights, size_t n)
{
    if (weights->data != NULL)
        f->kernels->rms_norm(f->device, x, x, weights->data, (uint32_t)n, weights->n_columns,
                             f->epsilon);
}

/* Norms rows of the stream and prepares them for products with those matrices. */
static void prepare_rows(const struct forward_place *place, uint32_t n,
                         const struct matrix *const *used, size_t n_used)
{
    struct forward *f = place->f;
    const uint64_t at = trace_begin(f->config.trace);
    f->kernels->rms_norm(f->device, f->activations.normed, place->x,
                         f->shard->layers[place->layer].attn_norm.data, n, f->hidden, f->epsilon);
    forward_prepare(f, f->activations.normed, n, f->hidden, used, n_used);
    trace_span(f->config.trace, "norm", at);
}

/* Of rows that are prepared: q, or k and v, or all three, which take less time together. */
static void project_rows(const struct forward_place *place, const struct rows *rows, bool query,
                         bool key_value)
{
    struct forward *f = place->f;
    const struct shard_layer *weights = &f->shard->layers[place->layer];
    const struct attention_kv kv = attention_kv(f->config.attention);
    const size_t kv_row = (size_t)f->n_kv_heads * f->head_dim;
    float *q = f->activations.query, *k = f->activations.key, *v = f->activations.value;
    struct product products[3];
    struct heads heads[3];
    uint32_t n = 0;
    if (query) {
        heads[n] = (struct heads){.x = q,
                                  .n_heads = f->n_heads,
                                  .bias = weights->q_bias.data,
                                  .norm = weights->q_norm.data,
                                  .turn = true};
        products[n++] = (struct product){q, (size_t)f->n_heads * f->head_dim, &weights->q};
    }
    if (key_value) {
        heads[n] = (struct heads){.x = k,
                                  .n_heads = f->n_kv_heads,
                                  .bias = weights->k_bias.data,
                                  .norm = weights->k_norm.data,
                                  .turn = true,
                                  .rounded = kv.k,
                                  .type = kv.type};
        products[n++] = (struct product){k, kv_row, &weights->k};
        heads[n] = (struct heads){.x = v,
                                  .n_heads = f->n_kv_heads,
                                  .bias = weights->v_bias.data,
                                  .rounded = kv.v,
                                  .type = kv.type};
        products[n++] = (struct product){v, kv_row, &weights->v};
    }
    uint64_t at = trace_begin(f->config.trace);
    f->kernels->matmul(f->device, products, n);
    at = trace_span(f->config.trace, !key_value ? "q" : !query ? "k, v" : "q, k, v", at);
    const struct turn turn = {.n_rows = rows->n,
                              .head_dim = f->head_dim,
                              .positions = rows->positions,
                              .rope = weights->rope,
                              .epsilon = f->epsilon};
    f->kernels->turn(f->device, heads, n, &turn);
    trace_span(f->config.trace, "rope", at);
}

/* Where remote holders take part; q of a layer is there. */
static void ask_early(const struct forward_place *place)
{
    struct forward *f = place->f;
    const uint64_t at = trace_begin(f->config.trace);
    attention_query(f->config.attention, f->shard->first_layer + place->layer,
                    f->activations.query);
    trace_span(f->config.trace, "query", at);
}

/* q, k and v of all rows. */
static void project(const struct forward_place *place)
{
    const struct shard_layer *weights = &place->f->shard->layers[place->layer];
    const struct matrix *const used[] = {&weights->k, &weights->v, &weights->q};
    const struct rows all = all_rows(place->step);
    prepare_rows(place, all.n, used, 3);
    if (place->asks_early) {
        project_rows(place, &all, true, false);
        ask_early(place);
        project_rows(place, &all, false, true);
    } else {
        project_rows(place, &all, true, true);
    }
}

/* k and v of all rows, q of the needed ones. */
static void project_needed(const struct forward_place *place)
{
    struct forward *f = place->f;
    const struct shard_layer *weights = &f->shard->layers[place->layer];
    const struct matrix *const used[] = {&weights->k, &weights->v};
    const struct rows all = all_rows(place->step), needed = needed_rows(place->step);
    prepare_rows(place, all.n, used, 2);
    project_rows(place, &all, false, true);
    needed_rows_gather(&f->rows, place->step, place->x);
    if (needed.n > 0) {
        prepare_rows(place, needed.n, (const struct matrix *[]){&weights->q}, 1);
        project_rows(place, &needed, true, false);
    }
    if (place->asks_early)
        ask_early(place);
}

void forward_begin_layer(const struct forward_place *place)
{
    if (is_narrow(place, place->layer))
        project_needed(place);
    else
        project(place);
}

/* What the ranks of a group have in `product`, summed, goes into the stream. The bias is added to
 * the sum, once. */
static enum status add_product(struct forward *f, const struct matrix *bias,
                               const struct matrix *post_norm, uint32_t n, float *x,
                               struct error *error)
{
    float *product = f->activations.product;
    const enum status status = group_sum(f->config.group, product, (size_t)n * f->hidden, error);
    if (status != STATUS_OK)
        return status;
    const uint64_t at = trace_begin(f->config.trace);
    add_bias(f, product, bias, n);
    norm(f, product, post_norm, n);
    if (f->shard->hparams.residual_scale != 1)
        f->kernels->scale(f->device, product, f->shard->hparams.residual_scale,
                          (size_t)n * f->hidden);
    f->kernels->add(f->device, x, product, (size_t)n * f->hidden);
    trace_span(f->config.trace, "add", at);
    return STATUS_OK;
}

static enum status add_attended(struct forward *f, const struct shard_layer *weights, uint32_t n,
                                float *x, struct error *error)
{
    struct trace_track *trace = f->config.trace;
    const uint64_t at = trace_begin(trace);
    forward_prepare(f, f->activations.attended, n, f->n_heads * f->head_dim,
                    (const struct matrix *[]){&weights->attn_output}, 1);
    const struct product product = {f->activations.product, f->hidden, &weights->attn_output};
    f->kernels->matmul(f->device, &product, 1);
    trace_span(trace, "output", at);
    return add_product(f, &weights->output_bias, &weights->attn_post_norm, n, x, error);
}

/* Rows [first, first + n) of the feed-forward part: from normed to product, in place. */
static void feed_forward_rows(struct forward *f, const struct shard_layer *weights, size_t first,
                              uint32_t n)
{
    const struct kernels *kernels = f->kernels;
    struct device *device = f->device;
    float *gate = f->activations.gate, *up = f->activations.up;
    struct trace_track *trace = f->config.trace;
    uint64_t at = trace_begin(trace);

    forward_prepare(f, f->activations.normed + first * f->hidden, n, f->hidden,
                    (const struct matrix *[]){&weights->gate, &weights->up}, 2);
    at = trace_span(trace, "norm", at);
    const struct product gate_up[] = {{gate, f->ffn, &weights->gate}, {up, f->ffn, &weights->up}};
    kernels->matmul(device, gate_up, 2);
    at = trace_span(trace, "gate, up", at);
    f->activate(device, gate, up, (size_t)n * f->ffn);
    forward_prepare(f, gate, n, f->ffn, (const struct matrix *[]){&weights->down}, 1);
    at = trace_span(trace, "gate", at);
    float *product = f->activations.product + first * f->hidden;
    kernels->matmul(device, &(struct product){product, f->hidden, &weights->down}, 1);
    trace_span(trace, "down", at);
}

static void feed_forward_blocks(struct forward *f, const struct shard_layer *weights, uint32_t n)
{
    const uint32_t most = f->activations.block_rows, n_blocks = (n + most - 1) / most;
    for (uint32_t i = 0, first = 0; i < n_blocks; i++) {
        const uint32_t n_rows = n / n_blocks + (i < n % n_blocks);
        feed_forward_rows(f, weights, first, n_rows);
        first += n_rows;
    }
}

static enum status feed_forward(struct forward *f, const struct shard_layer *weights, uint32_t n,
                                float *x, struct error *error)
{
    static const struct matrix no_bias;
    const uint64_t at = trace_begin(f->config.trace);

    f->kernels->rms_norm(f->device, f->activations.normed, x, weights->ffn_norm.data, n, f->hidden,
                         f->epsilon);
    trace_span(f->config.trace, "norm", at);
    enum status status = STATUS_OK;
    if (f->experts != NULL)
        status = experts_run(f->experts, weights, f->activations.normed, n, f->activations.product,
                             error);
    else
        feed_forward_blocks(f, weights, n);
    if (status != STATUS_OK)
        return status;
    return add_product(f, &no_bias, &weights->ffn_post_norm, n, x, error);
}

enum status forward_end_layer(const struct forward_place *place, struct error *error)
{
    struct forward *f = place->f;
    const uint32_t layer = place->layer - 1;
    const struct shard_layer *weights = &f->shard->layers[layer];
    const uint32_t n = is_narrow(place, layer) ? place->step->n_needed : place->step->n_rows;
    if (n == 0)
        return STATUS_OK; /* on all ranks of the stage alike: no sum is missed */
    const enum status status = add_attended(f, weights, n, place->x, error);
    return status == STATUS_OK ? feed_forward(f, weights, n, place->x, error) : status;
}

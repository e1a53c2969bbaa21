/* forward.c - the layer loop. Two residual streams: one may still leave while the next step runs.
 *
 * The loop goes from attention to attention: what lies between two of them, the end of one layer and
 * the beginning of the next, is one piece, which a device may have recorded (recordings.h). Where attention
 * can be prepared (attention_kv_memory), the piece begins with its launch: then a step is nothing but
 * such pieces, and what the host does for the next layer's attention while the device is at one. */
#include "worker/forward.h"

#include "sys/clock.h"
#include "worker/activations.h"
#include "worker/experts.h"
#include "worker/fill.h"
#include "worker/recordings.h"

#include <stdlib.h>
#include <string.h>

struct forward {
    struct forward_config config;
    const struct kernels *kernels;
    struct device *device;
    const struct shard *shard;
    uint32_t hidden, head_dim;
    uint32_t n_kv_heads, n_heads, ffn, vocab; /* of this rank */
    float epsilon;                            /* of norms */
    void (*gate)(struct device *device, float *gate, const float *up, size_t n);

    struct activations activations;
    struct experts *experts; /* NULL: the model has none */
    struct recordings *recordings;
    uint32_t parity;  /* the stream of this step */
    float *filled[2]; /* host memory: k and v of a step that fills */

    uint64_t compute_us;
};

/* k and v of a step that fills are made on the host: where the activations are, or beside them. */
static enum status take_filled(struct forward *f, uint32_t max_rows, struct error *error)
{
    float *const key_value[2] = {f->activations.key, f->activations.value};
    enum status status = STATUS_OK;
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        void *memory = key_value[i];
        if (!f->kernels->host_memory)
            status = f->kernels->host_take(
                f->device, &memory, (size_t)max_rows * f->n_kv_heads * f->head_dim * sizeof(float),
                error);
        if (status == STATUS_OK)
            f->filled[i] = memory;
    }
    return status;
}

static enum status take_memory(struct forward *f, uint32_t max_rows, struct error *error)
{
    const struct activation_shape shape =
        activation_shape_of(&f->shard->hparams, &f->shard->part, max_rows, f->shard->last);
    enum status status = activations_open(&f->activations, &shape, f->kernels, f->device, error);
    if (status == STATUS_OK)
        status = f->kernels->workspace_reserve(
            f->device, max_rows, shape.query > f->hidden ? shape.query : f->hidden, error);
    if (status == STATUS_OK)
        status = f->kernels->workspace_reserve(f->device, f->activations.block_rows, f->ffn, error);
    if (status == STATUS_OK)
        status = take_filled(f, max_rows, error);
    return status;
}

static enum status take_experts(struct forward *f, uint32_t max_rows, struct error *error)
{
    const struct hparams *h = &f->shard->hparams;
    const struct experts_config config = {.routing = {.max_rows = max_rows,
                                                      .n_experts = h->n_experts,
                                                      .n_used = h->n_experts_used,
                                                      .first = f->shard->part.expert_begin,
                                                      .end = f->shard->part.expert_end,
                                                      .normalise = h->experts_normalised},
                                          .hidden = f->hidden,
                                          .ffn = h->ffn_expert,
                                          .gate = f->gate,
                                          .kernels = f->kernels,
                                          .device = f->device,
                                          .trace = f->config.trace};
    return h->n_experts > 0 ? experts_create(&f->experts, &config, error) : STATUS_OK;
}

enum status forward_create(struct forward **forward, const struct forward_config *config,
                           struct error *error)
{
    struct forward *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return error_set(error, STATUS_NO_MEMORY, "forward: no memory");
    const struct shard *shard = config->shard;
    const struct hparams *h = &shard->hparams;
    f->config = *config;
    f->shard = shard;
    f->kernels = shard->kernels;
    f->device = shard->device;
    f->hidden = h->hidden;
    f->head_dim = h->head_dim;
    f->n_kv_heads = shard->part.kv_head_end - shard->part.kv_head_begin;
    f->n_heads = f->n_kv_heads * (h->n_heads / h->n_kv_heads);
    f->ffn = shard->part.ffn_end - shard->part.ffn_begin;
    f->vocab = shard->part.vocab_end - shard->part.vocab_begin;
    f->epsilon = h->rms_eps;
    f->gate = architecture_traits(h->architecture)->activation == ACTIVATION_GELU
                  ? f->kernels->geglu
                  : f->kernels->swiglu;
    enum status status = take_memory(f, config->max_rows, error);
    if (status == STATUS_OK)
        status = take_experts(f, config->max_rows, error);
    if (status == STATUS_OK)
        status =
            recordings_create(&f->recordings, f->kernels, f->device, shard->n_layers + 1, error);
    if (status != STATUS_OK) {
        forward_destroy(f);
        return status;
    }
    *forward = f;
    return STATUS_OK;
}

enum status forward_records_wanted(enum forward_records *records, struct error *error)
{
    static const char *const words[] = {[FORWARD_RECORDS_NOTHING] = "nothing",
                                        [FORWARD_RECORDS_PRODUCTS] = "products",
                                        [FORWARD_RECORDS_ALL] = "all"};
    const char *text = getenv("LONGSPAN_RECORD");
    if (text == NULL)
        text = words[FORWARD_RECORDS_PRODUCTS];
    for (int i = 0; i < (int)(sizeof(words) / sizeof(words[0])); i++)
        if (strcmp(text, words[i]) == 0) {
            *records = (enum forward_records)i;
            return STATUS_OK;
        }
    return error_set(error, STATUS_INVALID, "LONGSPAN_RECORD=%s: nothing, products or all", text);
}

void forward_destroy(struct forward *forward)
{
    if (forward == NULL)
        return;
    for (int i = 0; i < 2 && !forward->kernels->host_memory; i++)
        forward->kernels->host_give(forward->device, forward->filled[i]);
    recordings_destroy(forward->recordings);
    experts_destroy(forward->experts);
    activations_close(&forward->activations);
    free(forward);
}

uint64_t forward_working_bytes(const struct forward *forward)
{
    return forward->activations.bytes + experts_bytes(forward->experts);
}

uint64_t forward_replayed(const struct forward *forward)
{
    return recordings_replayed(forward->recordings);
}

uint64_t forward_compute_us(const struct forward *forward)
{
    return forward->compute_us;
}

/* ---- layers ---------------------------------------------------------------------------------- */

static void prepare(struct forward *f, const float *x, uint32_t n_rows, uint32_t n_columns,
                    const struct matrix *const *used, size_t n_used)
{
    uint32_t types = 0;
    for (size_t i = 0; i < n_used; i++)
        types |= 1u << used[i]->type;
    f->kernels->prepare(f->device, x, n_rows, n_columns, types);
}

/* Where a step is: at the attention of a layer, or before the first, or behind the last one. */
struct place {
    struct forward *f;
    const struct step *step;
    float *x;
    uint32_t layer;  /* of this rank: whose attention comes next */
    bool asks_early; /* q leaves as soon as it is made */
    bool prepares;   /* attention is prepared, and launched where pieces begin */
};

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

/* What comes between a product of q or k, rows of n_heads, and attention. */
static void turn(const struct place *place, float *x, const struct matrix *bias,
                 const struct matrix *weights, uint32_t n_heads)
{
    struct forward *f = place->f;
    const uint32_t n = place->step->n_rows;
    add_bias(f, x, bias, n);
    norm(f, x, weights, (size_t)n * n_heads);
    const struct rope *rope = f->shard->layers[place->layer].rope;
    if (rope != NULL)
        f->kernels->rotate(f->device, x, place->step->positions, n, n_heads, f->head_dim, rope);
}

/* q, k and v of the layer. */
static void project(const struct place *place)
{
    struct forward *f = place->f;
    const struct kernels *kernels = f->kernels;
    struct device *device = f->device;
    const struct shard_layer *weights = &f->shard->layers[place->layer];
    const uint32_t n = place->step->n_rows;
    float *q = f->activations.query, *k = f->activations.key, *v = f->activations.value;
    struct trace_track *trace = f->config.trace;
    uint64_t at = trace_begin(trace);

    kernels->rms_norm(device, f->activations.normed, place->x, weights->attn_norm.data, n,
                      f->hidden, f->epsilon);
    prepare(f, f->activations.normed, n, f->hidden,
            (const struct matrix *[]){&weights->q, &weights->k, &weights->v}, 3);
    at = trace_span(trace, "norm", at);
    kernels->matmul(device, q, (size_t)f->n_heads * f->head_dim, &weights->q);
    at = trace_span(trace, "q", at);
    turn(place, q, &weights->q_bias, &weights->q_norm, f->n_heads);
    at = trace_span(trace, "rope", at);
    if (place->asks_early)
        attention_query(f->config.attention, f->shard->first_layer + place->layer, q);
    at = trace_span(trace, "query", at);

    kernels->matmul(device, k, (size_t)f->n_kv_heads * f->head_dim, &weights->k);
    kernels->matmul(device, v, (size_t)f->n_kv_heads * f->head_dim, &weights->v);
    at = trace_span(trace, "k, v", at);
    add_bias(f, v, &weights->v_bias, n);
    turn(place, k, &weights->k_bias, &weights->k_norm, f->n_kv_heads);
    trace_span(trace, "rope", at);
}

static void attend(const struct place *place)
{
    struct forward *f = place->f;
    struct attention *attention = f->config.attention;
    const uint32_t layer = f->shard->first_layer + place->layer;
    if (!place->asks_early)
        attention_query(attention, layer, f->activations.query);
    attention_append(attention, layer, f->activations.key, f->activations.value);
    attention_finish(attention, layer, f->activations.attended);
}

/* What the ranks of a group have in `product`, summed, goes into the stream. The bias is added to the
 * sum, once. */
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
    prepare(f, f->activations.attended, n, f->n_heads * f->head_dim,
            (const struct matrix *[]){&weights->attn_output}, 1);
    f->kernels->matmul(f->device, f->activations.product, f->hidden, &weights->attn_output);
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

    prepare(f, f->activations.normed + first * f->hidden, n, f->hidden,
            (const struct matrix *[]){&weights->gate, &weights->up}, 2);
    at = trace_span(trace, "norm", at);
    kernels->matmul(device, gate, f->ffn, &weights->gate);
    kernels->matmul(device, up, f->ffn, &weights->up);
    at = trace_span(trace, "gate, up", at);
    f->gate(device, gate, up, (size_t)n * f->ffn);
    prepare(f, gate, n, f->ffn, (const struct matrix *[]){&weights->down}, 1);
    at = trace_span(trace, "gate", at);
    kernels->matmul(device, f->activations.product + first * f->hidden, f->hidden, &weights->down);
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

/* From one attention to the next. */
static enum status between_attentions(void *context, struct error *error)
{
    const struct place *place = context;
    struct forward *f = place->f;
    enum status status = STATUS_OK;
    if (place->layer > 0 && place->prepares)
        status = attention_launch(f->config.attention, f->shard->first_layer + place->layer - 1,
                                  f->activations.attended, error);
    if (place->layer > 0 && status == STATUS_OK) {
        const struct shard_layer *before = &f->shard->layers[place->layer - 1];
        status = add_attended(f, before, place->step->n_rows, place->x, error);
        if (status == STATUS_OK)
            status = feed_forward(f, before, place->step->n_rows, place->x, error);
    }
    if (status == STATUS_OK && place->layer < f->shard->n_layers) {
        trace_layer(f->config.trace, f->shard->first_layer + place->layer);
        project(place);
        if (place->prepares)
            attention_round(f->config.attention, f->activations.key, f->activations.value);
    }
    return status;
}

/* Attention of the layer that is next, or what the host has to do for it. Returns the kind of the piece
 * that follows. */
static uint64_t attend_or_prepare(const struct place *place)
{
    struct forward *f = place->f;
    uint64_t kind = 0;
    if (!place->prepares)
        attend(place);
    else if (!attention_prepare(f->config.attention, f->shard->first_layer + place->layer,
                                f->activations.query, f->activations.attended, &kind))
        kind = RECORDINGS_NOT;
    return kind;
}

/* ---- both ends of a stage -------------------------------------------------------------------- */

/* The last row of each segment that wants something; rows that follow each other, as those of a
 * step that only decodes, are one copy. Returns how many there are. */
static uint32_t copy_wanted(struct forward *f, const struct step *step, float *to, const float *x)
{
    size_t first = 0, n = 0; /* rows of x that are still to be copied */
    uint32_t n_copied = 0;
    for (uint32_t i = 0; i <= step->n_segments; i++) {
        const struct step_segment *segment = i < step->n_segments ? &step->segments[i] : NULL;
        if (segment != NULL &&
            (segment->error.status != STATUS_OK || segment->want == STEP_WANT_NOTHING))
            continue;
        const size_t row = segment != NULL ? segment->row + segment->n_tokens - 1 : SIZE_MAX;
        if (n > 0 && row == first + n) {
            n++;
            continue;
        }
        f->kernels->copy(f->device, to + (size_t)n_copied * f->hidden, x + first * f->hidden,
                         n * f->hidden * sizeof(float));
        n_copied += (uint32_t)n;
        first = row;
        n = 1;
    }
    return n_copied;
}

/* From rows of the stream, or of a copy of them, to logits: results_logits has memory for so many. */
static void project_logits(struct forward *f, const float *rows, uint32_t n, float *logits)
{
    const struct matrix *output = shard_output(f->shard);
    float *normed = f->activations.normed;
    f->kernels->rms_norm(f->device, normed, rows, f->shard->output_norm.data, n, f->hidden,
                         f->epsilon);
    prepare(f, normed, n, f->hidden, &output, 1);
    f->kernels->matmul(f->device, logits, f->vocab, output);
    const struct hparams *h = &f->shard->hparams;
    if (h->logit_scale != 1)
        f->kernels->scale(f->device, logits, 1 / h->logit_scale, (size_t)n * f->vocab);
    if (h->logit_cap > 0)
        f->kernels->soft_cap(f->device, logits, h->logit_cap, (size_t)n * f->vocab);
}

/* Rows of prompts whose next tokens are to be scored, some at a time. */
static enum status score_rows(struct forward *f, const struct step *step, const float *x,
                              struct error *error)
{
    enum status status = STATUS_OK;
    uint32_t n_scored = 0;
    for (uint32_t i = 0; i < step->n_segments && status == STATUS_OK; i++) {
        const struct step_segment *segment = &step->segments[i];
        uint32_t n;
        for (uint32_t row = 0; status == STATUS_OK && row < segment->n_scored; row += n) {
            float *logits;
            n = segment->n_scored - row;
            n = n < RESULTS_SCORED_ROWS ? n : RESULTS_SCORED_ROWS;
            status = results_logits(f->config.results, n, &logits, error);
            if (status != STATUS_OK)
                break;
            project_logits(f, x + (size_t)(segment->row + row) * f->hidden, n, logits);
            status = results_score(f->config.results, n_scored, n, error);
            n_scored += n;
        }
    }
    return status;
}

/* Logits are needed only for rows that are scored, and for the last row of each segment that wants
 * something; a row's bits do not depend on the other rows, so the rest is left out. */
static enum status make_logits(struct forward *f, const struct step *step, const float *x,
                               struct error *error)
{
    struct results *results = f->config.results;
    if (step->n_wanted == 0 && step->n_scored == 0)
        return STATUS_OK;
    uint64_t at = trace_begin(f->config.trace);
    float *last = f->activations.product, *logits;
    enum status status = results_begin(results, step, error);
    if (status == STATUS_OK)
        status = score_rows(f, step, x, error);
    if (status == STATUS_OK && step->n_wanted > 0)
        status = results_logits(results, step->n_wanted, &logits, error);
    if (status != STATUS_OK)
        return status;
    if (step->n_wanted > 0)
        project_logits(f, last, copy_wanted(f, step, last, x), logits);
    at = trace_span(f->config.trace, "logits", at);
    status = results_make(results, step, error);
    trace_span(f->config.trace, "results", at);
    return status;
}

static enum status run_layers(struct forward *f, const struct step *step, float *x,
                              struct error *error)
{
    struct trace_track *trace = f->config.trace;
    uint64_t at = trace_begin(trace);
    attention_begin_step(f->config.attention, step->number, step->attention, step->n_attention);
    trace_span(trace, "begin", at);
    struct place place = {
        .f = f, .step = step, .x = x, .asks_early = attention_is_elsewhere(f->config.attention)};
    const bool alone = !place.asks_early && group_tensor(f->config.group) == 1 &&
                       f->experts == NULL && f->config.records != FORWARD_RECORDS_NOTHING;
    struct recordings_shape shape = {.n_rows = step->n_rows, .stream = x};
    if (alone && f->config.records == FORWARD_RECORDS_ALL)
        shape.kv = attention_kv_memory(f->config.attention);
    place.prepares = shape.kv != NULL;
    recordings_begin(f->recordings, alone, step->positions, &shape);
    enum status status = recordings_run(f->recordings, 0, 0, between_attentions, &place, error);
    while (status == STATUS_OK && place.layer < f->shard->n_layers) {
        const uint64_t kind = attend_or_prepare(&place);
        place.layer++;
        status =
            recordings_run(f->recordings, place.layer, kind, between_attentions, &place, error);
        at = trace_begin(trace);
        if (status == STATUS_OK)
            status = group_progress(f->config.group, error);
        trace_span(trace, "progress", at);
    }
    trace_layer(trace, TRACE_NO_LAYER);
    at = trace_begin(trace);
    attention_end_step(f->config.attention);
    trace_span(trace, "end", at);
    return status;
}

/* In place of layers, and of what comes before and after them: no stage waits for another. */
static enum status fill_layers(struct forward *f, const struct step *step, struct error *error)
{
    struct attention *attention = f->config.attention;
    float *k = f->activations.key, *v = f->activations.value;
    const size_t bytes = (size_t)step->n_rows * f->n_kv_heads * f->head_dim * sizeof(float);
    enum status status = STATUS_OK;
    attention_begin_step(attention, step->number, step->attention, step->n_attention);
    for (uint32_t i = 0; i < f->shard->n_layers && status == STATUS_OK; i++) {
        const struct fill_shape shape = {.layer = f->shard->first_layer + i,
                                         .first_kv_head = f->shard->part.kv_head_begin,
                                         .n_kv_heads = f->n_kv_heads,
                                         .head_dim = f->head_dim};
        attention_query(attention, shape.layer, f->activations.query);
        status = f->kernels->finish(f->device, error); /* the layer before has been uploaded */
        if (status != STATUS_OK)
            break;
        fill_rows(f->config.pool, step, &shape, f->filled[0], f->filled[1]);
        f->kernels->upload(f->device, k, f->filled[0], bytes);
        f->kernels->upload(f->device, v, f->filled[1], bytes);
        attention_append(attention, shape.layer, k, v);
        attention_finish(attention, shape.layer, f->activations.attended);
        status = group_progress(f->config.group, error);
    }
    attention_end_step(attention);
    return status;
}

static enum status enter(struct forward *f, const struct step *step, float *x, struct error *error)
{
    const size_t n = (size_t)step->n_rows * f->hidden;
    if (!f->shard->first)
        return group_receive_rows(f->config.group, x, n, error);
    const uint64_t at = trace_begin(f->config.trace);
    f->kernels->embed(f->device, x, &f->shard->token_embd, step->tokens, step->n_rows,
                      (int32_t)f->shard->part.vocab_begin);
    trace_span(f->config.trace, "embed", at);
    const float scale = f->shard->hparams.embedding_scale;
    const enum status status =
        group_sum(f->config.group, x, n, error); /* zeros from those who lack the token */
    if (status == STATUS_OK && scale != 1)
        f->kernels->scale(f->device, x, scale, n);
    return status;
}

enum status forward_run(struct forward *forward, const struct step *step, struct error *error)
{
    struct forward *f = forward;
    results_clear(f->config.results);
    f->compute_us = 0;
    if (step->n_rows == 0)
        return STATUS_OK; /* on all ranks alike */
    uint64_t began_us = clock_us();
    if (step->fill) {
        const enum status filled = fill_layers(f, step, error);
        f->compute_us = clock_us() - began_us;
        return filled;
    }

    const uint32_t parity = f->parity;
    f->parity ^= 1;
    float *x = f->activations.stream[parity];
    enum status status = group_rows_sent(f->config.group, parity, error);
    began_us = clock_us();
    if (status == STATUS_OK)
        status = enter(f, step, x, error);
    if (!f->shard->first)
        began_us = clock_us();
    if (status == STATUS_OK)
        status = run_layers(f, step, x, error);
    if (status == STATUS_OK)
        status = f->shard->last ? make_logits(f, step, x, error)
                                : group_send_rows(f->config.group, x,
                                                  (size_t)step->n_rows * f->hidden, parity, error);
    f->compute_us = clock_us() - began_us;
    return status;
}

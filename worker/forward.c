/* forward.c - the layer loop. Two residual streams: one may still leave while the next step runs.
 *
 * The loop goes from attention to attention: what lies between two of them, the end of one layer
 * and the beginning of the next, is one piece, which a device may have recorded (recordings.h).
 * Where attention can be prepared (attention_may_prepare), the piece begins with its launch: then a
 * step is nothing but such pieces, and what the host does for the next layer's attention while the
 * device is at one. */
#include "worker/forward.h"

#include "sys/clock.h"
#include "worker/fill.h"
#include "worker/forward_state.h"

#include <stdlib.h>
#include <string.h>

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
                                          .activate = f->activate,
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
    f->rows = (struct needed_rows){f->kernels, f->device, f->hidden};
    f->activate = architecture_traits(h->architecture)->activation == ACTIVATION_GELU
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

/* ---- from attention to attention ------------------------------------------------------------- */

static void attend(const struct forward_place *place)
{
    struct forward *f = place->f;
    struct attention *attention = f->config.attention;
    const uint32_t layer = f->shard->first_layer + place->layer;
    if (!place->asks_early)
        attention_query(attention, layer, f->activations.query);
    attention_append(attention, layer);
    attention_finish(attention, layer, f->activations.attended);
}

/* From one attention to the next. */
static enum status between_attentions(void *context, struct error *error)
{
    const struct forward_place *place = context;
    struct forward *f = place->f;
    enum status status = STATUS_OK;
    if (place->layer > 0 && place->prepares)
        status = attention_launch(f->config.attention, f->shard->first_layer + place->layer - 1,
                                  f->activations.attended, error);
    if (place->layer > 0 && status == STATUS_OK)
        status = forward_end_layer(place, error);
    if (status == STATUS_OK && place->layer < f->shard->n_layers) {
        trace_layer(f->config.trace, f->shard->first_layer + place->layer);
        forward_begin_layer(place);
    }
    return status;
}

/* Attention of the layer that is next, or what the host has to do for it. Returns the kind of the
 * piece that follows. */
static uint64_t attend_or_prepare(const struct forward_place *place)
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

/* From rows of the stream, or of a copy of them, to logits: results_logits has memory for so
 * many. */
static void project_logits(struct forward *f, const float *rows, uint32_t n, float *logits)
{
    const struct matrix *output = shard_output(f->shard);
    float *normed = f->activations.normed;
    f->kernels->rms_norm(f->device, normed, rows, f->shard->output_norm.data, n, f->hidden,
                         f->epsilon);
    forward_prepare(f, normed, n, f->hidden, &output, 1);
    f->kernels->matmul(f->device, &(struct product){logits, f->vocab, output}, 1);
    const struct hparams *h = &f->shard->hparams;
    if (h->logit_scale != 1)
        f->kernels->scale(f->device, logits, 1 / h->logit_scale, (size_t)n * f->vocab);
    if (h->logit_cap > 0)
        f->kernels->soft_cap(f->device, logits, h->logit_cap, (size_t)n * f->vocab);
}

/* Rows of prompts whose next tokens are to be scored, some at a time; x: the needed rows. */
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
            project_logits(f, x + (size_t)(segment->needed + row) * f->hidden, n, logits);
            status = results_score(f->config.results, n_scored, n, error);
            n_scored += n;
        }
    }
    return status;
}

/* x: the needed rows. */
static enum status make_logits(struct forward *f, const struct step *step, const float *x,
                               struct error *error)
{
    struct results *results = f->config.results;
    if (step->n_wanted == 0 && step->n_scored == 0)
        return STATUS_OK;
    uint64_t at = trace_begin(f->config.trace);
    float *logits;
    enum status status = results_begin(results, step, error);
    if (status == STATUS_OK)
        status = score_rows(f, step, x, error);
    if (status == STATUS_OK && step->n_wanted > 0)
        status = results_logits(results, step->n_wanted, &logits, error);
    if (status != STATUS_OK)
        return status;
    if (step->n_wanted > 0) {
        const float *last = needed_rows_wanted(&f->rows, step, f->activations.product, x);
        project_logits(f, last, step->n_wanted, logits);
    }
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
    struct forward_place place = {.f = f,
                                  .step = step,
                                  .x = x,
                                  .narrows = f->shard->last && step->n_needed < step->n_rows,
                                  .asks_early = attention_has_remote(f->config.attention)};
    const bool alone = !place.narrows && !place.asks_early && group_tensor(f->config.group) == 1 &&
                       f->experts == NULL && f->config.records != FORWARD_RECORDS_NOTHING;
    place.prepares = alone && f->config.records == FORWARD_RECORDS_ALL &&
                     attention_may_prepare(f->config.attention);
    const struct recordings_shape shape = {.n_rows = step->n_rows,
                                           .stream = x,
                                           .kv = attention_kv(f->config.attention).k,
                                           .launches = place.prepares};
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

/* k and v of a step that fills, for attention. */
static void round_filled(struct forward *f, uint32_t n_rows)
{
    const struct attention_kv to = attention_kv(f->config.attention);
    const struct heads heads[] = {
        {.x = f->activations.key, .n_heads = f->n_kv_heads, .rounded = to.k, .type = to.type},
        {.x = f->activations.value, .n_heads = f->n_kv_heads, .rounded = to.v, .type = to.type}};
    f->kernels->turn(f->device, heads, 2,
                     &(struct turn){.n_rows = n_rows, .head_dim = f->head_dim});
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
        round_filled(f, step->n_rows);
        attention_append(attention, shape.layer);
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

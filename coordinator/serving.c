/* serving.c - see serving.h: the life of it, steps on their way, deadlines. What requests, pages
 * and results need is in serving_requests.c, serving_pages.c and serving_results.c. */
#include "coordinator/serving_state.h"

#include "kernels/attention/kv_holder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum status create_placement(struct serving *s, struct error *error)
{
    struct placement_holder *holders = calloc(s->n_holders, sizeof(*holders));
    if (holders == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u holders", s->n_holders);
    for (uint32_t i = 0; i < s->n_holders; i++)
        holders[i] = (struct placement_holder){.weight = cluster_holder_weight(s->cluster, i),
                                               .capacity = cluster_holder_units(s->cluster, i)};
    const enum status status =
        placement_create(&s->placement, holders, s->n_holders, s->cluster->options->stripe,
                         &s->cluster->capacity.cost, error);
    free(holders);
    return status;
}

/* What pages depend on, beside the tokens: the name of the empty prefix. */
static struct prefix_name root_name(const struct cluster *cluster)
{
    const uint32_t numbers[] = {(uint32_t)cluster->options->kv_type, TILE_TOKENS, PAGE_TOKENS,
                                strcmp(cluster->options->kernels, "bf16") == 0};
    struct prefix_name name;
    struct sha256 hash;
    sha256_init(&hash);
    sha256_update(&hash, cluster->fingerprint, sizeof(cluster->fingerprint));
    sha256_update(&hash, numbers, sizeof(numbers));
    sha256_final(&hash, name.bytes);
    return name;
}

static enum status create_memory(struct serving *s, struct error *error)
{
    const uint32_t vocab = s->cluster->hparams->vocab;
    s->scratch = calloc(vocab, sizeof(*s->scratch));
    s->adjusted = calloc(vocab, sizeof(*s->adjusted));
    s->failed = calloc(s->cluster->options->max_batch, sizeof(*s->failed));
    s->mask = calloc(tokenizer_vocab(s->tokenizer) / 32 + 1, sizeof(*s->mask));
    return s->scratch != NULL && s->adjusted != NULL && s->failed != NULL && s->mask != NULL
               ? STATUS_OK
               : error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary");
}

/* What decides and what counts, behind memory and placement. */
static enum status create_parts(struct serving *s, struct error *error)
{
    const struct cluster *cluster = s->cluster;
    const struct coordinator_options *options = cluster->options;
    const struct scheduler_config config = {.chunk = options->chunk,
                                            .max_batch = options->max_batch,
                                            .depth = cluster->capacity.plan.pipeline,
                                            .keeps = options->prefix_cache,
                                            .window =
                                                page_cost_smallest_window(&cluster->capacity.cost),
                                            .root = root_name(cluster)};
    const struct reports_shape shape = {.n_ranks = options->workers,
                                        .result_rank = cluster_result_rank(cluster),
                                        .depth = config.depth,
                                        .max_segments = options->max_batch,
                                        .n_holders = s->n_holders,
                                        .vocab = cluster->hparams->vocab,
                                        .n_layers = cluster->hparams->n_layers};
    enum status status = scheduler_create(&s->scheduler, &config, s->placement, error);
    if (status == STATUS_OK)
        status = reports_create(&s->reports, &shape, error);
    if (status == STATUS_OK)
        status = steps_create(&s->steps, options->max_batch, error);
    if (status == STATUS_OK)
        status = pace_create(&s->pace, options->step_target_ms, config.chunk, config.depth, error);
    if (status == STATUS_OK)
        status = restores_create(&s->restores, &s->reservations, s->scheduler, error);
    if (status == STATUS_OK)
        status = schemas_create(&s->schemas, s->tokenizer, error);
    if (status == STATUS_OK)
        status = texts_create(&s->texts, s->tokenizer, error);
    return status;
}

enum status serving_create(struct serving **serving, struct cluster *cluster,
                           struct control *control, const struct tokenizer *tokenizer,
                           const struct log *log, struct trace_track *trace, struct error *error)
{
    struct serving *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to serve");
    s->cluster = cluster;
    s->control = control;
    s->tokenizer = tokenizer;
    s->log = log;
    s->trace = trace;
    s->n_holders = cluster_n_holders(cluster);
    s->remote = cluster->options->nodes > 0;
    enum status status = create_memory(s, error);
    if (status == STATUS_OK)
        status = create_placement(s, error);
    s->reservations = (struct reservations){.cluster = cluster,
                                            .control = control,
                                            .placement = s->placement,
                                            .log = log,
                                            .n_holders = s->n_holders,
                                            .next_number = 1};
    if (status == STATUS_OK)
        status = create_parts(s, error);
    if (status != STATUS_OK) {
        serving_destroy(s);
        return status;
    }
    *serving = s;
    return STATUS_OK;
}

void serving_destroy(struct serving *serving)
{
    if (serving == NULL)
        return;
    while (serving->requests != NULL) {
        struct request *next = serving->requests->next;
        request_destroy(serving->requests);
        serving->requests = next;
    }
    for (struct early_request *request; (request = early_take(&serving->early)) != NULL;)
        free(request);
    pace_destroy(serving->pace);
    restores_destroy(serving->restores);
    steps_destroy(serving->steps);
    reports_destroy(serving->reports);
    scheduler_destroy(serving->scheduler);
    placement_destroy(serving->placement);
    free(serving->scratch);
    free(serving->adjusted);
    free(serving->mask);
    schemas_destroy(serving->schemas);
    texts_destroy(serving->texts);
    free(serving->failed);
    free(serving);
}

/* ---- steps go -------------------------------------------------------------------------------- */

enum trace_phase serving_phase(const struct scheduler_step *step)
{
    for (uint32_t i = 0; i < step->n_segments; i++)
        if (step->segments[i].n_tokens > 1)
            return TRACE_PREFILL;
    return step->n_segments > 0 ? TRACE_DECODE : TRACE_IDLE;
}

/* What a segment has to bring: a sample, scores. */
static struct reports_want want_of(const struct serving *s, const struct scheduler_segment *segment,
                                   const struct request *r, uint32_t prompt)
{
    const uint32_t vocab = s->cluster->hparams->vocab;
    struct reports_want want = {0};
    if (segment->wants && !r->no_answer) {
        want.candidates = true;
        want.row = r->want_logits || sampler_needs_row(&r->sampling);
        want.n_candidates = sampler_candidates(&r->sampling, r->n_logprobs, vocab);
    }
    want.n_scored = request_scored(&r->prompts[prompt], segment->position, segment->n_tokens);
    want.n_top = want.n_scored > 0 ? request_scored_top(r, vocab) : 0;
    return want;
}

static enum status send_step(struct serving *s, const struct scheduler_step *step, uint64_t now_us,
                             struct error *error)
{
    struct reports_want *wants = steps_wants(s->steps);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_sequence *q =
            scheduler_sequence(s->scheduler, step->segments[i].sequence);
        wants[i] = want_of(s, &step->segments[i], q->owner, q->owner_index);
    }
    reports_expect(s->reports, step->number, wants, step->n_segments,
                   now_us + s->cluster->options->step_timeout_ms * 1000ull);
    struct error why = {.status = STATUS_OK};
    const enum status status =
        steps_send(s->steps, s->cluster, step, s->scheduler, s->placement, &why);
    char label[CLUSTER_LABEL_BYTES];
    pace_sent(s->pace, step, s->scheduler, now_us);
    if (status == STATUS_UNREACHABLE)
        return cluster_rank_is_lost(s->cluster, 0, error);
    if (status != STATUS_OK)
        return error_set(error, STATUS_FAILED, "step %" PRIu64 " cannot be sent to %s: %.800s",
                         step->number, cluster_rank_label(s->cluster, 0, label), why.text);
    return STATUS_OK;
}

enum status serving_pump(struct serving *s, uint64_t now_us, struct error *error)
{
    const struct scheduler_step *step;
    uint64_t at = trace_begin(s->trace);
    serving_take_early(s, now_us);
    serving_free_closed(s);
    serving_admit(s, now_us);
    while ((step = scheduler_next(s->scheduler)) != NULL) {
        trace_step(s->trace, step->number, serving_phase(step));
        at = trace_span(s->trace, "schedule", at);
        const enum status status = send_step(s, step, now_us, error);
        at = trace_span(s->trace, "send step", at);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static enum status check_steps(const struct serving *s, uint64_t now_us, struct error *error)
{
    if (now_us < reports_deadline(s->reports))
        return STATUS_OK;
    char missing[512] = "", label[CLUSTER_LABEL_BYTES];
    size_t length = 0;
    for (uint32_t i = 0; i < s->cluster->options->workers && length < sizeof(missing); i++)
        if (!reports_has(s->reports, i))
            length +=
                (size_t)snprintf(missing + length, sizeof(missing) - length, "%s%s",
                                 length > 0 ? ", " : "", cluster_rank_label(s->cluster, i, label));
    return error_set(error, STATUS_TIMEOUT,
                     "step %" PRIu64 " was not reported within %g s (--step-timeout) by: %s",
                     reports_oldest(s->reports), s->cluster->options->step_timeout_ms / 1000.0,
                     missing);
}

enum status serving_tick(struct serving *s, uint64_t now_us, struct error *error)
{
    struct request *next;
    for (struct request *r = s->requests; r != NULL; r = next) {
        next = r->next;
        if (now_us - r->heard_us >= SERVING_CLIENT_SILENCE_US)
            serving_give_up_silent(s, r);
        else
            serving_check_reservations(s, r, now_us);
    }
    serving_drop_silent(&s->early, s->control, now_us);
    struct frames_peer client;
    uint64_t number;
    while (now_us > SERVING_CLIENT_SILENCE_US &&
           texts_drop_silent(s->texts, now_us - SERVING_CLIENT_SILENCE_US, &client, &number))
        serving_tell_silent(s->control, &client, number);
    restores_check(s->restores, now_us);
    return check_steps(s, now_us, error);
}

/* ---- what others see ------------------------------------------------------------------------- */

bool serving_closed(const struct serving *s)
{
    bool stores = false;
    for (uint32_t i = 0; i < s->cluster->n_nodes; i++)
        stores = stores || s->cluster->nodes[i].stores;
    return !stores || scheduler_usage(s->scheduler).n_open == 0;
}

void serving_descriptors(const struct serving *s, int descriptors[SERVING_DESCRIPTORS])
{
    descriptors[0] = schemas_descriptor(s->schemas);
    descriptors[1] = texts_descriptor(s->texts);
}

bool serving_stepping(const struct serving *s)
{
    return scheduler_in_flight(s->scheduler) > 0;
}

struct serving_view serving_view(const struct serving *s)
{
    return (struct serving_view){.requests = s->requests,
                                 .scheduler = s->scheduler,
                                 .placement = s->placement,
                                 .reports = s->reports,
                                 .metrics = &s->metrics};
}

/* events.c - see events.h. */
#include "coordinator/events.h"

#include <string.h>

static enum status send_event(struct control *control, const struct request *request,
                              Longspan__RunEvent *event, const void *tensor, size_t tensor_bytes,
                              struct error *error)
{
    event->request = request->number;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_RUN_EVENT;
    message.run_event = event;
    return control_send(control, &request->client, &message, tensor, tensor_bytes, error);
}

static enum status no_memory(struct control *control, struct error *error)
{
    arena_reset(&control->arena);
    return error_set(error, STATUS_NO_MEMORY, "no memory for a message to a client");
}

/* Of the arena. NULL: no memory. */
static Longspan__Span **span_list(struct arena *arena, const struct placement_span *from, size_t n)
{
    Longspan__Span *spans = arena_array(arena, n + 1, sizeof(*spans));
    Longspan__Span **list = arena_array(arena, n + 1, sizeof(*list));
    for (size_t i = 0; spans != NULL && list != NULL && i < n; i++) {
        longspan__span__init(&spans[i]);
        spans[i].holder = from[i].holder;
        spans[i].begin = from[i].begin;
        spans[i].end = from[i].end;
        list[i] = &spans[i];
    }
    return spans != NULL ? list : NULL;
}

static bool fill_prompt_plan(struct arena *arena, Longspan__PromptPlan *plan,
                             const struct request_prompt *prompt, const struct scheduler *scheduler,
                             const struct placement *placement)
{
    longspan__prompt_plan__init(plan);
    plan->fill_tokens = prompt->n_fill;
    if (!prompt->again) {
        plan->n_ids = prompt->n_ids - prompt->n_fill;
        plan->ids = prompt->ids + prompt->n_fill;
    }
    plan->shared_tokens = prompt->shared_tokens;
    if (prompt->sequence == SCHEDULER_NONE)
        return true;
    const struct scheduler_sequence *q = scheduler_sequence(scheduler, prompt->sequence);
    plan->cached_tokens = q->cached_tokens;
    if (!q->has_place)
        return true;
    const uint32_t end = placement_tokens(placement, q->place);
    const size_t n = placement_spans(placement, q->place, 0, end, NULL, 0);
    struct placement_span *spans = arena_array(arena, n + 1, sizeof(*spans));
    if (spans == NULL)
        return false;
    placement_spans(placement, q->place, 0, end, spans, n);
    plan->n_spans = n;
    plan->spans = span_list(arena, spans, n);
    return plan->spans != NULL;
}

enum status events_plan(struct control *control, const struct cluster *cluster,
                        const struct request *request, const struct scheduler *scheduler,
                        const struct placement *placement, struct error *error)
{
    struct arena *arena = &control->arena;
    Longspan__RunPlan plan = LONGSPAN__RUN_PLAN__INIT;
    Longspan__PromptPlan *plans = arena_array(arena, request->n_prompts, sizeof(*plans));
    plan.prompts = arena_array(arena, request->n_prompts, sizeof(*plan.prompts));
    plan.ready = arena_array(arena, CLUSTER_READY_LINES, sizeof(*plan.ready));
    if (plans == NULL || plan.prompts == NULL || plan.ready == NULL)
        return no_memory(control, error);
    for (uint32_t i = 0; i < request->n_prompts; i++) {
        if (!fill_prompt_plan(arena, &plans[i], &request->prompts[i], scheduler, placement))
            return no_memory(control, error);
        plan.prompts[i] = &plans[i];
    }
    plan.n_prompts = request->n_prompts;
    plan.load_s = cluster->load_s;
    plan.n_ready = cluster->n_ready_lines;
    for (uint32_t i = 0; i < cluster->n_ready_lines; i++)
        plan.ready[i] = (char *)cluster->ready_lines[i];
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_PLAN;
    event.plan = &plan;
    return send_event(control, request, &event, NULL, 0, error);
}

enum status events_progress(struct control *control, const struct request *request, uint32_t prompt,
                            uint32_t done, uint32_t total, struct error *error)
{
    Longspan__RunProgress progress = LONGSPAN__RUN_PROGRESS__INIT;
    progress.prompt = prompt;
    progress.done = done;
    progress.total = total;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_PROGRESS;
    event.progress = &progress;
    return send_event(control, request, &event, NULL, 0, error);
}

static float logprob(float logit, const struct sampler_row *row)
{
    return (float)((double)logit - row->log_sum_exp);
}

enum status events_token(struct control *control, const struct request *request, uint32_t prompt,
                         const struct events_token *sampled, struct error *error)
{
    const struct sampler_row *row = sampled->row;
    Longspan__RunToken token = LONGSPAN__RUN_TOKEN__INIT;
    token.prompt = prompt;
    token.id = sampled->id;
    token.logprob = sampled->logprob;
    token.text.data = (uint8_t *)sampled->text;
    token.text.len = sampled->n_bytes;
    token.held_bytes = (uint32_t)sampled->n_held;
    const uint32_t n = request->n_logprobs < row->n ? request->n_logprobs : row->n;
    Longspan__Logprob top[SAMPLER_MAX_LOGPROBS], *list[SAMPLER_MAX_LOGPROBS];
    for (uint32_t i = 0; request->want_logprobs && i < n; i++) {
        longspan__logprob__init(&top[i]);
        top[i].id = row->ids[i];
        top[i].logprob = logprob(row->logits[i], row);
        list[token.n_top++] = &top[i];
    }
    token.top = list;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_TOKEN;
    event.token = &token;
    const float *logits = request->want_logits ? row->row : NULL;
    return send_event(control, request, &event, logits, row->vocab * sizeof(float), error);
}

enum status events_scores(struct control *control, const struct request *request, uint32_t prompt,
                          const struct events_scores *scored, struct error *error)
{
    struct arena *arena = &control->arena;
    const uint32_t n = scored->n;
    const uint32_t most = request->want_logprobs ? request->n_logprobs : 0;
    const size_t n_tops = (size_t)n * most;
    Longspan__RunScores scores = LONGSPAN__RUN_SCORES__INIT;
    scores.logprobs = arena_array(arena, n, sizeof(*scores.logprobs));
    scores.top_ids = arena_array(arena, n_tops + 1, sizeof(*scores.top_ids));
    scores.top_logprobs = arena_array(arena, n_tops + 1, sizeof(*scores.top_logprobs));
    if (scores.logprobs == NULL || scores.top_ids == NULL || scores.top_logprobs == NULL)
        return no_memory(control, error);
    for (uint32_t j = 0; j < n; j++) {
        const struct scores_row one =
            reports_scores(scored->reports, scored->segment, scored->at + j);
        scores.logprobs[scores.n_logprobs++] = logprob(one.logit, &one.row);
        for (uint32_t top = 0; top < most && top < one.row.n; top++) {
            scores.top_ids[scores.n_top_ids++] = one.row.ids[top];
            scores.top_logprobs[scores.n_top_logprobs++] = logprob(one.row.logits[top], &one.row);
        }
    }
    scores.prompt = prompt;
    scores.first = scored->first;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_SCORES;
    event.scores = &scores;
    return send_event(control, request, &event, NULL, 0, error);
}

enum status events_finished(struct control *control, const struct request *request, uint32_t prompt,
                            const char *reason, const char *text, size_t text_bytes,
                            struct error *error)
{
    Longspan__RunFinished finished = LONGSPAN__RUN_FINISHED__INIT;
    finished.prompt = prompt;
    finished.reason = (char *)reason;
    finished.n_tokens = request->prompts[prompt].n_generated;
    finished.cached_tokens = request->prompts[prompt].cached_tokens;
    finished.text.data = (uint8_t *)text;
    finished.text.len = text_bytes;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_FINISHED;
    event.finished = &finished;
    return send_event(control, request, &event, NULL, 0, error);
}

/* The spans at one holder, of all prompts, named by prompt. NULL: no memory. */
static Longspan__Span **spans_of_holder(struct arena *arena, const struct request *request,
                                        uint32_t holder, size_t *n)
{
    size_t most = 0;
    for (uint32_t i = 0; i < request->n_prompts; i++)
        for (size_t j = 0; j < request->prompts[i].n_spans; j++)
            most += request->prompts[i].spans[j].holder == holder;
    struct placement_span *spans = arena_array(arena, most + 1, sizeof(*spans));
    *n = 0;
    for (uint32_t i = 0; spans != NULL && i < request->n_prompts; i++)
        for (size_t j = 0; j < request->prompts[i].n_spans; j++) {
            const struct placement_span *from = &request->prompts[i].spans[j];
            if (from->holder == holder)
                spans[(*n)++] =
                    (struct placement_span){.holder = i, .begin = from->begin, .end = from->end};
        }
    return spans != NULL ? span_list(arena, spans, *n) : NULL;
}

/* Ranks, then nodes. */
static bool fill_processes(struct arena *arena, Longspan__RunDone *done,
                           const struct cluster *cluster)
{
    const uint32_t n_ranks = cluster->options->workers, n = n_ranks + cluster->n_nodes;
    Longspan__ProcessReport *reports = arena_array(arena, n, sizeof(*reports));
    char(*labels)[CLUSTER_LABEL_BYTES] = arena_array(arena, n_ranks, sizeof(*labels));
    done->processes = arena_array(arena, n, sizeof(*done->processes));
    if (reports == NULL || labels == NULL || done->processes == NULL)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        longspan__process_report__init(&reports[i]);
        done->processes[i] = &reports[i];
    }
    for (uint32_t i = 0; i < n_ranks; i++) {
        reports[i].name = (char *)cluster_rank_label(cluster, i, labels[i]);
        reports[i].weight_bytes = cluster->ranks[i].weight_bytes;
        reports[i].peak_bytes = cluster->ranks[i].peak_bytes;
    }
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        reports[n_ranks + i].name = (char *)cluster->nodes[i].label;
        reports[n_ranks + i].peak_bytes = cluster->nodes[i].peak_bytes;
    }
    done->n_processes = n;
    return true;
}

enum status events_done(struct control *control, const struct cluster *cluster,
                        const struct request *request, const struct reports *reports,
                        uint64_t now_us, struct error *error)
{
    struct arena *arena = &control->arena;
    const uint32_t n_holders = cluster_n_holders(cluster);
    Longspan__RunDone done = LONGSPAN__RUN_DONE__INIT;
    Longspan__HolderReport *holders = arena_array(arena, n_holders, sizeof(*holders));
    done.holders = arena_array(arena, n_holders, sizeof(*done.holders));
    if (holders == NULL || done.holders == NULL)
        return no_memory(control, error);
    for (uint32_t i = 0; i < n_holders; i++) {
        const struct reports_traffic now = reports_traffic(reports, i);
        longspan__holder_report__init(&holders[i]);
        holders[i].name = (char *)cluster_holder_name(cluster, i);
        holders[i].kv_bytes = now.kv_bytes - request->before[i].kv_bytes;
        holders[i].sent_bytes = now.sent_bytes - request->before[i].sent_bytes;
        holders[i].received_bytes = now.received_bytes - request->before[i].received_bytes;
        holders[i].spans = spans_of_holder(arena, request, i, &holders[i].n_spans);
        if (holders[i].spans == NULL)
            return no_memory(control, error);
        done.holders[i] = &holders[i];
    }
    if (!fill_processes(arena, &done, cluster))
        return no_memory(control, error);
    done.n_holders = n_holders;
    done.load_s = cluster->load_s;
    const uint64_t began_us = request->filled_us > 0 ? request->filled_us : request->began_us;
    done.prefill_s = (double)(request->prefilled_us - began_us) * 1e-6;
    done.decode_s = (double)(now_us - request->prefilled_us) * 1e-6;
    done.prefill_tokens = request->prefill_tokens;
    done.decode_tokens = request->decode_tokens;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_DONE;
    event.done = &done;
    return send_event(control, request, &event, NULL, 0, error);
}

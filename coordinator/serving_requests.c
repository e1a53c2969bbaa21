/* serving_requests.c - requests come, and end.
 *
 * Sequences of a request that is gone live on in the scheduler until they are closed; their
 * owner counts only until they are FINISHED, and a request that ends finishes them all first. */
#include "coordinator/serving_state.h"

#include "coordinator/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_REQUESTS = 256 };

/* ---- they end -------------------------------------------------------------------------------- */

void serving_forget(struct serving *s, struct request *request)
{
    struct request **link = &s->requests;
    while (*link != request)
        link = &(*link)->next;
    *link = request->next;
    s->n_requests--;
    request_destroy(request);
}

/* Ends what still runs of it, forks before their parents, and forgets it. */
static void end_request(struct serving *s, struct request *request)
{
    for (uint32_t i = request->n_prompts; i-- > 0;)
        if (request->prompts[i].sequence != SCHEDULER_NONE)
            scheduler_finish(s->scheduler, request->prompts[i].sequence);
    serving_forget(s, request);
}

/* Its client is gone. */
void serving_give_up(struct serving *s, struct request *request)
{
    metrics_count(&s->metrics, METRICS_REQUESTS_CANCELLED, 1);
    end_request(s, request);
}

void serving_tell_silent(struct control *control, const struct frames_peer *client, uint64_t number)
{
    char text[160];
    snprintf(text, sizeof(text),
             "the request was cancelled: nothing was heard of its client for %d s; was it stopped, "
             "or its machine out of reach? ask again",
             SERVING_CLIENT_SILENCE_US / 1000000);
    control_send_event_failure(control, client, number, STATUS_TIMEOUT, text);
}

void serving_give_up_silent(struct serving *s, struct request *request)
{
    log_info(s->log, "%s is cancelled: its client is silent for %d s", request->label,
             SERVING_CLIENT_SILENCE_US / 1000000);
    serving_tell_silent(s->control, &request->client, request->number);
    serving_give_up(s, request);
}

void serving_drop_silent(struct early *early, struct control *control, uint64_t now_us)
{
    struct frames_peer client;
    uint64_t number;
    while (now_us > SERVING_CLIENT_SILENCE_US &&
           early_drop_silent(early, now_us - SERVING_CLIENT_SILENCE_US, &client, &number))
        serving_tell_silent(control, &client, number);
}

void serving_fail(struct serving *s, struct request *request, enum status status, const char *text)
{
    log_warn(s->log, "%s fails: %s", request->label, text);
    metrics_count(&s->metrics,
                  status == STATUS_CANCELLED ? METRICS_REQUESTS_CANCELLED : METRICS_REQUESTS_FAILED,
                  1);
    control_send_event_failure(s->control, &request->client, request->number, status, text);
    end_request(s, request);
}

/* After an event could not be sent. Where it was too large or without memory, a short message may
 * still arrive; where the queue is full, later. Else the client would wait for ever. */
void serving_lose_client(struct serving *s, struct request *request, const struct error *why)
{
    log_info(s->log, "%s is cancelled: its client cannot be told anything: %s", request->label,
             why->text);
    if (why->status != STATUS_UNREACHABLE)
        control_send_event_failure(s->control, &request->client, request->number, why->status,
                                   why->text);
    serving_give_up(s, request);
}

void serving_fail_all(struct serving *s, enum status status, const char *text)
{
    struct early_request *early;
    while (s->requests != NULL)
        serving_fail(s, s->requests, status, text);
    while ((early = early_take(&s->early)) != NULL) {
        control_send_event_failure(s->control, &early->client, early->number, status, text);
        free(early);
    }
    struct frames_peer client;
    uint64_t number;
    while (texts_drop_one(s->texts, &client, &number))
        control_send_event_failure(s->control, &client, number, status, text);
}

static struct request *find_request(const struct serving *s, const struct frames_peer *client,
                                    uint64_t number)
{
    for (struct request *r = s->requests; r != NULL; r = r->next)
        if (r->number == number && frames_same_peer(&r->client, client))
            return r;
    return NULL;
}

void serving_cancel(struct serving *s, const struct frames_peer *client, uint64_t number)
{
    early_drop(&s->early, client, false, number);
    texts_drop(s->texts, client, false, number);
    struct request *request = find_request(s, client, number);
    if (request != NULL)
        serving_fail(s, request, STATUS_CANCELLED, "cancelled");
}

void serving_client_left(struct serving *s, const struct frames_peer *client)
{
    early_drop(&s->early, client, true, 0);
    texts_drop(s->texts, client, true, 0);
    struct request *next;
    for (struct request *r = s->requests; r != NULL; r = next) {
        next = r->next;
        if (frames_same_peer(&r->client, client))
            serving_give_up(s, r);
    }
}

void serving_client_heard(struct serving *s, const struct frames_peer *client, uint64_t now_us)
{
    early_heard(&s->early, client, now_us);
    texts_heard(s->texts, client, now_us);
    for (struct request *r = s->requests; r != NULL; r = r->next)
        if (frames_same_peer(&r->client, client))
            r->heard_us = now_us;
}

/* ---- they come ------------------------------------------------------------------------------- */

/* Keeps a request until its schema has been worked out. */
static enum status keep_early(struct serving *s, const struct frames_peer *client,
                              const Longspan__RunRequest *message, uint64_t now_us,
                              struct error *error)
{
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_RUN_REQUEST;
    control.run_request = (Longspan__RunRequest *)message;
    const size_t n_bytes = longspan__control__get_packed_size(&control);
    uint8_t *bytes = malloc(n_bytes);
    if (bytes == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", n_bytes);
    longspan__control__pack(&control, bytes);
    const enum status status = early_add(&s->early, client, message->request, bytes, n_bytes,
                                         now_us, "their JSON schemas", error);
    free(bytes);
    return status;
}

static enum status add_sequences(struct serving *s, struct request *r, uint64_t now_us,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < r->n_prompts && status == STATUS_OK; i++) {
        struct request_prompt *prompt = &r->prompts[i];
        const struct scheduler_prompt add = {
            .tokens = prompt->ids,
            .n_tokens = prompt->n_ids,
            .max_tokens = prompt->max_tokens,
            .n_fill = prompt->n_fill,
            .fill_seed = prompt->fill_seed,
            .priority = r->priority,
            .alone = r->alone || prompt->scored,
            .parent = prompt->parent == SCHEDULER_NONE ? SCHEDULER_NONE
                                                       : r->prompts[prompt->parent].sequence,
            .shared_tokens = prompt->waits ? prompt->n_ids : prompt->shared_tokens,
            .owner = r,
            .owner_index = i};
        status = scheduler_add(s->scheduler, &add, &prompt->sequence, error);
        if (status == STATUS_OK)
            restores_begin(s->restores, prompt->sequence, now_us);
    }
    return status;
}

/* Whether it may come, and with which constraint. *kept: it comes again later. */
static enum status admit_request(struct serving *s, const struct frames_peer *client,
                                 const Longspan__RunRequest *message, uint64_t now_us,
                                 const struct constraint **constraint, bool *kept,
                                 struct error *error)
{
    if (find_request(s, client, message->request) != NULL)
        return error_set(error, STATUS_INVALID, "request %" PRIu64 " runs already",
                         message->request);
    if (s->n_requests >= MAX_REQUESTS)
        return error_set(error, STATUS_EXHAUSTED, "%u requests are waiting already: try later",
                         s->n_requests);
    *kept = texts_are_long(message);
    if (*kept)
        return texts_add(s->texts, client, message, now_us, error);
    if (!request_wants_json(message))
        return STATUS_OK;
    enum status status = schemas_find(s->schemas, message->json_schema, constraint, error);
    *kept = status == STATUS_OK && *constraint == NULL;
    if (*kept)
        status = keep_early(s, client, message, now_us, error);
    return status;
}

static void refuse(struct serving *s, const struct frames_peer *client, uint64_t number,
                   const struct error *why)
{
    log_warn(s->log, "request %" PRIu64 " is refused: %s", number, why->text);
    metrics_count(&s->metrics, METRICS_REQUESTS_REFUSED, 1);
    control_send_event_failure(s->control, client, number, why->status, why->text);
}

void serving_request(struct serving *s, const struct frames_peer *client,
                     const Longspan__RunRequest *message, uint64_t now_us)
{
    struct request *request = NULL;
    struct error error = {.status = STATUS_OK};
    struct request_limits limits = {.tokenizer = s->tokenizer,
                                    .vocab = s->cluster->hparams->vocab,
                                    .max_tokens = s->cluster->max_tokens,
                                    .n_holders = s->n_holders};
    bool kept = false;
    enum status status =
        admit_request(s, client, message, now_us, &limits.constraint, &kept, &error);
    if (status == STATUS_OK && kept)
        return;
    if (status == STATUS_OK)
        status = request_create(&request, message, client, &limits, now_us, &error);
    if (status != STATUS_OK) {
        refuse(s, client, message->request, &error);
        return;
    }
    for (uint32_t i = 0; i < s->n_holders; i++)
        request->before[i] = reports_traffic(s->reports, i);
    request->next = s->requests;
    s->requests = request;
    s->n_requests++;
    log_info(s->log, "%s: %u prompt%s, the first of %u tokens", request->label, request->n_prompts,
             request->n_prompts > 1 ? "s" : "", request->prompts[0].n_ids);
    status = add_sequences(s, request, now_us, &error);
    if (status != STATUS_OK) {
        serving_fail(s, request, status, error.text);
        return;
    }
    serving_admit(s, now_us);
    if (find_request(s, client, message->request) != request)
        return; /* its reservation failed at once */
    status = events_plan(s->control, s->cluster, request, s->scheduler, s->placement, &error);
    if (status != STATUS_OK)
        serving_lose_client(s, request, &error);
}

void serving_take_early(struct serving *s, uint64_t now_us)
{
    struct texts_request worked;
    while (texts_take(s->texts, &worked)) {
        if (worked.message != NULL)
            serving_request(s, &worked.client, worked.message->run_request, now_us);
        else
            refuse(s, &worked.client, worked.number, &worked.error);
        longspan__control__free_unpacked(worked.message, NULL);
    }
    if (!schemas_worked(s->schemas))
        return;
    for (uint32_t n = s->early.n; n > 0; n--) { /* those that still have to wait are kept again */
        struct early_request *early = early_take(&s->early);
        Longspan__Control *message = longspan__control__unpack(NULL, early->n_bytes, early->bytes);
        if (message != NULL)
            serving_request(s, &early->client, message->run_request, now_us);
        longspan__control__free_unpacked(message, NULL);
        free(early);
    }
    schemas_settle(s->schemas);
}

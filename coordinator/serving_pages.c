/* serving_pages.c - who is admitted, and gets pages at the holders; whose pages are freed. */
#include "coordinator/serving_state.h"

/* Asks every holder that has tokens in [begin, n_asked) for their pages. */
static enum status reserve(struct serving *s, uint32_t index, uint32_t begin, uint64_t now_us,
                           struct error *error)
{
    const struct scheduler_sequence *q = scheduler_sequence(s->scheduler, index);
    struct request *request = q->owner;
    struct request_prompt *prompt = &request->prompts[q->owner_index];
    if (s->remote)
        return reservations_ask(&s->reservations, q, begin, &prompt->reservation, now_us, error);
    scheduler_acked(s->scheduler, index);
    return STATUS_OK;
}

void serving_node_stored(struct serving *s, uint32_t node, const Longspan__NodeStored *stored)
{
    restores_changed(s->restores, node, stored);
}

void serving_reserve_reply(struct serving *s, uint32_t node, const Longspan__ReserveReply *reply)
{
    if (reply->job != s->cluster->job || reply->request == 0)
        return;
    if (restores_answered(s->restores, node, reply))
        return;
    for (struct request *r = s->requests; r != NULL; r = r->next)
        for (uint32_t i = 0; i < r->n_prompts; i++) {
            struct request_prompt *prompt = &r->prompts[i];
            if (prompt->reservation.number != reply->request)
                continue;
            struct error error;
            bool complete = false;
            const enum status status = reservations_answered(
                &s->reservations, &prompt->reservation, node, reply->failure, &complete, &error);
            if (status != STATUS_OK)
                serving_fail(s, r, status, error.text);
            else if (complete)
                scheduler_acked(s->scheduler, prompt->sequence);
            return;
        }
}

/* Pages of sequences that all ranks have closed. */
void serving_free_closed(struct serving *s)
{
    uint32_t index;
    while ((index = scheduler_closed(s->scheduler)) != SCHEDULER_NONE) {
        if (s->remote)
            reservations_free(&s->reservations, scheduler_sequence(s->scheduler, index));
        scheduler_release(s->scheduler, index);
    }
}

/* Fails the request that a sequence belongs to. */
static void fail_owner(struct serving *s, uint32_t index, const struct error *error)
{
    serving_fail(s, scheduler_sequence(s->scheduler, index)->owner, error->status, error->text);
}

static void count_started(struct serving *s, const struct scheduler_sequence *q)
{
    if (q->incarnation > 1)
        return; /* again, after it was preempted */
    metrics_count(&s->metrics, METRICS_PROMPTS_STARTED, 1);
    metrics_count(&s->metrics, METRICS_PROMPTS_HIT, q->cached_tokens > 0);
    metrics_count(&s->metrics, METRICS_CACHED_TOKENS, q->cached_tokens);
}

/* Late answers to its reservation mean nothing. */
static void take_preempted(struct serving *s, uint32_t index)
{
    const struct scheduler_sequence *q = scheduler_sequence(s->scheduler, index);
    struct request *r = q->owner;
    r->prompts[q->owner_index].reservation.number = 0;
    metrics_count(&s->metrics, METRICS_PREEMPTIONS, 1);
    log_info(s->log, "%s: prompt %u is preempted at %u tokens: the KV cache is full", r->label,
             q->owner_index, q->n_tokens);
}

void serving_admit(struct serving *s, uint64_t now_us)
{
    uint32_t index = SCHEDULER_NONE, begin;
    struct error error = {.status = STATUS_OK};
    while (scheduler_admit(s->scheduler, &index, &error)) {
        count_started(s, scheduler_sequence(s->scheduler, index));
        if (reserve(s, index, 0, now_us, &error) != STATUS_OK)
            fail_owner(s, index, &error);
    }
    while (scheduler_grow(s->scheduler, &index, &begin, &error))
        if (reserve(s, index, begin, now_us, &error) != STATUS_OK)
            fail_owner(s, index, &error);
    if (error.status == STATUS_NO_MEMORY)
        log_warn(s->log, "%s", error.text); /* tried again with the next message */
    while ((index = scheduler_preempt(s->scheduler)) != SCHEDULER_NONE)
        take_preempted(s, index);
}

void serving_check_reservations(struct serving *s, struct request *r, uint64_t now_us)
{
    struct error error;
    for (uint32_t i = 0; i < r->n_prompts; i++)
        if (reservations_check(&s->reservations, &r->prompts[i].reservation, now_us, &error) !=
            STATUS_OK) {
            serving_fail(s, r, error.status, error.text);
            return;
        }
}

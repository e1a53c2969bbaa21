/* reservations.c - see reservations.h. */
#include "coordinator/reservations.h"

#include "kernels/attention/kv_holder.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum status send_reserve(struct reservations *r, uint32_t node, uint64_t number,
                                const struct scheduler_sequence *q,
                                const struct placement_span *spans, size_t n_spans,
                                struct error *error)
{
    struct arena *arena = &r->control->arena;
    Longspan__Span *items = arena_array(arena, n_spans, sizeof(*items));
    Longspan__Span **list = arena_array(arena, n_spans, sizeof(*list));
    if (items == NULL || list == NULL) {
        arena_reset(arena);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a reservation");
    }
    Longspan__Reserve reserve = LONGSPAN__RESERVE__INIT;
    for (size_t i = 0; i < n_spans; i++) {
        if (spans[i].holder != node)
            continue;
        longspan__span__init(&items[i]);
        items[i].begin = spans[i].begin;
        items[i].end = spans[i].end;
        list[reserve.n_spans++] = &items[i];
    }
    reserve.job = r->cluster->job;
    reserve.request = number;
    reserve.sequence = q->name;
    reserve.incarnation = q->incarnation;
    reserve.spans = list;
    reserve.shared_tokens = q->shared_tokens;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_RESERVE;
    message.reserve = &reserve;
    struct error why = {.status = STATUS_OK};
    const enum status status =
        control_send(r->control, &r->cluster->nodes[node].peer, &message, NULL, 0, &why);
    if (status != STATUS_OK)
        error_set(error, status, "attention node %s: %.800s", r->cluster->nodes[node].label,
                  why.text);
    return status;
}

enum status reservations_ask(struct reservations *r, const struct scheduler_sequence *q,
                             uint32_t begin, struct reservation *reservation, uint64_t now_us,
                             struct error *error)
{
    const size_t n = placement_spans(r->placement, q->place, begin, q->n_asked, NULL, 0);
    struct placement_span *spans = calloc(n, sizeof(*spans));
    if (spans == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu spans", n);
    placement_spans(r->placement, q->place, begin, q->n_asked, spans, n);
    reservation->number = r->next_number++;
    reservation->deadline_us = now_us + r->cluster->options->timeout_ms * 1000ull;
    reservation->n_awaited = 0;
    memset(reservation->awaited, 0, r->n_holders * sizeof(*reservation->awaited));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        if (reservation->awaited[spans[i].holder])
            continue;
        reservation->awaited[spans[i].holder] = true;
        reservation->n_awaited++;
        status = send_reserve(r, spans[i].holder, reservation->number, q, spans, n, error);
    }
    free(spans);
    return status;
}

enum status reservations_answered(const struct reservations *r, struct reservation *reservation,
                                  uint32_t node, const Longspan__Failure *failure, bool *complete,
                                  struct error *error)
{
    *complete = false;
    if (!reservation->awaited[node])
        return STATUS_OK; /* said twice */
    if (failure != NULL)
        return error_set(error, status_received(failure->status), "attention node %s: %.800s",
                         r->cluster->nodes[node].label,
                         failure->text != NULL ? failure->text : "no pages");
    reservation->awaited[node] = false;
    if (--reservation->n_awaited == 0) {
        reservation->number = 0;
        *complete = true;
    }
    return STATUS_OK;
}

enum status reservations_check(const struct reservations *r, const struct reservation *reservation,
                               uint64_t now_us, struct error *error)
{
    if (reservation->number == 0 || now_us < reservation->deadline_us)
        return STATUS_OK;
    uint32_t node = 0;
    while (node + 1 < r->n_holders && !reservation->awaited[node])
        node++;
    return error_set(error, STATUS_TIMEOUT,
                     "attention node %s did not answer a reservation for %g s",
                     r->cluster->nodes[node].label, r->cluster->options->timeout_ms / 1000.0);
}

void reservations_free(const struct reservations *r, const struct scheduler_sequence *q)
{
    for (uint32_t node = 0; q->has_place && node < r->n_holders; node++) {
        if (!placement_holds(r->placement, q->place, node))
            continue;
        Longspan__Free release = LONGSPAN__FREE__INIT;
        release.job = r->cluster->job;
        release.sequence = q->name;
        release.incarnation = q->incarnation;
        release.keep_tokens = q->kept_tokens;
        if (r->cluster->nodes[node].stores && r->cluster->options->prefix_cache) {
            release.names.data = (uint8_t *)q->names;
            release.names.len = q->kept_tokens / PAGE_TOKENS * sizeof(*q->names);
        }
        Longspan__Control message = LONGSPAN__CONTROL__INIT;
        message.body_case = LONGSPAN__CONTROL__BODY_FREE;
        message.free = &release;
        struct error why;
        if (control_send(r->control, &r->cluster->nodes[node].peer, &message, NULL, 0, &why) !=
            STATUS_OK)
            log_warn(r->log, "attention node %s keeps the pages of sequence %" PRIu64 ": %s",
                     r->cluster->nodes[node].label, q->name, why.text);
    }
}

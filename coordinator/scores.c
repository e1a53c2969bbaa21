/* scores.c - see scores.h. */
#include "coordinator/scores.h"

#include "sys/array.h"

#include <stdlib.h>
#include <string.h>

void scores_close(struct scores *scores)
{
    free(scores->logits);
    free(scores->log_sum_exps);
    free(scores->top_ids);
    free(scores->top_logits);
    *scores = (struct scores){0};
}

void scores_clear(struct scores *scores)
{
    scores->n = scores->n_tops = 0;
}

static enum status reserve(struct scores *s, size_t n, size_t n_tops, struct error *error)
{
    if (!array_grow_pair(&s->logits, sizeof(*s->logits), &s->log_sum_exps, sizeof(*s->log_sum_exps),
                         &s->capacity, n))
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu scores", n);
    if (!array_grow_pair(&s->top_ids, sizeof(*s->top_ids), &s->top_logits, sizeof(*s->top_logits),
                         &s->top_capacity, n_tops))
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu candidates", n_tops);
    return STATUS_OK;
}

enum status scores_take(struct scores *s, const Longspan__Scores *message, uint32_t n,
                        uint32_t n_top, struct scores_place *place, struct error *error)
{
    const size_t n_tops = (size_t)n * n_top;
    *place = (struct scores_place){.first = s->n, .first_top = s->n_tops};
    if (message->n_logits == 0 && message->n_log_sum_exps == 0 && message->n_top_ids == 0 &&
        message->n_top_logits == 0)
        return STATUS_OK;
    if (message->n_logits != n || message->n_log_sum_exps != n || message->n_top_ids != n_tops ||
        message->n_top_logits != n_tops)
        return error_set(error, STATUS_PROTOCOL,
                         "%zu scores of %zu rows with %zu candidates came: %u tokens were asked "
                         "for, with %u candidates each",
                         message->n_logits, message->n_log_sum_exps, message->n_top_ids, n, n_top);
    const enum status status = reserve(s, s->n + n, s->n_tops + n_tops, error);
    if (status != STATUS_OK)
        return status;
    memcpy(s->logits + s->n, message->logits, n * sizeof(*s->logits));
    memcpy(s->log_sum_exps + s->n, message->log_sum_exps, n * sizeof(*s->log_sum_exps));
    memcpy(s->top_ids + s->n_tops, message->top_ids, n_tops * sizeof(*s->top_ids));
    memcpy(s->top_logits + s->n_tops, message->top_logits, n_tops * sizeof(*s->top_logits));
    s->n += n;
    s->n_tops += n_tops;
    place->n = n;
    place->n_top = n_top;
    return STATUS_OK;
}

struct scores_row scores_row(const struct scores *s, const struct scores_place *place, uint32_t i,
                             uint32_t vocab)
{
    if (i >= place->n)
        return (struct scores_row){.row = {.vocab = vocab}};
    const size_t top = place->first_top + (size_t)i * place->n_top;
    return (struct scores_row){.row = {.ids = s->top_ids + top,
                                       .logits = s->top_logits + top,
                                       .n = place->n_top,
                                       .log_sum_exp = s->log_sum_exps[place->first + i],
                                       .vocab = vocab},
                               .logit = s->logits[place->first + i]};
}

enum status scores_check(const struct scores_row *scored, struct error *error)
{
    const enum status status = sampler_row_check(&scored->row, 1, error);
    if (status == STATUS_OK && !(scored->logit <= scored->row.logits[0])) /* NaN fails */
        return error_set(error, STATUS_PROTOCOL,
                         "a token has logit %g, the best of its row only %g", (double)scored->logit,
                         (double)scored->row.logits[0]);
    return status;
}

/* steps.c - see steps.h. */
#include "coordinator/steps.h"

#include <stdlib.h>

struct steps {
    struct reports_want *wants;
};

enum status steps_create(struct steps **steps, uint32_t max_segments, struct error *error)
{
    struct steps *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->wants = calloc(max_segments, sizeof(*s->wants))) == NULL) {
        steps_destroy(s);
        return error_set(error, STATUS_NO_MEMORY, "no memory for steps of %u segments",
                         max_segments);
    }
    *steps = s;
    return STATUS_OK;
}

void steps_destroy(struct steps *steps)
{
    if (steps == NULL)
        return;
    free(steps->wants);
    free(steps);
}

struct reports_want *steps_wants(struct steps *steps)
{
    return steps->wants;
}

static bool fill_spans(struct arena *arena, Longspan__Segment *to, uint32_t place,
                       const struct scheduler_segment *segment, const struct placement *placement)
{
    const size_t n =
        placement_spans(placement, place, segment->spans_begin, segment->spans_end, NULL, 0);
    if (n == 0)
        return true;
    struct placement_span *spans = arena_array(arena, n, sizeof(*spans));
    Longspan__Span *items = arena_array(arena, n, sizeof(*items));
    to->spans = arena_array(arena, n, sizeof(*to->spans));
    if (spans == NULL || items == NULL || to->spans == NULL)
        return false;
    placement_spans(placement, place, segment->spans_begin, segment->spans_end, spans, n);
    for (size_t i = 0; i < n; i++) {
        longspan__span__init(&items[i]);
        items[i].holder = spans[i].holder;
        items[i].begin = spans[i].begin;
        items[i].end = spans[i].end;
        to->spans[i] = &items[i];
    }
    to->n_spans = n;
    return true;
}

static bool fill_segment(struct arena *arena, Longspan__Segment *to,
                         const struct scheduler_segment *segment, const struct reports_want *want,
                         const struct scheduler *scheduler, const struct placement *placement)
{
    const struct scheduler_sequence *q = scheduler_sequence(scheduler, segment->sequence);
    longspan__segment__init(to);
    to->sequence = q->name;
    to->incarnation = q->incarnation;
    to->position = segment->position;
    if (segment->fills) {
        to->fill_tokens = segment->n_tokens;
        to->fill_seed = q->fill_seed;
    } else {
        to->n_tokens = segment->n_tokens;
        to->tokens = q->tokens + segment->position;
    }
    to->n_candidates = want->n_candidates;
    to->n_next = want->n_scored;
    to->next = q->tokens + segment->position + 1;
    to->n_top = want->n_top;
    to->want = want->row          ? LONGSPAN__WANT__WANT_LOGITS
               : want->candidates ? LONGSPAN__WANT__WANT_CANDIDATES
                                  : LONGSPAN__WANT__WANT_NOTHING;
    if (segment->forks) {
        to->fork = true;
        const struct scheduler_sequence *parent = scheduler_sequence(scheduler, q->parent);
        to->fork_parent = parent->name;
        to->fork_incarnation = parent->incarnation;
    }
    return fill_spans(arena, to, q->place, segment, placement);
}

enum status steps_send(struct steps *steps, const struct cluster *cluster,
                       const struct scheduler_step *step, const struct scheduler *scheduler,
                       const struct placement *placement, struct error *error)
{
    struct arena *arena = &cluster->control->arena;
    Longspan__Segment *segments = arena_array(arena, step->n_segments + 1u, sizeof(*segments));
    Longspan__SequenceName *closed = arena_array(arena, step->n_closed + 1u, sizeof(*closed));
    Longspan__Step message = LONGSPAN__STEP__INIT;
    message.segments = arena_array(arena, step->n_segments + 1u, sizeof(*message.segments));
    message.closed = arena_array(arena, step->n_closed + 1u, sizeof(*message.closed));
    bool complete =
        segments != NULL && closed != NULL && message.segments != NULL && message.closed != NULL;
    for (uint32_t i = 0; complete && i < step->n_segments; i++) {
        complete = fill_segment(arena, &segments[i], &step->segments[i], &steps->wants[i],
                                scheduler, placement);
        message.segments[i] = &segments[i];
    }
    if (!complete) {
        arena_reset(arena);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a step of %u segments",
                         step->n_segments);
    }
    for (uint32_t i = 0; i < step->n_closed; i++) {
        longspan__sequence_name__init(&closed[i]);
        const struct scheduler_sequence *q = scheduler_sequence(scheduler, step->closed[i]);
        closed[i].sequence = q->name;
        closed[i].incarnation = q->incarnation;
        closed[i].keep_tokens = q->kept_tokens;
        message.closed[i] = &closed[i];
    }
    message.job = cluster->job;
    message.step = step->number;
    message.n_segments = step->n_segments;
    message.n_closed = step->n_closed;
    Longspan__Control wrapped = LONGSPAN__CONTROL__INIT;
    wrapped.body_case = LONGSPAN__CONTROL__BODY_STEP;
    wrapped.step = &message;
    return control_send(cluster->control, &cluster->ranks[0].peer, &wrapped, NULL, 0, error);
}

/* step.c - two passes: the whole step first, then segment by segment.
 *
 * Errors of a segment name the sequence and the value, because the coordinator shows them to the
 * user whose request it was. */
#include "worker/step.h"

#include "sys/array.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum status step_create(struct step **step, const struct step_limits *limits, struct error *error)
{
    if (limits->max_rows == 0 || limits->max_sequences == 0 || limits->max_tokens == 0 ||
        limits->vocab == 0)
        return error_set(error, STATUS_INVALID,
                         "step: %u rows, %u sequences, %u tokens and a vocabulary of %u: none may "
                         "be 0",
                         limits->max_rows, limits->max_sequences, limits->max_tokens,
                         limits->vocab);
    struct step *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "step: no memory");
    s->limits = *limits;
    s->segments = calloc(limits->max_sequences, sizeof(*s->segments));
    s->attention = calloc(limits->max_sequences, sizeof(*s->attention));
    s->order = calloc(limits->max_sequences, sizeof(*s->order));
    s->tokens = calloc(limits->max_rows, sizeof(*s->tokens));
    s->positions = calloc(limits->max_rows, sizeof(*s->positions));
    s->needed_positions = calloc(limits->max_rows, sizeof(*s->needed_positions));
    s->next = calloc(limits->max_rows, sizeof(*s->next));
    if (s->segments == NULL || s->attention == NULL || s->order == NULL || s->tokens == NULL ||
        s->positions == NULL || s->needed_positions == NULL || s->next == NULL) {
        step_destroy(s);
        return error_set(error, STATUS_NO_MEMORY, "step: no memory for %u rows of %u sequences",
                         limits->max_rows, limits->max_sequences);
    }
    *step = s;
    return STATUS_OK;
}

void step_destroy(struct step *step)
{
    if (step == NULL)
        return;
    free(step->closed);
    free(step->segments);
    free(step->tokens);
    free(step->positions);
    free(step->needed_positions);
    free(step->next);
    free(step->attention);
    free(step->spans);
    free(step->order);
    free(step);
}

/* Of either kind. */
static uint64_t segment_tokens(const Longspan__Segment *message)
{
    return message->n_tokens + (uint64_t)message->fill_tokens;
}

/* What makes all of it unusable. */
static void check_whole(struct step *step, const Longspan__Step *message)
{
    const struct step_limits *limits = &step->limits;
    struct error *fault = &step->fault;

    if (message->job != limits->job) {
        error_set(fault, STATUS_PROTOCOL,
                  "step %" PRIu64 " is for job %" PRIx64 ", this is %" PRIx64, message->step,
                  message->job, limits->job);
        return;
    }
    if (message->step <= step->last_number) {
        error_set(fault, STATUS_PROTOCOL, "step %" PRIu64 " comes after step %" PRIu64,
                  message->step, step->last_number);
        return;
    }
    step->last_number = message->step;
    step->n_closed = (uint32_t)message->n_closed;
    for (uint32_t i = 0; i < step->n_closed; i++)
        step->closed[i] =
            (struct step_name){message->closed[i]->sequence, message->closed[i]->incarnation,
                               message->closed[i]->keep_tokens};
    if (message->n_segments > limits->max_sequences) {
        error_set(fault, STATUS_EXHAUSTED,
                  "step %" PRIu64 " has %zu segments, at most %u sequences were announced",
                  message->step, message->n_segments, limits->max_sequences);
        return;
    }
    step->n_segments = (uint32_t)message->n_segments;
    uint64_t rows = 0;
    uint32_t n_fill = 0;
    for (uint32_t i = 0; i < step->n_segments; i++) {
        rows += segment_tokens(message->segments[i]);
        n_fill += message->segments[i]->fill_tokens > 0;
    }
    step->fill = n_fill > 0;
    if (n_fill > 0 && n_fill < step->n_segments)
        error_set(fault, STATUS_PROTOCOL,
                  "step %" PRIu64 " fills %u of its %u segments: all, or none", message->step,
                  n_fill, step->n_segments);
    else if (rows > limits->max_rows)
        error_set(fault, STATUS_EXHAUSTED,
                  "step %" PRIu64 " has %" PRIu64 " token rows, at most %u were announced",
                  message->step, rows, limits->max_rows);
}

/* Tokens whose logits are wanted. */
static enum status check_scored(const struct step_limits *limits, const Longspan__Segment *message,
                                struct error *error)
{
    if (message->n_next > message->n_tokens)
        return error_set(error, STATUS_PROTOCOL,
                         "sequence %" PRIu64 ": %zu rows to be scored of a segment of %zu tokens",
                         message->sequence, message->n_next, message->n_tokens);
    for (size_t i = 0; i < message->n_next; i++)
        if (message->next[i] < 0 || (uint32_t)message->next[i] >= limits->vocab)
            return error_set(error, STATUS_INVALID,
                             "sequence %" PRIu64 ": token %d, to be scored behind position %zu, is "
                             "outside the vocabulary of %u",
                             message->sequence, message->next[i], message->position + i,
                             limits->vocab);
    return STATUS_OK;
}

/* Of one segment alone. */
static enum status check_segment(const struct step_limits *limits, const Longspan__Segment *message,
                                 struct error *error)
{
    const uint64_t name = message->sequence, n_tokens = segment_tokens(message);

    if (message->fill_tokens > 0 &&
        (message->n_tokens > 0 || message->want != LONGSPAN__WANT__WANT_NOTHING))
        return error_set(error, STATUS_PROTOCOL,
                         "sequence %" PRIu64 ": a segment that fills has %zu tokens of its own and "
                         "wants %d: neither can be",
                         name, message->n_tokens, (int)message->want);
    if (n_tokens == 0)
        return error_set(error, STATUS_PROTOCOL, "sequence %" PRIu64 ": a segment without tokens",
                         name);
    if (message->position + n_tokens > limits->max_tokens)
        return error_set(error, STATUS_EXHAUSTED,
                         "sequence %" PRIu64 ": %" PRIu64 " tokens from position %u on go beyond "
                         "the limit of %u tokens",
                         name, n_tokens, message->position, limits->max_tokens);
    for (size_t i = 0; i < message->n_tokens; i++)
        if (message->tokens[i] < 0 || (uint32_t)message->tokens[i] >= limits->vocab)
            return error_set(error, STATUS_INVALID,
                             "sequence %" PRIu64 ": token %d at position %zu is outside the "
                             "vocabulary of %u",
                             name, message->tokens[i], message->position + i, limits->vocab);
    if (message->want != LONGSPAN__WANT__WANT_NOTHING &&
        message->want != LONGSPAN__WANT__WANT_CANDIDATES &&
        message->want != LONGSPAN__WANT__WANT_LOGITS)
        return error_set(error, STATUS_PROTOCOL, "sequence %" PRIu64 ": wants %d, which is unknown",
                         name, (int)message->want);
    if (message->fork && message->position == 0)
        return error_set(error, STATUS_PROTOCOL,
                         "sequence %" PRIu64 ": forks nothing (its first position is 0)", name);
    for (size_t i = 0; i < message->n_spans; i++) {
        const Longspan__Span *span = message->spans[i];
        if (span->holder >= limits->n_holders)
            return error_set(error, STATUS_PROTOCOL,
                             "sequence %" PRIu64 ": span %zu is at holder %u of %u", name, i,
                             span->holder, limits->n_holders);
        if (span->begin >= span->end || span->begin % PAGE_TOKENS != 0 ||
            span->end % PAGE_TOKENS != 0 || span->begin >= limits->max_tokens)
            return error_set(error, STATUS_PROTOCOL,
                             "sequence %" PRIu64 ": span [%u, %u) is not a range of whole pages of "
                             "%d tokens below %u",
                             name, span->begin, span->end, (int)PAGE_TOKENS, limits->max_tokens);
    }
    return check_scored(limits, message, error);
}

static int by_sequence(const void *a, const void *b, void *context)
{
    const Longspan__Step *message = context;
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const uint64_t x = message->segments[i]->sequence, y = message->segments[j]->sequence;
    return x != y ? (x < y ? -1 : 1) : (i > j) - (i < j);
}

/* A sequence twice in one step: the second segment would attend to rows that are not stored yet. */
static void refuse_twins(struct step *step, const Longspan__Step *message)
{
    for (uint32_t i = 0; i < step->n_segments; i++)
        step->order[i] = i;
    qsort_r(step->order, step->n_segments, sizeof(*step->order), by_sequence, (void *)message);
    for (uint32_t i = 1; i < step->n_segments; i++) {
        const uint32_t first = step->order[i - 1], second = step->order[i];
        if (message->segments[first]->sequence != message->segments[second]->sequence)
            continue;
        error_set(&step->segments[second].error, STATUS_PROTOCOL,
                  "sequence %" PRIu64 " is in step %" PRIu64 " twice",
                  message->segments[second]->sequence, message->step);
    }
}

/* The row that a result is made of; where rows are scored, which begin with its first, all. */
static void find_needed(struct step *step, struct step_segment *segment)
{
    segment->n_needed =
        segment->n_scored > 0 ? segment->n_tokens : segment->want != STEP_WANT_NOTHING;
    segment->needed = step->n_needed;
    const uint32_t end = segment->row + segment->n_tokens;
    for (uint32_t row = end - segment->n_needed; row < end; row++)
        step->needed_positions[step->n_needed++] = step->positions[row];
}

static void take_segment(struct step *step, struct step_segment *segment,
                         const Longspan__Segment *message, struct attention_span *spans)
{
    segment->row = step->n_rows;
    segment->n_tokens = (uint32_t)segment_tokens(message);
    segment->fill_seed = message->fill_seed;
    segment->attention = step->n_attention;
    segment->want = message->want == LONGSPAN__WANT__WANT_LOGITS       ? STEP_WANT_LOGITS
                    : message->want == LONGSPAN__WANT__WANT_CANDIDATES ? STEP_WANT_CANDIDATES
                                                                       : STEP_WANT_NOTHING;
    segment->n_candidates =
        message->n_candidates < step->limits.vocab ? message->n_candidates : step->limits.vocab;
    step->n_wanted += segment->want != STEP_WANT_NOTHING;
    segment->n_scored = (uint32_t)message->n_next;
    segment->n_top = message->n_top < step->limits.vocab ? message->n_top : step->limits.vocab;
    segment->next = step->next + step->n_scored;
    for (uint32_t i = 0; i < segment->n_scored; i++)
        step->next[step->n_scored++] = message->next[i];
    for (uint32_t i = 0; i < segment->n_tokens; i++) {
        step->tokens[step->n_rows] = step->fill ? 0 : message->tokens[i];
        step->positions[step->n_rows++] = message->position + i;
    }
    find_needed(step, segment);
    for (size_t i = 0; i < message->n_spans; i++)
        spans[i] = (struct attention_span){message->spans[i]->holder,
                                           {message->spans[i]->begin, message->spans[i]->end}};
    step->attention[step->n_attention++] = (struct attention_segment){
        .sequence = message->sequence,
        .incarnation = message->incarnation,
        .position = message->position,
        .n_tokens = segment->n_tokens,
        .n_needed = segment->n_needed,
        .spans = spans,
        .n_spans = (uint32_t)message->n_spans,
        .fill = step->fill,
        .fork = message->fork,
        .parent = message->fork_parent,
        .parent_incarnation = message->fork_incarnation,
    };
}

enum status step_decode(struct step *step, const Longspan__Step *message, struct error *error)
{
    size_t n_spans = 0;
    for (size_t i = 0; i < message->n_segments; i++)
        n_spans += message->segments[i]->n_spans;
    if (!array_grow(&step->spans, &step->span_capacity, n_spans, sizeof(*step->spans)) ||
        !array_grow(&step->closed, &step->closed_capacity, message->n_closed,
                    sizeof(*step->closed)))
        return error_set(error, STATUS_NO_MEMORY,
                         "step: no memory for %zu spans and %zu sequences that end", n_spans,
                         message->n_closed);

    step->number = message->step;
    step->fault = (struct error){.status = STATUS_OK};
    step->fill = false;
    step->n_closed = step->n_segments = step->n_rows = step->n_attention = step->n_wanted =
        step->n_scored = step->n_needed = 0;
    check_whole(step, message);

    for (uint32_t i = 0; i < step->n_segments; i++) {
        step->segments[i] = (struct step_segment){
            .error = step->fault,
            .answered = message->segments[i]->want != LONGSPAN__WANT__WANT_NOTHING,
            .scored = message->segments[i]->n_next > 0,
        };
    }
    if (step->fault.status != STATUS_OK)
        return STATUS_OK;

    refuse_twins(step, message);
    size_t taken = 0; /* of step->spans, which is NULL as long as no step had any */
    for (uint32_t i = 0; i < step->n_segments; i++) {
        struct step_segment *segment = &step->segments[i];
        if (segment->error.status == STATUS_OK &&
            check_segment(&step->limits, message->segments[i], &segment->error) == STATUS_OK) {
            take_segment(step, segment, message->segments[i],
                         step->spans != NULL ? step->spans + taken : NULL);
            taken += message->segments[i]->n_spans;
        }
    }
    return STATUS_OK;
}

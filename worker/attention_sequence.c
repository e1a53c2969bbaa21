/* attention_sequence.c - a chained hash table over a fixed array, and sorted span lists. */
#include "worker/attention_sequence.h"

#include "sys/array.h"
#include "sys/random.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum status attention_sequences_open(struct attention_sequences *sequences, uint32_t n_slots,
                                     struct error *error)
{
    struct attention_sequences s = {.n_slots = n_slots, .n_buckets = 1};
    while (s.n_buckets < n_slots)
        s.n_buckets *= 2;
    s.slots = calloc(n_slots, sizeof(*s.slots));
    s.buckets = calloc(s.n_buckets, sizeof(struct attention_sequence *));
    if (s.slots == NULL || s.buckets == NULL) {
        free(s.slots);
        free(s.buckets);
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory for %u sequences", n_slots);
    }
    for (uint32_t i = n_slots; i > 0; i--) {
        s.slots[i - 1].slot = i - 1;
        s.slots[i - 1].next = s.free;
        s.free = &s.slots[i - 1];
    }
    *sequences = s;
    return STATUS_OK;
}

void attention_sequences_close(struct attention_sequences *sequences)
{
    for (uint32_t i = 0; i < sequences->n_slots; i++)
        free(sequences->slots[i].spans);
    free(sequences->slots);
    free(sequences->buckets);
    memset(sequences, 0, sizeof(*sequences));
}

static struct attention_sequence **bucket_of(const struct attention_sequences *sequences,
                                             uint64_t id, uint32_t incarnation)
{
    const uint64_t hash = random_mix(id ^ random_mix(incarnation));
    return &sequences->buckets[hash & (sequences->n_buckets - 1)];
}

struct attention_sequence *attention_sequences_find(const struct attention_sequences *sequences,
                                                    uint64_t id, uint32_t incarnation)
{
    struct attention_sequence *sequence = *bucket_of(sequences, id, incarnation);
    while (sequence != NULL && (sequence->id != id || sequence->incarnation != incarnation))
        sequence = sequence->next;
    return sequence;
}

enum status attention_sequences_add(struct attention_sequences *sequences, uint64_t id,
                                    uint32_t incarnation, struct attention_sequence **sequence,
                                    struct error *error)
{
    struct attention_sequence *s = sequences->free;
    if (s == NULL)
        return error_set(error, STATUS_EXHAUSTED,
                         "attention: sequence %" PRIu64 " is one more than the %u that can be open",
                         id, sequences->n_slots);
    sequences->free = s->next;
    sequences->n_open++;

    /* The span list keeps its memory. */
    const struct attention_sequence fresh = {.id = id,
                                             .incarnation = incarnation,
                                             .slot = s->slot,
                                             .spans = s->spans,
                                             .spans_capacity = s->spans_capacity,
                                             .part = ATTENTION_NO_PART};
    *s = fresh;
    struct attention_sequence **bucket = bucket_of(sequences, id, incarnation);
    s->next = *bucket;
    *bucket = s;
    *sequence = s;
    return STATUS_OK;
}

void attention_sequences_remove(struct attention_sequences *sequences,
                                struct attention_sequence *sequence)
{
    struct attention_sequence **link = bucket_of(sequences, sequence->id, sequence->incarnation);
    while (*link != sequence)
        link = &(*link)->next;
    *link = sequence->next;
    sequence->next = sequences->free;
    sequences->free = sequence;
    sequences->n_open--;
}

/* Inserts at `at`, then joins with neighbours of the same holder. */
static enum status insert_span(struct attention_sequence *sequence, size_t at,
                               struct attention_span span, struct error *error)
{
    struct attention_span *spans = sequence->spans;
    size_t n = sequence->n_spans;
    if (at > 0 && spans[at - 1].holder == span.holder &&
        spans[at - 1].tokens.end == span.tokens.begin) {
        spans[at - 1].tokens.end = span.tokens.end;
        if (at < n && spans[at].holder == span.holder &&
            spans[at].tokens.begin == span.tokens.end) {
            spans[at - 1].tokens.end = spans[at].tokens.end;
            memmove(spans + at, spans + at + 1, (n - at - 1) * sizeof(*spans));
            sequence->n_spans--;
        }
        return STATUS_OK;
    }
    if (at < n && spans[at].holder == span.holder && spans[at].tokens.begin == span.tokens.end) {
        spans[at].tokens.begin = span.tokens.begin;
        return STATUS_OK;
    }
    if (!array_grow(&sequence->spans, &sequence->spans_capacity, n + 1, sizeof(*spans)))
        return error_set(error, STATUS_NO_MEMORY,
                         "attention: no memory for %zu spans of sequence %" PRIu64, n + 1,
                         sequence->id);
    spans = sequence->spans;
    memmove(spans + at + 1, spans + at, (n - at) * sizeof(*spans));
    spans[at] = span;
    sequence->n_spans++;
    return STATUS_OK;
}

size_t attention_sequence_span_at(const struct attention_sequence *sequence, uint32_t token)
{
    size_t at = 0, end = sequence->n_spans;
    while (at < end) {
        const size_t middle = (at + end) / 2;
        if (sequence->spans[middle].tokens.end <= token)
            at = middle + 1;
        else
            end = middle;
    }
    return at;
}

static enum status add_span(struct attention_sequence *sequence, struct attention_span span,
                            uint32_t n_holders, struct error *error)
{
    const struct span tokens = span.tokens;
    if (tokens.begin >= tokens.end || tokens.begin % PAGE_TOKENS != 0 ||
        tokens.end % PAGE_TOKENS != 0 || span.holder >= n_holders)
        return error_set(error, STATUS_INVALID,
                         "attention: sequence %" PRIu64 " has a span [%u, %u) at holder %u: spans "
                         "are whole pages of %u tokens at holders 0 to %u",
                         sequence->id, tokens.begin, tokens.end, span.holder, (unsigned)PAGE_TOKENS,
                         n_holders - 1);
    const size_t at = attention_sequence_span_at(sequence, tokens.begin);
    if (at == sequence->n_spans || sequence->spans[at].tokens.begin >= tokens.end)
        return insert_span(sequence, at, span, error);
    const struct attention_span known = sequence->spans[at];
    if (known.holder == span.holder && known.tokens.begin <= tokens.begin &&
        tokens.end <= known.tokens.end)
        return STATUS_OK;
    return error_set(error, STATUS_INVALID,
                     "attention: sequence %" PRIu64 ": tokens [%u, %u) are given to holder %u, but "
                     "[%u, %u) are at holder %u",
                     sequence->id, tokens.begin, tokens.end, span.holder, known.tokens.begin,
                     known.tokens.end, known.holder);
}

enum status attention_sequence_add_spans(struct attention_sequence *sequence,
                                         const struct attention_span *spans, size_t n_spans,
                                         uint32_t n_holders, struct error *error)
{
    for (size_t i = 0; i < n_spans; i++) {
        const enum status status = add_span(sequence, spans[i], n_holders, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status attention_sequence_inherit(struct attention_sequence *child,
                                       const struct attention_sequence *parent, uint32_t n_tokens,
                                       uint32_t n_holders, struct error *error)
{
    for (size_t i = 0; i < parent->n_spans; i++) {
        struct attention_span span = parent->spans[i];
        if (span.tokens.begin >= n_tokens)
            break;
        if (span.tokens.end > n_tokens)
            span.tokens.end = n_tokens;
        /* Page by page, as the child may know some of them: its first spans may name them too. */
        const uint32_t end = span.tokens.end;
        for (uint32_t page = span.tokens.begin; page < end; page += PAGE_TOKENS) {
            span.tokens = (struct span){page, page + PAGE_TOKENS};
            const enum status status = add_span(child, span, n_holders, error);
            if (status != STATUS_OK)
                return status;
        }
    }
    return STATUS_OK;
}

bool attention_sequence_holds(const struct attention_sequence *sequence, uint32_t holder,
                              uint32_t end)
{
    for (size_t i = 0; i < sequence->n_spans; i++) {
        const struct attention_span *span = &sequence->spans[i];
        if (span->holder == holder && span->tokens.begin / TILE_TOKENS < end &&
            span->tokens.end / TILE_TOKENS > 0)
            return true;
    }
    return false;
}

uint32_t attention_sequence_uncovered(const struct attention_sequence *sequence, uint32_t begin,
                                      uint32_t end)
{
    uint32_t next = begin;
    for (size_t i = 0; i < sequence->n_spans && next < end; i++) {
        const struct span tokens = sequence->spans[i].tokens;
        if (tokens.begin / TILE_TOKENS > next)
            break;
        if (tokens.end / TILE_TOKENS > next)
            next = tokens.end / TILE_TOKENS;
    }
    return next < end ? next : end;
}

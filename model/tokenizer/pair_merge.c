/* pair_merge.c - a candidate is not removed from the heap when one of its symbols is joined to
 * another: it is recognised as stale when it comes up, because then the bytes of left and its
 * neighbour no longer add up. (Symbols only grow, or vanish, so the sum never comes back.) */
#include "model/tokenizer/pair_merge.h"

#include "sys/array.h"

#include <stdlib.h>

void pair_merge_reset(struct pair_merge *merge)
{
    merge->n_symbols = 0;
    merge->n_heap = 0;
}

bool pair_merge_append(struct pair_merge *merge, uint32_t n_bytes, int32_t id)
{
    if (!array_grow(&merge->symbols, &merge->symbols_capacity, merge->n_symbols + 1,
                    sizeof(*merge->symbols)))
        return false;
    const uint32_t index = (uint32_t)merge->n_symbols++;
    struct pair_merge_symbol *symbol = &merge->symbols[index];
    *symbol = (struct pair_merge_symbol){0, n_bytes, PAIR_MERGE_NONE, PAIR_MERGE_NONE, id};
    if (index > 0) {
        symbol->begin = symbol[-1].begin + symbol[-1].n_bytes;
        symbol->previous = index - 1;
        symbol[-1].next = index;
    }
    return true;
}

static bool push(struct pair_merge *merge, struct pair_merge_candidate candidate)
{
    if (!array_grow(&merge->heap, &merge->heap_capacity, merge->n_heap + 1, sizeof(*merge->heap)))
        return false;
    size_t i = merge->n_heap++;
    for (; i > 0 && candidate.key < merge->heap[(i - 1) / 2].key; i = (i - 1) / 2)
        merge->heap[i] = merge->heap[(i - 1) / 2];
    merge->heap[i] = candidate;
    return true;
}

static struct pair_merge_candidate pop(struct pair_merge *merge)
{
    const struct pair_merge_candidate top = merge->heap[0], last = merge->heap[--merge->n_heap];
    const size_t n = merge->n_heap;
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && merge->heap[child + 1].key < merge->heap[child].key)
            child++;
        if (last.key <= merge->heap[child].key)
            break;
        merge->heap[i] = merge->heap[child];
    }
    if (n > 0)
        merge->heap[i] = last;
    return top;
}

static bool consider(struct pair_merge *merge, uint32_t left, const char *text,
                     pair_merge_rule *rule, const void *rules)
{
    const struct pair_merge_symbol *a = &merge->symbols[left];
    if (a->next == PAIR_MERGE_NONE)
        return true;
    const struct pair_merge_symbol *b = &merge->symbols[a->next];
    uint32_t order;
    int32_t id;
    if (!rule(rules, text, a, b, &order, &id))
        return true;
    return push(merge, (struct pair_merge_candidate){(uint64_t)order << 32 | left,
                                                     a->n_bytes + b->n_bytes, id});
}

bool pair_merge_run(struct pair_merge *merge, const char *text, pair_merge_rule *rule,
                    const void *rules)
{
    for (size_t i = 0; i + 1 < merge->n_symbols; i++)
        if (!consider(merge, (uint32_t)i, text, rule, rules))
            return false;
    while (merge->n_heap > 0) {
        const struct pair_merge_candidate candidate = pop(merge);
        const uint32_t left = (uint32_t)candidate.key;
        struct pair_merge_symbol *a = &merge->symbols[left];
        if (a->n_bytes == 0 || a->next == PAIR_MERGE_NONE)
            continue;
        struct pair_merge_symbol *b = &merge->symbols[a->next];
        if (a->n_bytes + b->n_bytes != candidate.n_bytes)
            continue;
        a->n_bytes = candidate.n_bytes;
        a->id = candidate.id;
        a->next = b->next;
        b->n_bytes = 0;
        if (a->next != PAIR_MERGE_NONE)
            merge->symbols[a->next].previous = left;
        if ((a->previous != PAIR_MERGE_NONE && !consider(merge, a->previous, text, rule, rules)) ||
            !consider(merge, left, text, rule, rules))
            return false;
    }
    return true;
}

void pair_merge_free(struct pair_merge *merge)
{
    free(merge->symbols);
    free(merge->heap);
    *merge = (struct pair_merge){0};
}

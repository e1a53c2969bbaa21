/* kv_spans.c - a few spans per sequence: sorted arrays and binary search. */
#include "kernels/attention/kv_spans.h"

#include <stdlib.h>

enum status kv_spans_check(const struct span *spans, size_t n, struct error *error)
{
    uint32_t end = 0;
    for (size_t i = 0; i < n; i++) {
        const struct span span = spans[i];
        if (span.begin >= span.end || span.end > KV_MAX_TOKENS || span.begin % PAGE_TOKENS != 0 ||
            span.end % PAGE_TOKENS != 0 || span.begin < end)
            return error_set(error, STATUS_INVALID,
                             "KV span [%u, %u): spans ascend, do not overlap and are cut at "
                             "multiples of %d tokens",
                             span.begin, span.end, PAGE_TOKENS);
        end = span.end;
    }
    return STATUS_OK;
}

bool kv_spans_unite(struct kv_spans *united, const struct kv_spans *a, const struct span *spans,
                    size_t n)
{
    struct span *out = calloc(a->n + n + 1, sizeof(*out));
    if (out == NULL)
        return false;
    size_t n_out = 0;
    for (size_t i = 0, j = 0; i < a->n || j < n;) {
        const struct span next = j == n || (i < a->n && a->spans[i].begin <= spans[j].begin)
                                     ? a->spans[i++]
                                     : spans[j++];
        if (n_out == 0 || next.begin > out[n_out - 1].end)
            out[n_out++] = next;
        else if (next.end > out[n_out - 1].end)
            out[n_out - 1].end = next.end;
    }
    *united = (struct kv_spans){.spans = out, .n = n_out};
    return true;
}

void kv_spans_clear(struct kv_spans *spans)
{
    free(spans->spans);
    *spans = (struct kv_spans){0};
}

void kv_spans_cut(struct kv_spans *spans, uint32_t token)
{
    while (spans->n > 0 && spans->spans[spans->n - 1].begin >= token)
        spans->n--;
    if (spans->n > 0 && spans->spans[spans->n - 1].end > token)
        spans->spans[spans->n - 1].end = token;
}

/* The first span that ends after `token`; n when there is none. */
static size_t first_after(const struct kv_spans *spans, uint32_t token)
{
    size_t low = 0, high = spans->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (spans->spans[middle].end > token)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

uint32_t kv_spans_next(const struct kv_spans *spans, uint32_t token)
{
    const size_t i = first_after(spans, token);
    if (i == spans->n)
        return KV_NO_TOKEN;
    return token > spans->spans[i].begin ? token : spans->spans[i].begin;
}

uint32_t kv_spans_next_gap(const struct kv_spans *spans, uint32_t token)
{
    const size_t i = first_after(spans, token);
    return i < spans->n && spans->spans[i].begin <= token ? spans->spans[i].end : token;
}

/* Pages of a span from token `from` on. */
static uint64_t pages_from(struct span span, uint32_t from)
{
    const uint32_t begin = span.begin > from ? span.begin : from;
    return begin < span.end ? (span.end - begin) / PAGE_TOKENS : 0;
}

uint64_t kv_spans_pages(const struct kv_spans *spans, uint32_t from)
{
    uint64_t n = 0;
    for (size_t i = 0; i < spans->n; i++)
        n += pages_from(spans->spans[i], from);
    return n;
}

/* Among the best ones is one that begins where a span does: from inside a span, a step to the left
 * gains a page and loses one at most. The span that reaches beyond the end moves along with the
 * begin, so that a peer's list of any length is gone through once. */
uint64_t kv_spans_most_pages(const struct kv_spans *spans, uint32_t from, uint32_t n_pages)
{
    const size_t first = first_after(spans, from);
    uint64_t most = 0, before_begin = 0, before_end = 0; /* pages of whole spans before both ends */
    for (size_t i = first, j = first; i < spans->n; i++) {
        const struct span span = spans->spans[i];
        const uint64_t begin = span.begin > from ? span.begin : from;
        const uint64_t end = begin + (uint64_t)n_pages * PAGE_TOKENS;
        for (; j < spans->n && spans->spans[j].end <= end; j++)
            before_end += pages_from(spans->spans[j], from);
        uint64_t n = before_end - before_begin;
        if (j < spans->n && spans->spans[j].begin < end)
            n += pages_from((struct span){spans->spans[j].begin, (uint32_t)end}, from);
        most = n > most ? n : most;
        before_begin += pages_from(span, from);
    }
    return most;
}

uint32_t kv_spans_begin(const struct kv_spans *spans)
{
    return spans->n > 0 ? spans->spans[0].begin : 0;
}

uint32_t kv_spans_end(const struct kv_spans *spans)
{
    return spans->n > 0 ? spans->spans[spans->n - 1].end : 0;
}

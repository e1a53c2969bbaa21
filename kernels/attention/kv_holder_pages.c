/* kv_holder_pages.c - whole pages as bytes, out of a holder and into it. */
#include "kernels/attention/kv_holder_state.h"

#include <string.h>

uint64_t kv_holder_planes(const struct kv_holder *holder)
{
    return holder->sequences.n_planes;
}

/* The table's entry of a page that the sequence owns; NULL: it does not. */
static void **owned_page(const struct kv_holder *holder, const struct kv_sequence *s,
                         uint64_t plane, uint32_t page)
{
    if (s == NULL || plane >= holder->sequences.n_planes || page >= KV_MAX_TOKENS / PAGE_TOKENS ||
        kv_spans_next(&s->spans, page * PAGE_TOKENS) != page * PAGE_TOKENS)
        return NULL;
    return kv_sequence_page(s, plane, page);
}

enum status kv_holder_read_page(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                                uint64_t plane, uint32_t page, void *to, struct error *error)
{
    const struct kv_sequence *s = kv_sequences_find_open(&holder->sequences, sequence, incarnation);
    void **from = owned_page(holder, s, plane, page);
    if (from == NULL || *from == NULL || s->marks[plane] / PAGE_TOKENS <= page)
        return error_set(error, STATUS_NOT_FOUND, "sequence %llu: page %u is not held here",
                         (unsigned long long)sequence, page);
    if (holder->memory == NULL) {
        memcpy(to, *from, holder->page_bytes);
        return STATUS_OK;
    }
    kv_holder_flush(holder);
    holder->kernels->download(holder->device, to, *from, holder->page_bytes);
    return holder->kernels->finish(holder->device, error);
}

enum status kv_holder_write_page(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                                 uint64_t plane, uint32_t page, const void *from,
                                 struct error *error)
{
    struct kv_sequence *s = kv_sequences_find_open(&holder->sequences, sequence, incarnation);
    void **to = owned_page(holder, s, plane, page);
    if (to == NULL || *to != NULL || page < s->shared_pages || kv_plane_window(holder, plane) > 0)
        return error_set(error, STATUS_INVALID, "sequence %llu: page %u is not awaited here",
                         (unsigned long long)sequence, page);
    kv_take_page(holder, s, plane, page);
    if (holder->memory == NULL) {
        memcpy(*to, from, holder->page_bytes);
        return STATUS_OK;
    }
    holder->kernels->upload(holder->device, *to, from, holder->page_bytes);
    return holder->kernels->finish(holder->device, error);
}

enum status kv_holder_written(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                              struct error *error)
{
    struct kv_sequence *s = kv_sequences_find_open(&holder->sequences, sequence, incarnation);
    if (s == NULL)
        return kv_not_open(sequence, incarnation, error);
    const uint64_t n_planes = holder->sequences.n_planes;
    for (uint64_t plane = 0; plane < n_planes; plane++)
        for (size_t i = 0; i < s->spans.n; i++)
            for (uint32_t token = s->spans.spans[i].begin; token < s->spans.spans[i].end;
                 token += PAGE_TOKENS)
                if (*kv_sequence_page(s, plane, token / PAGE_TOKENS) == NULL)
                    return error_set(error, STATUS_INVALID,
                                     "sequence %llu: page %u was not written",
                                     (unsigned long long)sequence, token / PAGE_TOKENS);
    for (uint64_t plane = 0; plane < n_planes; plane++)
        s->marks[plane] = kv_spans_end(&s->spans);
    return STATUS_OK;
}

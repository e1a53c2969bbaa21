/* kv_holder_tokens.c - tokens come, are shared with forks, read, and released when no row to come
 * sees them.
 *
 * On a device with memory of its own, what is appended is collected and written in one launch: at
 * the latest when a page is given back or copied, so that it never meets another's tokens there. */
#include "kernels/attention/kv_holder_state.h"

#include <string.h>

/* ---- writing ----------------------------------------------------------------------------- */

void kv_holder_flush(struct kv_holder *holder)
{
    if (holder->n_writes > 0)
        holder->kernels->attention_device->write(holder->device, holder->shape.type,
                                                 holder->shape.head_dim, holder->writes_stride,
                                                 holder->writes, holder->n_writes);
    holder->n_writes = 0;
}

struct attend_writes kv_holder_take_writes(struct kv_holder *holder)
{
    const struct attend_writes writes = {
        .tokens = holder->writes, .n = holder->n_writes, .stride_bytes = holder->writes_stride};
    holder->n_writes = 0;
    return writes;
}

/* Into tiles: now, or with others. */
static void write_tokens(struct kv_holder *holder, const struct tile_tokens *tokens,
                         size_t stride_bytes)
{
    if (holder->writes == NULL) {
        tile_write(tokens->tile, holder->shape.type, holder->shape.head_dim, tokens->first,
                   tokens->n_tokens, tokens->k, tokens->v, stride_bytes);
        return;
    }
    if (holder->n_writes == KV_MOST_WRITES || holder->writes_stride != stride_bytes)
        kv_holder_flush(holder);
    holder->writes_stride = stride_bytes;
    holder->writes[holder->n_writes++] = *tokens;
}

/* ---- appending --------------------------------------------------------------------------- */

/* Whether tokens [first, end), of a step from `position` on, can follow what the plane has. */
static enum status check_append(const struct kv_holder *holder, const struct kv_sequence *s,
                                size_t plane, uint32_t position, uint32_t first, uint32_t end,
                                struct error *error)
{
    const uint32_t missing = kv_spans_next(&s->spans, s->marks[plane]);
    if (missing < first)
        return error_set(
            error, STATUS_PROTOCOL,
            "sequence %llu: tokens from %u were appended, but token %u has not arrived",
            (unsigned long long)s->id, first, missing);
    if (missing < end && missing / PAGE_TOKENS < s->shared_pages)
        return error_set(error, STATUS_PROTOCOL,
                         "sequence %llu: token %u was appended, but a fork has to bring those "
                         "below %u",
                         (unsigned long long)s->id, missing, s->shared_pages * PAGE_TOKENS);
    if (kv_plane_window(holder, plane) > 0 &&
        (position > first || end - position > holder->shape.chunk))
        return error_set(error, STATUS_PROTOCOL,
                         "sequence %llu: tokens [%u, %u) were appended in a step from %u on, to a "
                         "layer with a window, where there is room for %u",
                         (unsigned long long)s->id, first, end, position, holder->shape.chunk);
    return STATUS_OK;
}

/* Tokens [first, end) of one head, whose k and v lie at `k` and `v`, token_bytes apart. */
static void append_plane(struct kv_holder *holder, struct kv_sequence *s, size_t plane,
                         uint32_t first, uint32_t end, const char *k, const char *v,
                         size_t token_bytes)
{
    uint32_t *mark = &s->marks[plane];
    const uint32_t from = *mark > first ? *mark : first;
    for (uint32_t token = kv_spans_next(&s->spans, from), stop; token < end;
         token = kv_spans_next(&s->spans, stop)) { /* to the end of a tile, of a span, or of all */
        stop = (token / TILE_TOKENS + 1) * TILE_TOKENS;
        stop = stop < end ? stop : end;
        void **page = kv_sequence_page(s, plane, token / PAGE_TOKENS);
        if (*page == NULL)
            kv_take_page(holder, s, plane, token / PAGE_TOKENS);
        const size_t offset = (token - first) * token_bytes;
        const struct tile_tokens tokens = {
            .tile = (char *)*page + token / TILE_TOKENS % PAGE_TILES * holder->tile_bytes,
            .k = k + offset,
            .v = v + offset,
            .first = token % TILE_TOKENS,
            .n_tokens = stop - token};
        write_tokens(holder, &tokens, token_bytes);
    }
    if (end > *mark)
        *mark = end;
}

enum status kv_holder_append(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                             struct kv_heads heads, const struct kv_append *append,
                             struct error *error)
{
    const uint32_t first = append->first, position = append->position;
    if (!kv_planes_inside(holder, heads))
        return kv_planes_outside(holder, STATUS_PROTOCOL, heads, error);
    if ((uint64_t)first + append->n_tokens > KV_MAX_TOKENS)
        return error_set(error, STATUS_PROTOCOL, "tokens [%u, +%u) are beyond the longest sequence",
                         first, append->n_tokens);
    struct kv_sequence *s = kv_sequences_find_open(&holder->sequences, sequence, incarnation);
    if (s == NULL)
        return kv_not_open(sequence, incarnation, error);

    const uint32_t end = first + append->n_tokens;
    const size_t plane = kv_plane_of(holder, heads.layer, heads.head);
    for (size_t i = plane; i < plane + heads.n_heads; i++) {
        const enum status status = check_append(holder, s, i, position, first, end, error);
        if (status != STATUS_OK)
            return status;
    }
    const uint32_t window = kv_plane_window(holder, plane);
    for (uint32_t h = 0; h < heads.n_heads; h++) {
        if (window > 0)
            kv_release_below(holder, s, plane + h, kv_window_first(window, position));
        append_plane(
            holder, s, plane + h, first, end, (const char *)append->k + h * holder->row_bytes,
            (const char *)append->v + h * holder->row_bytes, heads.n_heads * holder->row_bytes);
    }
    return STATUS_OK;
}

uint32_t kv_holder_mark(const struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                        struct kv_heads heads)
{
    const struct kv_sequence *s = kv_sequences_find_open(&holder->sequences, sequence, incarnation);
    if (s == NULL || !kv_planes_inside(holder, heads))
        return 0;
    const uint32_t *marks = s->marks + kv_plane_of(holder, heads.layer, heads.head);
    uint32_t mark = marks[0];
    for (uint32_t i = 1; i < heads.n_heads; i++)
        mark = marks[i] < mark ? marks[i] : mark;
    return mark;
}

/* ---- forking ----------------------------------------------------------------------------- */

/* The first token that a fork at n_tokens brings to a plane of the child. */
static uint32_t fork_first(const struct kv_holder *holder, const struct kv_sequence *child,
                           size_t plane, uint32_t n_tokens)
{
    const uint32_t first = kv_window_first(kv_plane_window(holder, plane), n_tokens);
    return first > child->firsts[plane] ? first : child->firsts[plane];
}

/* What keeps one plane of the parent from being shared; STATUS_OK: nothing. */
static enum status check_fork(const struct kv_holder *holder, const struct kv_sequence *parent,
                              const struct kv_sequence *child, size_t plane, uint32_t n_tokens,
                              struct error *error)
{
    const uint32_t missing = kv_spans_next(&parent->spans, parent->marks[plane]);
    if (missing < n_tokens)
        return error_set(error, STATUS_INVALID,
                         "fork of sequence %llu at %u tokens: token %u has not arrived",
                         (unsigned long long)parent->id, n_tokens, missing);
    if (parent->firsts[plane] > fork_first(holder, child, plane, n_tokens))
        return error_set(error, STATUS_INVALID,
                         "fork of sequence %llu at %u tokens: its tokens below %u have left the "
                         "window",
                         (unsigned long long)parent->id, n_tokens, parent->firsts[plane]);
    for (size_t i = 0; i < child->spans.n && child->spans.spans[i].begin < n_tokens; i++) {
        const uint32_t end =
            child->spans.spans[i].end < n_tokens ? child->spans.spans[i].end : n_tokens;
        if (kv_spans_next_gap(&parent->spans, child->spans.spans[i].begin) < end)
            return error_set(error, STATUS_INVALID,
                             "fork of sequence %llu at %u tokens: the child has [%u, %u), the "
                             "parent lacks token %u",
                             (unsigned long long)parent->id, n_tokens, child->spans.spans[i].begin,
                             child->spans.spans[i].end,
                             kv_spans_next_gap(&parent->spans, child->spans.spans[i].begin));
    }
    const uint32_t owned = kv_spans_next(&child->spans, 0);
    if (owned < child->marks[plane]) /* not a repetition, that one's mark is n_tokens */
        return error_set(error, STATUS_INVALID,
                         "fork to sequence %llu at %u tokens: it already has its token %u",
                         (unsigned long long)child->id, n_tokens, owned);
    return STATUS_OK;
}

/* One page more for the child: the parent's, or a copy. */
static void share_page(struct kv_holder *holder, const struct kv_sequence *parent,
                       struct kv_sequence *child, size_t plane, uint32_t page)
{
    void *theirs = *kv_sequence_page(parent, plane, page);
    void **ours = kv_sequence_page(child, plane, page);
    if (kv_plane_window(holder, plane) > 0) {
        kv_take_page(holder, child, plane, page);
        if (holder->memory == NULL)
            memcpy(*ours, theirs, holder->page_bytes);
        else
            holder->kernels->copy(holder->device, *ours, theirs, holder->page_bytes);
        return;
    }
    kv_pool_share(holder->pool, theirs);
    *ours = theirs;
    if (page >= child->shared_pages) { /* promised, and not needed after all */
        kv_pool_release(holder->pool, 1);
        child->n_promised--;
    }
}

static void share_plane(struct kv_holder *holder, const struct kv_sequence *parent,
                        struct kv_sequence *child, size_t plane, uint32_t n_tokens)
{
    const uint32_t first = fork_first(holder, child, plane, n_tokens);
    for (uint32_t token = kv_spans_next(&child->spans, first); token < n_tokens;
         token = kv_spans_next(&child->spans, token + PAGE_TOKENS))
        share_page(holder, parent, child, plane, token / PAGE_TOKENS);
    child->firsts[plane] = first;
    child->marks[plane] = n_tokens;
}

enum status kv_holder_fork(struct kv_holder *holder, const struct kv_fork *fork,
                           struct kv_heads heads, struct error *error)
{
    const uint32_t n_tokens = fork->n_tokens;
    if (!kv_planes_inside(holder, heads))
        return kv_planes_outside(holder, STATUS_INVALID, heads, error);
    if (n_tokens % PAGE_TOKENS != 0 || n_tokens > KV_MAX_TOKENS)
        return error_set(error, STATUS_INVALID, "fork at %u tokens: not a multiple of %d", n_tokens,
                         PAGE_TOKENS);
    struct kv_sequence *child =
        kv_sequences_find_open(&holder->sequences, fork->child, fork->child_incarnation);
    if (child == NULL)
        return kv_not_open(fork->child, fork->child_incarnation, error);
    if (kv_holder_mark(holder, fork->child, fork->child_incarnation, heads) >= n_tokens)
        return STATUS_OK; /* again; the parent may be closed by now */
    const struct kv_sequence *parent =
        kv_sequences_find_open(&holder->sequences, fork->parent, fork->parent_incarnation);
    if (parent == NULL)
        return kv_not_open(fork->parent, fork->parent_incarnation, error);

    const size_t plane = kv_plane_of(holder, heads.layer, heads.head);
    for (size_t i = plane; i < plane + heads.n_heads; i++)
        if (child->marks[i] < n_tokens) {
            const enum status status = check_fork(holder, parent, child, i, n_tokens, error);
            if (status != STATUS_OK)
                return status;
        }
    if (kv_plane_window(holder, plane) > 0)
        kv_holder_flush(holder); /* the pages that are copied are whole */
    for (size_t i = plane; i < plane + heads.n_heads; i++)
        if (child->marks[i] < n_tokens)
            share_plane(holder, parent, child, i, n_tokens);
    return STATUS_OK;
}

/* ---- reading ----------------------------------------------------------------------------- */

/* The first token of [begin, end), which are not released, that the plane lacks; `end`: none. */
static uint64_t first_lacking(const struct kv_sequence *s, size_t plane, uint64_t begin,
                              uint64_t end)
{
    uint64_t have = kv_spans_next_gap(&s->spans, (uint32_t)begin);
    if (have > s->marks[plane])
        have = s->marks[plane] > begin ? s->marks[plane] : begin;
    return have < end ? have : end;
}

enum status kv_holder_source(const struct kv_holder *holder, uint64_t sequence,
                             uint32_t incarnation, uint32_t layer, uint32_t head,
                             const struct kv_view *view, struct tile_source *source,
                             struct error *error)
{
    const struct kv_heads heads = {layer, head, 1};
    if (!kv_planes_inside(holder, heads))
        return kv_planes_outside(holder, STATUS_PROTOCOL, heads, error);
    const struct kv_sequence *s = kv_sequences_find_open(&holder->sequences, sequence, incarnation);
    if (s == NULL)
        return kv_not_open(sequence, incarnation, error);

    const size_t plane = kv_plane_of(holder, layer, head);
    for (size_t i = 0; i < view->n_ranges; i++) {
        const struct tile_range *range = &view->ranges[i];
        if (range->begin >= range->end || range->end > TREE_MAX_TILES)
            return error_set(error, STATUS_PROTOCOL, "tiles [%u, %u) are not a range", range->begin,
                             range->end);
        const uint32_t seen = view->first_token / TILE_TOKENS;
        const uint32_t first = range->begin > seen ? range->begin : seen;
        if (first >= range->end)
            continue;
        const uint64_t begin = (uint64_t)first * TILE_TOKENS;
        const uint64_t end = (uint64_t)range->end * TILE_TOKENS;
        if (begin < s->firsts[plane])
            return error_set(error, STATUS_NOT_FOUND,
                             "sequence %llu, layer %u, KV head %u: tokens below %u have left the "
                             "window of %u, token %llu is not held any more",
                             (unsigned long long)sequence, layer, head, s->firsts[plane],
                             kv_plane_window(holder, plane), (unsigned long long)begin);
        const uint64_t lacking = first_lacking(s, plane, begin, end);
        if (lacking < end)
            return error_set(error, STATUS_PROTOCOL,
                             "sequence %llu, layer %u, KV head %u: token %llu is not held here",
                             (unsigned long long)sequence, layer, head,
                             (unsigned long long)lacking);
    }
    *source = (struct tile_source){
        .pages = s->pages + plane * s->n_pages,
        .first_tile = s->first_page * PAGE_TILES,
        .page_tiles = PAGE_TILES,
    };
    return STATUS_OK;
}

/* kv_holder.c - one table of pages per sequence, made when it is opened.
 *
 * A *plane* is one layer and KV head. A sequence's table is [plane][page], for the pages from its
 * first span's begin to its last span's end; a page that is not owned, or not taken yet, is NULL. A
 * row of the table is what tile_source wants, so a query finds its tiles without looking anything
 * up. Pages that lie between spans cost 8 bytes each.
 *
 * Spans are kept as the union of what was reserved, so reserving again changes nothing. Only
 * reserve opens: an incarnation that is not open is closed, however long ago, and costs no memory.
 * All numbers that come from a peer are checked here, before anything is changed.
 *
 * On a device with memory of its own, what is appended is collected and written in one launch: at
 * the latest when a page is given back, so that it never meets another's tokens there. */
#include "kernels/attention/kv_holder.h"

#include "kernels/attention/device.h"
#include "kernels/attention/kv_pool.h"
#include "kernels/attention/kv_spans.h"
#include "kernels/kernels.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Tables of pages take at most a quarter of the pages' memory; so much is always fine. A peer that
 * names far-away tokens is told that they do not fit. */
#define TABLE_BYTES_FREE ((uint64_t)16 << 20)

struct sequence {
    uint64_t id;
    uint32_t incarnation;
    uint32_t shared_pages;        /* pages below are not promised: a fork brings them */
    uint32_t first_page, n_pages; /* the table's columns */
    uint64_t n_promised;
    struct kv_spans spans; /* owned */
    void **pages;          /* [plane][n_pages] */
    uint32_t *marks;       /* [plane] */
    struct sequence *next;
};

enum { MOST_WRITES = 1024 }; /* that are collected; tokens of one tile each */

struct kv_holder {
    const struct kernels *kernels;
    struct device *device;
    struct kv_holder_shape shape;
    void *memory; /* of the pages, on the device; NULL: the pool's own */
    struct kv_pool *pool;
    struct tile_tokens *writes; /* [MOST_WRITES] collected; NULL in host memory */
    size_t n_writes, writes_stride;
    size_t row_bytes, tile_bytes, page_bytes;
    uint64_t n_planes, n_sequences;
    uint64_t table_bytes, max_table_bytes;
    struct sequence **buckets; /* chained; a power of two of them */
    size_t n_buckets;
};

/* ---- sequences --------------------------------------------------------------------------- */

static struct sequence **bucket(const struct kv_holder *holder, uint64_t id)
{
    id = (id ^ id >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return &holder->buckets[(id >> 32) & (holder->n_buckets - 1)];
}

static struct sequence *find_id(const struct kv_holder *holder, uint64_t id)
{
    struct sequence *s = *bucket(holder, id);
    while (s != NULL && s->id != id)
        s = s->next;
    return s;
}

static struct sequence *find(const struct kv_holder *holder, uint64_t id, uint32_t incarnation)
{
    struct sequence *s = find_id(holder, id);
    return s != NULL && s->incarnation == incarnation ? s : NULL;
}

static enum status not_open(uint64_t id, uint32_t incarnation, struct error *error)
{
    return error_set(error, STATUS_NOT_FOUND, "sequence %llu (incarnation %u) is not open here",
                     (unsigned long long)id, incarnation);
}

static uint64_t table_bytes(const struct kv_holder *holder, uint64_t n_pages)
{
    return sizeof(struct sequence) +
           holder->n_planes * (sizeof(uint32_t) + n_pages * sizeof(void *));
}

static void destroy_sequence(struct kv_holder *holder, struct sequence *s)
{
    for (uint64_t i = 0; i < holder->n_planes * s->n_pages; i++)
        if (s->pages[i] != NULL)
            kv_pool_give(holder->pool, s->pages[i]);
    kv_pool_release(holder->pool, s->n_promised);
    holder->table_bytes -= table_bytes(holder, s->n_pages);
    holder->n_sequences--;
    kv_spans_clear(&s->spans);
    free(s->pages);
    free(s->marks);
    free(s);
}

void kv_holder_flush(struct kv_holder *holder)
{
    if (holder->n_writes > 0)
        holder->kernels->attention_device->write(holder->device, holder->shape.type,
                                                 holder->shape.head_dim, holder->writes_stride,
                                                 holder->writes, holder->n_writes);
    holder->n_writes = 0;
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
    if (holder->n_writes == MOST_WRITES || holder->writes_stride != stride_bytes)
        kv_holder_flush(holder);
    holder->writes_stride = stride_bytes;
    holder->writes[holder->n_writes++] = *tokens;
}

static void unlink_and_destroy(struct kv_holder *holder, struct sequence *s)
{
    kv_holder_flush(holder);
    struct sequence **link = bucket(holder, s->id);
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    destroy_sequence(holder, s);
}

/* More buckets than sequences; a failure only makes the chains longer. */
static void grow_buckets(struct kv_holder *holder)
{
    if (holder->n_sequences < holder->n_buckets)
        return;
    struct sequence **old = holder->buckets;
    const size_t n_old = holder->n_buckets;
    struct sequence **more = calloc(2 * n_old, sizeof(struct sequence *));
    if (more == NULL)
        return;
    holder->buckets = more;
    holder->n_buckets = 2 * n_old;
    for (size_t i = 0; i < n_old; i++)
        for (struct sequence *s = old[i], *next; s != NULL; s = next) {
            next = s->next;
            s->next = *bucket(holder, s->id);
            *bucket(holder, s->id) = s;
        }
    free(old);
}

/* ---- planes ------------------------------------------------------------------------------ */

static bool planes_inside(const struct kv_holder *holder, uint32_t layer, uint32_t head,
                          uint32_t n_heads)
{
    const struct kv_holder_shape *shape = &holder->shape;
    return layer >= shape->first_layer && layer - shape->first_layer < shape->n_layers &&
           head >= shape->first_kv_head && head - shape->first_kv_head < shape->n_kv_heads &&
           n_heads >= 1 && n_heads <= shape->n_kv_heads - (head - shape->first_kv_head);
}

static enum status outside(const struct kv_holder *holder, enum status status, uint32_t layer,
                           uint32_t head, uint32_t n_heads, struct error *error)
{
    const struct kv_holder_shape *shape = &holder->shape;
    return error_set(error, status,
                     "layer %u, KV heads %u and %u more: this holder has layers %u to %u and KV "
                     "heads %u to %u",
                     layer, head, n_heads - 1, shape->first_layer,
                     shape->first_layer + shape->n_layers - 1, shape->first_kv_head,
                     shape->first_kv_head + shape->n_kv_heads - 1);
}

/* The plane of a layer and head; those of the next heads follow. */
static size_t plane_of(const struct kv_holder *holder, uint32_t layer, uint32_t head)
{
    return (size_t)(layer - holder->shape.first_layer) * holder->shape.n_kv_heads +
           (head - holder->shape.first_kv_head);
}

/* The table's entry for an owned page. */
static void **page_at(const struct sequence *s, size_t plane, uint32_t page)
{
    assert(page >= s->first_page && page - s->first_page < s->n_pages);
    return &s->pages[plane * s->n_pages + (page - s->first_page)];
}

/* ---- holder ------------------------------------------------------------------------------ */

enum status kv_holder_create(struct kv_holder **holder, const struct kernels *kernels,
                             struct device *device, const struct kv_holder_shape *shape,
                             uint64_t memory_bytes, struct error *error)
{
    const enum status possible = tile_check(shape->type, shape->head_dim, error);
    if (possible != STATUS_OK)
        return possible;
    if (shape->n_layers == 0 || shape->n_kv_heads == 0 ||
        (uint64_t)shape->n_layers * shape->n_kv_heads > 1 << 24 ||
        shape->n_layers > UINT32_MAX - shape->first_layer ||
        shape->n_kv_heads > UINT32_MAX - shape->first_kv_head)
        return error_set(error, STATUS_INVALID,
                         "KV holder: %u layers and %u KV heads cannot be held", shape->n_layers,
                         shape->n_kv_heads);
    const size_t page_bytes = PAGE_TILES * tile_bytes(shape->type, shape->head_dim);
    if (memory_bytes < page_bytes)
        return error_set(
            error, STATUS_EXHAUSTED,
            "KV holder: %llu bytes of memory, a page of %d tokens takes %zu; give more",
            (unsigned long long)memory_bytes, PAGE_TOKENS, page_bytes);

    struct kv_holder *h = calloc(1, sizeof(*h));
    if (h != NULL) {
        h->kernels = kernels;
        h->device = device;
        h->shape = *shape;
        h->row_bytes = kv_row_bytes(shape->type, shape->head_dim);
        h->tile_bytes = tile_bytes(shape->type, shape->head_dim);
        h->page_bytes = page_bytes;
        h->n_planes = (uint64_t)shape->n_layers * shape->n_kv_heads;
        h->max_table_bytes =
            memory_bytes / 4 > TABLE_BYTES_FREE ? memory_bytes / 4 : TABLE_BYTES_FREE;
        h->n_buckets = 64;
        h->buckets = calloc(h->n_buckets, sizeof(struct sequence *));
        if (!kernels->host_memory)
            h->writes = calloc(MOST_WRITES, sizeof(*h->writes));
    }
    if (h == NULL || h->buckets == NULL || (!kernels->host_memory && h->writes == NULL)) {
        kv_holder_destroy(h);
        return error_set(error, STATUS_NO_MEMORY, "KV holder: no memory for its tables");
    }
    const uint64_t n_pages = memory_bytes / page_bytes;
    enum status status = STATUS_OK;
    if (!kernels->host_memory)
        status = kernels->memory_take(device, &h->memory, n_pages * page_bytes, error);
    if (status == STATUS_OK)
        status = kv_pool_create(&h->pool, h->memory, n_pages, page_bytes, error);
    if (status != STATUS_OK) {
        kv_holder_destroy(h);
        return status;
    }
    *holder = h;
    return STATUS_OK;
}

void kv_holder_destroy(struct kv_holder *holder)
{
    if (holder == NULL)
        return;
    holder->n_writes = 0; /* nobody will read them */
    for (size_t i = 0; holder->buckets != NULL && i < holder->n_buckets; i++)
        while (holder->buckets[i] != NULL)
            unlink_and_destroy(holder, holder->buckets[i]);
    free(holder->buckets);
    kv_pool_destroy(holder->pool);
    if (holder->memory != NULL)
        holder->kernels->memory_give(holder->device, holder->memory);
    free(holder->writes);
    free(holder);
}

uint64_t kv_holder_bytes(const struct kv_holder_shape *shape, uint64_t n_tokens)
{
    const uint64_t n_pages = n_tokens / PAGE_TOKENS + (n_tokens % PAGE_TOKENS != 0);
    const uint64_t each = (uint64_t)shape->n_layers * shape->n_kv_heads;
    uint64_t n, bytes;
    if (__builtin_mul_overflow(n_pages, each, &n) ||
        __builtin_mul_overflow(n, PAGE_TILES * tile_bytes(shape->type, shape->head_dim), &bytes))
        return UINT64_MAX;
    return bytes;
}

/* Gives the sequence the united spans, and a table that has them; the table's contents move along.
 * false: no memory, nothing is changed. */
static bool install_spans(struct kv_holder *holder, struct sequence *s, struct kv_spans united)
{
    const uint32_t first_page = kv_spans_begin(&united) / PAGE_TOKENS;
    const uint32_t n_pages = kv_spans_end(&united) / PAGE_TOKENS - first_page;
    void **pages = calloc(holder->n_planes * n_pages + 1, sizeof(*pages));
    if (pages == NULL)
        return false;
    for (uint64_t plane = 0; plane < holder->n_planes && s->n_pages > 0; plane++)
        memcpy(pages + plane * n_pages + (s->first_page - first_page),
               s->pages + plane * s->n_pages, s->n_pages * sizeof(*pages));
    free(s->pages);
    kv_spans_clear(&s->spans);
    holder->table_bytes -= table_bytes(holder, s->n_pages);
    s->pages = pages;
    s->spans = united;
    s->first_page = first_page;
    s->n_pages = n_pages;
    holder->table_bytes += table_bytes(holder, s->n_pages);
    return true;
}

/* No new span may begin where tokens have passed: they would be missing below the mark. */
static enum status check_marks(const struct kv_holder *holder, const struct sequence *s,
                               const struct span *spans, size_t n_spans, struct error *error)
{
    uint32_t mark = 0;
    for (uint64_t plane = 0; plane < holder->n_planes; plane++)
        if (s->marks[plane] > mark)
            mark = s->marks[plane];
    for (size_t i = 0; i < n_spans; i++) {
        const uint32_t missing = kv_spans_next_gap(&s->spans, spans[i].begin);
        if (missing < spans[i].end && missing < mark)
            return error_set(error, STATUS_INVALID,
                             "sequence %llu: KV span [%u, %u) comes after its token %u has passed",
                             (unsigned long long)s->id, spans[i].begin, spans[i].end, missing);
    }
    return STATUS_OK;
}

static struct sequence *create_sequence(struct kv_holder *holder, uint64_t id, uint32_t incarnation)
{
    struct sequence *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->marks = calloc(holder->n_planes, sizeof(*s->marks))) == NULL) {
        free(s);
        return NULL;
    }
    s->id = id;
    s->incarnation = incarnation;
    holder->n_sequences++;
    holder->table_bytes += table_bytes(holder, 0);
    return s;
}

/* Promises what `united` has and the sequence lacks. Pages that a fork brings are not promised. */
static enum status promise_pages(struct kv_holder *holder, const struct sequence *s,
                                 const struct kv_spans *united, uint64_t *n_promised,
                                 struct error *error)
{
    const uint32_t shared = s->shared_pages * (uint32_t)PAGE_TOKENS;
    const uint64_t n_new =
        (kv_spans_pages(united, shared) - kv_spans_pages(&s->spans, shared)) * holder->n_planes;
    const uint64_t n_columns = (kv_spans_end(united) - kv_spans_begin(united)) / PAGE_TOKENS;
    const uint64_t n_bytes =
        holder->table_bytes - table_bytes(holder, s->n_pages) + table_bytes(holder, n_columns);

    if (n_bytes > holder->max_table_bytes)
        return error_set(error, STATUS_EXHAUSTED,
                         "KV holder: tokens %u to %u of sequence %llu: all page tables would take "
                         "%llu bytes, %llu are allowed",
                         kv_spans_begin(united), kv_spans_end(united), (unsigned long long)s->id,
                         (unsigned long long)n_bytes, (unsigned long long)holder->max_table_bytes);
    if (!kv_pool_promise(holder->pool, n_new)) {
        const uint64_t n_used = kv_pool_promised(holder->pool) + kv_pool_taken(holder->pool);
        return error_set(error, STATUS_EXHAUSTED,
                         "KV holder: sequence %llu needs %llu more pages, %llu of %llu are free",
                         (unsigned long long)s->id, (unsigned long long)n_new,
                         (unsigned long long)(kv_pool_pages(holder->pool) - n_used),
                         (unsigned long long)kv_pool_pages(holder->pool));
    }
    *n_promised = n_new;
    return STATUS_OK;
}

enum status kv_holder_reserve(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                              const struct span *spans, size_t n_spans, uint32_t shared_tokens,
                              struct error *error)
{
    enum status status = kv_spans_check(spans, n_spans, error);
    if (status != STATUS_OK)
        return status;
    if (shared_tokens % PAGE_TOKENS != 0 || shared_tokens > KV_MAX_TOKENS)
        return error_set(error, STATUS_INVALID, "KV fork of %u tokens: not a multiple of %d tokens",
                         shared_tokens, PAGE_TOKENS);
    struct sequence *open = find_id(holder, sequence);
    if (open != NULL && open->incarnation > incarnation)
        return error_set(error, STATUS_INVALID,
                         "sequence %llu: incarnation %u is older than the open one, %u",
                         (unsigned long long)sequence, incarnation, open->incarnation);
    if (open != NULL && open->incarnation < incarnation) {
        unlink_and_destroy(holder, open);
        open = NULL;
    }
    if (open != NULL)
        status = check_marks(holder, open, spans, n_spans, error);
    if (status != STATUS_OK)
        return status;

    struct sequence *s = open != NULL ? open : create_sequence(holder, sequence, incarnation);
    struct kv_spans united = {0};
    uint64_t n_promised = 0;
    if (s == NULL || !kv_spans_unite(&united, &s->spans, spans, n_spans)) {
        status = error_set(error, STATUS_NO_MEMORY, "KV holder: no memory for sequence %llu",
                           (unsigned long long)sequence);
        goto out;
    }
    if (open == NULL)
        s->shared_pages = shared_tokens / PAGE_TOKENS;
    status = promise_pages(holder, s, &united, &n_promised, error);
    if (status != STATUS_OK)
        goto out;
    if (!install_spans(holder, s, united)) {
        status = error_set(error, STATUS_NO_MEMORY, "KV holder: no memory for a table of pages");
        goto out;
    }
    s->n_promised += n_promised;
    if (open == NULL) {
        grow_buckets(holder);
        s->next = *bucket(holder, sequence);
        *bucket(holder, sequence) = s;
    }
    return STATUS_OK;

out:
    kv_pool_release(holder->pool, n_promised);
    kv_spans_clear(&united);
    if (open == NULL && s != NULL)
        destroy_sequence(holder, s);
    return status;
}

/* What keeps one plane of the parent from being shared; STATUS_OK: nothing. */
static enum status check_fork(const struct sequence *parent, const struct sequence *child,
                              size_t plane, uint32_t n_tokens, struct error *error)
{
    const uint32_t missing = kv_spans_next(&parent->spans, parent->marks[plane]);
    if (missing < n_tokens)
        return error_set(error, STATUS_INVALID,
                         "fork of sequence %llu at %u tokens: token %u has not arrived",
                         (unsigned long long)parent->id, n_tokens, missing);
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

static void share_plane(struct kv_holder *holder, const struct sequence *parent,
                        struct sequence *child, size_t plane, uint32_t n_tokens)
{
    for (size_t i = 0; i < child->spans.n && child->spans.spans[i].begin < n_tokens; i++) {
        const uint32_t end =
            child->spans.spans[i].end < n_tokens ? child->spans.spans[i].end : n_tokens;
        for (uint32_t page = child->spans.spans[i].begin / PAGE_TOKENS; page < end / PAGE_TOKENS;
             page++) {
            void *memory = *page_at(parent, plane, page);
            kv_pool_share(holder->pool, memory);
            *page_at(child, plane, page) = memory;
            if (page >= child->shared_pages) { /* promised, and not needed after all */
                kv_pool_release(holder->pool, 1);
                child->n_promised--;
            }
        }
    }
    child->marks[plane] = n_tokens;
}

enum status kv_holder_fork(struct kv_holder *holder, uint64_t parent, uint32_t parent_incarnation,
                           uint64_t child, uint32_t child_incarnation, uint32_t n_tokens,
                           uint32_t layer, uint32_t head, uint32_t n_heads, struct error *error)
{
    if (!planes_inside(holder, layer, head, n_heads))
        return outside(holder, STATUS_INVALID, layer, head, n_heads, error);
    if (n_tokens % PAGE_TOKENS != 0 || n_tokens > KV_MAX_TOKENS)
        return error_set(error, STATUS_INVALID, "fork at %u tokens: not a multiple of %d", n_tokens,
                         PAGE_TOKENS);
    struct sequence *to = find(holder, child, child_incarnation);
    if (to == NULL)
        return not_open(child, child_incarnation, error);
    if (kv_holder_mark(holder, child, child_incarnation, layer, head, n_heads) >= n_tokens)
        return STATUS_OK; /* again; the parent may be closed by now */
    const struct sequence *from = find(holder, parent, parent_incarnation);
    if (from == NULL)
        return not_open(parent, parent_incarnation, error);

    const size_t plane = plane_of(holder, layer, head);
    for (size_t i = plane; i < plane + n_heads; i++)
        if (to->marks[i] < n_tokens) {
            const enum status status = check_fork(from, to, i, n_tokens, error);
            if (status != STATUS_OK)
                return status;
        }
    for (size_t i = plane; i < plane + n_heads; i++)
        if (to->marks[i] < n_tokens)
            share_plane(holder, from, to, i, n_tokens);
    return STATUS_OK;
}

/* Whether tokens [first, end) can follow what the plane has. */
static enum status check_append(const struct sequence *s, size_t plane, uint32_t first,
                                uint32_t end, struct error *error)
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
    return STATUS_OK;
}

enum status kv_holder_append(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                             uint32_t layer, uint32_t head, uint32_t n_heads, uint32_t first,
                             uint32_t n_tokens, const void *k, const void *v, struct error *error)
{
    if (!planes_inside(holder, layer, head, n_heads))
        return outside(holder, STATUS_PROTOCOL, layer, head, n_heads, error);
    if ((uint64_t)first + n_tokens > KV_MAX_TOKENS)
        return error_set(error, STATUS_PROTOCOL, "tokens [%u, +%u) are beyond the longest sequence",
                         first, n_tokens);
    struct sequence *s = find(holder, sequence, incarnation);
    if (s == NULL)
        return not_open(sequence, incarnation, error);

    const uint32_t end = first + n_tokens;
    const size_t plane = plane_of(holder, layer, head);
    const size_t row_bytes = holder->row_bytes, token_bytes = n_heads * row_bytes;
    for (size_t i = plane; i < plane + n_heads; i++) {
        const enum status status = check_append(s, i, first, end, error);
        if (status != STATUS_OK)
            return status;
    }
    for (uint32_t h = 0; h < n_heads; h++) {
        uint32_t *mark = &s->marks[plane + h];
        const uint32_t from = *mark > first ? *mark : first;
        for (uint32_t token = kv_spans_next(&s->spans, from), stop; token < end;
             token =
                 kv_spans_next(&s->spans, stop)) { /* to the end of a tile, of a span, or of all */
            stop = (token / TILE_TOKENS + 1) * TILE_TOKENS;
            stop = stop < end ? stop : end;
            const uint32_t number = token / PAGE_TOKENS;
            void **page = page_at(s, plane + h, number);
            if (*page == NULL) {
                *page = kv_pool_take(holder->pool, number > s->first_page ? page[-1] : NULL,
                                     number - s->first_page >= KV_POOL_RUN);
                s->n_promised--;
            }
            const size_t offset = (token - first) * token_bytes + h * row_bytes;
            const struct tile_tokens tokens = {
                .tile = (char *)*page + token / TILE_TOKENS % PAGE_TILES * holder->tile_bytes,
                .k = (const char *)k + offset,
                .v = (const char *)v + offset,
                .first = token % TILE_TOKENS,
                .n_tokens = stop - token};
            write_tokens(holder, &tokens, token_bytes);
        }
        if (end > *mark)
            *mark = end;
    }
    return STATUS_OK;
}

uint32_t kv_holder_mark(const struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                        uint32_t layer, uint32_t head, uint32_t n_heads)
{
    const struct sequence *s = find(holder, sequence, incarnation);
    if (s == NULL || !planes_inside(holder, layer, head, n_heads))
        return 0;
    const uint32_t *marks = s->marks + plane_of(holder, layer, head);
    uint32_t mark = marks[0];
    for (uint32_t i = 1; i < n_heads; i++)
        mark = marks[i] < mark ? marks[i] : mark;
    return mark;
}

enum status kv_holder_source(const struct kv_holder *holder, uint64_t sequence,
                             uint32_t incarnation, uint32_t layer, uint32_t head,
                             const struct tile_range *ranges, size_t n_ranges,
                             struct tile_source *source, struct error *error)
{
    if (!planes_inside(holder, layer, head, 1))
        return outside(holder, STATUS_PROTOCOL, layer, head, 1, error);
    const struct sequence *s = find(holder, sequence, incarnation);
    if (s == NULL)
        return not_open(sequence, incarnation, error);

    const size_t plane = plane_of(holder, layer, head);
    for (size_t i = 0; i < n_ranges; i++) {
        if (ranges[i].begin >= ranges[i].end || ranges[i].end > TREE_MAX_TILES)
            return error_set(error, STATUS_PROTOCOL, "tiles [%u, %u) are not a range",
                             ranges[i].begin, ranges[i].end);
        const uint64_t begin = (uint64_t)ranges[i].begin * TILE_TOKENS;
        const uint64_t end = (uint64_t)ranges[i].end * TILE_TOKENS;
        uint64_t have = kv_spans_next_gap(&s->spans, (uint32_t)begin);
        if (have > s->marks[plane])
            have = s->marks[plane] > begin ? s->marks[plane] : begin;
        if (have < end)
            return error_set(error, STATUS_PROTOCOL,
                             "sequence %llu, layer %u, KV head %u: token %llu is not held here",
                             (unsigned long long)sequence, layer, head, (unsigned long long)have);
    }
    *source = (struct tile_source){
        .pages = s->pages + plane * s->n_pages,
        .first_tile = s->first_page * PAGE_TILES,
        .page_tiles = PAGE_TILES,
    };
    return STATUS_OK;
}

void kv_holder_close(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation)
{
    struct sequence *s = find_id(holder, sequence);
    if (s != NULL && s->incarnation <= incarnation) /* an older one is void as well */
        unlink_and_destroy(holder, s);
}

/* Gives back the pages of one plane from page `first` on, taken or promised. */
static void trim_plane(struct kv_holder *holder, struct sequence *s, size_t plane, uint32_t first)
{
    for (size_t i = 0; i < s->spans.n; i++) {
        const uint32_t begin = s->spans.spans[i].begin / PAGE_TOKENS;
        const uint32_t end = s->spans.spans[i].end / PAGE_TOKENS;
        for (uint32_t page = begin > first ? begin : first; page < end; page++) {
            void **at = page_at(s, plane, page);
            if (*at != NULL) {
                kv_pool_give(holder->pool, *at);
                *at = NULL;
            } else if (page >= s->shared_pages) {
                kv_pool_release(holder->pool, 1);
                s->n_promised--;
            }
        }
    }
    if (s->marks[plane] > first * PAGE_TOKENS)
        s->marks[plane] = first * PAGE_TOKENS;
}

void kv_holder_trim(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                    uint32_t n_tokens)
{
    struct sequence *s = find_id(holder, sequence);
    const uint32_t first = n_tokens / PAGE_TOKENS;
    if (first == 0 || s == NULL || s->incarnation != incarnation ||
        kv_spans_begin(&s->spans) / PAGE_TOKENS >= first) {
        kv_holder_close(holder, sequence, incarnation);
        return;
    }
    kv_holder_flush(holder);
    for (size_t plane = 0; plane < holder->n_planes; plane++)
        trim_plane(holder, s, plane, first);
    kv_spans_cut(&s->spans, first * PAGE_TOKENS);
}

/* ---- whole pages ------------------------------------------------------------------------- */

uint64_t kv_holder_planes(const struct kv_holder *holder)
{
    return holder->n_planes;
}

/* The table's entry of a page that the sequence owns; NULL: it does not. */
static void **owned_page(const struct kv_holder *holder, const struct sequence *s, uint64_t plane,
                         uint32_t page)
{
    if (s == NULL || plane >= holder->n_planes || page >= KV_MAX_TOKENS / PAGE_TOKENS ||
        kv_spans_next(&s->spans, page * PAGE_TOKENS) != page * PAGE_TOKENS)
        return NULL;
    return page_at(s, plane, page);
}

enum status kv_holder_read_page(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                                uint64_t plane, uint32_t page, void *to, struct error *error)
{
    const struct sequence *s = find(holder, sequence, incarnation);
    void **from = owned_page(holder, s, plane, page);
    if (from == NULL || s->marks[plane] / PAGE_TOKENS <= page)
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
    struct sequence *s = find(holder, sequence, incarnation);
    void **to = owned_page(holder, s, plane, page);
    if (to == NULL || *to != NULL || page < s->shared_pages)
        return error_set(error, STATUS_INVALID, "sequence %llu: page %u is not awaited here",
                         (unsigned long long)sequence, page);
    *to = kv_pool_take(holder->pool, page > s->first_page ? to[-1] : NULL,
                       page - s->first_page >= KV_POOL_RUN);
    s->n_promised--;
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
    struct sequence *s = find(holder, sequence, incarnation);
    if (s == NULL)
        return not_open(sequence, incarnation, error);
    for (uint64_t plane = 0; plane < holder->n_planes; plane++)
        for (size_t i = 0; i < s->spans.n; i++)
            for (uint32_t token = s->spans.spans[i].begin; token < s->spans.spans[i].end;
                 token += PAGE_TOKENS)
                if (*page_at(s, plane, token / PAGE_TOKENS) == NULL)
                    return error_set(error, STATUS_INVALID,
                                     "sequence %llu: page %u was not written",
                                     (unsigned long long)sequence, token / PAGE_TOKENS);
    for (uint64_t plane = 0; plane < holder->n_planes; plane++)
        s->marks[plane] = kv_spans_end(&s->spans);
    return STATUS_OK;
}

void kv_holder_memory(const struct kv_holder *holder, void **base, size_t *bytes)
{
    kv_pool_memory(holder->pool, base, bytes);
}

struct kv_holder_usage kv_holder_usage(const struct kv_holder *holder)
{
    const uint64_t taken = kv_pool_taken(holder->pool);
    return (struct kv_holder_usage){
        .pages_total = kv_pool_pages(holder->pool),
        .pages_reserved = kv_pool_promised(holder->pool) + taken,
        .pages_taken = taken,
        .page_bytes = holder->page_bytes,
        .sequences = holder->n_sequences,
    };
}

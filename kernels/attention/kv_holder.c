/* kv_holder.c - who has which pages: they are promised, taken, and given back.
 *
 * Spans are kept as the union of what was reserved, so reserving again changes nothing. Only
 * reserve opens: an incarnation that is not open is closed, however long ago, and costs no memory.
 * All numbers that come from a peer are checked here, before anything is changed. */
#include "kernels/attention/kv_holder_state.h"
#include "sys/memory.h"
#include "sys/size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tables of pages take at most a quarter of the pages' memory; so much is always fine. A peer that
 * names far-away tokens is told that they do not fit. */
#define TABLE_BYTES_FREE ((uint64_t)16 << 20)

#define MEBIBYTE ((uint64_t)1 << 20)

/* ---- planes ------------------------------------------------------------------------------ */

bool kv_planes_inside(const struct kv_holder *holder, struct kv_heads heads)
{
    const struct kv_holder_shape *shape = &holder->shape;
    return heads.layer >= shape->first_layer &&
           heads.layer - shape->first_layer < shape->n_layers &&
           heads.head >= shape->first_kv_head &&
           heads.head - shape->first_kv_head < shape->n_kv_heads && heads.n_heads >= 1 &&
           heads.n_heads <= shape->n_kv_heads - (heads.head - shape->first_kv_head);
}

enum status kv_planes_outside(const struct kv_holder *holder, enum status status,
                              struct kv_heads heads, struct error *error)
{
    const struct kv_holder_shape *shape = &holder->shape;
    return error_set(error, status,
                     "layer %u, KV heads %u and %u more: this holder has layers %u to %u and KV "
                     "heads %u to %u",
                     heads.layer, heads.head, heads.n_heads - 1, shape->first_layer,
                     shape->first_layer + shape->n_layers - 1, shape->first_kv_head,
                     shape->first_kv_head + shape->n_kv_heads - 1);
}

size_t kv_plane_of(const struct kv_holder *holder, uint32_t layer, uint32_t head)
{
    return (size_t)(layer - holder->shape.first_layer) * holder->shape.n_kv_heads +
           (head - holder->shape.first_kv_head);
}

uint32_t kv_plane_window(const struct kv_holder *holder, size_t plane)
{
    return holder->windows[plane / holder->shape.n_kv_heads];
}

enum status kv_not_open(uint64_t id, uint32_t incarnation, struct error *error)
{
    return error_set(error, STATUS_NOT_FOUND, "sequence %llu (incarnation %u) is not open here",
                     (unsigned long long)id, incarnation);
}

/* ---- holder ------------------------------------------------------------------------------ */

static enum status check_shape(const struct kv_holder_shape *shape, uint64_t memory_bytes,
                               struct error *error)
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
    for (uint32_t i = 0; shape->windows != NULL && i < shape->n_layers; i++)
        if (shape->windows[i] > 0 && shape->chunk == 0)
            return error_set(error, STATUS_INVALID,
                             "KV holder: layer %u has a window of %u tokens, and rows come 0 at a "
                             "time",
                             shape->first_layer + i, shape->windows[i]);
    const size_t page_bytes = PAGE_TILES * tile_bytes(shape->type, shape->head_dim);
    if (memory_bytes < page_bytes)
        return error_set(
            error, STATUS_EXHAUSTED,
            "KV holder: %llu bytes of memory, a page of %d tokens takes %zu; give more",
            (unsigned long long)memory_bytes, PAGE_TOKENS, page_bytes);
    return STATUS_OK;
}

static struct kv_holder *create_tables(const struct kernels *kernels, struct device *device,
                                       const struct kv_holder_shape *shape, uint64_t memory_bytes)
{
    struct kv_holder *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return NULL;
    h->kernels = kernels;
    h->device = device;
    h->shape = *shape;
    h->shape.windows = NULL;
    h->row_bytes = kv_row_bytes(shape->type, shape->head_dim);
    h->tile_bytes = tile_bytes(shape->type, shape->head_dim);
    h->page_bytes = PAGE_TILES * h->tile_bytes;
    h->max_table_bytes = memory_bytes / 4 > TABLE_BYTES_FREE ? memory_bytes / 4 : TABLE_BYTES_FREE;
    h->windows = calloc(shape->n_layers, sizeof(*h->windows));
    if (h->windows != NULL && shape->windows != NULL)
        memcpy(h->windows, shape->windows, shape->n_layers * sizeof(*h->windows));
    if (!kernels->host_memory)
        h->writes = calloc(KV_MOST_WRITES, sizeof(*h->writes));
    if (h->windows == NULL || (!kernels->host_memory && h->writes == NULL) ||
        !kv_sequences_open(&h->sequences, (uint64_t)shape->n_layers * shape->n_kv_heads)) {
        kv_holder_destroy(h);
        return NULL;
    }
    return h;
}

enum status kv_holder_create(struct kv_holder **holder, const struct kernels *kernels,
                             struct device *device, const struct kv_holder_shape *shape,
                             uint64_t memory_bytes, struct error *error)
{
    enum status status = check_shape(shape, memory_bytes, error);
    if (status != STATUS_OK)
        return status;
    struct kv_holder *h = create_tables(kernels, device, shape, memory_bytes);
    if (h == NULL)
        return error_set(error, STATUS_NO_MEMORY, "KV holder: no memory for its tables");
    const uint64_t n_pages = memory_bytes / h->page_bytes;
    if (!kernels->host_memory)
        status = kernels->memory_take(device, &h->memory, n_pages * h->page_bytes, error);
    if (status == STATUS_OK)
        status = kv_pool_create(&h->pool, h->memory, n_pages, h->page_bytes, error);
    if (status != STATUS_OK) {
        kv_holder_destroy(h);
        return status;
    }
    *holder = h;
    return STATUS_OK;
}

/* Gives back all that it has. */
static void destroy_sequence(struct kv_holder *holder, struct kv_sequence *s)
{
    for (uint64_t i = 0; i < holder->sequences.n_planes * s->n_pages; i++)
        if (s->pages[i] != NULL)
            kv_pool_give(holder->pool, s->pages[i]);
    kv_pool_release(holder->pool, s->n_promised);
    kv_sequences_destroy(&holder->sequences, s);
}

/* What was collected for its pages is written before they can be another's. */
static void remove_and_destroy(struct kv_holder *holder, struct kv_sequence *s)
{
    kv_holder_flush(holder);
    kv_sequences_remove(&holder->sequences, s);
    destroy_sequence(holder, s);
}

void kv_holder_destroy(struct kv_holder *holder)
{
    if (holder == NULL)
        return;
    holder->n_writes = 0; /* nobody will read them */
    struct kv_sequence *s;
    while ((s = kv_sequences_any(&holder->sequences)) != NULL)
        remove_and_destroy(holder, s);
    kv_sequences_close(&holder->sequences);
    kv_pool_destroy(holder->pool);
    if (holder->memory != NULL)
        holder->kernels->memory_give(holder->device, holder->memory);
    free(holder->writes);
    free(holder->windows);
    free(holder);
}

uint64_t kv_holder_share(uint64_t available_bytes)
{
    return available_bytes / 5 * 4;
}

enum status kv_holder_check_host(const char *option, uint64_t bytes, uint32_t n,
                                 struct error *error)
{
    const uint64_t total = memory_total_bytes(), available = memory_available_bytes();
    char asked[SIZE_TEXT_BYTES], has[SIZE_TEXT_BYTES], left[SIZE_TEXT_BYTES], fits[SIZE_TEXT_BYTES];
    char times[32] = "";
    if (n == 0 || total == 0 || bytes <= total / n)
        return STATUS_OK;
    if (n > 1)
        snprintf(times, sizeof(times), " for each of %u", n);
    return error_set(error, STATUS_INVALID,
                     "%s %s%s: this machine has %s of memory, %s of it free now: say %s or less",
                     option, size_format(bytes, asked), times, size_format(total, has),
                     size_format(available, left),
                     size_format(kv_holder_share(available) / n / MEBIBYTE * MEBIBYTE, fits));
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
        .sequences = holder->sequences.n,
    };
}

/* ---- reserving --------------------------------------------------------------------------- */

/* No new span may begin where tokens have passed: they would be missing below the mark. */
static enum status check_marks(const struct kv_holder *holder, const struct kv_sequence *s,
                               const struct span *spans, size_t n_spans, struct error *error)
{
    uint32_t mark = 0;
    for (uint64_t plane = 0; plane < holder->sequences.n_planes; plane++)
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

/* Pages of all planes, taken or promised, that a sequence of these spans has of its own. */
static uint64_t own_pages(const struct kv_holder *holder, const struct kv_sequence *s,
                          const struct kv_spans *spans)
{
    const uint32_t shared = s->shared_pages * (uint32_t)PAGE_TOKENS;
    const uint64_t whole = kv_spans_pages(spans, shared);
    uint64_t sum = 0, windowed = 0;
    uint32_t known = 0; /* the window that `windowed` is of */
    for (uint32_t i = 0; i < holder->shape.n_layers; i++) {
        const uint32_t window = holder->windows[i];
        if (window > 0 && window != known)
            windowed = kv_spans_most_pages(spans, kv_window_first(window, shared),
                                           kv_window_pages(window, holder->shape.chunk));
        known = window > 0 ? window : known;
        sum += window > 0 ? windowed : whole;
    }
    return sum * holder->shape.n_kv_heads;
}

/* Promises what `united` has and the sequence lacks. Pages that a fork brings are not promised. */
static enum status promise_pages(struct kv_holder *holder, const struct kv_sequence *s,
                                 const struct kv_spans *united, uint64_t *n_promised,
                                 struct error *error)
{
    const uint64_t n_new = own_pages(holder, s, united) - own_pages(holder, s, &s->spans);
    const uint64_t n_columns = (kv_spans_end(united) - kv_spans_begin(united)) / PAGE_TOKENS;
    const uint64_t n_bytes = kv_sequences_bytes_with(&holder->sequences, s, n_columns);

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

/* A sequence that begins with a fork never has what the fork's rows do not see. */
static void begin_shared(const struct kv_holder *holder, struct kv_sequence *s,
                         uint32_t shared_tokens)
{
    s->shared_pages = shared_tokens / PAGE_TOKENS;
    for (size_t plane = 0; plane < holder->sequences.n_planes; plane++)
        s->firsts[plane] = kv_window_first(kv_plane_window(holder, plane), shared_tokens);
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
    struct kv_sequence *open = kv_sequences_find(&holder->sequences, sequence);
    if (open != NULL && open->incarnation > incarnation)
        return error_set(error, STATUS_INVALID,
                         "sequence %llu: incarnation %u is older than the open one, %u",
                         (unsigned long long)sequence, incarnation, open->incarnation);
    if (open != NULL && open->incarnation < incarnation) {
        remove_and_destroy(holder, open);
        open = NULL;
    }
    if (open != NULL)
        status = check_marks(holder, open, spans, n_spans, error);
    if (status != STATUS_OK)
        return status;

    struct kv_sequence *s =
        open != NULL ? open : kv_sequences_create(&holder->sequences, sequence, incarnation);
    struct kv_spans united = {0};
    uint64_t n_promised = 0;
    if (s == NULL || !kv_spans_unite(&united, &s->spans, spans, n_spans)) {
        status = error_set(error, STATUS_NO_MEMORY, "KV holder: no memory for sequence %llu",
                           (unsigned long long)sequence);
        goto out;
    }
    if (open == NULL)
        begin_shared(holder, s, shared_tokens);
    status = promise_pages(holder, s, &united, &n_promised, error);
    if (status != STATUS_OK)
        goto out;
    if (!kv_sequences_install(&holder->sequences, s, united)) {
        status = error_set(error, STATUS_NO_MEMORY, "KV holder: no memory for a table of pages");
        goto out;
    }
    s->n_promised += n_promised;
    if (open == NULL)
        kv_sequences_add(&holder->sequences, s);
    return STATUS_OK;

out:
    kv_pool_release(holder->pool, n_promised);
    kv_spans_clear(&united);
    if (open == NULL && s != NULL)
        destroy_sequence(holder, s);
    return status;
}

/* ---- taking and giving back -------------------------------------------------------------- */

void kv_take_page(struct kv_holder *holder, struct kv_sequence *sequence, size_t plane,
                  uint32_t page)
{
    void **at = kv_sequence_page(sequence, plane, page);
    const uint32_t before = page - sequence->first_page;
    *at = kv_pool_take(holder->pool, before > 0 ? at[-1] : NULL, before >= KV_POOL_RUN);
    sequence->n_promised--;
}

/* It had this page for itself. */
static void give_to_promise(struct kv_holder *holder, struct kv_sequence *s, void **page)
{
    kv_pool_give(holder->pool, *page);
    *page = NULL;
    if (kv_pool_promise(holder->pool, 1)) /* always: one has just become free */
        s->n_promised++;
}

void kv_release_below(struct kv_holder *holder, struct kv_sequence *sequence, size_t plane,
                      uint32_t first)
{
    struct kv_sequence *s = sequence;
    const uint32_t from = s->firsts[plane];
    if (first <= from)
        return;
    s->firsts[plane] = first;
    bool flushed = false;
    for (uint32_t token = kv_spans_next(&s->spans, from); token < first;
         token = kv_spans_next(&s->spans, token + PAGE_TOKENS)) {
        void **page = kv_sequence_page(s, plane, token / PAGE_TOKENS);
        if (*page == NULL)
            continue;
        if (!flushed) /* what was collected for it is written before it can be another's */
            kv_holder_flush(holder);
        flushed = true;
        give_to_promise(holder, s, page);
    }
}

void kv_holder_close(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation)
{
    struct kv_sequence *s = kv_sequences_find(&holder->sequences, sequence);
    if (s != NULL && s->incarnation <= incarnation) /* an older one is void as well */
        remove_and_destroy(holder, s);
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Gives back the pages of one plane from page `first` on, and what rows from there on do not see;
 * of a plane without a window the promised ones too. */
static void trim_plane(struct kv_holder *holder, struct kv_sequence *s, size_t plane,
                       uint32_t first)
{
    const uint32_t window = kv_plane_window(holder, plane);
    const uint32_t end_token = smaller(s->marks[plane], first * PAGE_TOKENS);
    if (window > 0)
        kv_release_below(holder, s, plane, kv_window_first(window, end_token));
    for (size_t i = 0; i < s->spans.n; i++) {
        const uint32_t begin = s->spans.spans[i].begin / PAGE_TOKENS;
        const uint32_t end = s->spans.spans[i].end / PAGE_TOKENS;
        for (uint32_t page = begin > first ? begin : first; page < end; page++) {
            void **at = kv_sequence_page(s, plane, page);
            if (*at != NULL && window > 0) {
                give_to_promise(holder, s, at);
            } else if (*at != NULL) {
                kv_pool_give(holder->pool, *at);
                *at = NULL;
            } else if (window == 0 && page >= s->shared_pages) {
                kv_pool_release(holder->pool, 1);
                s->n_promised--;
            }
        }
    }
    /* not below what has been released: that never comes again */
    if (end_token < s->firsts[plane])
        s->marks[plane] = smaller(s->marks[plane], s->firsts[plane]);
    else
        s->marks[plane] = end_token;
}

/* Pages that planes with a window have at most. */
static uint64_t windowed_pages(const struct kv_holder *holder, const struct kv_sequence *s)
{
    uint64_t n_whole = 0;
    for (uint32_t i = 0; i < holder->shape.n_layers; i++)
        n_whole += holder->windows[i] == 0;
    return own_pages(holder, s, &s->spans) -
           n_whole * holder->shape.n_kv_heads *
               kv_spans_pages(&s->spans, s->shared_pages * (uint32_t)PAGE_TOKENS);
}

void kv_holder_trim(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                    uint32_t n_tokens)
{
    struct kv_sequence *s = kv_sequences_find(&holder->sequences, sequence);
    const uint32_t first = n_tokens / PAGE_TOKENS;
    if (first == 0 || s == NULL || s->incarnation != incarnation ||
        kv_spans_begin(&s->spans) / PAGE_TOKENS >= first) {
        kv_holder_close(holder, sequence, incarnation);
        return;
    }
    kv_holder_flush(holder);
    for (size_t plane = 0; plane < holder->sequences.n_planes; plane++)
        trim_plane(holder, s, plane, first);
    const uint64_t before = windowed_pages(holder, s);
    kv_spans_cut(&s->spans, first * PAGE_TOKENS);
    const uint64_t n_less = before - windowed_pages(holder, s);
    kv_pool_release(holder->pool, n_less);
    s->n_promised -= n_less;
}

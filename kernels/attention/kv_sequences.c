/* kv_sequences.c - see kv_sequences.h. */
#include "kernels/attention/kv_sequences.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 64 };

bool kv_sequences_open(struct kv_sequences *sequences, uint64_t n_planes)
{
    *sequences = (struct kv_sequences){
        .n_planes = n_planes,
        .buckets = calloc(FIRST_BUCKETS, sizeof(struct kv_sequence *)),
        .n_buckets = FIRST_BUCKETS,
    };
    return sequences->buckets != NULL;
}

void kv_sequences_close(struct kv_sequences *sequences)
{
    free(sequences->buckets);
    *sequences = (struct kv_sequences){0};
}

/* ---- the table of all ------------------------------------------------------------------------ */

static struct kv_sequence **bucket(const struct kv_sequences *sequences, uint64_t id)
{
    id = (id ^ id >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return &sequences->buckets[(id >> 32) & (sequences->n_buckets - 1)];
}

struct kv_sequence *kv_sequences_find(const struct kv_sequences *sequences, uint64_t id)
{
    struct kv_sequence *s = *bucket(sequences, id);
    while (s != NULL && s->id != id)
        s = s->next;
    return s;
}

struct kv_sequence *kv_sequences_find_open(const struct kv_sequences *sequences, uint64_t id,
                                           uint32_t incarnation)
{
    struct kv_sequence *s = kv_sequences_find(sequences, id);
    return s != NULL && s->incarnation == incarnation ? s : NULL;
}

struct kv_sequence *kv_sequences_any(const struct kv_sequences *sequences)
{
    for (size_t i = 0; sequences->buckets != NULL && i < sequences->n_buckets; i++)
        if (sequences->buckets[i] != NULL)
            return sequences->buckets[i];
    return NULL;
}

/* More buckets than sequences; a failure only makes the chains longer. */
static void grow_buckets(struct kv_sequences *sequences)
{
    if (sequences->n < sequences->n_buckets)
        return;
    struct kv_sequence **old = sequences->buckets;
    const size_t n_old = sequences->n_buckets;
    struct kv_sequence **more = calloc(2 * n_old, sizeof(struct kv_sequence *));
    if (more == NULL)
        return;
    sequences->buckets = more;
    sequences->n_buckets = 2 * n_old;
    for (size_t i = 0; i < n_old; i++)
        for (struct kv_sequence *s = old[i], *next; s != NULL; s = next) {
            next = s->next;
            s->next = *bucket(sequences, s->id);
            *bucket(sequences, s->id) = s;
        }
    free(old);
}

void kv_sequences_add(struct kv_sequences *sequences, struct kv_sequence *sequence)
{
    grow_buckets(sequences);
    sequence->next = *bucket(sequences, sequence->id);
    *bucket(sequences, sequence->id) = sequence;
}

void kv_sequences_remove(struct kv_sequences *sequences, struct kv_sequence *sequence)
{
    struct kv_sequence **link = bucket(sequences, sequence->id);
    while (*link != sequence)
        link = &(*link)->next;
    *link = sequence->next;
}

/* ---- one sequence ---------------------------------------------------------------------------- */

static uint64_t table_bytes(const struct kv_sequences *sequences, uint64_t n_pages)
{
    return sizeof(struct kv_sequence) +
           sequences->n_planes * (2 * sizeof(uint32_t) + n_pages * sizeof(void *));
}

struct kv_sequence *kv_sequences_create(struct kv_sequences *sequences, uint64_t id,
                                        uint32_t incarnation)
{
    struct kv_sequence *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->marks = calloc(sequences->n_planes, sizeof(*s->marks))) == NULL ||
        (s->firsts = calloc(sequences->n_planes, sizeof(*s->firsts))) == NULL) {
        if (s != NULL)
            free(s->marks);
        free(s);
        return NULL;
    }
    s->id = id;
    s->incarnation = incarnation;
    sequences->n++;
    sequences->table_bytes += table_bytes(sequences, 0);
    return s;
}

void kv_sequences_destroy(struct kv_sequences *sequences, struct kv_sequence *sequence)
{
    sequences->table_bytes -= table_bytes(sequences, sequence->n_pages);
    sequences->n--;
    kv_spans_clear(&sequence->spans);
    free(sequence->pages);
    free(sequence->marks);
    free(sequence->firsts);
    free(sequence);
}

uint64_t kv_sequences_bytes_with(const struct kv_sequences *sequences,
                                 const struct kv_sequence *sequence, uint64_t n_pages)
{
    return sequences->table_bytes - table_bytes(sequences, sequence->n_pages) +
           table_bytes(sequences, n_pages);
}

bool kv_sequences_install(struct kv_sequences *sequences, struct kv_sequence *sequence,
                          struct kv_spans united)
{
    struct kv_sequence *s = sequence;
    const uint32_t first_page = kv_spans_begin(&united) / PAGE_TOKENS;
    const uint32_t n_pages = kv_spans_end(&united) / PAGE_TOKENS - first_page;
    void **pages = calloc(sequences->n_planes * n_pages + 1, sizeof(*pages));
    if (pages == NULL)
        return false;
    /* what was trimmed left its columns behind */
    const uint32_t shift = s->n_pages > 0 ? s->first_page - first_page : 0;
    const uint32_t n_kept = s->n_pages < n_pages - shift ? s->n_pages : n_pages - shift;
    for (uint64_t plane = 0; plane < sequences->n_planes && s->n_pages > 0; plane++)
        memcpy(pages + plane * n_pages + shift, s->pages + plane * s->n_pages,
               n_kept * sizeof(*pages));
    free(s->pages);
    kv_spans_clear(&s->spans);
    sequences->table_bytes = kv_sequences_bytes_with(sequences, s, n_pages);
    s->pages = pages;
    s->spans = united;
    s->first_page = first_page;
    s->n_pages = n_pages;
    return true;
}

void **kv_sequence_page(const struct kv_sequence *sequence, size_t plane, uint32_t page)
{
    assert(page >= sequence->first_page && page - sequence->first_page < sequence->n_pages);
    return &sequence->pages[plane * sequence->n_pages + (page - sequence->first_page)];
}

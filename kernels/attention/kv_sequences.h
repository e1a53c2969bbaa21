/* kernels/attention/kv_sequences.h - the sequences of a KV holder, and each one's table of pages.
 *
 * A *plane* is one layer and KV head. A sequence's table is [plane][page], for the pages from its
 * first span's begin to its last span's end; a page that is not owned, not taken yet, or released
 * again, is NULL. A row of the table is what tile_source wants, so a query finds its tiles without
 * looking anything up. Pages that lie between spans cost 8 bytes each.
 *
 * Found by a hash of the number. Only kv_holder*.c use it. */
#ifndef LONGSPAN_KERNELS_ATTENTION_KV_SEQUENCES_H
#define LONGSPAN_KERNELS_ATTENTION_KV_SEQUENCES_H

#include "kernels/attention/kv_spans.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kv_sequence {
    uint64_t id;
    uint32_t incarnation;
    uint32_t shared_pages;        /* pages below are not promised in layers without a window: a fork
                                   * brings them */
    uint32_t first_page, n_pages; /* the table's columns */
    uint64_t n_promised;          /* pages of the pool, and not taken */
    struct kv_spans spans;        /* owned */
    void **pages;                 /* [plane][n_pages] */
    uint32_t *marks;              /* [plane]: owned tokens below it have arrived */
    uint32_t *firsts;             /* [plane]: tokens below it are not needed any more */
    struct kv_sequence *next;     /* of the bucket */
};

struct kv_sequences {
    uint64_t n_planes, n, table_bytes; /* table_bytes: of all tables, marks and firsts */
    struct kv_sequence **buckets;      /* chained; a power of two of them */
    size_t n_buckets;
};

/* false: no memory. */
bool kv_sequences_open(struct kv_sequences *sequences, uint64_t n_planes);
/* Zeroed memory is fine. All sequences were destroyed. */
void kv_sequences_close(struct kv_sequences *sequences);

/* NULL: there is none, of that number or of that incarnation. */
struct kv_sequence *kv_sequences_find(const struct kv_sequences *sequences, uint64_t id);
struct kv_sequence *kv_sequences_find_open(const struct kv_sequences *sequences, uint64_t id,
                                           uint32_t incarnation);

/* Any one of them; NULL: there is none. */
struct kv_sequence *kv_sequences_any(const struct kv_sequences *sequences);

/* A sequence without spans, counted, and not found before it is added. NULL: no memory. */
struct kv_sequence *kv_sequences_create(struct kv_sequences *sequences, uint64_t id,
                                        uint32_t incarnation);
void kv_sequences_add(struct kv_sequences *sequences, struct kv_sequence *sequence);
void kv_sequences_remove(struct kv_sequences *sequences, struct kv_sequence *sequence);
/* It was removed, or never added. Its pages are the caller's to give back before. */
void kv_sequences_destroy(struct kv_sequences *sequences, struct kv_sequence *sequence);

/* Bytes of all tables if this sequence's had n_pages columns. */
uint64_t kv_sequences_bytes_with(const struct kv_sequences *sequences,
                                 const struct kv_sequence *sequence, uint64_t n_pages);

/* Gives the sequence the united spans, and a table that has them; the table's contents move along.
 * false: no memory, nothing is changed. */
bool kv_sequences_install(struct kv_sequences *sequences, struct kv_sequence *sequence,
                          struct kv_spans united);

/* The table's entry of an owned page. */
void **kv_sequence_page(const struct kv_sequence *sequence, size_t plane, uint32_t page);

#endif

/* kv_pool.c - a run is in the list that says what it is good for, or in none when no page of it is
 * free.
 *
 * Lists are last in, first out: memory given back last may still be in cache. Runs that were never
 * taken from are in no list, but above a mark that only rises; the tables begin as zero pages of
 * the operating system. So a pool of a terabyte costs nothing until used. */
#include "kernels/attention/kv_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

#define NO_RUN UINT32_MAX

enum list {
    LIST_NONE,
    LIST_WHOLE,   /* all pages are free */
    LIST_SHARED,  /* some are; short planes take from it */
    LIST_GROWING, /* some are; the plane that began it goes on here, others only in need */
    N_LISTS
};

struct run {
    uint32_t next, previous; /* in its list; NO_RUN at its ends */
    uint8_t free;            /* bit i: page i is */
    uint8_t list;            /* enum list */
    uint8_t kind;            /* LIST_SHARED or LIST_GROWING, while it is not whole */
};

struct kv_pool {
    char *mapping; /* NULL: the pages are the caller's */
    char *pages;   /* aligned to HUGE_PAGE inside the mapping */
    size_t mapping_bytes, page_bytes;
    uint64_t n_pages, n_promised, n_taken;
    uint32_t n_runs, n_begun; /* the first n_begun have been taken from */
    uint32_t heads[N_LISTS];
    struct run *runs;  /* [n_runs] */
    uint32_t *n_users; /* [n_pages] */
};

/* Address space of its own. False: there is none. */
static bool reserve_pages(struct kv_pool *p)
{
    p->mapping_bytes = (size_t)p->n_pages * p->page_bytes + HUGE_PAGE;
    void *mapping = mmap(NULL, p->mapping_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return false;
    p->mapping = mapping;
    p->pages = p->mapping + (HUGE_PAGE - (uintptr_t)p->mapping % HUGE_PAGE) % HUGE_PAGE;
    /* Attention reads pages from end to end: fewer address translations. Advice only. */
    (void)madvise(p->pages, (size_t)p->n_pages * p->page_bytes, MADV_HUGEPAGE);
    return true;
}

enum status kv_pool_create(struct kv_pool **pool, void *memory, uint64_t n_pages, size_t page_bytes,
                           struct error *error)
{
    assert(page_bytes > 0 && page_bytes % 64 == 0);
    struct kv_pool *p = calloc(1, sizeof(*p));
    if (p == NULL || n_pages > (SIZE_MAX - HUGE_PAGE) / page_bytes ||
        n_pages / KV_POOL_RUN >= NO_RUN - 1)
        goto no_memory;
    p->n_pages = n_pages;
    p->n_runs = (uint32_t)((n_pages + KV_POOL_RUN - 1) / KV_POOL_RUN);
    for (int list = 0; list < N_LISTS; list++)
        p->heads[list] = NO_RUN;
    p->page_bytes = page_bytes;
    p->pages = memory;
    if (memory == NULL && !reserve_pages(p))
        goto no_memory;
    p->runs = calloc(p->n_runs, sizeof(*p->runs));
    p->n_users = calloc(n_pages, sizeof(*p->n_users));
    if (n_pages > 0 && (p->runs == NULL || p->n_users == NULL))
        goto no_memory;
    *pool = p;
    return STATUS_OK;

no_memory:
    kv_pool_destroy(p);
    return error_set(
        error, STATUS_NO_MEMORY,
        "KV pages: cannot reserve address space for %llu pages of %zu bytes; give less "
        "memory or raise `ulimit -v`",
        (unsigned long long)n_pages, page_bytes);
}

void kv_pool_destroy(struct kv_pool *pool)
{
    if (pool == NULL)
        return;
    if (pool->mapping != NULL)
        munmap(pool->mapping, pool->mapping_bytes);
    free(pool->runs);
    free(pool->n_users);
    free(pool);
}

bool kv_pool_promise(struct kv_pool *pool, uint64_t n)
{
    if (n > pool->n_pages - pool->n_promised - pool->n_taken)
        return false;
    pool->n_promised += n;
    return true;
}

void kv_pool_release(struct kv_pool *pool, uint64_t n)
{
    assert(n <= pool->n_promised);
    pool->n_promised -= n;
}

/* ---- runs ---------------------------------------------------------------------------------- */

/* The pool's last run may be short. */
static uint8_t all_pages(const struct kv_pool *pool, uint32_t run)
{
    const uint64_t left = pool->n_pages - (uint64_t)run * KV_POOL_RUN;
    return (uint8_t)((1u << (left < KV_POOL_RUN ? left : KV_POOL_RUN)) - 1);
}

/* Moves it to the list, or to none, that its free pages and its kind say. */
static void enlist(struct kv_pool *pool, uint32_t index)
{
    struct run *runs = pool->runs, *run = &runs[index];
    const uint8_t list = run->free == all_pages(pool, index) ? LIST_WHOLE
                         : run->free != 0                    ? run->kind
                                                             : LIST_NONE;
    if (list == run->list)
        return;
    if (run->list != LIST_NONE) {
        *(run->previous == NO_RUN ? &pool->heads[run->list] : &runs[run->previous].next) =
            run->next;
        if (run->next != NO_RUN)
            runs[run->next].previous = run->previous;
    }
    run->list = list;
    if (list == LIST_NONE)
        return;
    run->previous = NO_RUN;
    run->next = pool->heads[list];
    if (run->next != NO_RUN)
        runs[run->next].previous = index;
    pool->heads[list] = index;
}

/* A whole run, for pages of this kind; NO_RUN: there is none. */
static uint32_t begin_run(struct kv_pool *pool, enum list kind)
{
    uint32_t index = pool->heads[LIST_WHOLE];
    if (index == NO_RUN && pool->n_begun < pool->n_runs) {
        index = pool->n_begun++;
        pool->runs[index].free = all_pages(pool, index);
    }
    if (index != NO_RUN)
        pool->runs[index].kind = (uint8_t)kind;
    return index;
}

/* The run to take a page from that has no page before it there. */
static uint32_t choose_run(struct kv_pool *pool, bool grows)
{
    uint32_t run = grows ? begin_run(pool, LIST_GROWING) : NO_RUN;
    if (run == NO_RUN)
        run = pool->heads[LIST_SHARED];
    if (run == NO_RUN)
        run = begin_run(pool, LIST_SHARED);
    return run != NO_RUN ? run : pool->heads[LIST_GROWING];
}

/* ---- pages --------------------------------------------------------------------------------- */

static uint64_t index_of(const struct kv_pool *pool, const void *page)
{
    const uint64_t index = (uint64_t)((const char *)page - pool->pages) / pool->page_bytes;
    assert(index < pool->n_pages && pool->n_users[index] > 0);
    return index;
}

void *kv_pool_take(struct kv_pool *pool, const void *before, bool grows)
{
    assert(pool->n_promised > 0);
    uint64_t index = before != NULL ? index_of(pool, before) + 1 : 0;
    uint32_t run = (uint32_t)(index / KV_POOL_RUN), bit = index % KV_POOL_RUN;
    if (bit == 0 || (pool->runs[run].free >> bit & 1) == 0) {
        run = choose_run(pool, grows);
        assert(run != NO_RUN); /* promised */
        bit = (uint32_t)__builtin_ctz(pool->runs[run].free);
    }
    pool->runs[run].free &= (uint8_t) ~(1u << bit);
    enlist(pool, run);
    index = (uint64_t)run * KV_POOL_RUN + bit;
    pool->n_promised--;
    pool->n_taken++;
    pool->n_users[index] = 1;
    return pool->pages + index * pool->page_bytes;
}

void kv_pool_share(struct kv_pool *pool, void *page)
{
    pool->n_users[index_of(pool, page)]++;
}

void kv_pool_give(struct kv_pool *pool, void *page)
{
    const uint64_t index = index_of(pool, page);
    if (--pool->n_users[index] > 0)
        return;
    const uint32_t run = (uint32_t)(index / KV_POOL_RUN);
    pool->runs[run].free |= (uint8_t)(1u << index % KV_POOL_RUN);
    enlist(pool, run);
    pool->n_taken--;
}

void kv_pool_memory(const struct kv_pool *pool, void **base, size_t *bytes)
{
    *base = pool->pages;
    *bytes = pool->n_pages * pool->page_bytes;
}

uint64_t kv_pool_pages(const struct kv_pool *pool)
{
    return pool->n_pages;
}

uint64_t kv_pool_promised(const struct kv_pool *pool)
{
    return pool->n_promised;
}

uint64_t kv_pool_taken(const struct kv_pool *pool)
{
    return pool->n_taken;
}

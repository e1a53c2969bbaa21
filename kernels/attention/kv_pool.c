/* kv_pool.c - free pages form a stack: the one given back last may still be in cache.
 *
 * Pages that were never taken are not on the stack, but above a mark that only rises; the tables
 * begin as zero pages of the operating system. So a pool of a terabyte costs nothing until used. */
#include "kernels/attention/kv_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

struct kv_pool {
    char *mapping, *pages; /* pages: aligned to HUGE_PAGE inside the mapping */
    size_t mapping_bytes, page_bytes;
    uint64_t n_pages, n_promised, n_taken, n_fresh, n_free;
    uint64_t *free_stack; /* [n_pages], n_free used */
    uint32_t *n_users;    /* [n_pages] */
};

enum status kv_pool_create(struct kv_pool **pool, uint64_t n_pages, size_t page_bytes,
                           struct error *error)
{
    assert(page_bytes > 0 && page_bytes % 64 == 0);
    struct kv_pool *p = calloc(1, sizeof(*p));
    if (p == NULL || n_pages > (SIZE_MAX - HUGE_PAGE) / page_bytes)
        goto no_memory;
    p->n_pages = n_pages;
    p->page_bytes = page_bytes;
    p->mapping_bytes = (size_t)n_pages * page_bytes + HUGE_PAGE;
    p->mapping = mmap(NULL, p->mapping_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->mapping == MAP_FAILED) {
        p->mapping = NULL;
        goto no_memory;
    }
    p->pages = p->mapping + (HUGE_PAGE - (uintptr_t)p->mapping % HUGE_PAGE) % HUGE_PAGE;
    /* Attention reads pages from end to end: fewer address translations. Advice only. */
    (void)madvise(p->pages, (size_t)n_pages * page_bytes, MADV_HUGEPAGE);
    p->free_stack = calloc(n_pages, sizeof(*p->free_stack));
    p->n_users = calloc(n_pages, sizeof(*p->n_users));
    if (n_pages > 0 && (p->free_stack == NULL || p->n_users == NULL))
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
    free(pool->free_stack);
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

static uint64_t index_of(const struct kv_pool *pool, const void *page)
{
    const uint64_t index = (uint64_t)((const char *)page - pool->pages) / pool->page_bytes;
    assert(index < pool->n_fresh && pool->n_users[index] > 0);
    return index;
}

void *kv_pool_take(struct kv_pool *pool)
{
    assert(pool->n_promised > 0);
    const uint64_t index = pool->n_free > 0 ? pool->free_stack[--pool->n_free] : pool->n_fresh++;
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
    pool->free_stack[pool->n_free++] = index;
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

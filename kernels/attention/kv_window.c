/* kv_window.c - see kv_window.h. */
#include "kernels/attention/kv_window.h"

#include "kernels/attention/kv_holder.h"

uint32_t kv_window_back(uint32_t window)
{
    return window == 0 ? UINT32_MAX : (window - 1) / PAGE_TOKENS + ((window - 1) % PAGE_TOKENS > 0);
}

uint32_t kv_window_first(uint32_t window, uint32_t position)
{
    const uint32_t page = position / PAGE_TOKENS, back = kv_window_back(window);
    return page > back ? (page - back) * PAGE_TOKENS : 0;
}

uint32_t kv_window_begin(uint32_t window, uint32_t position)
{
    return window == 0 || position < window ? 0 : position - window + 1;
}

/* Rows [p, p + chunk), p being token r of its page, touch that page and (r + chunk - 1) /
 * PAGE_TOKENS more; r = PAGE_TOKENS - 1 is the worst. */
uint32_t kv_window_pages(uint32_t window, uint32_t chunk)
{
    if (window == 0)
        return UINT32_MAX;
    const uint64_t pages =
        (uint64_t)kv_window_back(window) + 1 + (PAGE_TOKENS - 2 + (uint64_t)chunk) / PAGE_TOKENS;
    return pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
}

/* page_cost.c - see page_cost.h. */
#include "plan/page_cost.h"

#include "kernels/attention/kv_window.h"

#include <stdlib.h>

static void add_layer(struct page_cost *cost, uint32_t window, uint32_t chunk)
{
    uint32_t i = 0;
    while (i < cost->n_windows && cost->windows[i].window != window)
        i++;
    if (i == cost->n_windows)
        cost->windows[cost->n_windows++] =
            (struct page_cost_window){.window = window, .pages = kv_window_pages(window, chunk)};
    cost->windows[i].n_layers++;
}

enum status page_cost_create(struct page_cost *cost, const uint32_t *windows, uint32_t n_layers,
                             uint32_t chunk, struct error *error)
{
    *cost = (struct page_cost){.windows = calloc(n_layers, sizeof(*cost->windows))};
    if (cost->windows == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u layers", n_layers);
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        const uint32_t window = windows != NULL ? windows[layer] : 0;
        if (window == 0)
            cost->whole++;
        else
            add_layer(cost, window, chunk);
    }
    if (cost->n_windows == 0)
        cost->whole = 1;
    return STATUS_OK;
}

void page_cost_clear(struct page_cost *cost)
{
    free(cost->windows);
    *cost = (struct page_cost){0};
}

uint32_t page_cost_page(const struct page_cost *cost)
{
    uint32_t units = cost->whole;
    for (uint32_t i = 0; i < cost->n_windows; i++)
        units += cost->windows[i].n_layers;
    return units;
}

uint64_t page_cost_sequence(const struct page_cost *cost, uint64_t n_pages)
{
    uint64_t units = n_pages * cost->whole;
    for (uint32_t i = 0; i < cost->n_windows; i++) {
        const struct page_cost_window *window = &cost->windows[i];
        units += window->n_layers * (n_pages < window->pages ? n_pages : window->pages);
    }
    return units;
}

uint64_t page_cost_room(const struct page_cost *cost, uint64_t units, uint64_t most)
{
    uint64_t fits = 0, too_many = most + 1;
    while (too_many - fits > 1) {
        const uint64_t middle = fits + (too_many - fits) / 2;
        if (page_cost_sequence(cost, middle) <= units)
            fits = middle;
        else
            too_many = middle;
    }
    return fits;
}

uint32_t page_cost_smallest_window(const struct page_cost *cost)
{
    uint32_t smallest = 0;
    for (uint32_t i = 0; i < cost->n_windows; i++)
        if (smallest == 0 || cost->windows[i].window < smallest)
            smallest = cost->windows[i].window;
    return smallest;
}

/* seat.c - see seat.h. */
#include "sys/seat.h"

#include "sys/binding.h"

#include <stdio.h>
#include <string.h>

struct pin_work {
    const struct binding *binding;
    bool failed;
};

static void pin_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct pin_work *work = context;
    (void)n_lanes;
    if (binding_pin(work->binding, lane, NULL) != STATUS_OK)
        __atomic_store_n(&work->failed, true, __ATOMIC_RELAXED);
}

void seat_take(struct seat *seat, struct thread_pool *pool, uint32_t n_host_lanes, bool pin)
{
    const uint32_t n_lanes = thread_pool_lanes(pool);
    const uint32_t n_processors = thread_pool_processors(pool);
    *seat = (struct seat){.pool = pool, .crowded = n_host_lanes > n_processors};
    struct error error = {.text = "as asked"};
    if (seat->crowded)
        error_set(&error, STATUS_EXHAUSTED, "%u lanes on %u processors", n_host_lanes,
                  n_processors);
    else if (pin && binding_create(&seat->binding, n_lanes, &error) == STATUS_OK) {
        struct pin_work work = {.binding = seat->binding};
        thread_pool_run(pool, pin_lane, &work);
        if (work.failed) { /* a sandbox forbids it */
            seat_give(seat);
            seat->pool = pool;
            error_set(&error, STATUS_IO, "the kernel refuses");
        }
    } else if (error.status == STATUS_EXHAUSTED) {
        seat->crowded = true; /* by others than ours */
    }
    thread_pool_set_crowded(pool, seat->crowded);
    if (seat->binding != NULL) {
        char processors[64];
        binding_text(seat->binding, processors, sizeof(processors));
        snprintf(seat->text, sizeof(seat->text), "on processor%s %s", n_lanes > 1 ? "s" : "",
                 processors);
    } else {
        snprintf(seat->text, sizeof(seat->text), "not pinned: %.70s", error.text);
    }
}

void seat_give(struct seat *seat)
{
    if (seat->binding != NULL)
        thread_pool_unpin(seat->pool);
    binding_destroy(seat->binding);
    *seat = (struct seat){0};
}

void seat_spread(const struct seat *seat, void *base, size_t bytes)
{
    if (seat->binding != NULL)
        binding_spread(seat->binding, base, bytes);
}

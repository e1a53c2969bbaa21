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
    if (!binding_pin(work->binding, lane))
        __atomic_store_n(&work->failed, true, __ATOMIC_RELAXED);
}

/* Processors for the lanes, if that is possible and wanted; otherwise why not. */
static enum status choose(struct seat *seat, uint32_t n_lanes, uint32_t n_host_lanes, bool pin,
                          struct error *error)
{
    const uint32_t n_processors = thread_pool_processors(seat->pool);
    const bool enough = n_host_lanes <= n_processors;
    seat->sharing = enough ? SHARING_NONE : SHARING_CROWDED;
    if (!enough && n_lanes != n_processors)
        return error_set(error, STATUS_EXHAUSTED, "%u lanes on %u processors", n_host_lanes,
                         n_processors);
    if (!pin)
        return error_set(error, STATUS_CANCELLED, "as asked");
    const enum status status = enough ? binding_create(&seat->binding, n_lanes, error)
                                      : binding_share(&seat->binding, n_lanes, error);
    if (status == STATUS_EXHAUSTED) /* others than ours */
        seat->sharing = SHARING_CROWDED;
    else if (status == STATUS_OK && !enough)
        seat->sharing = SHARING_IN_TURN;
    return status;
}

void seat_take(struct seat *seat, struct thread_pool *pool, uint32_t n_host_lanes, bool pin)
{
    const uint32_t n_lanes = thread_pool_lanes(pool);
    struct error error = {0};
    *seat = (struct seat){.pool = pool};
    if (choose(seat, n_lanes, n_host_lanes, pin, &error) == STATUS_OK) {
        struct pin_work work = {.binding = seat->binding};
        thread_pool_run(pool, pin_lane, &work);
        if (work.failed) { /* a sandbox forbids it */
            const enum sharing sharing = seat->sharing;
            seat_give(seat);
            *seat = (struct seat){
                .pool = pool, .sharing = sharing == SHARING_NONE ? SHARING_NONE : SHARING_CROWDED};
            error_set(&error, STATUS_IO, "the kernel refuses");
        }
    }
    thread_pool_set_sharing(pool, seat->sharing);
    if (seat->binding != NULL) {
        char processors[64];
        binding_text(seat->binding, processors, sizeof(processors));
        snprintf(seat->text, sizeof(seat->text), "on processor%s %s%s", n_lanes > 1 ? "s" : "",
                 processors, seat->sharing == SHARING_IN_TURN ? ", in turn with others" : "");
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

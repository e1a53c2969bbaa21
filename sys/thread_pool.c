/* thread_pool.c - two gates: a run starts, a run is done.
 *
 * A gate is a number that only grows. Waiting means: until the number is no longer the one seen
 * before. The waiter pauses for a while (another lane is about to be here), then yields (the
 * processor may be wanted by the lane we wait for), then sleeps in the kernel on the number itself
 * (a futex). Who opens a gate enters the kernel only when somebody sleeps there.
 *
 * Lanes are not pinned here (seat.h), and go back from there in thread_pool_unpin.
 */
#include "sys/thread_pool.h"

#include "sys/clock.h"
#include "sys/offer.h"
#include "sys/spin.h"
#include "sys/topology.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    MAX_LANES = 1024,
    CACHE_LINE = 64,
    /* A layer's serial part between two runs is well under this; a token's network wait is not. */
    SPIN_US = 50,
    YIELD_US = 100,
    SHARED_SPIN_US = 1, /* who we wait for may need this processor */
    MAX_SPIN_US = 1000000,
    PAUSES_PER_LOOK = 16 /* between two looks at the clock, which costs as much as a pause */
};

struct gate {
    _Alignas(CACHE_LINE) atomic_uint value; /* 32 bits: the futex word */
    atomic_uint n_sleepers;
};

struct lane {
    struct thread_pool *pool;
    pthread_t thread;
    uint32_t index;
    struct trace_track *track; /* NULL: not traced */
};

struct thread_pool {
    struct gate start, done;
    _Alignas(CACHE_LINE) atomic_uint n_running; /* lanes but the caller's that have not returned */
    /* Written by the caller before the start gate opens, read by lanes after. */
    _Alignas(CACHE_LINE) void (*function)(void *context, uint32_t lane, uint32_t n_lanes);
    void *context;
    _Atomic uint64_t spin_ns, yield_ns; /* may change while lanes wait for the next run */
    bool spin_given;                    /* by the environment */
    struct topology_mask allowed;
    uint32_t n_lanes, n_started;
    struct lane *lanes;
};

static unsigned gate_value(struct gate *gate)
{
    return atomic_load_explicit(&gate->value, memory_order_acquire);
}

/* Waits until the gate's value is not `seen`. */
static void gate_wait(const struct thread_pool *pool, struct gate *gate, unsigned seen)
{
    if (gate_value(gate) != seen)
        return;

    const uint64_t begin = clock_ns();
    const uint64_t spin_ns = atomic_load_explicit(&pool->spin_ns, memory_order_relaxed);
    const uint64_t yield_ns = atomic_load_explicit(&pool->yield_ns, memory_order_relaxed);
    for (uint64_t waited = 0; waited < spin_ns; waited = clock_ns() - begin)
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (gate_value(gate) != seen)
                return;
            spin_pause();
        }
    for (uint64_t waited = 0; waited < spin_ns + yield_ns; waited = clock_ns() - begin) {
        if (gate_value(gate) != seen)
            return;
        if (!offer_processor())
            break;
    }

    /* Sequentially consistent with gate_open: either it sees this sleeper, or the kernel, which
     * compares the value once more before it puts us to sleep, sees the new value. */
    atomic_fetch_add(&gate->n_sleepers, 1);
    while (atomic_load(&gate->value) == seen)
        syscall(SYS_futex, &gate->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&gate->n_sleepers, 1);
}

static void gate_open(struct gate *gate)
{
    atomic_fetch_add(&gate->value, 1);
    if (atomic_load(&gate->n_sleepers) != 0)
        syscall(SYS_futex, &gate->value, FUTEX_WAKE_PRIVATE, MAX_LANES, NULL, NULL, 0);
}

/* A lane is where its pool's caller is, who waits for it. */
static void trace_lane(struct trace_track *track, const struct trace_track *caller, uint64_t began)
{
    track->step = caller->step;
    track->layer = caller->layer;
    track->phase = caller->phase;
    trace_record(track, "run", began);
}

static void *lane_main(void *argument)
{
    const struct lane *lane = argument;
    struct thread_pool *pool = lane->pool;

    for (unsigned run = 0;; run++) { /* no run can start before this lane has ended the last */
        gate_wait(pool, &pool->start, run);
        if (pool->function == NULL)
            return NULL;
        const uint64_t began = trace_begin(lane->track);
        pool->function(pool->context, lane->index, pool->n_lanes);
        if (lane->track != NULL)
            trace_lane(lane->track, pool->lanes[0].track, began);
        if (atomic_fetch_sub(&pool->n_running, 1) == 1)
            gate_open(&pool->done);
    }
}

static enum status choose_waiting(struct thread_pool *pool, struct error *error)
{
    thread_pool_set_sharing(pool, pool->n_lanes > thread_pool_processors(pool) ? SHARING_CROWDED
                                                                               : SHARING_NONE);

    const char *text = getenv("LONGSPAN_SPIN_US");
    if (text == NULL || *text == '\0')
        return STATUS_OK;
    char *end;
    errno = 0;
    const unsigned long spin_us = strtoul(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || spin_us > MAX_SPIN_US)
        return error_set(error, STATUS_INVALID,
                         "LONGSPAN_SPIN_US=%s: give microseconds, 0 to %d, or unset it", text,
                         MAX_SPIN_US);
    atomic_store_explicit(&pool->spin_ns, spin_us * UINT64_C(1000), memory_order_relaxed);
    pool->spin_given = true;
    return STATUS_OK;
}

enum status thread_pool_create(struct thread_pool **pool, uint32_t n_lanes, struct error *error)
{
    if (n_lanes > MAX_LANES)
        return error_set(error, STATUS_INVALID, "thread pool: %u lanes, at most %d are possible",
                         n_lanes, MAX_LANES);
    if (n_lanes == 0)
        n_lanes = topology_processors() < MAX_LANES ? topology_processors() : MAX_LANES;

    struct thread_pool *p = aligned_alloc(CACHE_LINE, sizeof(*p));
    if (p != NULL) {
        memset(p, 0, sizeof(*p));
        p->n_lanes = n_lanes;
        p->lanes = calloc(n_lanes, sizeof(*p->lanes));
    }
    if (p == NULL || p->lanes == NULL) {
        free(p);
        return error_set(error, STATUS_NO_MEMORY, "thread pool: no memory for %u lanes", n_lanes);
    }
    topology_allowed(&p->allowed);
    enum status status = choose_waiting(p, error);

    /* Signals are for the program's main thread; lanes are started deaf, but for what they do
     * themselves (sys/bus_error.h). */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (uint32_t i = 1; i < n_lanes && status == STATUS_OK; i++) {
        p->lanes[i] = (struct lane){.pool = p, .index = i};
        const int code = pthread_create(&p->lanes[i].thread, NULL, lane_main, &p->lanes[i]);
        if (code == 0)
            p->n_started++;
        else
            status = error_set(error, STATUS_NO_MEMORY,
                               "thread pool: cannot start thread %u of %u: %s; ask for fewer "
                               "threads or raise `ulimit -u`",
                               i + 1, n_lanes, strerror(code));
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    if (status != STATUS_OK) {
        thread_pool_destroy(p);
        return status;
    }
    *pool = p;
    return STATUS_OK;
}

void thread_pool_destroy(struct thread_pool *pool)
{
    if (pool == NULL)
        return;
    pool->function = NULL;
    gate_open(&pool->start);
    for (uint32_t i = 1; i <= pool->n_started; i++)
        pthread_join(pool->lanes[i].thread, NULL);
    free(pool->lanes);
    free(pool);
}

uint32_t thread_pool_processors(const struct thread_pool *pool)
{
    const uint32_t n = topology_count(&pool->allowed);
    return n > 0 ? n : 1;
}

void thread_pool_set_sharing(struct thread_pool *pool, enum sharing sharing)
{
    static const uint64_t yield_us[] = {[SHARING_NONE] = YIELD_US,
                                        [SHARING_IN_TURN] = SHARING_IN_TURN_US,
                                        [SHARING_CROWDED] = SHARING_CROWDED_US};
    const uint64_t spin_us = sharing == SHARING_NONE ? SPIN_US : SHARED_SPIN_US;
    if (!pool->spin_given)
        atomic_store_explicit(&pool->spin_ns, spin_us * 1000, memory_order_relaxed);
    atomic_store_explicit(&pool->yield_ns, yield_us[sharing] * 1000, memory_order_relaxed);
}

static void unpin_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct thread_pool *pool = context;
    (void)lane;
    (void)n_lanes;
    (void)topology_confine(&pool->allowed); /* could do that before: may still */
}

void thread_pool_unpin(struct thread_pool *pool)
{
    thread_pool_run(pool, unpin_lane, pool);
}

void thread_pool_trace(struct thread_pool *pool, struct trace *trace, struct trace_track *caller)
{
    for (uint32_t i = 1; i < pool->n_lanes; i++) {
        char name[32];
        snprintf(name, sizeof(name), "lane %u", i);
        pool->lanes[i].track = caller != NULL ? trace_track(trace, name) : NULL;
    }
    pool->lanes[0].track = pool->n_lanes > 1 ? caller : NULL;
}

uint32_t thread_pool_lanes(const struct thread_pool *pool)
{
    return pool->n_lanes;
}

void thread_pool_run(struct thread_pool *pool,
                     void (*function)(void *context, uint32_t lane, uint32_t n_lanes),
                     void *context)
{
    assert(function != NULL);
    if (pool->n_lanes == 1) {
        function(context, 0, 1);
        return;
    }
    const unsigned done = gate_value(&pool->done);
    pool->function = function;
    pool->context = context;
    atomic_store_explicit(&pool->n_running, pool->n_lanes - 1, memory_order_relaxed);
    gate_open(&pool->start);
    struct trace_track *track = pool->lanes[0].track;
    function(context, 0, pool->n_lanes);
    const uint64_t at = trace_begin(track);
    gate_wait(pool, &pool->done, done);
    trace_span(track, "wait for lanes", at);
}

void thread_pool_share(size_t n, size_t grain, uint32_t lane, uint32_t n_lanes, size_t *begin,
                       size_t *end)
{
    assert(grain > 0 && lane < n_lanes);
    const size_t n_pieces = n / grain + (n % grain != 0);
    const size_t each = n_pieces / n_lanes, extra = n_pieces % n_lanes;
    const size_t first = lane * each + (lane < extra ? lane : extra);
    const size_t last = first + each + (lane < extra);
    *begin = first < n_pieces ? first * grain : n;
    *end = last < n_pieces ? last * grain : n;
}

bool thread_pool_take(atomic_size_t *next, size_t end, size_t n, size_t grain, size_t *begin,
                      size_t *stop)
{
    assert(n > 0 && grain > 0);
    size_t at = atomic_load_explicit(next, memory_order_relaxed), piece;
    do {
        if (at >= end)
            return false;
        const size_t left = end - at, part = left / n / grain * grain;
        piece = part > 0 ? part : left < grain ? left : grain;
    } while (!atomic_compare_exchange_weak_explicit(next, &at, at + piece, memory_order_relaxed,
                                                    memory_order_relaxed));
    *begin = at;
    *stop = at + piece;
    return true;
}

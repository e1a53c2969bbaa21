/* bridge.c - see bridge.h.
 *
 * Threads leave errands and numbers to be cancelled under a lock, and ring a bell (an eventfd) that
 * the bridge's thread hears beside its socket and the descriptors of clients. Nothing is polled:
 * without errands the thread sleeps for good, with errands it wakes once a second to ping. */
#include "coordinator/http/bridge.h"

#include "coordinator/http/desk.h"
#include "proto/arena.h"
#include "proto/frames.h"
#include "proto/wire_socket.h"
#include "sys/array.h"
#include "sys/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    PING_US = 1000000, /* the coordinator drops clients after SERVING_CLIENT_SILENCE_US */
    LONG_US = 1000000000,
    MOST_MESSAGES = 256,      /* taken before other things get a look again */
    MOST_GONE = 64,           /* likewise, clients that hung up */
    UNPACKED_BYTES = 1 << 28, /* an event; a plan repeats the ids of its prompts */
};

struct bridge {
    const struct log *log;
    struct bridge_limits limits;
    struct wire_socket *socket;
    struct frames frames;
    struct arena arena;
    int bell, watched; /* an eventfd; an epoll of clients' descriptors */
    pthread_t thread;
    bool started;
    uint64_t next_ping_us;
    struct desk *desk;
    struct errand *running, *queue, **queue_end; /* the thread's */
    struct errand *unread;                       /* likewise: at the desk, in no order */
    atomic_uint n_running, n_queued;
    atomic_ullong last_number;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t idle;  /* n_errands has become 0 */
    struct errand *submitted, **submitted_end;
    struct errand *read; /* that the desk is done with: by next_at_desk, the last one first */
    uint64_t *abandoned; /* numbers */
    size_t n_abandoned, abandoned_capacity;
    uint32_t n_errands; /* submitted, unread, queued and running */
    bool closed, ending;
};

/* ---- from other threads ---------------------------------------------------------------------- */

static void ring(struct bridge *bridge)
{
    const uint64_t one = 1;
    (void)!write(bridge->bell, &one, sizeof(one)); /* full: it rings already */
}

uint64_t bridge_number(struct bridge *bridge)
{
    return atomic_fetch_add(&bridge->last_number, 1) + 1;
}

bool bridge_submit(struct bridge *bridge, struct errand *errand, struct api_error *error)
{
    const uint64_t most = (uint64_t)bridge->limits.running + bridge->limits.queued;
    bool good = true;
    pthread_mutex_lock(&bridge->lock);
    if (bridge->closed)
        good = api_error_set(error, 503, NULL, "unavailable", "the server is shutting down");
    else if (bridge->n_errands >= most)
        good = api_error_set(error, 429, NULL, "queue_full",
                             "%u requests run or wait already: try again later", bridge->n_errands);
    if (good) {
        atomic_fetch_add(&errand->n_users, 1);
        errand->next = NULL;
        *bridge->submitted_end = errand;
        bridge->submitted_end = &errand->next;
        bridge->n_errands++;
    }
    pthread_mutex_unlock(&bridge->lock);
    if (good)
        ring(bridge);
    return good;
}

void bridge_abandon(struct bridge *bridge, const struct errand *errand)
{
    pthread_mutex_lock(&bridge->lock);
    if (array_grow(&bridge->abandoned, &bridge->abandoned_capacity, bridge->n_abandoned + 1,
                   sizeof(*bridge->abandoned))) /* else it runs to its end */
        bridge->abandoned[bridge->n_abandoned++] = errand->number;
    pthread_mutex_unlock(&bridge->lock);
    ring(bridge);
}

uint32_t bridge_running(const struct bridge *bridge)
{
    return atomic_load(&bridge->n_running);
}

uint32_t bridge_queued(const struct bridge *bridge)
{
    return atomic_load(&bridge->n_queued);
}

/* ---- messages out ---------------------------------------------------------------------------- */

static enum status send_request(struct bridge *b, const struct errand *errand, struct error *error)
{
    struct frames frames;
    frames_init(&frames);
    enum status status = frames_add_copy(&frames, errand->message, errand->n_bytes, error);
    if (status == STATUS_OK)
        status = frames_send(b->socket, &frames, clock_us() + PING_US, error);
    frames_clear(&frames);
    return status;
}

static enum status send_control(struct bridge *b, const Longspan__Control *control,
                                struct error *error)
{
    return frames_send_message(b->socket, &control->base, clock_us() + PING_US, error);
}

static void send_cancel(struct bridge *b, const struct errand *errand)
{
    Longspan__RunCancel cancel = LONGSPAN__RUN_CANCEL__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    struct error error;
    cancel.request = errand->number;
    control.body_case = LONGSPAN__CONTROL__BODY_RUN_CANCEL;
    control.run_cancel = &cancel;
    if (send_control(b, &control, &error) != STATUS_OK)
        log_warn(b->log, "a request cannot be cancelled: %s", error.text);
}

static void tick(struct errand *errand, uint64_t now_us)
{
    for (; errand != NULL; errand = errand->next)
        if (errand->kind->tick != NULL)
            errand->kind->tick(errand, now_us);
}

static void ping(struct bridge *b)
{
    const uint64_t now = clock_us();
    if (b->running == NULL || now < b->next_ping_us)
        return;
    Longspan__Ping ping = LONGSPAN__PING__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    char name[] = "http";
    ping.name = name;
    control.body_case = LONGSPAN__CONTROL__BODY_PING;
    control.ping = &ping;
    b->next_ping_us = now + PING_US;
    send_control(b, &control, NULL); /* a full queue shows in the silence */
    tick(b->running, now);
    tick(b->queue, now);
}

/* ---- the life of an errand ------------------------------------------------------------------- */

static struct errand **find(struct errand **list, uint64_t number)
{
    while (*list != NULL && (*list)->number != number)
        list = &(*list)->next;
    return list;
}

static void forget(struct bridge *b, struct errand **link)
{
    struct errand *errand = *link;
    *link = errand->next;
    if (b->queue_end == &errand->next)
        b->queue_end = link;
    atomic_fetch_sub(errand->sent ? &b->n_running : &b->n_queued, 1);
    pthread_mutex_lock(&b->lock);
    if (--b->n_errands == 0)
        pthread_cond_broadcast(&b->idle);
    pthread_mutex_unlock(&b->lock);
    errand_release(errand);
}

/* Ends an errand of which no event told the end. */
static void lose(struct bridge *b, struct errand **link, enum status status, const char *text)
{
    if ((*link)->sent)
        send_cancel(b, *link);
    (*link)->kind->lost(*link, status, text);
    forget(b, link);
}

/* One that is being read is lost when the desk is done with it. */
static void lose_unread(struct bridge *b, struct errand **link, const char *text)
{
    atomic_store(&(*link)->stop, true);
    if (desk_take_back(b->desk, *link))
        lose(b, link, STATUS_CANCELLED, text);
}

static void lose_number(struct bridge *b, uint64_t number, const char *text)
{
    struct errand **link = find(&b->unread, number);
    if (*link != NULL) {
        lose_unread(b, link, text);
        return;
    }
    link = find(&b->running, number);
    if (*link == NULL)
        link = find(&b->queue, number);
    if (*link != NULL)
        lose(b, link, STATUS_CANCELLED, text);
}

/* Readable, or rather over, when the client hangs up. The entry of an earlier request on the same
 * connection is taken over; one whose descriptor was closed is gone by itself. */
static void watch(struct bridge *b, const struct errand *errand)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = errand->number};
    if (epoll_ctl(b->watched, EPOLL_CTL_ADD, errand->descriptor, &event) != 0 && errno == EEXIST)
        epoll_ctl(b->watched, EPOLL_CTL_MOD, errand->descriptor, &event);
}

static void queue(struct bridge *b, struct errand *errand)
{
    errand->next = NULL;
    *b->queue_end = errand;
    b->queue_end = &errand->next;
}

static void take_submitted(struct bridge *b)
{
    pthread_mutex_lock(&b->lock);
    struct errand *errand = b->submitted;
    b->submitted = NULL;
    b->submitted_end = &b->submitted;
    pthread_mutex_unlock(&b->lock);
    while (errand != NULL) {
        struct errand *next = errand->next;
        watch(b, errand);
        if (errand->n_unread > 0) {
            errand->next = b->unread;
            b->unread = errand;
            desk_give(b->desk, errand);
        } else {
            queue(b, errand);
        }
        atomic_fetch_add(&b->n_queued, 1);
        errand = next;
    }
}

/* In a thread of the desk. */
static void note_read(void *context, struct errand *errand)
{
    struct bridge *b = context;
    pthread_mutex_lock(&b->lock);
    errand->next_at_desk = b->read;
    b->read = errand;
    pthread_mutex_unlock(&b->lock);
    ring(b);
}

static void take_read(struct bridge *b)
{
    pthread_mutex_lock(&b->lock);
    struct errand *errand = b->read;
    const char *why = b->closed ? "the server is shutting down" : "the client has gone";
    b->read = NULL;
    pthread_mutex_unlock(&b->lock);
    while (errand != NULL) {
        struct errand *next = errand->next_at_desk, **link = find(&b->unread, errand->number);
        if (errand->outcome == ERRAND_ANSWERED) {
            forget(b, link);
        } else if (atomic_load(&errand->stop)) {
            lose(b, link, STATUS_CANCELLED, why);
        } else {
            *link = errand->next;
            queue(b, errand);
        }
        errand = next;
    }
}

static void take_abandoned(struct bridge *b)
{
    pthread_mutex_lock(&b->lock);
    uint64_t *numbers = b->abandoned;
    const size_t n = b->n_abandoned;
    b->abandoned = NULL;
    b->n_abandoned = b->abandoned_capacity = 0;
    pthread_mutex_unlock(&b->lock);
    for (size_t i = 0; i < n; i++)
        lose_number(b, numbers[i], "the client has gone");
    free(numbers);
}

static void take_gone(struct bridge *b)
{
    struct epoll_event events[MOST_GONE];
    const int n = epoll_wait(b->watched, events, MOST_GONE, 0);
    for (int i = 0; i < n; i++)
        lose_number(b, events[i].data.u64, "the client has gone");
}

static bool may_start(const struct bridge *b)
{
    return b->queue != NULL && atomic_load(&b->n_running) < b->limits.running;
}

/* Sends what has a place, for about a second where the loop is slow to take it: pings, and events of
 * those that run, come between. */
static void start_queued(struct bridge *b)
{
    const uint64_t end_us = clock_us() + PING_US;
    while (may_start(b) && clock_us() < end_us) {
        struct errand *errand = b->queue;
        struct error error;
        const enum status status = send_request(b, errand, &error);
        if (status != STATUS_OK) {
            lose(b, &b->queue, status, error.text);
            continue;
        }
        free(errand->message);
        errand->message = NULL;
        b->queue = errand->next;
        if (b->queue == NULL)
            b->queue_end = &b->queue;
        errand->sent = true;
        errand->next = b->running;
        b->running = errand;
        atomic_fetch_sub(&b->n_queued, 1);
        atomic_fetch_add(&b->n_running, 1);
    }
}

/* ---- messages in ----------------------------------------------------------------------------- */

static void take_event(struct bridge *b, const Longspan__RunEvent *event)
{
    struct errand **link = find(&b->running, event->request);
    if (*link == NULL)
        return; /* of one that was given up */
    const bool taken = (*link)->kind->take(*link, event);
    if (event->body_case == LONGSPAN__RUN_EVENT__BODY_DONE ||
        event->body_case == LONGSPAN__RUN_EVENT__BODY_FAILURE)
        forget(b, link);
    else if (!taken)
        lose(b, link, STATUS_CANCELLED, "the client does not read its answer");
}

static bool receive(struct bridge *b)
{
    struct error error;
    if (frames_receive(b->socket, &b->frames, 0, &error) != STATUS_OK)
        return false;
    const Longspan__Control *control =
        b->frames.n == 0
            ? NULL
            : longspan__control__unpack(&b->arena.allocator, frames_size(&b->frames, 0),
                                        frames_data(&b->frames, 0));
    if (control != NULL && control->body_case == LONGSPAN__CONTROL__BODY_RUN_EVENT)
        take_event(b, control->run_event);
    arena_reset(&b->arena); /* now: the next one may be long in coming */
    frames_clear(&b->frames);
    return true;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void lose_all(struct bridge *b)
{
    for (struct errand *e = b->unread, *next; e != NULL; e = next) {
        next = e->next;
        lose_number(b, e->number, "the server is shutting down");
    }
    while (b->running != NULL)
        lose(b, &b->running, STATUS_CANCELLED, "the server is shutting down");
    while (b->queue != NULL)
        lose(b, &b->queue, STATUS_CANCELLED, "the server is shutting down");
}

static void *run(void *closure)
{
    struct bridge *b = closure;
    for (;;) {
        struct wire_poll_item items[] = {
            {.socket = b->socket}, {.descriptor = b->bell}, {.descriptor = b->watched}};
        const uint64_t deadline = may_start(b)         ? 0
                                  : b->running != NULL ? b->next_ping_us
                                                       : clock_us() + LONG_US;
        wire_poll(items, 3, 0, deadline, NULL);
        if (items[1].readable) {
            uint64_t count;
            (void)!read(b->bell, &count, sizeof(count));
        }
        pthread_mutex_lock(&b->lock);
        const bool closed = b->closed, ending = b->ending;
        pthread_mutex_unlock(&b->lock);
        if (ending)
            return NULL;
        take_submitted(b);
        take_read(b);
        take_abandoned(b);
        if (items[2].readable)
            take_gone(b);
        for (int n = 0; n < MOST_MESSAGES && receive(b); n++)
            continue;
        if (closed)
            lose_all(b);
        start_queued(b);
        ping(b);
    }
}

enum status bridge_create(struct bridge **bridge, struct wire_context *wire, const char *endpoint,
                          const struct bridge_limits *limits, const struct log *log,
                          struct error *error)
{
    struct bridge *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
    b->log = log;
    b->limits = *limits;
    b->queue_end = &b->queue;
    b->submitted_end = &b->submitted;
    frames_init(&b->frames);
    arena_init(&b->arena, UNPACKED_BYTES);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->idle, NULL);
    b->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    b->watched = epoll_create1(EPOLL_CLOEXEC);
    const struct wire_socket_options options = {.kind = WIRE_DEALER,
                                                .endpoint = endpoint,
                                                .inside = true,
                                                .name = "the coordinator's loop",
                                                .queue_messages = 100000};
    enum status status = STATUS_OK;
    if (b->bell < 0 || b->watched < 0)
        status = error_set(error, STATUS_NO_MEMORY, "no more descriptors for the HTTP server");
    if (status == STATUS_OK)
        status = wire_socket_open(&b->socket, wire, &options, error);
    if (status == STATUS_OK)
        status = desk_create(&b->desk, note_read, b, error);
    if (status == STATUS_OK && pthread_create(&b->thread, NULL, run, b) != 0)
        status = error_set(error, STATUS_NO_MEMORY,
                           "no thread for the HTTP server: raise `ulimit -u` or `ulimit -v`");
    b->started = status == STATUS_OK;
    if (status != STATUS_OK) {
        bridge_destroy(b);
        return status;
    }
    *bridge = b;
    return STATUS_OK;
}

static void set_flag(struct bridge *bridge, bool *flag)
{
    pthread_mutex_lock(&bridge->lock);
    *flag = true;
    pthread_mutex_unlock(&bridge->lock);
    ring(bridge);
}

void bridge_close(struct bridge *bridge)
{
    if (bridge == NULL)
        return;
    set_flag(bridge, &bridge->closed);
    pthread_mutex_lock(&bridge->lock);
    while (bridge->n_errands > 0)
        pthread_cond_wait(&bridge->idle, &bridge->lock);
    pthread_mutex_unlock(&bridge->lock);
}

void bridge_destroy(struct bridge *bridge)
{
    if (bridge == NULL)
        return;
    if (bridge->started) {
        set_flag(bridge, &bridge->ending);
        pthread_join(bridge->thread, NULL);
    }
    lose_all(bridge);
    desk_destroy(bridge->desk);
    wire_socket_close(bridge->socket);
    frames_clear(&bridge->frames);
    arena_destroy(&bridge->arena);
    if (bridge->bell >= 0)
        close(bridge->bell);
    if (bridge->watched >= 0)
        close(bridge->watched);
    pthread_cond_destroy(&bridge->idle);
    pthread_mutex_destroy(&bridge->lock);
    free(bridge->abandoned);
    free(bridge);
}

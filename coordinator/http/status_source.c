/* status_source.c - see status_source.h.
 *
 * Threads leave questions under a lock, and ring a bell (an eventfd) that the source's thread hears
 * beside its socket. A reply is shared by reference count: nobody holds the lock while reading
 * it. */
#include "coordinator/http/status_source.h"

#include "coordinator/http/stream.h"
#include "proto/arena.h"
#include "proto/frames.h"
#include "proto/wire_socket.h"
#include "sys/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LONG_US = 1000000000 };

/* What the loop said once; the last user frees it. */
struct told {
    atomic_uint n_users;
    struct arena arena; /* of `reply` */
    const Longspan__StatusReply *reply;
    uint64_t came_us;
};

/* Two users, its call and the source: the last one frees it. What becomes of it is written before
 * its stream begins, and read after. */
struct status_question {
    atomic_uint n_users;
    struct stream stream; /* nothing is written: it puts the connection to sleep, and wakes it */
    struct told *told;    /* NULL: `error` */
    struct error error;
    struct status_question *next;
};

struct status_source {
    uint64_t wait_us;
    struct wire_socket *socket;
    struct frames frames;
    int bell;
    pthread_t thread;
    bool started, asked; /* asked: the thread's; a question is under way */
    uint64_t n_asked, deadline_us;

    pthread_mutex_t lock; /* of what follows */
    struct status_question *waiting;
    struct told *last; /* NULL: none */
    bool closed, ending;
    struct error end; /* why, once it is closed */
};

static void told_release(struct told *told)
{
    if (told != NULL && atomic_fetch_sub(&told->n_users, 1) == 1) {
        arena_destroy(&told->arena);
        free(told);
    }
}

/* ---- questions ------------------------------------------------------------------------------- */

static void question_release(struct status_question *q)
{
    if (atomic_fetch_sub(&q->n_users, 1) != 1)
        return;
    told_release(q->told);
    stream_close(&q->stream);
    free(q);
}

/* The source's use of it ends. `told` NULL: with an error. */
static void answer(struct status_question *q, struct told *told, const struct error *error)
{
    if (told != NULL)
        atomic_fetch_add(&told->n_users, 1);
    else
        q->error = *error;
    q->told = told;
    stream_begin(&q->stream);
    question_release(q);
}

/* With the lock: so that none is still asleep when status_source_close returns. */
static void answer_all(struct status_source *s, struct told *told, const struct error *error)
{
    struct status_question *q = s->waiting;
    s->waiting = NULL;
    while (q != NULL) {
        struct status_question *next = q->next;
        answer(q, told, error);
        q = next;
    }
}

static void fail_all(struct status_source *s, const struct error *error)
{
    pthread_mutex_lock(&s->lock);
    answer_all(s, NULL, error);
    pthread_mutex_unlock(&s->lock);
}

static void ring(struct status_source *s)
{
    const uint64_t one = 1;
    (void)!write(s->bell, &one, sizeof(one)); /* full: it rings already */
}

static bool is_fresh(const struct told *told)
{
    return told != NULL && clock_us() - told->came_us < STATUS_SOURCE_AGE_MS * UINT64_C(1000);
}

struct status_question *status_source_ask(struct status_source *source,
                                          struct MHD_Connection *connection)
{
    struct status_question *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return NULL;
    atomic_init(&q->n_users, 2);
    stream_open(&q->stream, connection, 0);
    pthread_mutex_lock(&source->lock);
    if (source->closed) {
        answer(q, NULL, &source->end);
    } else if (is_fresh(source->last)) {
        answer(q, source->last, NULL);
    } else {
        q->next = source->waiting;
        source->waiting = q;
        ring(source);
    }
    pthread_mutex_unlock(&source->lock);
    return q;
}

bool status_question_answered(struct status_question *question)
{
    return question == NULL || stream_begun(&question->stream);
}

const Longspan__StatusReply *status_question_reply(const struct status_question *question,
                                                   struct error *error)
{
    if (question != NULL && question->told != NULL)
        return question->told->reply;
    if (question != NULL)
        *error = question->error;
    else
        error_set(error, STATUS_NO_MEMORY, "no memory for the coordinator's status");
    return NULL;
}

void status_question_end(struct status_question *question)
{
    if (question == NULL)
        return;
    stream_detach(&question->stream);
    question_release(question);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void ask(struct status_source *s)
{
    Longspan__StatusRequest request = LONGSPAN__STATUS_REQUEST__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    struct error error;
    request.request = ++s->n_asked;
    control.body_case = LONGSPAN__CONTROL__BODY_STATUS_REQUEST;
    control.status_request = &request;
    s->deadline_us = clock_us() + s->wait_us;
    s->asked = frames_send_message(s->socket, &control.base, s->deadline_us, &error) == STATUS_OK;
    if (!s->asked)
        fail_all(s, &error);
}

static struct told *read_told(struct frames *frames, uint64_t number)
{
    struct told *told = calloc(1, sizeof(*told));
    if (told == NULL)
        return NULL;
    atomic_init(&told->n_users, 1);
    arena_init(&told->arena, 0);
    const Longspan__Control *control = longspan__control__unpack(
        &told->arena.allocator, frames_size(frames, 0), frames_data(frames, 0));
    if (control != NULL && control->body_case == LONGSPAN__CONTROL__BODY_STATUS_REPLY &&
        control->status_reply->request == number) {
        told->reply = control->status_reply;
        told->came_us = clock_us();
        return told;
    }
    told_release(told);
    return NULL;
}

/* Answers to earlier questions came too late for who asked. */
static bool receive(struct status_source *s)
{
    if (frames_receive(s->socket, &s->frames, 0, NULL) != STATUS_OK)
        return false;
    struct told *told = s->frames.n > 0 ? read_told(&s->frames, s->n_asked) : NULL;
    frames_clear(&s->frames);
    if (told == NULL)
        return true;
    s->asked = false;
    pthread_mutex_lock(&s->lock);
    told_release(s->last);
    s->last = told;
    answer_all(s, told, NULL);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static void give_up(struct status_source *s)
{
    struct error error;
    error_set(&error, STATUS_TIMEOUT, "the coordinator is busy: it did not tell its status in %g s",
              (double)s->wait_us * 1e-6);
    s->asked = false;
    fail_all(s, &error);
}

static void *run(void *closure)
{
    struct status_source *s = closure;
    for (;;) {
        struct wire_poll_item items[] = {{.socket = s->socket}, {.descriptor = s->bell}};
        wire_poll(items, 2, 0, s->asked ? s->deadline_us : clock_us() + LONG_US, NULL);
        if (items[1].readable) {
            uint64_t count;
            (void)!read(s->bell, &count, sizeof(count));
        }
        while (receive(s))
            continue;
        pthread_mutex_lock(&s->lock);
        const bool ending = s->ending, waits = s->waiting != NULL;
        pthread_mutex_unlock(&s->lock);
        if (ending)
            return NULL;
        if (s->asked && clock_us() >= s->deadline_us)
            give_up(s);
        else if (waits && !s->asked)
            ask(s);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

enum status status_source_create(struct status_source **source, struct wire_context *wire,
                                 const char *endpoint, uint32_t wait_ms, struct error *error)
{
    struct status_source *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
    s->wait_us = wait_ms * UINT64_C(1000);
    pthread_mutex_init(&s->lock, NULL);
    frames_init(&s->frames);
    const struct wire_socket_options options = {.kind = WIRE_DEALER,
                                                .endpoint = endpoint,
                                                .inside = true,
                                                .name = "the coordinator's loop"};
    s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum status status = STATUS_OK;
    if (s->bell < 0)
        status = error_set(error, STATUS_NO_MEMORY, "no more descriptors for the HTTP server");
    if (status == STATUS_OK)
        status = wire_socket_open(&s->socket, wire, &options, error);
    if (status == STATUS_OK && pthread_create(&s->thread, NULL, run, s) != 0)
        status = error_set(error, STATUS_NO_MEMORY,
                           "no thread for the HTTP server: raise `ulimit -u` or `ulimit -v`");
    s->started = status == STATUS_OK;
    if (status != STATUS_OK) {
        status_source_destroy(s);
        return status;
    }
    *source = s;
    return STATUS_OK;
}

void status_source_close(struct status_source *source)
{
    if (source == NULL)
        return;
    pthread_mutex_lock(&source->lock);
    source->closed = true;
    error_set(&source->end, STATUS_CANCELLED, "the server is shutting down");
    answer_all(source, NULL, &source->end);
    pthread_mutex_unlock(&source->lock);
}

void status_source_destroy(struct status_source *source)
{
    if (source == NULL)
        return;
    status_source_close(source);
    if (source->started) {
        pthread_mutex_lock(&source->lock);
        source->ending = true;
        pthread_mutex_unlock(&source->lock);
        ring(source);
        pthread_join(source->thread, NULL);
    }
    wire_socket_close(source->socket);
    frames_clear(&source->frames);
    told_release(source->last);
    if (source->bell >= 0)
        close(source->bell);
    pthread_mutex_destroy(&source->lock);
    free(source);
}

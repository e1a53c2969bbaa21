/* readers.c - see readers.h: a queue in the order of deadlines, and a thread that sleeps until the
 * first of them. */
#include "coordinator/http/readers.h"

#include "sys/clock.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

struct reader {
    struct reader *before, *after; /* in the queue */
    uint64_t deadline_us;
    int descriptor;
    bool queued;
};

struct readers {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool started, ending;
    uint64_t limit_us;
    struct reader *first, *last;
};

static void unlink_locked(struct readers *r, struct reader *reader)
{
    if (!reader->queued)
        return;
    *(reader->before != NULL ? &reader->before->after : &r->first) = reader->after;
    *(reader->after != NULL ? &reader->after->before : &r->last) = reader->before;
    reader->queued = false;
}

static void append_locked(struct readers *r, struct reader *reader)
{
    unlink_locked(r, reader);
    reader->deadline_us = clock_us() + r->limit_us;
    reader->before = r->last;
    reader->after = NULL;
    *(r->last != NULL ? &r->last->after : &r->first) = reader;
    r->last = reader;
    reader->queued = true;
    if (r->first == reader)
        pthread_cond_signal(&r->changed);
}

static struct timespec time_of(uint64_t us)
{
    return (struct timespec){.tv_sec = (time_t)(us / 1000000),
                             .tv_nsec = (long)(us % 1000000) * 1000};
}

/* MHD sees the end of what it reads, and closes the connection. */
static void *run(void *closure)
{
    struct readers *r = closure;
    pthread_mutex_lock(&r->lock);
    while (!r->ending) {
        if (r->first == NULL) {
            pthread_cond_wait(&r->changed, &r->lock);
        } else if (clock_us() < r->first->deadline_us) {
            const struct timespec until = time_of(r->first->deadline_us);
            pthread_cond_timedwait(&r->changed, &r->lock, &until);
        } else {
            shutdown(r->first->descriptor, SHUT_RDWR);
            unlink_locked(r, r->first);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

enum status readers_create(struct readers **readers, uint32_t limit_s, struct error *error)
{
    struct readers *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    r->limit_us = limit_s * 1000000ull;
    r->started = pthread_create(&r->thread, NULL, run, r) == 0;
    if (!r->started) {
        readers_destroy(r);
        return error_set(error, STATUS_NO_MEMORY,
                         "no thread for the HTTP server: raise `ulimit -u` or `ulimit -v`");
    }
    *readers = r;
    return STATUS_OK;
}

void readers_destroy(struct readers *readers)
{
    if (readers == NULL)
        return;
    pthread_mutex_lock(&readers->lock);
    readers->ending = true;
    pthread_cond_signal(&readers->changed);
    pthread_mutex_unlock(&readers->lock);
    if (readers->started)
        pthread_join(readers->thread, NULL);
    pthread_cond_destroy(&readers->changed);
    pthread_mutex_destroy(&readers->lock);
    free(readers);
}

struct reader *readers_add(struct readers *readers, int descriptor)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return NULL;
    reader->descriptor = descriptor;
    readers_start(readers, reader);
    return reader;
}

void readers_remove(struct readers *readers, struct reader *reader)
{
    readers_stop(readers, reader);
    free(reader);
}

void readers_stop(struct readers *readers, struct reader *reader)
{
    if (reader == NULL)
        return;
    pthread_mutex_lock(&readers->lock);
    unlink_locked(readers, reader);
    pthread_mutex_unlock(&readers->lock);
}

void readers_start(struct readers *readers, struct reader *reader)
{
    if (reader == NULL)
        return;
    pthread_mutex_lock(&readers->lock);
    append_locked(readers, reader);
    pthread_mutex_unlock(&readers->lock);
}

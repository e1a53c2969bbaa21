/* desk.c - see desk.h: a list in the order of coming, searched by whoever is free. */
#include "coordinator/http/desk.h"

#include "sys/memory.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

struct desk {
    void (*done)(void *context, struct errand *errand);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct errand *first;
    uint32_t n_threads;
    bool ending, has_first; /* has_first: a thread takes what came first */
    pthread_t threads[DESK_THREADS];
};

static struct errand **link_of_locked(struct desk *d, const struct errand *errand)
{
    struct errand **link = &d->first;
    while (*link != NULL && *link != errand)
        link = &(*link)->next_at_desk;
    return link;
}

static struct errand *shortest_locked(const struct desk *d)
{
    struct errand *shortest = d->first;
    for (struct errand *e = d->first; e != NULL; e = e->next_at_desk)
        if (e->n_unread < shortest->n_unread)
            shortest = e;
    return shortest;
}

static void *run(void *closure)
{
    struct desk *d = closure;
    pthread_mutex_lock(&d->lock);
    const bool takes_first = !d->has_first;
    d->has_first = true;
    bool much = false; /* was read since memory was given back */
    for (;;) {
        if (d->first == NULL && much) {
            much = false;
            pthread_mutex_unlock(&d->lock);
            memory_give_back();
            pthread_mutex_lock(&d->lock);
        }
        while (d->first == NULL && !d->ending)
            pthread_cond_wait(&d->changed, &d->lock);
        if (d->first == NULL)
            break;
        struct errand *errand = takes_first ? d->first : shortest_locked(d);
        struct errand **link = link_of_locked(d, errand);
        *link = errand->next_at_desk;
        pthread_mutex_unlock(&d->lock);
        much = much || errand->n_unread >= MEMORY_MUCH_TEXT_BYTES;
        errand->outcome = errand->kind->read(errand);
        d->done(d->context, errand); /* it may be gone now */
        pthread_mutex_lock(&d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

enum status desk_create(struct desk **desk, void (*done)(void *context, struct errand *errand),
                        void *context, struct error *error)
{
    struct desk *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
    d->done = done;
    d->context = context;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    while (d->n_threads < DESK_THREADS &&
           pthread_create(&d->threads[d->n_threads], NULL, run, d) == 0)
        d->n_threads++;
    if (d->n_threads < DESK_THREADS) {
        desk_destroy(d);
        return error_set(error, STATUS_NO_MEMORY,
                         "no thread for the HTTP server: raise `ulimit -u` or `ulimit -v`");
    }
    *desk = d;
    return STATUS_OK;
}

void desk_destroy(struct desk *desk)
{
    if (desk == NULL)
        return;
    pthread_mutex_lock(&desk->lock);
    desk->ending = true;
    pthread_cond_broadcast(&desk->changed);
    pthread_mutex_unlock(&desk->lock);
    for (uint32_t i = 0; i < desk->n_threads; i++)
        pthread_join(desk->threads[i], NULL);
    pthread_cond_destroy(&desk->changed);
    pthread_mutex_destroy(&desk->lock);
    free(desk);
}

void desk_give(struct desk *d, struct errand *errand)
{
    pthread_mutex_lock(&d->lock);
    errand->next_at_desk = NULL;
    *link_of_locked(d, NULL) = errand;
    pthread_cond_signal(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

bool desk_take_back(struct desk *d, struct errand *errand)
{
    pthread_mutex_lock(&d->lock);
    struct errand **link = link_of_locked(d, errand);
    const bool waits = *link != NULL;
    if (waits)
        *link = errand->next_at_desk;
    pthread_mutex_unlock(&d->lock);
    return waits;
}

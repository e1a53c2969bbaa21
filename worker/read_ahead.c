/* read_ahead.c - small steps, so that stopping waits for one of them only. */
#include "worker/read_ahead.h"

#include "model/mapping.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum { STEP_BYTES = 8 << 20 };

struct read_ahead {
    const struct read_ahead_piece *pieces;
    size_t n;
    pthread_t thread;
    pthread_mutex_t mutex; /* for all below */
    pthread_cond_t moved;
    uint64_t wanted; /* bytes to ask for, from the first piece's beginning */
    bool stopped;
};

/* False: it is the end. */
static bool wait_for_turn(struct read_ahead *ahead, uint64_t position)
{
    pthread_mutex_lock(&ahead->mutex);
    while (!ahead->stopped && position >= ahead->wanted)
        pthread_cond_wait(&ahead->moved, &ahead->mutex);
    const bool go = !ahead->stopped;
    pthread_mutex_unlock(&ahead->mutex);
    return go;
}

static void *walk(void *context)
{
    struct read_ahead *ahead = context;
    uint64_t position = 0;
    for (size_t i = 0; i < ahead->n; i++) {
        const struct read_ahead_piece *piece = &ahead->pieces[i];
        for (uint64_t at = 0; at < piece->n_bytes; at += STEP_BYTES) {
            const uint64_t left = piece->n_bytes - at, n = left < STEP_BYTES ? left : STEP_BYTES;
            if (!wait_for_turn(ahead, position))
                return NULL;
            mapping_expect((const char *)piece->data + at, n);
            position += n;
        }
    }
    return NULL;
}

enum status read_ahead_start(struct read_ahead **ahead, const struct read_ahead_piece *pieces,
                             size_t n, struct error *error)
{
    struct read_ahead *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to read ahead");
    a->pieces = pieces;
    a->n = n;
    a->wanted = READ_AHEAD_BYTES;
    pthread_mutex_init(&a->mutex, NULL);
    pthread_cond_init(&a->moved, NULL);
    if (pthread_create(&a->thread, NULL, walk, a) != 0) {
        pthread_cond_destroy(&a->moved);
        pthread_mutex_destroy(&a->mutex);
        free(a);
        return error_set(error, STATUS_NO_MEMORY,
                         "no thread to read ahead: raise `ulimit -u` or `ulimit -v`");
    }
    *ahead = a;
    return STATUS_OK;
}

void read_ahead_reach(struct read_ahead *ahead, uint64_t position)
{
    pthread_mutex_lock(&ahead->mutex);
    ahead->wanted = position + READ_AHEAD_BYTES;
    pthread_cond_signal(&ahead->moved);
    pthread_mutex_unlock(&ahead->mutex);
}

void read_ahead_stop(struct read_ahead *ahead)
{
    if (ahead == NULL)
        return;
    pthread_mutex_lock(&ahead->mutex);
    ahead->stopped = true;
    pthread_cond_signal(&ahead->moved);
    pthread_mutex_unlock(&ahead->mutex);
    pthread_join(ahead->thread, NULL);
    pthread_cond_destroy(&ahead->moved);
    pthread_mutex_destroy(&ahead->mutex);
    free(ahead);
}

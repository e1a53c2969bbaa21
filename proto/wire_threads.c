/* wire_threads.c - how ZeroMQ's threads are scheduled: see wire_parts.h. They are found by the name
 * that libzmq gives them, which the kernel shows (proc(5)). */
#include "proto/wire_parts.h"

#include "sys/clock.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { NAME_BYTES = 16, PATH_BYTES = 320, CALM_US = 100000 };
static const char tasks[] = "/proc/self/task", own_prefix[] = "ZMQbg/";

static bool is_zeromqs(const char *task)
{
    char path[PATH_BYTES], name[NAME_BYTES] = "";
    snprintf(path, sizeof(path), "%s/%s/comm", tasks, task);
    FILE *file = fopen(path, "re");
    if (file == NULL) /* it has ended */
        return false;
    const size_t n = fread(name, 1, sizeof(name) - 1, file);
    fclose(file);
    return n >= sizeof(own_prefix) - 1 && memcmp(name, own_prefix, sizeof(own_prefix) - 1) == 0;
}

/* Of the whole process: who computes on one of its processors is in every context's way. */
static void set_policy(int policy)
{
    const struct sched_param none = {0};
    DIR *directory = opendir(tasks);
    if (directory == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.' && is_zeromqs(entry->d_name))
            (void)sched_setscheduler(atoi(entry->d_name), policy, &none);
    closedir(directory);
}

/* Whether the kernel lets a thread like this one run as SCHED_BATCH: libzmq aborts where it does
 * not. Who chose another policy for the process (chrt) keeps it. */
static bool may_be_batch(void)
{
    const struct sched_param none = {0};
    return sched_getscheduler(0) == SCHED_OTHER && sched_setscheduler(0, SCHED_BATCH, &none) == 0 &&
           sched_setscheduler(0, SCHED_OTHER, &none) == 0;
}

/* Ends once the lock is free. */
static void *wait_for(void *lock)
{
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
    return NULL;
}

/* So many at once, by trying. */
enum status wire_threads_check(uint32_t n, struct error *error)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t *threads = calloc(n, sizeof(*threads));
    uint32_t n_started = 0;
    if (threads == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u threads", n);
    pthread_mutex_lock(&lock);
    while (n_started < n && pthread_create(&threads[n_started], NULL, wait_for, &lock) == 0)
        n_started++;
    pthread_mutex_unlock(&lock);
    for (uint32_t i = 0; i < n_started; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&lock);
    free(threads);
    return n_started == n
               ? STATUS_OK
               : error_set(error, STATUS_NO_MEMORY,
                           "no %u threads for ZeroMQ: raise `ulimit -u` or `ulimit -v`", n);
}

void wire_threads_open(struct wire_threads *threads, void *zmq)
{
    threads->ours = may_be_batch();
    atomic_init(&threads->interrupt, false);
    atomic_init(&threads->crowded_us, 0);
    if (threads->ours)
        zmq_ctx_set(zmq, ZMQ_THREAD_SCHED_POLICY, SCHED_BATCH);
}

void wire_threads_note(struct wire_threads *threads, bool given_back)
{
    if (!threads->ours)
        return;
    if (!given_back) {
        atomic_store_explicit(&threads->crowded_us, clock_us(), memory_order_relaxed);
        if (!atomic_exchange(&threads->interrupt, true))
            set_policy(SCHED_OTHER);
    } else if (atomic_load_explicit(&threads->interrupt, memory_order_relaxed)) {
        const uint64_t crowded_us =
            atomic_load_explicit(&threads->crowded_us, memory_order_relaxed);
        if (clock_us() > crowded_us + CALM_US && atomic_exchange(&threads->interrupt, false))
            set_policy(SCHED_BATCH);
    }
}

/* test_bridge.c - errands reach the loop and their events come back, in the bridge's thread; too
 * many are refused; who hangs up, leaves or does not read is cancelled; the end loses all that is
 * left. What has to be read keeps nobody waiting meanwhile. */
#include "coordinator/http/bridge.h"

#include "tests/coordinator/http/loop.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

struct desk {
    struct loop loop;
    struct bridge *bridge;
};

/* An errand that notes what happens to it. */
struct probe {
    struct errand errand;
    int client[2]; /* a connection: ours, and the client's end of it */
    bool refuses;  /* takes no event */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t n_taken, n_lost, n_ticks;
    bool destroyed;
    uint32_t n_readings; /* begun */
    bool may_go_on, answers;
};

static struct probe *of(struct errand *errand)
{
    return (struct probe *)errand;
}

static void note(struct probe *probe, uint32_t *count)
{
    pthread_mutex_lock(&probe->lock);
    ++*count;
    pthread_cond_broadcast(&probe->changed);
    pthread_mutex_unlock(&probe->lock);
}

static bool take(struct errand *errand, const Longspan__RunEvent *event)
{
    note(of(errand), &of(errand)->n_taken);
    return !of(errand)->refuses;
}

static void lost(struct errand *errand, enum status status, const char *text)
{
    assert_int_equal(status, STATUS_CANCELLED);
    note(of(errand), &of(errand)->n_lost);
}

static void tick(struct errand *errand, uint64_t now_us)
{
    note(of(errand), &of(errand)->n_ticks);
}

/* The test still looks at it. */
static void destroy(struct errand *errand)
{
    struct probe *probe = of(errand);
    pthread_mutex_lock(&probe->lock);
    probe->destroyed = true;
    pthread_cond_broadcast(&probe->changed);
    pthread_mutex_unlock(&probe->lock);
}

/* As long as the test wants, or until it is told to stop. */
static enum errand_outcome read_slowly(struct errand *errand)
{
    struct probe *probe = of(errand);
    note(probe, &probe->n_readings);
    for (;;) {
        pthread_mutex_lock(&probe->lock);
        const bool goes_on = probe->may_go_on;
        pthread_mutex_unlock(&probe->lock);
        if (goes_on)
            return probe->answers ? ERRAND_ANSWERED : ERRAND_TO_SEND;
        if (atomic_load(&errand->stop))
            return ERRAND_STOPPED;
        sched_yield();
    }
}

static const struct errand_kind kind = {
    .read = read_slowly, .take = take, .lost = lost, .tick = tick, .destroy = destroy};

static void wait_until(struct probe *probe, const uint32_t *count, uint32_t n)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_US / 1000000;
    int error = 0;
    pthread_mutex_lock(&probe->lock);
    while ((count != NULL ? *count < n : !probe->destroyed) && error == 0)
        error = pthread_cond_timedwait(&probe->changed, &probe->lock, &end);
    pthread_mutex_unlock(&probe->lock);
    assert_int_equal(error, 0);
}

static struct desk *desk_open(void **state, uint32_t running, uint32_t queued)
{
    struct desk *desk = calloc(1, sizeof(*desk));
    struct wire_fixture *f = *state;
    const struct bridge_limits limits = {.running = running, .queued = queued};
    assert_non_null(desk);
    loop_open(&desk->loop, f);
    assert_int_equal(bridge_create(&desk->bridge, f->context, LOOP_ENDPOINT, &limits, NULL, NULL),
                     STATUS_OK);
    return desk;
}

static void desk_close(struct desk *desk)
{
    bridge_close(desk->bridge);
    bridge_destroy(desk->bridge);
    loop_close(&desk->loop);
    free(desk);
}

static struct probe *probe_open(struct desk *desk)
{
    struct probe *probe = calloc(1, sizeof(*probe));
    assert_non_null(probe);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, probe->client), 0);
    pthread_mutex_init(&probe->lock, NULL);
    pthread_cond_init(&probe->changed, NULL);
    errand_open(&probe->errand, &kind, bridge_number(desk->bridge), probe->client[0]);

    Longspan__RunRequest request = LONGSPAN__RUN_REQUEST__INIT;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    request.request = probe->errand.number;
    message.body_case = LONGSPAN__CONTROL__BODY_RUN_REQUEST;
    message.run_request = &request;
    probe->errand.n_bytes = longspan__control__get_packed_size(&message);
    probe->errand.message = malloc(probe->errand.n_bytes);
    assert_non_null(probe->errand.message);
    longspan__control__pack(&message, probe->errand.message);
    return probe;
}

/* Its call ends; then it is destroyed once the bridge has let go of it too. */
static void probe_close(struct probe *probe)
{
    errand_release(&probe->errand);
    wait_until(probe, NULL, 0);
    close(probe->client[0]);
    close(probe->client[1]);
    pthread_mutex_destroy(&probe->lock);
    pthread_cond_destroy(&probe->changed);
    free(probe);
}

static struct probe *submit(struct desk *desk)
{
    struct probe *probe = probe_open(desk);
    struct api_error error;
    if (!bridge_submit(desk->bridge, &probe->errand, &error))
        fail_msg("%s", error.message);
    return probe;
}

/* One whose body has so many bytes, and is not read yet. */
static struct probe *submit_unread(struct desk *desk, size_t n_bytes)
{
    struct probe *probe = probe_open(desk);
    struct api_error error;
    probe->errand.n_unread = n_bytes;
    if (!bridge_submit(desk->bridge, &probe->errand, &error))
        fail_msg("%s", error.message);
    return probe;
}

/* Until the bridge has taken all that was submitted, or let go of it. */
static void wait_for_queued(struct desk *desk, uint32_t n)
{
    const uint64_t end_us = clock_us() + PATIENCE_US;
    while (bridge_queued(desk->bridge) != n) {
        assert_true(clock_us() < end_us);
        sched_yield();
    }
}

static void go_on(struct probe *probe)
{
    pthread_mutex_lock(&probe->lock);
    probe->may_go_on = true;
    pthread_mutex_unlock(&probe->lock);
}

static void refuse(struct desk *desk, unsigned http)
{
    struct probe *probe = probe_open(desk);
    struct api_error error;
    assert_false(bridge_submit(desk->bridge, &probe->errand, &error));
    assert_int_equal(error.http, http);
    probe_close(probe);
}

static void hear_request(struct desk *desk, const struct probe *probe)
{
    assert_int_equal(
        loop_hear(&desk->loop, LONGSPAN__CONTROL__BODY_RUN_REQUEST)->run_request->request,
        probe->errand.number);
}

static void hear_cancel(struct desk *desk, const struct probe *probe)
{
    assert_int_equal(
        loop_hear(&desk->loop, LONGSPAN__CONTROL__BODY_RUN_CANCEL)->run_cancel->request,
        probe->errand.number);
}

static void say(struct desk *desk, const struct probe *probe, Longspan__RunEvent__BodyCase body)
{
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    Longspan__RunProgress progress = LONGSPAN__RUN_PROGRESS__INIT;
    Longspan__RunDone done = LONGSPAN__RUN_DONE__INIT;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    event.request = probe->errand.number;
    event.body_case = body;
    if (body == LONGSPAN__RUN_EVENT__BODY_DONE)
        event.done = &done;
    else
        event.progress = &progress;
    message.body_case = LONGSPAN__CONTROL__BODY_RUN_EVENT;
    message.run_event = &event;
    loop_say(&desk->loop, &message);
}

static void test_an_errand_goes_and_its_events_come(void **state)
{
    struct desk *desk = desk_open(state, 4, 4);
    struct probe *probe = submit(desk);
    hear_request(desk, probe);
    say(desk, probe, LONGSPAN__RUN_EVENT__BODY_PROGRESS);
    say(desk, probe, LONGSPAN__RUN_EVENT__BODY_PROGRESS);
    wait_until(probe, &probe->n_taken, 2);
    assert_int_equal(bridge_running(desk->bridge), 1);
    say(desk, probe, LONGSPAN__RUN_EVENT__BODY_DONE);
    wait_until(probe, &probe->n_taken, 3);
    bridge_abandon(desk->bridge, &probe->errand); /* as every call does when it ends */
    probe_close(probe);
    desk_close(desk);
}

static void test_what_has_no_place_waits_and_what_is_too_much_is_refused(void **state)
{
    struct desk *desk = desk_open(state, 1, 1);
    struct probe *first = submit(desk), *second = submit(desk);
    refuse(desk, 429);
    hear_request(desk, first);
    loop_hear_nothing(&desk->loop);
    assert_int_equal(bridge_queued(desk->bridge), 1);
    wait_until(first, &first->n_ticks, 1);
    wait_until(second, &second->n_ticks, 1);
    say(desk, first, LONGSPAN__RUN_EVENT__BODY_DONE);
    hear_request(desk, second);
    say(desk, second, LONGSPAN__RUN_EVENT__BODY_DONE);
    wait_until(second, &second->n_taken, 1);
    assert_int_equal(first->n_lost + second->n_lost, 0);
    probe_close(first);
    probe_close(second);
    desk_close(desk);
}

static void test_who_hangs_up_is_cancelled(void **state)
{
    struct desk *desk = desk_open(state, 1, 1);
    struct probe *running = submit(desk), *waiting = submit(desk);
    hear_request(desk, running);
    shutdown(waiting->client[1], SHUT_RDWR); /* before it was sent: nobody is told */
    wait_until(waiting, &waiting->n_lost, 1);
    shutdown(running->client[1], SHUT_WR); /* only its sending side */
    wait_until(running, &running->n_lost, 1);
    hear_cancel(desk, running);
    probe_close(running);
    probe_close(waiting);
    desk_close(desk);
}

static void test_who_leaves_or_does_not_read_is_cancelled(void **state)
{
    struct desk *desk = desk_open(state, 2, 1);
    struct probe *leaves = submit(desk);
    hear_request(desk, leaves);
    struct probe *sleeps = probe_open(desk);
    sleeps->refuses = true;
    assert_true(bridge_submit(desk->bridge, &sleeps->errand, &(struct api_error){0}));
    hear_request(desk, sleeps);
    bridge_abandon(desk->bridge, &leaves->errand);
    hear_cancel(desk, leaves);
    say(desk, sleeps, LONGSPAN__RUN_EVENT__BODY_PROGRESS);
    hear_cancel(desk, sleeps);
    wait_until(sleeps, &sleeps->n_lost, 1);
    say(desk, sleeps, LONGSPAN__RUN_EVENT__BODY_PROGRESS); /* on its way meanwhile: nobody's */
    probe_close(leaves);
    probe_close(sleeps);
    desk_close(desk);
}

static void test_the_end_loses_what_is_left_and_takes_nothing_more(void **state)
{
    struct desk *desk = desk_open(state, 1, 1);
    struct probe *running = submit(desk), *waiting = submit(desk);
    hear_request(desk, running);
    bridge_close(desk->bridge);
    assert_int_equal(running->n_lost, 1);
    assert_int_equal(waiting->n_lost, 1);
    hear_cancel(desk, running);
    refuse(desk, 503);
    probe_close(running);
    probe_close(waiting);
    desk_close(desk);
}

static void test_what_is_being_read_keeps_nobody_waiting(void **state)
{
    struct desk *desk = desk_open(state, 8, 1);
    struct probe *running = submit(desk);
    hear_request(desk, running);
    struct probe *first = submit_unread(desk, 1000), *second = submit_unread(desk, 1000);
    wait_until(first, &first->n_readings, 1);
    wait_until(second, &second->n_readings, 1);
    wait_for_queued(desk, 2);
    say(desk, running, LONGSPAN__RUN_EVENT__BODY_PROGRESS);
    wait_until(running, &running->n_taken, 1);
    struct probe *read = submit(desk); /* comes later, and has its message */
    hear_request(desk, read);
    go_on(second);
    hear_request(desk, second);
    first->answers = true;
    go_on(first);
    loop_hear_nothing(&desk->loop); /* there is nothing to be sent */
    wait_for_queued(desk, 0);
    assert_int_equal(first->n_lost + second->n_lost + read->n_lost, 0);
    bridge_close(desk->bridge);
    assert_int_equal(first->n_lost, 0);
    probe_close(first);
    probe_close(second);
    probe_close(read);
    probe_close(running);
    desk_close(desk);
}

static void test_the_first_and_the_shortest_are_read_next(void **state)
{
    struct desk *desk = desk_open(state, 8, 1);
    struct probe *reading[2] = {submit_unread(desk, 1000), submit_unread(desk, 1000)};
    for (int i = 0; i < 2; i++)
        wait_until(reading[i], &reading[i]->n_readings, 1);
    struct probe *came_first = submit_unread(desk, 3000), *between = submit_unread(desk, 2000),
                 *shortest = submit_unread(desk, 10);
    wait_for_queued(desk, 5); /* all are at the desk */
    go_on(reading[0]);
    go_on(reading[1]);
    wait_until(came_first, &came_first->n_readings, 1);
    wait_until(shortest, &shortest->n_readings, 1);
    assert_int_equal(between->n_readings, 0); /* both threads are at work */
    struct probe *all[] = {reading[0], reading[1], came_first, between, shortest};
    bridge_close(desk->bridge); /* stops what is read */
    for (int i = 0; i < 5; i++)
        assert_int_equal(all[i]->n_lost, 1);
    for (int i = 0; i < 5; i++)
        probe_close(all[i]);
    desk_close(desk);
}

static void test_nobody_reads_for_who_has_gone(void **state)
{
    struct desk *desk = desk_open(state, 8, 1);
    struct probe *reading[2] = {submit_unread(desk, 1000), submit_unread(desk, 1000)};
    for (int i = 0; i < 2; i++)
        wait_until(reading[i], &reading[i]->n_readings, 1);
    struct probe *waits = submit_unread(desk, 10);
    shutdown(waits->client[1], SHUT_RDWR);
    wait_until(waits, &waits->n_lost, 1);
    shutdown(reading[0]->client[1], SHUT_RDWR); /* is told to stop */
    wait_until(reading[0], &reading[0]->n_lost, 1);
    bridge_abandon(desk->bridge, &reading[1]->errand);
    wait_until(reading[1], &reading[1]->n_lost, 1);
    assert_int_equal(waits->n_readings, 0);
    loop_hear_nothing(&desk->loop);
    probe_close(waits);
    probe_close(reading[0]);
    probe_close(reading[1]);
    desk_close(desk);
}

int main(void)
{
#define WITH_WIRE(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, wire_fixture_make, wire_fixture_remove)
    const struct CMUnitTest tests[] = {
        WITH_WIRE(test_an_errand_goes_and_its_events_come),
        WITH_WIRE(test_what_has_no_place_waits_and_what_is_too_much_is_refused),
        WITH_WIRE(test_who_hangs_up_is_cancelled),
        WITH_WIRE(test_who_leaves_or_does_not_read_is_cancelled),
        WITH_WIRE(test_the_end_loses_what_is_left_and_takes_nothing_more),
        WITH_WIRE(test_what_is_being_read_keeps_nobody_waiting),
        WITH_WIRE(test_the_first_and_the_shortest_are_read_next),
        WITH_WIRE(test_nobody_reads_for_who_has_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_node.c - a node joins, serves, leaves and joins again; only a refusal or its user ends it.
 */
#include "attention_node/endpoint.h"
#include "attention_node/node.h"
#include "kernels/quant/kv_type.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "proto/protocol.h"
#include "sys/binding.h"
#include "sys/clock.h"
#include "sys/topology.h"
#include "tests/cmocka.h"
#include "tests/empty_directory.h"

#include <stdbool.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct fixture {
    char directory[64], address[96];
    struct wire_context *context;
    struct wire_socket *control;
    struct frames in, out;
    Longspan__Control *last;
    struct node_config config;
    int stop[2];
    pthread_t thread;
    bool running;
    enum status status;
    struct error error;
    double cpu_s;
};

static void *node_main(void *argument)
{
    struct fixture *f = argument;
    struct rusage used;
    f->status = node_run(&f->config, &f->error);
    getrusage(RUSAGE_THREAD, &used);
    f->cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    return NULL;
}

static void listen_again(struct fixture *f)
{
    wire_socket_close(f->control);
    unlink(f->address + strlen("ipc://"));
    f->control = NULL;
    assert_int_equal(wire_socket_open(&f->control, f->context,
                                      &(struct wire_socket_options){.kind = WIRE_ROUTER,
                                                                    .listen = true,
                                                                    .endpoint = f->address},
                                      NULL),
                     STATUS_OK);
}

static int start_with(void **state, bool pin)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    strcpy(f->directory, "/tmp/longspan-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->address, sizeof(f->address), "ipc://%s/head.sock", f->directory);
    if (pin) /* its claims are in a file that other programs of this machine do not use */
        setenv("TMPDIR", f->directory, 1);
    frames_init(&f->in);
    frames_init(&f->out);
    assert_int_equal(wire_context_create(&f->context, &(struct wire_context_options){0}, NULL),
                     STATUS_OK);
    listen_again(f);
    assert_int_equal(pipe(f->stop), 0);
    f->config = (struct node_config){.coordinator = f->address,
                                     .name = "mem01",
                                     .memory_bytes = 64 << 20,
                                     .kernels = &kernels_cpu_scalar,
                                     .n_threads = 1,
                                     .bytes_per_s = 5e9,
                                     .silence_ms = 1500,
                                     .pin = pin,
                                     .stop = f->stop[0]};
    assert_int_equal(pthread_create(&f->thread, NULL, node_main, f), 0);
    f->running = true;
    return 0;
}

static int start(void **state)
{
    return start_with(state, false);
}

static void stop_node(struct fixture *f)
{
    if (!f->running)
        return;
    close(f->stop[1]);
    assert_int_equal(pthread_join(f->thread, NULL), 0);
    close(f->stop[0]);
    f->running = false;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    stop_node(f);
    if (f->last != NULL)
        longspan__control__free_unpacked(f->last, NULL);
    frames_clear(&f->in);
    frames_clear(&f->out);
    wire_socket_close(f->control);
    wire_context_destroy(f->context);
    unlink(f->address + strlen("ipc://"));
    remove_empty_directory(f->directory);
    free(f);
    return 0;
}

/* The next message of that kind; others are dropped. */
static const Longspan__Control *expect(struct fixture *f, Longspan__Control__BodyCase kind)
{
    const uint64_t deadline = clock_us() + 10000000;
    for (;;) {
        if (frames_receive(f->control, &f->in, deadline, NULL) != STATUS_OK)
            fail_msg("no message of kind %d", (int)kind);
        if (f->last != NULL)
            longspan__control__free_unpacked(f->last, NULL);
        f->last = longspan__control__unpack(NULL, frames_size(&f->in, 0), frames_data(&f->in, 0));
        assert_non_null(f->last);
        if (f->last->body_case == kind)
            return f->last;
    }
}

static void answer(struct fixture *f, const Longspan__Control *control)
{
    assert_int_equal(frames_add_message(&f->out, &control->base, NULL), STATUS_OK);
    frames_reply_to(&f->out, &f->in);
    assert_int_equal(frames_send(f->control, &f->out, clock_us() + 1000000, NULL), STATUS_OK);
}

static const Longspan__NodeReady *set_up_heads(struct fixture *f, uint64_t job, uint32_t head_dim)
{
    Longspan__NodeSetup setup = LONGSPAN__NODE_SETUP__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    setup.job = job;
    setup.kv_type = KV_F16;
    setup.head_dim = head_dim;
    setup.group = 4;
    setup.n_layers = 3;
    setup.n_kv_heads = 2;
    setup.scale = 0.125f;
    setup.max_tokens = 10000;
    control.body_case = LONGSPAN__CONTROL__BODY_NODE_SETUP;
    control.node_setup = &setup;
    answer(f, &control);
    return expect(f, LONGSPAN__CONTROL__BODY_NODE_READY)->node_ready;
}

static const Longspan__NodeReady *set_up(struct fixture *f, uint64_t job)
{
    return set_up_heads(f, job, 64);
}

static const Longspan__NodeJoin *join(struct fixture *f)
{
    return expect(f, LONGSPAN__CONTROL__BODY_NODE_JOIN)->node_join;
}

static void test_join_tells_who_it_is_and_is_repeated(void **state)
{
    struct fixture *f = *state;
    const Longspan__NodeJoin *message = join(f);
    const uint64_t node = message->node;
    assert_int_equal(message->constants->protocol, PROTOCOL_VERSION);
    assert_int_equal(message->constants->tile_tokens, 128);
    assert_int_equal(message->constants->page_tokens, 256);
    assert_true(strlen(message->constants->kernels) > 0);
    assert_string_equal(message->name, "mem01");
    assert_int_equal(message->memory_bytes, 64 << 20);
    assert_true(message->read_bytes_per_s == 5e9);
    assert_int_equal(message->lanes, 1);
    assert_int_equal(message->job, 0);
    assert_int_equal(strncmp(message->endpoint, "ipc://", 6), 0); /* beside the coordinator's */
    assert_non_null(strstr(message->endpoint, f->directory));
    assert_int_equal(join(f)->node, node);
    stop_node(f);
    assert_int_equal(f->status, STATUS_OK);
    expect(f, LONGSPAN__CONTROL__BODY_LEAVE);
}

static void test_refusal_ends_it_with_the_coordinators_words(void **state)
{
    struct fixture *f = *state;
    Longspan__Refusal refusal = LONGSPAN__REFUSAL__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    char text[] = "mem01 speaks protocol 1, this coordinator 2";
    join(f);
    refusal.status = STATUS_PROTOCOL;
    refusal.text = text;
    control.body_case = LONGSPAN__CONTROL__BODY_REFUSAL;
    control.refusal = &refusal;
    answer(f, &control);
    assert_int_equal(pthread_join(f->thread, NULL), 0);
    f->running = false;
    close(f->stop[0]);
    close(f->stop[1]);
    assert_int_equal(f->status, STATUS_PROTOCOL);
    assert_string_equal(f->error.text, text);
}

static void test_serves_one_job_and_names_it_to_another(void **state)
{
    struct fixture *f = *state;
    join(f);
    const Longspan__NodeReady *ready = set_up(f, 10);
    assert_null(ready->failure);
    assert_true(ready->capacity_bytes > 0 && ready->capacity_bytes <= 64 << 20);
    ready = set_up(f, 11);
    assert_int_equal(ready->job, 11);
    assert_non_null(ready->failure);
    assert_non_null(strstr(ready->failure->text, "mem01"));
    assert_non_null(strstr(ready->failure->text, "000000000000000a"));
    assert_null(set_up(f, 10)->failure); /* nothing has changed */
    assert_int_equal(expect(f, LONGSPAN__CONTROL__BODY_PING)->ping->job, 10);
}

static int start_pinned(void **state)
{
    return start_with(state, true);
}

static int stop_pinned(void **state)
{
    struct fixture *f = *state;
    char path[128];
    snprintf(path, sizeof(path), "%s/longspan-processors.%u", f->directory, (unsigned)geteuid());
    stop_node(f);
    unlink(path);
    unsetenv("TMPDIR");
    return stop(state);
}

/* Whether every processor can be claimed. */
static bool all_are_free(void)
{
    struct binding *binding = NULL;
    const enum status status = binding_create(&binding, topology_processors(), NULL);
    binding_destroy(binding);
    return status == STATUS_OK;
}

static void test_only_a_job_claims_processors(void **state)
{
    struct fixture *f = *state;
    join(f);
    if (!all_are_free())
        skip(); /* hwloc does not know this machine, or files cannot be locked here */
    assert_non_null(set_up_heads(f, 5, 63)->failure);
    assert_true(all_are_free());
    assert_null(set_up(f, 5)->failure);
    assert_false(all_are_free());
    assert_non_null(set_up_heads(f, 6, 63)->failure); /* another job: the first one keeps its own */
    assert_false(all_are_free());
}

static void test_leave_frees_it_for_the_next_job(void **state)
{
    struct fixture *f = *state;
    Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    join(f);
    assert_null(set_up(f, 10)->failure);
    control.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
    control.leave = &leave;
    answer(f, &control);
    assert_int_equal(join(f)->job, 0);
    assert_null(set_up(f, 11)->failure);
}

static void test_silence_ends_the_job(void **state)
{
    struct fixture *f = *state;
    join(f);
    assert_null(set_up(f, 10)->failure);
    /* An answered ping keeps it. */
    Longspan__Pong pong = LONGSPAN__PONG__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    pong.job = 10;
    control.body_case = LONGSPAN__CONTROL__BODY_PONG;
    control.pong = &pong;
    expect(f, LONGSPAN__CONTROL__BODY_PING);
    answer(f, &control);
    const uint64_t since = clock_us();
    join(f);
    assert_true(clock_us() - since > 1000000);
    assert_null(set_up(f, 11)->failure);
}

/* The coordinator is killed, and another one listens at its address: it answers, but not for us. */
static void test_another_coordinator_takes_over(void **state)
{
    struct fixture *f = *state;
    join(f);
    assert_null(set_up(f, 10)->failure);
    listen_again(f);
    Longspan__Pong pong = LONGSPAN__PONG__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    pong.job = 12;
    control.body_case = LONGSPAN__CONTROL__BODY_PONG;
    control.pong = &pong;
    expect(f, LONGSPAN__CONTROL__BODY_PING);
    answer(f, &control);
    join(f);
    assert_null(set_up(f, 12)->failure);
}

static void test_noise_from_the_coordinator_is_dropped(void **state)
{
    struct fixture *f = *state;
    join(f);
    for (int i = 0; i < 200; i++) {
        unsigned char noise[40];
        for (size_t j = 0; j < sizeof(noise); j++)
            noise[j] = (unsigned char)(i * 37 + j * j * (size_t)(i + 1));
        assert_int_equal(frames_add_copy(&f->out, noise, (size_t)i % sizeof(noise), NULL),
                         STATUS_OK);
        frames_reply_to(&f->out, &f->in);
        assert_int_equal(frames_send(f->control, &f->out, clock_us() + 1000000, NULL), STATUS_OK);
    }
    assert_null(set_up(f, 10)->failure);
}

static void test_idle_costs_nothing(void **state)
{
    struct fixture *f = *state;
    join(f);
    assert_null(set_up(f, 10)->failure);
    clock_sleep_us(1000000);
    stop_node(f);
    assert_true(f->cpu_s < 0.05); /* the start, too */
}

static void test_endpoints_follow_from_the_coordinators(void **state)
{
    char text[ADDRESS_BYTES];
    assert_int_equal(endpoint_bind(NULL, "tcp://127.0.0.1:5600", 1, text, NULL), STATUS_OK);
    assert_string_equal(text, "tcp://127.0.0.1:*");
    assert_int_equal(endpoint_bind(NULL, "tcp://[::1]:5600", 1, text, NULL), STATUS_OK);
    assert_string_equal(text, "tcp://[::1]:*");
    assert_int_equal(endpoint_bind(NULL, "tcp://10.1.2.3:5600", 1, text, NULL), STATUS_OK);
    assert_string_equal(text, "tcp://*:*");
    assert_int_equal(endpoint_bind(NULL, "ipc:///run/x/head", 0xab, text, NULL), STATUS_OK);
    assert_string_equal(text, "ipc:///run/x/node-000000ab.sock");
    assert_int_equal(endpoint_bind("tcp://10.0.0.9:7000", "ipc:///x", 1, text, NULL), STATUS_OK);
    assert_string_equal(text, "tcp://10.0.0.9:7000");

    const char *head = "tcp://127.0.0.1:5600";
    assert_int_equal(endpoint_advertise(NULL, "tcp://127.0.0.1:7001", head, "me", text, NULL),
                     STATUS_OK);
    assert_string_equal(text, "tcp://127.0.0.1:7001");
    assert_int_equal(endpoint_advertise(NULL, "tcp://0.0.0.0:7001", head, "me", text, NULL),
                     STATUS_OK);
    assert_string_equal(text, "tcp://127.0.0.1:7001"); /* the way to the coordinator */
    assert_int_equal(
        endpoint_advertise(NULL, "tcp://0.0.0.0:7001", "ipc:///x/head", "me", text, NULL),
        STATUS_OK);
    assert_string_equal(text, "tcp://me:7001");
    assert_int_equal(
        endpoint_advertise("tcp://mem01:*", "tcp://0.0.0.0:7001", head, "me", text, NULL),
        STATUS_OK);
    assert_string_equal(text, "tcp://mem01:7001");
    assert_int_equal(endpoint_advertise("tcp://*:9", "tcp://0.0.0.0:7001", head, "me", text, NULL),
                     STATUS_INVALID);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(test_join_tells_who_it_is_and_is_repeated),
        TEST(test_refusal_ends_it_with_the_coordinators_words),
        TEST(test_serves_one_job_and_names_it_to_another),
        cmocka_unit_test_setup_teardown(test_only_a_job_claims_processors, start_pinned,
                                        stop_pinned),
        TEST(test_leave_frees_it_for_the_next_job),
        TEST(test_silence_ends_the_job),
        TEST(test_another_coordinator_takes_over),
        TEST(test_noise_from_the_coordinator_is_dropped),
        TEST(test_idle_costs_nothing),
        cmocka_unit_test(test_endpoints_follow_from_the_coordinators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

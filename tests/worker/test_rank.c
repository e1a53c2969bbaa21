/* test_rank.c - a whole worker, as the only rank, against a coordinator that the test plays. */
#include "tests/worker/fixture.h"

#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "proto/wire_context.h"
#include "proto/wire_socket.h"
#include "sys/clock.h"
#include "worker/rank.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/worker/reference.c"

enum { PATIENCE_US = 20000000 };
static const struct reference_shape SHAPE = {2,  64,    4,     2,          32,        96,
                                             70, false, false, WEIGHT_F32, .seed = 31};
static const struct fixture_layout LAYOUT = {1, 1, 1, KV_F16, NULL, false, NULL};

/* The coordinator's side. */
struct stage_play {
    char directory[FILE_PATH_BYTES], model[FILE_PATH_BYTES + 32], endpoint[FILE_PATH_BYTES + 32];
    struct wire_context *wire;
    struct wire_socket *socket;
    struct frames in, out;
    Longspan__Control *message; /* the last that was not a ping */
    pid_t worker;
};

static int open_play(void **state)
{
    struct stage_play *p = calloc(1, sizeof(*p));
    if (p == NULL || file_make_temporary(p->directory, NULL) != STATUS_OK)
        return -1;
    snprintf(p->model, sizeof(p->model), "%s/model.gguf", p->directory);
    snprintf(p->endpoint, sizeof(p->endpoint), "ipc://%s/c", p->directory);
    reference_destroy(reference_create(&SHAPE, p->model));
    *state = p;
    return 0;
}

/* A child that is a worker, forked before this process has ZeroMQ's threads; its exit status is its
 * enum status. */
static void start_traced(struct stage_play *p, const char *model, uint32_t join_timeout_s,
                         const char *trace)
{
    p->worker = fork();
    assert_true(p->worker >= 0);
    if (p->worker == 0) {
        const struct rank_options options = {.coordinator = p->endpoint,
                                             .model = model,
                                             .device = "cpu",
                                             .threads = 1,
                                             .join_timeout_s = join_timeout_s,
                                             .trace = trace,
                                             .verbosity = -1};
        bool together = false;
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(99);
        _exit((int)rank_run(&options, &together));
    }
    const struct wire_context_options options = {0};
    const struct wire_socket_options listen = {
        .kind = WIRE_ROUTER, .listen = true, .endpoint = p->endpoint};
    struct error error;
    fixture_ok(wire_context_create(&p->wire, &options, &error), &error);
    fixture_ok(wire_socket_open(&p->socket, p->wire, &listen, &error), &error);
    frames_init(&p->in);
    frames_init(&p->out);
}

static void start(struct stage_play *p, const char *model, uint32_t join_timeout_s)
{
    start_traced(p, model, join_timeout_s, NULL);
}

static int wait_for_worker(struct stage_play *p)
{
    int status = 0;
    const uint64_t deadline_us = clock_us() + PATIENCE_US;
    while (waitpid(p->worker, &status, WNOHANG) == 0) {
        if (clock_us() > deadline_us) {
            kill(p->worker, SIGKILL);
            waitpid(p->worker, &status, 0);
            fail_msg("the worker did not end");
        }
        clock_sleep_us(2000);
    }
    p->worker = 0;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int close_play(void **state)
{
    struct stage_play *p = *state;
    if (p->worker > 0) { /* after a failure */
        kill(p->worker, SIGKILL);
        waitpid(p->worker, NULL, 0);
    }
    if (p->message != NULL)
        longspan__control__free_unpacked(p->message, NULL);
    if (p->socket != NULL) {
        frames_clear(&p->in);
        frames_clear(&p->out);
        wire_socket_close(p->socket);
    }
    wire_context_destroy(p->wire);
    file_remove_temporary(p->directory);
    free(p);
    return 0;
}

static void answer(struct stage_play *p, Longspan__Control *control)
{
    struct error error;
    frames_reply_to(&p->out, &p->in);
    fixture_ok(frames_add_message(&p->out, &control->base, &error), &error);
    fixture_ok(frames_send(p->socket, &p->out, clock_us() + PATIENCE_US, &error), &error);
}

/* The worker's next message of this kind; pings are answered, repeated joins passed over. */
static Longspan__Control *expect(struct stage_play *p, Longspan__Control__BodyCase kind)
{
    struct error error;
    for (;;) {
        fixture_ok(frames_receive(p->socket, &p->in, clock_us() + PATIENCE_US, &error), &error);
        if (p->message != NULL)
            longspan__control__free_unpacked(p->message, NULL);
        p->message =
            longspan__control__unpack(NULL, frames_size(&p->in, 0), frames_data(&p->in, 0));
        assert_non_null(p->message);
        if (p->message->body_case == kind)
            return p->message;
        if (p->message->body_case == LONGSPAN__CONTROL__BODY_PING) {
            Longspan__Pong pong = LONGSPAN__PONG__INIT;
            Longspan__Control control = LONGSPAN__CONTROL__INIT;
            control.body_case = LONGSPAN__CONTROL__BODY_PONG;
            control.pong = &pong;
            answer(p, &control);
        } else {
            assert_int_equal(p->message->body_case, LONGSPAN__CONTROL__BODY_WORKERS_JOIN);
        }
    }
}

static void send_setup(struct stage_play *p)
{
    struct setup_message message;
    fixture_fill_setup(&message, &SHAPE, p->model, &LAYOUT);
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_WORKER_SETUP;
    control.worker_setup = &message.setup;
    answer(p, &control);
}

static void send_leave(struct stage_play *p)
{
    Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
    leave.reason = "the test is over";
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
    control.leave = &leave;
    answer(p, &control);
}

static void send_step(struct stage_play *p, Longspan__Step *step)
{
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_STEP;
    control.step = step;
    answer(p, &control);
}

static void test_joins_loads_runs_and_leaves(void **state)
{
    struct stage_play *p = *state;
    start(p, NULL, 20);
    const Longspan__WorkersJoin *join =
        expect(p, LONGSPAN__CONTROL__BODY_WORKERS_JOIN)->workers_join;
    assert_int_equal(join->n_ranks, 1);
    assert_int_equal(join->constants->protocol, PROTOCOL_VERSION);
    assert_int_equal(join->constants->tile_tokens, TILE_TOKENS);
    assert_int_equal(join->ranks[0]->pid, p->worker);
    assert_int_equal(join->ranks[0]->lanes, 1);
    assert_true(join->ranks[0]->memory_bytes > 0);
    assert_string_equal(join->ranks[0]->device, "cpu");
    assert_string_equal(join->ranks[0]->kernels, join->constants->kernels);
    send_setup(p);
    const Longspan__WorkerReady *ready =
        expect(p, LONGSPAN__CONTROL__BODY_WORKER_READY)->worker_ready;
    assert_null(ready->failure);
    assert_int_equal(ready->job, FIXTURE_JOB);
    assert_true(ready->weight_bytes > 0 && ready->working_bytes > 0 && ready->resident_bytes > 0 &&
                ready->local_kv_bytes > 0);

    int32_t tokens[40];
    for (int i = 0; i < 40; i++)
        tokens[i] = i;
    struct fixture_step message;
    /* A good step; in its middle a segment that is refused, without harm to its neighbours. */
    struct fixture_segment segments[] = {{1, 0, 10, tokens, LONGSPAN__WANT__WANT_LOGITS, 3},
                                         {2, 0, 5, tokens, LONGSPAN__WANT__WANT_LOGITS, 3},
                                         {3, 0, 7, tokens, LONGSPAN__WANT__WANT_NOTHING, 0},
                                         {4, 0, 20, tokens, LONGSPAN__WANT__WANT_LOGITS, 2}};
    fixture_compose(&message, 1, segments, 4);
    int32_t bad[5] = {0, 1, 70, 3, 4};
    message.segments[1].tokens = bad;
    send_step(p, &message.step);
    const Longspan__StepDone *done = expect(p, LONGSPAN__CONTROL__BODY_STEP_DONE)->step_done;
    assert_int_equal(done->step, 1);
    assert_int_equal(done->n_errors, 1);
    assert_int_equal(done->errors[0]->segment, 1);
    assert_non_null(strstr(done->errors[0]->failure->text, "70"));
    assert_int_equal(done->n_results, 3);
    assert_int_equal(done->results[0]->n_ids, 3);
    assert_int_equal(done->results[1]->n_ids, 0);
    assert_int_equal(done->results[2]->n_ids, 2);
    assert_int_equal(p->in.n, 2);
    assert_int_equal(frames_size(&p->in, 1), 2 * SHAPE.vocab * sizeof(float));
    const float *rows = frames_data(&p->in, 1);
    double expected[20 * 70];
    struct reference *reference = reference_create(&SHAPE, p->model);
    reference_logits(reference, tokens, 20, KV_F16, expected);
    assert_true(reference_distance(rows, expected + (size_t)9 * SHAPE.vocab, SHAPE.vocab) < 1e-3);
    assert_true(reference_distance(rows + SHAPE.vocab, expected + (size_t)19 * SHAPE.vocab,
                                   SHAPE.vocab) < 1e-3);
    reference_destroy(reference);
    long double sum = 0;
    for (uint32_t i = 0; i < SHAPE.vocab; i++)
        sum += expl((long double)rows[i]);
    assert_true(fabsl((long double)done->results[0]->log_sum_exp - logl(sum)) < 1e-5L);
    assert_true(done->results[0]->logits[0] == rows[done->results[0]->ids[0]]);

    /* A segment that attention refuses: no candidates, no row, the other row closes up. */
    segments[0] = (struct fixture_segment){5, 12, 4, tokens, LONGSPAN__WANT__WANT_LOGITS, 3};
    segments[1] = (struct fixture_segment){6, 0, 10, tokens, LONGSPAN__WANT__WANT_LOGITS, 3};
    float judge[70];
    memcpy(judge, rows, sizeof(judge));
    fixture_compose(&message, 2, segments, 2);
    send_step(p, &message.step);
    done = expect(p, LONGSPAN__CONTROL__BODY_STEP_DONE)->step_done;
    assert_int_equal(done->n_errors, 1);
    assert_int_equal(done->errors[0]->segment, 0);
    assert_int_equal(done->n_results, 2);
    assert_int_equal(done->results[0]->n_ids, 0);
    assert_int_equal(done->results[1]->n_ids, 3);
    assert_int_equal(frames_size(&p->in, 1), sizeof(judge));
    assert_memory_equal(frames_data(&p->in, 1), judge, sizeof(judge));

    /* Whole steps that cannot be, and bytes that are no message. */
    fixture_compose(&message, 3, segments, 2);
    message.step.job++;
    send_step(p, &message.step);
    done = expect(p, LONGSPAN__CONTROL__BODY_STEP_DONE)->step_done;
    assert_int_equal(done->step, 3);
    assert_int_equal(done->n_errors, 2);
    assert_int_equal(done->n_results, 2);
    struct error error;
    frames_reply_to(&p->out, &p->in);
    fixture_ok(frames_add_copy(&p->out, "\xff\xff\xff", 3, &error), &error);
    fixture_ok(frames_send(p->socket, &p->out, clock_us() + PATIENCE_US, &error), &error);
    done = expect(p, LONGSPAN__CONTROL__BODY_STEP_DONE)->step_done;
    assert_int_equal(done->step, 0);
    assert_int_equal(done->n_errors, 1);

    /* Still there. */
    segments[0] = (struct fixture_segment){7, 0, 10, tokens, LONGSPAN__WANT__WANT_CANDIDATES, 1};
    fixture_compose(&message, 3, segments, 1);
    send_step(p, &message.step);
    done = expect(p, LONGSPAN__CONTROL__BODY_STEP_DONE)->step_done;
    assert_int_equal(done->n_errors, 0);
    assert_int_equal(done->n_results, 1);
    assert_int_equal(p->in.n, 1);
    send_leave(p);
    assert_int_equal(wait_for_worker(p), STATUS_OK);
}

/* The coordinator's clock is an hour ahead, as on another host: the trace's times are the
 * coordinator's. */
static void test_a_trace_has_the_coordinators_clock(void **state)
{
    struct stage_play *p = *state;
    const uint64_t hour_ns = UINT64_C(3600) * 1000000000, began_ns = clock_ns();
    char trace[FILE_PATH_BYTES + 32], path[FILE_PATH_BYTES + 64];
    snprintf(trace, sizeof(trace), "%s/trace", p->directory);
    snprintf(path, sizeof(path), "%s.0", trace);
    start_traced(p, NULL, 20, trace);
    expect(p, LONGSPAN__CONTROL__BODY_WORKERS_JOIN);
    send_setup(p);
    expect(p, LONGSPAN__CONTROL__BODY_WORKER_READY);
    expect(p, LONGSPAN__CONTROL__BODY_PING);
    Longspan__Pong pong = LONGSPAN__PONG__INIT;
    pong.clock_ns = clock_ns() + hour_ns;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_PONG;
    control.pong = &pong;
    answer(p, &control);

    int32_t tokens[4] = {0};
    const struct fixture_segment segment = {1, 0, 4, tokens, LONGSPAN__WANT__WANT_CANDIDATES, 3};
    struct fixture_step message;
    fixture_compose(&message, 1, &segment, 1);
    send_step(p, &message.step);
    expect(p, LONGSPAN__CONTROL__BODY_STEP_DONE);
    send_leave(p);
    assert_int_equal(wait_for_worker(p), STATUS_OK);

    char *text;
    size_t bytes;
    struct error error;
    fixture_ok(file_read(path, 64 << 20, &text, &bytes, &error), &error);
    const char *first = strstr(text, "\"ts\":");
    assert_non_null(first);
    const double us = strtod(first + strlen("\"ts\":"), NULL);
    assert_true(us > (double)(began_ns + hour_ns) / 1e3 - 1e6 &&
                us < (double)(clock_ns() + hour_ns) / 1e3 + 1e6);
    free(text);
}

static void test_a_rank_that_cannot_load_says_why(void **state)
{
    struct stage_play *p = *state;
    start(p, "/nonexistent/elsewhere.gguf", 20);
    expect(p, LONGSPAN__CONTROL__BODY_WORKERS_JOIN);
    send_setup(p);
    const Longspan__WorkerReady *ready =
        expect(p, LONGSPAN__CONTROL__BODY_WORKER_READY)->worker_ready;
    assert_non_null(ready->failure);
    assert_int_equal(ready->failure->status, STATUS_NOT_FOUND);
    assert_non_null(strstr(ready->failure->text, "/nonexistent/elsewhere.gguf"));

    int32_t tokens[4] = {0};
    const struct fixture_segment segment = {1, 0, 4, tokens, LONGSPAN__WANT__WANT_CANDIDATES, 3};
    struct fixture_step message;
    fixture_compose(&message, 1, &segment, 1);
    send_step(p, &message.step); /* who sends one all the same gets an error */
    const Longspan__StepDone *done = expect(p, LONGSPAN__CONTROL__BODY_STEP_DONE)->step_done;
    assert_int_equal(done->n_errors, 1);
    send_leave(p);
    assert_int_equal(wait_for_worker(p), STATUS_NOT_FOUND);
}

static void test_a_refusal_ends_the_worker_with_its_status(void **state)
{
    struct stage_play *p = *state;
    start(p, NULL, 20);
    expect(p, LONGSPAN__CONTROL__BODY_WORKERS_JOIN);
    Longspan__Refusal refusal = LONGSPAN__REFUSAL__INIT;
    refusal.status = STATUS_UNSUPPORTED;
    refusal.text = "no";
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_REFUSAL;
    control.refusal = &refusal;
    answer(p, &control);
    assert_int_equal(wait_for_worker(p), STATUS_UNSUPPORTED);
}

static void test_a_coordinator_that_leaves_before_it_has_a_plan(void **state)
{
    struct stage_play *p = *state;
    start(p, NULL, 20);
    expect(p, LONGSPAN__CONTROL__BODY_WORKERS_JOIN);
    send_leave(p);
    assert_int_equal(wait_for_worker(p), STATUS_UNREACHABLE);
}

static void test_nobody_to_join(void **state)
{
    struct stage_play *p = *state;
    const struct rank_options options = {.coordinator = p->endpoint,
                                         .device = "cpu",
                                         .threads = 1,
                                         .join_timeout_s = 1,
                                         .verbosity = -1};
    p->worker = fork();
    if (p->worker == 0) {
        bool together = false;
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(99);
        const enum status status = rank_run(&options, &together);
        _exit(together ? (int)status : 98);
    }
    assert_int_equal(wait_for_worker(p), STATUS_UNREACHABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_joins_loads_runs_and_leaves, open_play, close_play),
        cmocka_unit_test_setup_teardown(test_a_trace_has_the_coordinators_clock, open_play,
                                        close_play),
        cmocka_unit_test_setup_teardown(test_a_rank_that_cannot_load_says_why, open_play,
                                        close_play),
        cmocka_unit_test_setup_teardown(test_a_refusal_ends_the_worker_with_its_status, open_play,
                                        close_play),
        cmocka_unit_test_setup_teardown(test_a_coordinator_that_leaves_before_it_has_a_plan,
                                        open_play, close_play),
        cmocka_unit_test_setup_teardown(test_nobody_to_join, open_play, close_play),
    };
    return cmocka_run_group_tests_name("worker/rank", tests, NULL, NULL);
}

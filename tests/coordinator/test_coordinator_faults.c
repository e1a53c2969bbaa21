/* test_coordinator_faults.c - peers that go, fall silent, lie, or send what nobody should. */
#include "tests/coordinator/rig.c"

#include "sys/random.h"

static void test_a_worker_that_leaves_ends_the_job(void **state)
{
    struct rig *rig = rig_open(2, 1);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
    leave.reason = "interrupted";
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
    message.leave = &leave;
    rig_send(rig, rig->actors[1], &message, NULL, 0);
    rig_expect_end(rig, STATUS_FAILED, "worker 1 (beta) left: interrupted");
}

static void test_a_step_that_is_not_reported_names_who(void **state)
{
    struct rig *rig = rig_open(3, 0);
    rig->options.step_timeout_ms = 2000;
    struct rig_actor *client = rig_ready(rig);
    rig_until(rig, rig->actors[1]->set_up);
    rig->actors[1]->silent_steps = true;
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->failed);
    assert_non_null(strstr(client->failure, "by: worker 1 (beta)"));
    rig_expect_end(rig, STATUS_TIMEOUT,
                   "step 1 was not reported within 2 s (--step-timeout) by: worker 1");
}

static void test_a_worker_that_dies_is_noticed(void **state)
{
    struct rig *rig = rig_open(2, 0);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    rig_kill(rig->actors[1]);
    rig_expect_end(rig, STATUS_FAILED, "worker 1 (beta) is lost: its connection ended");
}

static void send_ping(struct rig *rig, struct rig_actor *actor, uint64_t job, char *name)
{
    Longspan__Ping ping = LONGSPAN__PING__INIT;
    ping.job = job;
    ping.name = name;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_PING;
    message.ping = &ping;
    rig_send(rig, actor, &message, NULL, 0);
}

/* Connections end and come back: who pings as a node is that node, and not a worker. */
static void test_a_node_that_reconnects_is_not_the_lead(void **state)
{
    struct rig *rig = rig_open(1, 1);
    rig->options.lost_ms = 2000; /* a busy machine has time to come back */
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    struct rig_actor *back = rig_add(rig, RIG_CLIENT), *other = rig_add(rig, RIG_CLIENT);
    rig_until_n(rig, back->n_pongs, 1);
    rig_until_n(rig, other->n_pongs, 1);
    const uint64_t job = rig->actors[0]->job;
    rig_kill(rig->actors[1]);
    while (rig_status(rig, client)->nodes[0]->reconnects == 0) {
        send_ping(rig, back, job, "node0");
        rig_turn(rig, 50);
    }
    rig_kill(rig->actors[0]);
    const uint64_t deadline = clock_us() + 15000000;
    while (clock_us() < deadline && rig_running(rig)) {
        send_ping(rig, back, job, "node0");
        send_ping(rig, other, job, "mem01");
        rig_turn(rig, 50);
    }
    rig_expect_end(rig, STATUS_FAILED, "worker 0 (alpha) is lost: its connection ended");
}

static void test_a_node_that_falls_silent_is_noticed(void **state)
{
    struct rig *rig = rig_open(1, 1);
    rig->options.silence_ms = 1500;
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    rig->actors[1]->mute = true;
    rig_expect_end(rig, STATUS_FAILED,
                   "attention node node0 (mem01) is lost: nothing was heard of it");
}

/* A machine that stands still for longer than others may be silent, and goes on. */
static void test_who_was_stopped_takes_nobody_for_silent(void **state)
{
    struct rig *rig = rig_open(1, 1);
    rig->options.silence_ms = 3000;
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    clock_sleep_us(300000); /* it has heard all that was said */
    assert_int_equal(kill(rig->coordinator, SIGSTOP), 0);
    clock_sleep_us(3500000);
    assert_int_equal(kill(rig->coordinator, SIGCONT), 0);
    clock_sleep_us(600000); /* it looks at its deadlines, and nobody has said anything yet */
    struct rig_actor *other = rig_add(rig, RIG_CLIENT);
    rig_request(rig, other, 1, &ask);
    rig_until(rig, other->done);
    rig_stop(rig);
    assert_int_equal(rig_wait(rig, 15), STATUS_OK);
    rig_close(rig);
}

/* Steps of others may go on for ever: what has tokens there fails, and who comes next too. */
static void test_a_node_that_falls_silent_is_noticed_while_others_compute(void **state)
{
    struct rig *rig = rig_open(1, 1);
    rig->options.silence_ms = 1500;
    rig->options.timeout_ms = 1000;
    struct rig_actor *client = rig_ready(rig);
    rig->actors[0]->silent_steps = true;
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    while (rig->actors[0]->n_steps == 0 && rig_running(rig))
        rig_turn(rig, 50);
    rig->actors[1]->mute = true;
    rig_expect_end(rig, STATUS_FAILED,
                   "attention node node0 (mem01) is lost: nothing was heard of it");
}

static void test_a_lying_worker_ends_the_job(void **state)
{
    struct rig *rig = rig_open(1, 0);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    Longspan__StepDone done = LONGSPAN__STEP_DONE__INIT;
    done.job = rig->actors[0]->job;
    done.step = 4711;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_STEP_DONE;
    message.step_done = &done;
    rig_send(rig, rig->actors[0], &message, NULL, 0);
    rig_expect_end(rig, STATUS_PROTOCOL, "step 4711");
}

/* Bytes that are no message, messages that make no sense here, from anybody: it goes on serving. */
static void test_hostile_messages_are_survived(void **state)
{
    struct rig *rig = rig_open(1, 1);
    struct rig_actor *client = rig_ready(rig), *enemy = rig_add(rig, RIG_CLIENT);
    struct random_state random;
    random_seed(&random, 99);
    rig_until(rig, rig->actors[1]->set_up);
    uint8_t bytes[200];
    for (int i = 0; i < 2000; i++) {
        const size_t n = 1 + random_below(&random, sizeof(bytes));
        for (size_t j = 0; j < n; j++)
            bytes[j] = (uint8_t)random_u64(&random);
        rig_send_bytes(rig, enemy, bytes, n);
    }
    /* valid messages of every kind, with random bits flipped */
    const uint32_t lengths[] = {20};
    for (int i = 0; i < 2000; i++) {
        Longspan__Control message = LONGSPAN__CONTROL__INIT;
        Longspan__NodeReady ready = LONGSPAN__NODE_READY__INIT;
        Longspan__ReserveReply reply = LONGSPAN__RESERVE_REPLY__INIT;
        Longspan__StepDone done = LONGSPAN__STEP_DONE__INIT;
        Longspan__NodeJoin join = LONGSPAN__NODE_JOIN__INIT;
        Longspan__WorkerReady worker = LONGSPAN__WORKER_READY__INIT;
        Longspan__WorkersJoin workers = LONGSPAN__WORKERS_JOIN__INIT;
        Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
        ready.job = reply.job = done.job = worker.job = rig->actors[0]->job;
        reply.request = random_below(&random, 10);
        switch (random_below(&random, 7)) {
        case 0:
            message.body_case = LONGSPAN__CONTROL__BODY_NODE_READY;
            message.node_ready = &ready;
            break;
        case 1:
            message.body_case = LONGSPAN__CONTROL__BODY_RESERVE_REPLY;
            message.reserve_reply = &reply;
            break;
        case 2:
            message.body_case = LONGSPAN__CONTROL__BODY_STEP_DONE;
            message.step_done = &done;
            break;
        case 3:
            message.body_case = LONGSPAN__CONTROL__BODY_NODE_JOIN;
            message.node_join = &join;
            break;
        case 4:
            worker.rank = (uint32_t)random_u64(&random);
            message.body_case = LONGSPAN__CONTROL__BODY_WORKER_READY;
            message.worker_ready = &worker;
            break;
        case 5:
            message.body_case = LONGSPAN__CONTROL__BODY_WORKERS_JOIN;
            message.workers_join = &workers;
            break;
        default:
            message.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
            message.leave = &leave;
            break;
        }
        const size_t n = longspan__control__pack(&message, bytes);
        if (random_below(&random, 2))
            bytes[random_below(&random, n)] ^= (uint8_t)(1u << random_below(&random, 8));
        rig_send_bytes(rig, enemy, bytes, n);
        if (i % 50 == 0)
            rig_turn(rig, 0);
    }
    enemy->mute = true; /* whatever it was answered */
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 10};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    rig_check_generated(client, &ask);
    rig_end(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_worker_that_leaves_ends_the_job),
        cmocka_unit_test(test_a_step_that_is_not_reported_names_who),
        cmocka_unit_test(test_a_worker_that_dies_is_noticed),
        cmocka_unit_test(test_a_node_that_reconnects_is_not_the_lead),
        cmocka_unit_test(test_a_node_that_falls_silent_is_noticed),
        cmocka_unit_test(test_a_node_that_falls_silent_is_noticed_while_others_compute),
        cmocka_unit_test(test_who_was_stopped_takes_nobody_for_silent),
        cmocka_unit_test(test_a_lying_worker_ends_the_job),
        cmocka_unit_test(test_hostile_messages_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* rig.c - see rig.h. Included by its test, because a test program is one file. */
#include "tests/coordinator/rig.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/attention/kv_holder.h"
#include "proto/protocol.h"
#include "sys/clock.h"
#include "tests/coordinator/rig_answers.c"
#include "tests/coordinator/rig_model.h"

enum { RIG_PATIENCE_S = 20, SEND_LOOK_US = 50000 };

/* ---- life ------------------------------------------------------------------------------------ */

struct rig *rig_open(uint32_t workers, uint32_t nodes)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    assert_int_equal(file_make_temporary(rig->directory, NULL), STATUS_OK);
    snprintf(rig->endpoint, sizeof(rig->endpoint), "ipc://%s/c", rig->directory);
    snprintf(rig->model, sizeof(rig->model), "%s/model.gguf", rig->directory);
    rig_write_model(rig->model);
    rig->sequences = calloc(RIG_SEQUENCES, sizeof(*rig->sequences));
    assert_non_null(rig->sequences);
    rig->options = (struct coordinator_options){.listen = rig->endpoint,
                                                .model = rig->model,
                                                .workers = workers,
                                                .nodes = nodes,
                                                .tensor = 1,
                                                .chunk = 128,
                                                .max_batch = 8,
                                                .kv_type = KV_F16,
                                                .stripe = 512,
                                                .kernels = "auto",
                                                .join_timeout_ms = 20000,
                                                .load_timeout_ms = 20000,
                                                .timeout_ms = 20000,
                                                .step_timeout_ms = 20000,
                                                .lost_ms = 500,
                                                .silence_ms = 20000,
                                                .retry_ms = 1000};
    rig->stop = -1;
    return rig;
}

static void play_coordinator(struct rig *rig, int stop_descriptor)
{
    struct log log;
    log_open(&log, "coordinator", getenv("RIG_VERBOSE") != NULL ? 1 : -2);
    if (getenv("RIG_VERBOSE") == NULL)
        log.descriptor = -1; /* expected failures are not shown */
    rig->result->status =
        coordinator_run(&rig->options, stop_descriptor, &log, &rig->result->error);
}

void rig_start(struct rig *rig)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    rig->result =
        mmap(NULL, sizeof(*rig->result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(rig->result != MAP_FAILED);
    rig->result->status = STATUS_COUNT; /* a crash leaves it */
    fflush(NULL);
    rig->coordinator = fork();
    assert_true(rig->coordinator >= 0);
    if (rig->coordinator == 0) {
        close(ends[1]);
        play_coordinator(rig, ends[0]);
        free(rig->sequences); /* for the leak checker */
        free(rig);
        exit(0);
    }
    close(ends[0]);
    rig->stop = ends[1];
    const struct wire_context_options options = {0};
    assert_int_equal(wire_context_create(&rig->wire, &options, NULL), STATUS_OK);
}

void rig_stop(struct rig *rig)
{
    if (rig->stop >= 0)
        close(rig->stop);
    rig->stop = -1;
}

bool rig_running(struct rig *rig)
{
    if (rig->coordinator <= 0)
        return false;
    int code;
    const pid_t ended = waitpid(rig->coordinator, &code, WNOHANG);
    if (ended == 0)
        return true;
    rig->coordinator = 0;
    if (!WIFEXITED(code) || WEXITSTATUS(code) != 0)
        fail_msg("the coordinator crashed: wait status %d", code);
    return false;
}

enum status rig_wait(struct rig *rig, uint32_t seconds)
{
    const uint64_t deadline = clock_us() + seconds * 1000000ull;
    while (rig_running(rig)) {
        if (clock_us() > deadline)
            fail_msg("the coordinator did not end within %u s", seconds);
        rig_turn(rig, 20);
    }
    return rig->result->status;
}

void rig_close(struct rig *rig)
{
    rig_stop(rig);
    if (rig->coordinator > 0)
        assert_int_equal(rig_wait(rig, RIG_PATIENCE_S), STATUS_OK);
    frames_clear(&rig->in);
    frames_clear(&rig->out);
    for (uint32_t i = 0; i < rig->n_actors; i++) {
        if (rig->actors[i]->status != NULL)
            longspan__status_reply__free_unpacked(rig->actors[i]->status, NULL);
        wire_socket_close(rig->actors[i]->socket);
        free(rig->actors[i]);
    }
    wire_context_destroy(rig->wire);
    if (rig->result != NULL)
        munmap(rig->result, sizeof(*rig->result));
    assert_int_equal(file_remove_temporary(rig->directory), STATUS_OK);
    free(rig->sequences);
    free(rig);
}

struct rig_actor *rig_add(struct rig *rig, enum rig_kind kind)
{
    struct rig_actor *actor = calloc(1, sizeof(*actor));
    assert_non_null(actor);
    assert_true(rig->n_actors < RIG_ACTORS);
    actor->kind = kind;
    const struct wire_socket_options options = {
        .kind = WIRE_DEALER, .endpoint = rig->endpoint, .name = "coordinator"};
    assert_int_equal(wire_socket_open(&actor->socket, rig->wire, &options, NULL), STATUS_OK);
    rig->actors[rig->n_actors++] = actor;
    return actor;
}

void rig_kill(struct rig_actor *actor)
{
    wire_socket_close(actor->socket);
    actor->socket = NULL;
    actor->dead = true;
}

/* Sends rig->out. A coordinator that ends meanwhile reads nothing more: that alone excuses who
 * waits for it, or sees its connection end. */
static void send_out(struct rig *rig, struct rig_actor *actor)
{
    const uint64_t deadline = clock_us() + RIG_PATIENCE_S * 1000000ull;
    enum status status = frames_send(actor->socket, &rig->out, clock_us() + SEND_LOOK_US, NULL);
    while (status != STATUS_OK && rig_running(rig)) {
        if (clock_us() >= deadline)
            fail_msg("a message was not sent within %d s: status %d", RIG_PATIENCE_S, status);
        if (status == STATUS_TIMEOUT)
            status = frames_send(actor->socket, &rig->out, clock_us() + SEND_LOOK_US, NULL);
        else
            poll(NULL, 0, SEND_LOOK_US / 1000);
    }
}

void rig_send_bytes(struct rig *rig, struct rig_actor *actor, const void *bytes, size_t n_bytes)
{
    frames_clear(&rig->out);
    assert_int_equal(frames_add_copy(&rig->out, bytes, n_bytes, NULL), STATUS_OK);
    send_out(rig, actor);
}

void rig_send(struct rig *rig, struct rig_actor *actor, const Longspan__Control *message,
              const void *tensor, size_t tensor_bytes)
{
    frames_clear(&rig->out);
    assert_int_equal(frames_add_message(&rig->out, &message->base, NULL), STATUS_OK);
    if (tensor != NULL)
        assert_int_equal(frames_add_copy(&rig->out, tensor, tensor_bytes, NULL), STATUS_OK);
    send_out(rig, actor);
}

/* ---- turning --------------------------------------------------------------------------------- */

/* A fraction of the shortest silence that a test has noticed, so that no busy machine is taken for
 * it. */
enum { PING_US = 100000 };

static void ping(struct rig *rig, struct rig_actor *actor, uint64_t now)
{
    if (actor->mute || now < actor->next_ping_us)
        return;
    actor->next_ping_us = now + PING_US;
    Longspan__Ping message_body = LONGSPAN__PING__INIT;
    message_body.job = actor->job;
    message_body.rank = actor->index;
    message_body.loaded_bytes = actor->loaded_bytes;
    message_body.load_bytes = actor->load_bytes;
    message_body.name = actor->kind == RIG_RANK ? "worker" : "";
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_PING;
    message.ping = &message_body;
    rig_send(rig, actor, &message, NULL, 0);
}

void rig_turn(struct rig *rig, uint32_t ms)
{
    struct wire_poll_item items[RIG_ACTORS];
    struct rig_actor *of[RIG_ACTORS];
    size_t n = 0;
    const uint64_t now = clock_us();
    for (uint32_t i = 0; i < rig->n_actors; i++) {
        if (rig->actors[i]->dead)
            continue;
        ping(rig, rig->actors[i], now);
        if (rig->actors[i]->mute)
            continue;
        of[n] = rig->actors[i];
        items[n++] = (struct wire_poll_item){.socket = rig->actors[i]->socket};
    }
    if (wire_poll(items, n, 0, now + ms * 1000ull, NULL) != STATUS_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        if (!items[i].readable || of[i]->dead ||
            frames_receive(of[i]->socket, &rig->in, 0, NULL) != STATUS_OK)
            continue;
        Longspan__Control *message =
            longspan__control__unpack(NULL, frames_size(&rig->in, 0), frames_data(&rig->in, 0));
        assert_non_null(message);
        handle_message(rig, of[i], message);
        longspan__control__free_unpacked(message, NULL);
    }
}

static void give_up(struct rig *rig, const char *name)
{
    if (rig->coordinator == 0)
        fail_msg("%s: the coordinator has ended: %s", name, rig->result->error.text);
    fail_msg("%s: did not happen within %d s", name, RIG_PATIENCE_S);
}

void rig_until_count(struct rig *rig, const uint32_t *what, uint32_t n, const char *name)
{
    const uint64_t deadline = clock_us() + RIG_PATIENCE_S * 1000000ull;
    while (*what < n) {
        if (clock_us() > deadline || !rig_running(rig))
            for (int i = 0; i < 10 && *what < n; i++)
                rig_turn(rig, 50); /* last words of one that has ended */
        if (*what < n && (clock_us() > deadline || rig->coordinator == 0))
            give_up(rig, name);
        rig_turn(rig, 20);
    }
}

void rig_until_bool(struct rig *rig, const bool *what, const char *name)
{
    uint32_t happened = *what;
    const uint64_t deadline = clock_us() + RIG_PATIENCE_S * 1000000ull;
    while (happened == 0) {
        if (!rig_running(rig))
            for (int i = 0; i < 10 && !*what; i++)
                rig_turn(rig, 50);
        happened = *what;
        if (happened == 0 && (clock_us() > deadline || rig->coordinator == 0))
            give_up(rig, name);
        rig_turn(rig, 20);
    }
}

/* ---- joining --------------------------------------------------------------------------------- */

static void fill_constants(Longspan__Constants *constants, uint32_t protocol, const char *kernels)
{
    constants->protocol = protocol != 0 ? protocol : PROTOCOL_VERSION;
    constants->tile_tokens = TILE_TOKENS;
    constants->page_tokens = PAGE_TOKENS;
    constants->kernels = (char *)kernels;
    constants->version = "9.9";
}

struct rig_actor *rig_join_workers(struct rig *rig, uint32_t n, uint32_t protocol)
{
    return rig_join_workers_of(rig, n, protocol, "avx2");
}

struct rig_actor *rig_join_workers_of(struct rig *rig, uint32_t n, uint32_t protocol,
                                      const char *last_kernels)
{
    Longspan__RankInfo ranks[8], *list[8];
    struct rig_actor *first = NULL;
    assert_true(n <= 8);
    for (uint32_t i = 0; i < n; i++) {
        struct rig_actor *rank = rig_add(rig, RIG_RANK);
        rank->index = i;
        rank->capacity = 1 << 30;
        first = i == 0 ? rank : first;
        longspan__rank_info__init(&ranks[i]);
        ranks[i].rank = i;
        ranks[i].host = i == 0 ? "alpha" : "beta";
        ranks[i].kernels = i + 1 < n ? "avx2" : (char *)last_kernels;
        ranks[i].memory_bytes = 1ull << 32;
        ranks[i].lanes = RANK_LANES;
        ranks[i].processors = "0-7";
        list[i] = &ranks[i];
    }
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    fill_constants(&constants, protocol, "avx2");
    Longspan__WorkersJoin join = LONGSPAN__WORKERS_JOIN__INIT;
    join.constants = &constants;
    join.n_ranks = n;
    join.ranks = list;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_WORKERS_JOIN;
    message.workers_join = &join;
    rig_send(rig, first, &message, NULL, 0);
    return first;
}

struct rig_actor *rig_join_node(struct rig *rig, const char *name, uint64_t memory, uint64_t job,
                                uint32_t protocol, const char *kernels)
{
    struct rig_actor *node = rig_add(rig, RIG_NODE);
    node->index = rig->n_actors;
    node->capacity = memory;
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    fill_constants(&constants, protocol, kernels);
    Longspan__NodeJoin join = LONGSPAN__NODE_JOIN__INIT;
    join.constants = &constants;
    join.name = (char *)name;
    join.host = "mem01";
    join.endpoint = "ipc:///nowhere";
    join.node = 1000 + rig->n_actors;
    join.memory_bytes = memory;
    join.read_bytes_per_s = 1e9;
    join.job = job;
    join.lanes = NODE_LANES;
    join.processors = "0-3,8";
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_NODE_JOIN;
    message.node_join = &join;
    rig_send(rig, node, &message, NULL, 0);
    return node;
}

struct rig_actor *rig_ready(struct rig *rig)
{
    rig_start(rig);
    rig_join_workers(rig, rig->options.workers, 0);
    for (uint32_t i = 0; i < rig->options.nodes; i++) {
        char name[16];
        snprintf(name, sizeof(name), "node%u", i);
        rig_join_node(rig, name, 4096ull * RIG_KV_BYTES, 0, 0, "avx2");
    }
    return rig_add(rig, RIG_CLIENT);
}

/* ---- requests -------------------------------------------------------------------------------- */

int32_t rig_prompt_token(uint32_t prompt, uint32_t position, uint32_t common)
{
    const uint32_t salt = position < common ? 0 : prompt + 1;
    return (int32_t)(3 + (position * 7919u + salt * 104729u) % 250u);
}

void rig_request(struct rig *rig, struct rig_actor *client, uint64_t number,
                 const struct rig_ask *ask)
{
    Longspan__Prompt prompts[RIG_PROMPTS], *list[RIG_PROMPTS];
    Longspan__RunRequest request = LONGSPAN__RUN_REQUEST__INIT;
    Longspan__Sampling sampling = LONGSPAN__SAMPLING__INIT;
    for (uint32_t i = 0; i < ask->n; i++) {
        longspan__prompt__init(&prompts[i]);
        prompts[i].again = ask->again && i > 0;
        prompts[i].scored = ask->scored && !prompts[i].again;
        prompts[i].n_ids = prompts[i].again ? 0 : ask->lengths[i];
        prompts[i].ids = calloc(ask->lengths[i] + 1, sizeof(int32_t));
        assert_non_null(prompts[i].ids);
        for (uint32_t j = 0; j < prompts[i].n_ids; j++)
            prompts[i].ids[j] = rig_prompt_token(i, j, ask->common);
        list[i] = &prompts[i];
    }
    sampling.temperature = ask->temperature;
    sampling.seed = ask->seed;
    request.request = number;
    request.n_prompts = ask->n;
    request.prompts = list;
    request.n_predict = ask->n_predict;
    request.sampling = &sampling;
    request.no_answer = ask->no_answer;
    request.want_logits = ask->want_logits;
    request.want_logprobs = ask->n_logprobs > 0;
    request.n_logprobs = ask->n_logprobs;
    request.no_prefix_sharing = ask->no_sharing;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_RUN_REQUEST;
    message.run_request = &request;
    rig_send(rig, client, &message, NULL, 0);
    for (uint32_t i = 0; i < ask->n; i++)
        free(prompts[i].ids);
}

const Longspan__StatusReply *rig_status(struct rig *rig, struct rig_actor *client)
{
    Longspan__StatusRequest request = LONGSPAN__STATUS_REQUEST__INIT;
    request.request = ++client->status_number;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_STATUS_REQUEST;
    message.status_request = &request;
    rig_send(rig, client, &message, NULL, 0);
    for (uint32_t i = 0; i < 20u * RIG_PATIENCE_S; i++) {
        if (client->status != NULL && client->status->request == client->status_number)
            return client->status;
        rig_turn(rig, 50);
    }
    fail_msg("no status came");
    return NULL;
}

/* ---- what tests expect ----------------------------------------------------------------------- */

void rig_end(struct rig *rig)
{
    rig_stop(rig);
    assert_int_equal(rig_wait(rig, 10), STATUS_OK);
    rig_close(rig);
}

void rig_expect_end(struct rig *rig, enum status status, const char *text)
{
    assert_int_equal(rig_wait(rig, 15), status);
    if (strstr(rig->result->error.text, text) == NULL)
        fail_msg("\"%s\" is not in: %s", text, rig->result->error.text);
    rig_close(rig);
}

void rig_check_generated(const struct rig_actor *client, const struct rig_ask *ask)
{
    int32_t *tokens = calloc(RIG_TOKENS, sizeof(*tokens));
    assert_non_null(tokens);
    for (uint32_t i = 0; i < ask->n; i++) {
        uint32_t n = ask->lengths[i];
        for (uint32_t j = 0; j < n; j++)
            tokens[j] = rig_prompt_token(i, j, ask->common);
        assert_int_equal(client->prompts[i].n_generated, ask->n_predict);
        assert_int_equal(client->prompts[i].text_bytes, ask->n_predict);
        assert_string_equal(client->prompts[i].reason, "length");
        for (uint32_t j = 0; j < ask->n_predict; j++) {
            tokens[n] = rig_next(tokens, n);
            assert_int_equal(client->prompts[i].generated[j], tokens[n]);
            assert_int_equal(client->prompts[i].text[j], tokens[n] - 3);
            n++;
        }
    }
    free(tokens);
}

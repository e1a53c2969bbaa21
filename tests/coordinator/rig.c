/* rig.c - see rig.h. Included by its test, because a test program is one file. */
#include "tests/coordinator/rig.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/attention/kv_holder.h"
#include "proto/protocol.h"
#include "sys/clock.h"
#include "tests/coordinator/rig_model.h"

enum { RIG_PATIENCE_S = 20 };

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
    assert_int_equal(file_remove_temporary(rig->directory, NULL), STATUS_OK);
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

void rig_send_bytes(struct rig *rig, struct rig_actor *actor, const void *bytes, size_t n_bytes)
{
    frames_clear(&rig->out);
    assert_int_equal(frames_add_copy(&rig->out, bytes, n_bytes, NULL), STATUS_OK);
    assert_int_equal(
        frames_send(actor->socket, &rig->out, clock_us() + RIG_PATIENCE_S * 1000000ull, NULL),
        STATUS_OK);
}

void rig_send(struct rig *rig, struct rig_actor *actor, const Longspan__Control *message,
              const void *tensor, size_t tensor_bytes)
{
    void *data = NULL;
    frames_clear(&rig->out);
    assert_int_equal(
        frames_add(&rig->out, longspan__control__get_packed_size(message), &data, NULL), STATUS_OK);
    longspan__control__pack(message, data);
    if (tensor != NULL)
        assert_int_equal(frames_add_copy(&rig->out, tensor, tensor_bytes, NULL), STATUS_OK);
    assert_int_equal(
        frames_send(actor->socket, &rig->out, clock_us() + RIG_PATIENCE_S * 1000000ull, NULL),
        STATUS_OK);
}

/* ---- the fake model -------------------------------------------------------------------------- */

int32_t rig_next(const int32_t *tokens, uint32_t n)
{
    uint64_t hash = 1469598103934665603ull; /* FNV-1a */
    for (uint32_t i = 0; i < n; i++)
        hash = (hash ^ (uint32_t)tokens[i]) * 1099511628211ull;
    return 3 + 'a' + (int32_t)(hash >> 32) % 26; /* a letter, never the end */
}

static struct rig_sequence *find_sequence(struct rig *rig, uint64_t name)
{
    for (uint32_t i = 0; i < RIG_SEQUENCES; i++)
        if (rig->sequences[i].name == name)
            return &rig->sequences[i];
    return NULL;
}

static struct rig_sequence *take_segment(struct rig *rig, const Longspan__Segment *segment)
{
    struct rig_sequence *s = find_sequence(rig, segment->sequence);
    if (s == NULL) {
        s = find_sequence(rig, 0);
        assert_non_null(s);
        s->name = segment->sequence;
        s->n = 0;
        if (segment->fork) {
            const struct rig_sequence *parent = find_sequence(rig, segment->fork_parent);
            assert_non_null(parent);
            assert_true(parent->n >= segment->position && segment->position % PAGE_TOKENS == 0);
            memcpy(s->tokens, parent->tokens, segment->position * sizeof(s->tokens[0]));
            s->n = segment->position;
        }
    } else {
        assert_false(segment->fork);
    }
    assert_int_equal(segment->position, s->n);
    assert_true(s->n + segment->n_tokens <= RIG_TOKENS);
    memcpy(s->tokens + s->n, segment->tokens, segment->n_tokens * sizeof(s->tokens[0]));
    s->n += (uint32_t)segment->n_tokens;
    return s;
}

#define RIG_LOG_SUM_EXP 10.5

static float logit_of(int32_t best, int32_t id)
{
    return id == best ? 10.0f : -(float)id / 16.0f;
}

/* Candidates and a row that agree: the best is what the hash says, the others follow by id. */
static void make_row(const struct rig *rig, const int32_t *tokens, uint32_t n_tokens, uint32_t n,
                     int32_t *ids, float *logits, float *row)
{
    const int32_t best = n_tokens == rig->ends_at ? 2 : rig_next(tokens, n_tokens);
    for (uint32_t i = 0; i < RIG_VOCAB; i++)
        row[i] = logit_of(best, (int32_t)i);
    ids[0] = best;
    logits[0] = 10.0f;
    int32_t next = 0;
    for (uint32_t i = 1; i < n; i++, next++) {
        next += next == best;
        ids[i] = next;
        logits[i] = row[next];
    }
}

float rig_score(const int32_t *tokens, uint32_t n)
{
    return (float)((double)logit_of(rig_next(tokens, n), tokens[n]) - RIG_LOG_SUM_EXP);
}

/* Scores of the tokens that follow the segment's rows. */
static void make_scores(const struct rig *rig, const struct rig_sequence *s,
                        const Longspan__Segment *segment, Longspan__Scores *scores)
{
    float row[RIG_VOCAB];
    longspan__scores__init(scores);
    const size_t n = segment->n_next, n_top = segment->n_top;
    scores->logits = calloc(n, sizeof(*scores->logits));
    scores->log_sum_exps = calloc(n, sizeof(*scores->log_sum_exps));
    scores->top_ids = calloc(n * n_top, sizeof(*scores->top_ids));
    scores->top_logits = calloc(n * n_top, sizeof(*scores->top_logits));
    for (uint32_t i = 0; i < n; i++) {
        make_row(rig, s->tokens, segment->position + i + 1, (uint32_t)n_top,
                 scores->top_ids + i * n_top, scores->top_logits + i * n_top, row);
        scores->logits[i] = row[segment->next[i]];
        scores->log_sum_exps[i] = RIG_LOG_SUM_EXP;
    }
    scores->n_logits = scores->n_log_sum_exps = n;
    scores->n_top_ids = scores->n_top_logits = n * n_top;
}

static void free_scores(Longspan__Scores *scores, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(scores[i].logits);
        free(scores[i].log_sum_exps);
        free(scores[i].top_ids);
        free(scores[i].top_logits);
    }
}

static void report(struct rig *rig, struct rig_actor *rank, const Longspan__Step *step)
{
    static Longspan__Scores scores[16];
    static Longspan__Scores *score_list[16];
    static Longspan__Candidates results[16];
    static Longspan__Candidates *list[16];
    static int32_t ids[16][RIG_VOCAB];
    static float logits[16][RIG_VOCAB], rows[16][RIG_VOCAB];
    const bool brings_results = rank->index + 1 == rig->options.workers; /* tensor 1 */
    Longspan__StepDone done = LONGSPAN__STEP_DONE__INIT;
    size_t n_rows = 0;
    uint32_t tokens = 0;
    assert_true(step->n_segments <= 16);
    for (size_t i = 0; i < step->n_segments; i++) {
        const Longspan__Segment *segment = step->segments[i];
        tokens += (uint32_t)segment->n_tokens;
        if (!brings_results)
            continue;
        const struct rig_sequence *s = take_segment(rig, segment);
        if (segment->n_next > 0) {
            make_scores(rig, s, segment, &scores[done.n_scores]);
            score_list[done.n_scores] = &scores[done.n_scores];
            done.n_scores++;
        }
        if (segment->want == LONGSPAN__WANT__WANT_NOTHING)
            continue;
        Longspan__Candidates *result = &results[done.n_results];
        longspan__candidates__init(result);
        make_row(rig, s->tokens, s->n, segment->n_candidates, ids[done.n_results],
                 logits[done.n_results], rows[n_rows]);
        result->ids = ids[done.n_results];
        result->logits = logits[done.n_results];
        result->n_ids = result->n_logits = segment->n_candidates;
        result->log_sum_exp = rig->bad_numbers ? (double)NAN : RIG_LOG_SUM_EXP;
        n_rows += segment->want == LONGSPAN__WANT__WANT_LOGITS;
        list[done.n_results++] = result;
    }
    rank->max_rows_seen = tokens > rank->max_rows_seen ? tokens : rank->max_rows_seen;
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    Longspan__SegmentError error = LONGSPAN__SEGMENT_ERROR__INIT, *errors[1] = {&error};
    Longspan__HolderTraffic traffic = LONGSPAN__HOLDER_TRAFFIC__INIT, *traffics[1] = {&traffic};
    if (rank->segment_failure != NULL && step->n_segments > 0) {
        failure.status = STATUS_TIMEOUT;
        failure.text = (char *)rank->segment_failure;
        error.failure = &failure;
        done.n_errors = 1;
        done.errors = errors;
        rank->segment_failure = NULL;
    }
    traffic.kv_bytes = 100 * tokens;
    done.traffic = traffics;
    done.n_traffic = 1;
    done.results = list;
    done.scores = score_list;
    done.job = step->job;
    done.step = step->step;
    done.rank = rank->index;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_STEP_DONE;
    message.step_done = &done;
    rig_send(rig, rank, &message, n_rows > 0 ? rows : NULL, n_rows * sizeof(rows[0]));
    free_scores(scores, done.n_scores);
}

static void answer_held(struct rig *rig, struct rig_actor *node)
{
    Longspan__ReserveReply reply = LONGSPAN__RESERVE_REPLY__INIT;
    reply.job = node->job;
    reply.request = node->held;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_RESERVE_REPLY;
    message.reserve_reply = &reply;
    rig_send(rig, node, &message, NULL, 0);
    node->held = node->holds_growth = 0;
}

static void handle_step(struct rig *rig, const Longspan__Step *step)
{
    assert_int_equal(step->step, ++rig->last_step);
    for (uint32_t i = 0; i < rig->n_actors; i++)
        if (rig->actors[i]->held != 0 && rig->actors[i]->holds_growth == step->step)
            answer_held(rig, rig->actors[i]);
    for (size_t i = 0; i < step->n_closed; i++) {
        struct rig_sequence *s = find_sequence(rig, step->closed[i]->sequence);
        if (s != NULL)
            s->name = 0;
    }
    for (uint32_t i = 0; i < rig->n_actors; i++) {
        struct rig_actor *rank = rig->actors[i];
        if (rank->kind != RIG_RANK || rank->dead || rank->job != step->job)
            continue;
        rank->n_steps++;
        if (!rank->silent_steps)
            report(rig, rank, step);
    }
}

/* ---- actors ---------------------------------------------------------------------------------- */

/* Rank 0 has its host for itself, the other ranks share one; so do the nodes. */
enum { RANK_LANES = 3, NODE_LANES = 5 };

static void answer_worker_setup(struct rig *rig, const Longspan__WorkerSetup *setup)
{
    assert_int_equal(setup->n_host_lanes, rig->options.workers);
    for (uint32_t i = 0; i < rig->options.workers; i++)
        assert_int_equal(setup->host_lanes[i],
                         RANK_LANES * (i == 0 ? 1 : rig->options.workers - 1));
    for (uint32_t i = 0; i < rig->n_actors; i++) {
        struct rig_actor *rank = rig->actors[i];
        if (rank->kind != RIG_RANK || rank->dead)
            continue;
        rank->job = setup->job;
        rank->set_up = true;
        Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
        Longspan__WorkerReady ready = LONGSPAN__WORKER_READY__INIT;
        ready.job = setup->job;
        ready.rank = rank->index;
        ready.local_kv_bytes = rank->capacity;
        if (rank->load_failure != NULL) {
            failure.status = STATUS_INVALID;
            failure.text = (char *)rank->load_failure;
            ready.failure = &failure;
        }
        Longspan__Control message = LONGSPAN__CONTROL__INIT;
        message.body_case = LONGSPAN__CONTROL__BODY_WORKER_READY;
        message.worker_ready = &ready;
        if (rank->load_bytes == 0)
            rig_send(rig, rank, &message, NULL, 0);
    }
}

static void answer_node_setup(struct rig *rig, struct rig_actor *node,
                              const Longspan__NodeSetup *setup)
{
    node->job = setup->job;
    node->set_up = true;
    assert_int_equal(setup->n_layers, RIG_LAYERS);
    assert_int_equal(setup->n_kv_heads, 2);
    assert_int_equal(setup->group, 2);
    assert_int_equal(setup->host_lanes, NODE_LANES * rig->options.nodes);
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    Longspan__NodeReady ready = LONGSPAN__NODE_READY__INIT;
    ready.job = setup->job;
    ready.capacity_bytes = node->capacity;
    if (node->setup_failure != NULL) {
        failure.status = STATUS_FAILED;
        failure.text = (char *)node->setup_failure;
        ready.failure = &failure;
    }
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_NODE_READY;
    message.node_ready = &ready;
    rig_send(rig, node, &message, NULL, 0);
}

static void answer_reserve(struct rig *rig, struct rig_actor *node,
                           const Longspan__Reserve *reserve)
{
    if (node->holds_growth > 0 && reserve->spans[0]->begin > 0) {
        node->held = reserve->request;
        return;
    }
    node->n_reserves++;
    for (size_t i = 0; i < reserve->n_spans; i++) {
        assert_true(reserve->spans[i]->end > reserve->spans[i]->begin);
        node->reserved_tokens += reserve->spans[i]->end - reserve->spans[i]->begin;
    }
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    failure.status = STATUS_EXHAUSTED;
    failure.text = "no pages left";
    Longspan__ReserveReply reply = LONGSPAN__RESERVE_REPLY__INIT;
    reply.job = reserve->job;
    reply.request = reserve->request;
    reply.failure = node->refuses_reserve ? &failure : NULL;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_RESERVE_REPLY;
    message.reserve_reply = &reply;
    rig_send(rig, node, &message, NULL, 0);
}

static void append_text(struct rig_prompt *prompt, const ProtobufCBinaryData *text)
{
    assert_true(prompt->text_bytes + text->len < sizeof(prompt->text));
    if (text->len > 0)
        memcpy(prompt->text + prompt->text_bytes, text->data, text->len);
    prompt->text_bytes += text->len;
}

static void take_event(struct rig *rig, struct rig_actor *client, const Longspan__RunEvent *event)
{
    switch (event->body_case) {
    case LONGSPAN__RUN_EVENT__BODY_PLAN:
        client->n_plans++;
        client->n_prompts = (uint32_t)event->plan->n_prompts;
        for (uint32_t i = 0; i < client->n_prompts && i < RIG_PROMPTS; i++) {
            client->prompts[i].n_ids = (uint32_t)event->plan->prompts[i]->n_ids;
            client->prompts[i].shared_tokens = event->plan->prompts[i]->shared_tokens;
            client->prompts[i].n_spans = (uint32_t)event->plan->prompts[i]->n_spans;
        }
        break;
    case LONGSPAN__RUN_EVENT__BODY_PROGRESS:
        assert_true(event->progress->prompt < client->n_prompts);
        client->prompts[event->progress->prompt].progress = event->progress->done;
        break;
    case LONGSPAN__RUN_EVENT__BODY_SCORES: {
        const Longspan__RunScores *scores = event->scores;
        assert_true(scores->prompt < client->n_prompts);
        struct rig_prompt *prompt = &client->prompts[scores->prompt];
        for (uint32_t i = scores->prompt; i < client->n_prompts; i++)
            assert_int_equal(client->prompts[i].n_generated,
                             0); /* not of those that are it again */
        assert_int_equal(scores->first, prompt->n_scores + 1);
        assert_true(prompt->n_scores + scores->n_logprobs <= RIG_SCORES);
        memcpy(prompt->scores + prompt->n_scores, scores->logprobs,
               scores->n_logprobs * sizeof(float));
        prompt->n_scores += (uint32_t)scores->n_logprobs;
        prompt->n_score_tops += (uint32_t)scores->n_top_ids;
        break;
    }
    case LONGSPAN__RUN_EVENT__BODY_TOKEN: {
        assert_true(event->token->prompt < client->n_prompts);
        struct rig_prompt *prompt = &client->prompts[event->token->prompt];
        assert_true(prompt->n_generated < 1024);
        prompt->generated[prompt->n_generated++] = event->token->id;
        prompt->n_top = (uint32_t)event->token->n_top;
        prompt->logprob = event->token->logprob;
        append_text(prompt, &event->token->text);
        if (rig->in.n > 1) {
            assert_int_equal(frames_size(&rig->in, 1), RIG_VOCAB * sizeof(float));
            client->n_rows++;
        }
        break;
    }
    case LONGSPAN__RUN_EVENT__BODY_FINISHED: {
        struct rig_prompt *prompt = &client->prompts[event->finished->prompt];
        snprintf(prompt->reason, sizeof(prompt->reason), "%s", event->finished->reason);
        append_text(prompt, &event->finished->text);
        assert_int_equal(event->finished->n_tokens, prompt->n_generated);
        client->n_finished++;
        break;
    }
    case LONGSPAN__RUN_EVENT__BODY_DONE:
        client->done = true;
        client->prefill_tokens = event->done->prefill_tokens;
        assert_true(event->done->n_holders > 0);
        snprintf(client->holder, sizeof(client->holder), "%s", event->done->holders[0]->name);
        client->kv_bytes = event->done->holders[0]->kv_bytes;
        break;
    case LONGSPAN__RUN_EVENT__BODY_FAILURE:
        client->failed = true;
        client->failure_status = event->failure->status;
        snprintf(client->failure, sizeof(client->failure), "%s", event->failure->text);
        break;
    default:
        fail_msg("an event without content");
    }
}

/* A copy that outlives the message. */
static void keep_status(struct rig_actor *actor, const Longspan__StatusReply *reply)
{
    const size_t size = longspan__status_reply__get_packed_size(reply);
    uint8_t *packed = malloc(size);
    assert_non_null(packed);
    longspan__status_reply__pack(reply, packed);
    if (actor->status != NULL)
        longspan__status_reply__free_unpacked(actor->status, NULL);
    actor->status = longspan__status_reply__unpack(NULL, size, packed);
    assert_non_null(actor->status);
    free(packed);
}

static void handle_message(struct rig *rig, struct rig_actor *actor,
                           const Longspan__Control *message)
{
    switch (message->body_case) {
    case LONGSPAN__CONTROL__BODY_PONG:
        actor->n_pongs++;
        actor->told_loaded = message->pong->loaded_bytes;
        actor->told_load = message->pong->load_bytes;
        break;
    case LONGSPAN__CONTROL__BODY_REFUSAL:
        snprintf(actor->refusal, sizeof(actor->refusal), "%s", message->refusal->text);
        actor->refusal_status = message->refusal->status;
        break;
    case LONGSPAN__CONTROL__BODY_LEAVE:
        snprintf(actor->left, sizeof(actor->left), "%s", message->leave->reason);
        break;
    case LONGSPAN__CONTROL__BODY_WORKER_SETUP:
        answer_worker_setup(rig, message->worker_setup);
        break;
    case LONGSPAN__CONTROL__BODY_NODE_SETUP:
        answer_node_setup(rig, actor, message->node_setup);
        break;
    case LONGSPAN__CONTROL__BODY_STEP:
        assert_true(actor->kind == RIG_RANK && actor->index == 0);
        handle_step(rig, message->step);
        break;
    case LONGSPAN__CONTROL__BODY_RESERVE:
        answer_reserve(rig, actor, message->reserve);
        break;
    case LONGSPAN__CONTROL__BODY_FREE:
        actor->n_frees++;
        break;
    case LONGSPAN__CONTROL__BODY_RUN_EVENT:
        take_event(rig, actor, message->run_event);
        break;
    case LONGSPAN__CONTROL__BODY_STATUS_REPLY:
        keep_status(actor, message->status_reply);
        break;
    default:
        fail_msg("a message of case %d", (int)message->body_case);
    }
}

/* A fraction of the shortest silence that a test has noticed, so that no busy machine is taken for it. */
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

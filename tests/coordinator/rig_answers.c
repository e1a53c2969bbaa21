/* rig_answers.c - what actors answer: ranks by a fake model, nodes to reservations; and what
 * clients see. Part of rig.c. */
#include "tests/coordinator/rig.h"

#include <math.h>

#include "kernels/attention/kv_holder.h"

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
    for (uint32_t i = 0; i < BYTE_VOCABULARY; i++)
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
    float row[BYTE_VOCABULARY];
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
    static int32_t ids[16][BYTE_VOCABULARY];
    static float logits[16][BYTE_VOCABULARY], rows[16][BYTE_VOCABULARY];
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
            assert_int_equal(frames_size(&rig->in, 1), BYTE_VOCABULARY * sizeof(float));
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

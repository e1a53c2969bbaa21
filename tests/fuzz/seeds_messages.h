/* tests/fuzz/seeds_messages.h - messages for the roles: an attention node, a worker, its attention,
 * the coordinator. */
#ifndef LONGSPAN_TESTS_FUZZ_SEEDS_MESSAGES_H
#define LONGSPAN_TESTS_FUZZ_SEEDS_MESSAGES_H

#include "tests/fuzz/coordinator_job.h"
#include "tests/fuzz/node_job.h"
#include "tests/fuzz/reply_job.h"
#include "tests/fuzz/seeds.h"
#include "tests/fuzz/worker_job.h"

static void put_control(uint8_t kind, const Longspan__Control *control)
{
    uint8_t bytes[4096];
    assert_true(longspan__control__get_packed_size(control) <= sizeof(bytes));
    put(kind, bytes, longspan__control__pack(control, bytes));
}

#define CONTROL(name, body, value)                                                                 \
    &(const Longspan__Control)                                                                     \
    {                                                                                              \
        PROTOBUF_C_MESSAGE_INIT(&longspan__control__descriptor), LONGSPAN__CONTROL__BODY_##name,   \
        {                                                                                          \
            .body = (value)                                                                        \
        }                                                                                          \
    }

static Longspan__Constants the_constants(void)
{
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    constants.protocol = PROTOCOL_VERSION;
    constants.tile_tokens = TILE_TOKENS;
    constants.page_tokens = PAGE_TOKENS;
    constants.kernels = "scalar";
    constants.version = LONGSPAN_VERSION;
    return constants;
}

static void put_data(uint8_t kind, const Longspan__Data *data)
{
    uint8_t bytes[4096];
    put(kind, bytes, longspan__data__pack(data, bytes));
}

static void node_seed(void)
{
    static uint8_t rows[PAGE_TOKENS * NODE_JOB_HEAD_DIM * 2], query[2 * NODE_JOB_HEAD_DIM * 4];
    Longspan__Span span = LONGSPAN__SPAN__INIT, *spans[] = {&span};
    span.end = 2 * PAGE_TOKENS;
    Longspan__Reserve reserve = LONGSPAN__RESERVE__INIT;
    reserve.job = NODE_JOB;
    reserve.sequence = 1;
    reserve.n_spans = 1;
    reserve.spans = spans;
    put_control(0, CONTROL(RESERVE, reserve, &reserve));

    Longspan__Data data = LONGSPAN__DATA__INIT;
    data.job = NODE_JOB;
    data.step = 1;
    data.n_heads = 1;
    Longspan__AppendEntry appended = LONGSPAN__APPEND_ENTRY__INIT, *appends[] = {&appended};
    appended.sequence = 1;
    appended.n_tokens = PAGE_TOKENS;
    Longspan__Append append = LONGSPAN__APPEND__INIT;
    append.n_entries = 1;
    append.entries = appends;
    data.body_case = LONGSPAN__DATA__BODY_APPEND;
    data.append = &append;
    put_data(1, &data);
    put(2, rows, sizeof(rows));
    put(2, rows, sizeof(rows));

    uint32_t tiles[] = {0, 1};
    Longspan__AttendEntry entry = LONGSPAN__ATTEND_ENTRY__INIT, *entries[] = {&entry};
    entry.sequence = 1;
    entry.position = PAGE_TOKENS;
    entry.n_tokens = 1;
    entry.n_tiles = 2;
    entry.tiles = tiles;
    Longspan__Attend attend = LONGSPAN__ATTEND__INIT;
    attend.query = 5;
    attend.n_entries = 1;
    attend.entries = entries;
    data.body_case = LONGSPAN__DATA__BODY_ATTEND;
    data.attend = &attend;
    put_data(1, &data);
    put(2, query, sizeof(query));

    Longspan__ForkEntry forked = LONGSPAN__FORK_ENTRY__INIT, *forks[] = {&forked};
    forked.parent = 1;
    forked.child = 2;
    forked.n_tokens = PAGE_TOKENS;
    Longspan__Fork fork = LONGSPAN__FORK__INIT;
    fork.n_entries = 1;
    fork.entries = forks;
    data.body_case = LONGSPAN__DATA__BODY_FORK;
    data.fork = &fork;
    reserve.sequence = 2;
    reserve.shared_tokens = PAGE_TOKENS;
    put_control(0, CONTROL(RESERVE, reserve, &reserve));
    put_data(1, &data);

    Longspan__Free free_message = LONGSPAN__FREE__INIT;
    free_message.job = NODE_JOB;
    free_message.sequence = 1;
    free_message.keep_tokens = PAGE_TOKENS;
    put_control(0, CONTROL(FREE, free, &free_message));
    const Longspan__NodeSetup setup = node_job_setup();
    Longspan__NodeSetup again = setup;
    put_control(0, CONTROL(NODE_SETUP, node_setup, &again));
    save_input("fuzz_node", "life");
}

/* A step of one segment, whose fields a seed changes. */
struct step_seed {
    Longspan__Step step;
    Longspan__Segment segment, *segments[1];
    Longspan__Span span, *spans[1];
    Longspan__SequenceName closed, *names[1];
    int32_t tokens[3];
};

static void begin_step(struct step_seed *s, uint64_t number, uint64_t sequence, uint32_t position)
{
    longspan__step__init(&s->step);
    longspan__segment__init(&s->segment);
    longspan__span__init(&s->span);
    longspan__sequence_name__init(&s->closed);
    s->segments[0] = &s->segment;
    s->spans[0] = &s->span;
    s->names[0] = &s->closed;
    s->step.job = WORKER_JOB;
    s->step.step = number;
    s->step.n_segments = 1;
    s->step.segments = s->segments;
    s->step.closed = s->names;
    s->span.end = WORKER_TOKENS;
    memcpy(s->tokens, (int32_t[]){3, 4, 5}, sizeof(s->tokens));
    s->segment.sequence = sequence;
    s->segment.position = position;
    s->segment.n_tokens = 3;
    s->segment.tokens = s->tokens;
    s->segment.spans = s->spans;
    s->segment.n_spans = position == 0;
}

static void put_step(struct step_seed *s)
{
    put_control(1, CONTROL(STEP, step, &s->step));
}

static void worker_setup_seeds(void)
{
    struct setup_message m;
    worker_job_setup(&m);
    put_control(1, CONTROL(WORKER_SETUP, worker_setup, &m.setup));

    Longspan__Stage second = LONGSPAN__STAGE__INIT, *stages[] = {&m.stages[0], &second};
    Longspan__Shard *shard = &m.shards[0], other = *shard, *shards[] = {shard, &other};
    uint32_t lanes[] = {1, 1, 2, 2};
    m.stages[0].n_layers = second.first_layer = 1;
    second.n_layers = WORKER_LAYERS - 1;
    shard->kv_head_end = other.kv_head_begin = 1;
    shard->ffn_end = other.ffn_begin = WORKER_FFN / 2;
    shard->vocab_end = other.vocab_begin = WORKER_VOCAB / 2;
    m.holder.endpoint = "tcp://127.0.0.1:1";
    m.setup.n_stages = m.setup.n_shards = 2;
    m.setup.stages = stages;
    m.setup.shards = shards;
    m.setup.n_host_lanes = 4;
    m.setup.host_lanes = lanes;
    put_control(4, CONTROL(WORKER_SETUP, worker_setup, &m.setup));

    shard->ffn_end = other.ffn_begin = other.ffn_end = 0;
    shard->expert_end = other.expert_begin = 4;
    other.expert_end = 8;
    put_control(4, CONTROL(WORKER_SETUP, worker_setup, &m.setup));
    save_input("fuzz_worker", "setup");
}

static void worker_seeds(void)
{
    struct step_seed s;
    worker_setup_seeds();

    begin_step(&s, 1, 1, 0); /* a prompt in two chunks, an answer, the end */
    put_step(&s);
    begin_step(&s, 2, 1, 3);
    s.segment.want = LONGSPAN__WANT__WANT_CANDIDATES;
    s.segment.n_candidates = 2;
    put_step(&s);
    begin_step(&s, 3, 1, 6);
    s.segment.n_tokens = 1;
    s.segment.want = LONGSPAN__WANT__WANT_LOGITS;
    put_step(&s);
    begin_step(&s, 4, 1, 7);
    s.step.n_segments = 0;
    s.step.n_closed = 1;
    s.closed.sequence = 1;
    put_step(&s);
    save_input("fuzz_worker", "life");

    begin_step(&s, 1, 1, 0); /* filled, forked, the parent closed but for what is shared */
    s.segment.n_tokens = 0;
    s.segment.fill_tokens = PAGE_TOKENS + 9;
    s.segment.fill_seed = 7;
    put_step(&s);
    begin_step(&s, 2, 2, PAGE_TOKENS);
    s.segment.fork = true;
    s.segment.fork_parent = 1;
    s.step.n_closed = 1;
    s.closed.sequence = 1;
    s.closed.keep_tokens = PAGE_TOKENS;
    s.segment.n_spans = 1;
    put_step(&s);
    begin_step(&s, 3, 2, PAGE_TOKENS + 3);
    s.segment.want = LONGSPAN__WANT__WANT_CANDIDATES;
    s.segment.n_candidates = 1;
    put_step(&s);
    save_input("fuzz_worker", "fork");

    begin_step(&s, 1, 1, 0); /* scored */
    int32_t next[] = {4, 5};
    s.segment.n_next = 2;
    s.segment.next = next;
    s.segment.n_top = 2;
    put_step(&s);
    save_input("fuzz_worker", "scores");

    begin_step(&s, 1, 1, 0); /* two sequences, of one that is twice and out of the vocabulary */
    Longspan__Segment second = s.segment, third = s.segment;
    Longspan__Segment *segments[] = {&s.segment, &second, &third};
    int32_t bad[] = {3, WORKER_VOCAB};
    second.sequence = 2;
    third.n_tokens = 2;
    third.tokens = bad;
    s.step.n_segments = 3;
    s.step.segments = segments;
    put_step(&s);
    save_input("fuzz_worker", "several");
}

static void put_reply(Longspan__AttendReply *reply, const Longspan__Failure *failure,
                      uint32_t *marks, size_t n_marks, size_t n_rows)
{
    static const float partials[2 * REPLY_FLOATS];
    Longspan__Data data = LONGSPAN__DATA__INIT;
    reply->failure = (Longspan__Failure *)failure;
    reply->marks = marks;
    reply->n_marks = n_marks;
    data.job = REPLY_JOB;
    data.n_heads = 1;
    data.body_case = LONGSPAN__DATA__BODY_ATTEND_REPLY;
    data.attend_reply = reply;
    put_data(0, &data);
    if (n_rows > 0)
        put(2, partials, n_rows * REPLY_FLOATS * sizeof(float));
}

/* The first query is about a row of sequence 1 and one of 2, its fork; the next about two rows of
 * 2. */
static void reply_seeds(void)
{
    enum { END = REPLY_TOKENS };
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    failure.status = 3;
    failure.text = "lacks tokens";
    Longspan__AttendReply answer = LONGSPAN__ATTEND_REPLY__INIT, missing = answer, refused = answer;
    missing.missing = true;
    missing.failed_entry = 1;

    put_reply(&answer, NULL, (uint32_t[]){END, END}, 2, 2);
    put_reply(&answer, NULL, (uint32_t[]){END + 1}, 1, 2);
    save_input("fuzz_replies", "answered");

    put_reply(&missing, &failure, (uint32_t[]){END, 0}, 2, 0); /* the fork again */
    put_reply(&missing, &failure, (uint32_t[]){END, END}, 2, 0);
    put_reply(&answer, NULL, (uint32_t[]){END, END}, 2, 2);
    put_reply(&answer, NULL, (uint32_t[]){END}, 1, 2); /* a row of the step before again */
    save_input("fuzz_replies", "missing");

    put_reply(&refused, &failure, NULL, 0, 0); /* asked again without the first */
    put_reply(&answer, NULL, (uint32_t[]){END}, 1, 1);
    put_reply(&answer, NULL, (uint32_t[]){END + 1}, 1, 2);
    save_input("fuzz_replies", "refused");

    put_reply(&missing, &failure, NULL, 0, 0); /* the node does not know the rank */
    Longspan__HelloReply hello = LONGSPAN__HELLO_REPLY__INIT;
    Longspan__Data data = LONGSPAN__DATA__INIT;
    hello.node = REPLY_NODE + 1;
    data.job = REPLY_JOB;
    data.body_case = LONGSPAN__DATA__BODY_HELLO_REPLY;
    data.hello_reply = &hello;
    put_data(1, &data); /* another one is there now */
    save_input("fuzz_replies", "strange");

    put_reply(&answer, NULL, (uint32_t[]){END, END}, 2, 1);
    save_input("fuzz_replies", "short");
}

enum { RANK, NODE, CLIENT };

static void put_joins(void)
{
    Longspan__Constants constants = the_constants();
    Longspan__NodeJoin node = LONGSPAN__NODE_JOIN__INIT;
    node.constants = &constants;
    node.name = node.host = "mem01";
    node.endpoint = "tcp://127.0.0.1:1";
    node.node = 5;
    node.memory_bytes = 1 << 30;
    node.read_bytes_per_s = 1e10;
    node.lanes = 1;
    node.device = "cpu";
    put_control(NODE, CONTROL(NODE_JOIN, node_join, &node));
    Longspan__RankInfo rank = LONGSPAN__RANK_INFO__INIT, *ranks[] = {&rank};
    rank.host = "head";
    rank.lanes = 1;
    rank.memory_bytes = 1 << 30;
    rank.device = "cpu";
    rank.kernels = "scalar";
    Longspan__WorkersJoin join = LONGSPAN__WORKERS_JOIN__INIT;
    join.constants = &constants;
    join.n_ranks = 1;
    join.ranks = ranks;
    put_control(RANK, CONTROL(WORKERS_JOIN, workers_join, &join));
    Longspan__NodeReady node_ready = LONGSPAN__NODE_READY__INIT;
    node_ready.job = COORDINATOR_JOB;
    node_ready.capacity_bytes = 1 << 24;
    put_control(NODE, CONTROL(NODE_READY, node_ready, &node_ready));
    Longspan__WorkerReady worker_ready = LONGSPAN__WORKER_READY__INIT;
    worker_ready.job = COORDINATOR_JOB;
    worker_ready.weight_bytes = 1000;
    put_control(RANK, CONTROL(WORKER_READY, worker_ready, &worker_ready));
}

static Longspan__RunRequest a_request(uint64_t number, Longspan__Prompt **prompts, size_t n_prompts,
                                      Longspan__Sampling *sampling)
{
    Longspan__RunRequest request = LONGSPAN__RUN_REQUEST__INIT;
    longspan__sampling__init(sampling);
    sampling->top_p = 1;
    request.request = number;
    request.n_prompts = n_prompts;
    request.prompts = prompts;
    request.n_predict = 3;
    request.sampling = sampling;
    return request;
}

static Longspan__Prompt a_prompt(const char *text)
{
    Longspan__Prompt prompt = LONGSPAN__PROMPT__INIT;
    prompt.text.data = (uint8_t *)text;
    prompt.text.len = strlen(text);
    return prompt;
}

/* One prompt, with a text that ends it and logprobs. */
static void put_request(const char *schema)
{
    Longspan__Prompt prompt = a_prompt("Once upon"), *prompts[] = {&prompt};
    Longspan__Sampling sampling;
    Longspan__RunRequest request = a_request(1, prompts, 1, &sampling);
    ProtobufCBinaryData stop = {1, (uint8_t *)"."};
    request.n_stop = 1;
    request.stop = &stop;
    request.want_logprobs = true;
    request.n_logprobs = 1;
    request.json_schema = (char *)schema;
    put_control(CLIENT, CONTROL(RUN_REQUEST, run_request, &request));
}

static void put_reserved(uint64_t number)
{
    Longspan__ReserveReply reserved = LONGSPAN__RESERVE_REPLY__INIT;
    reserved.job = COORDINATOR_JOB;
    reserved.request = number;
    put_control(NODE, CONTROL(RESERVE_REPLY, reserve_reply, &reserved));
}

/* Steps [first, last], each with results for so many segments, and scores of `n_scored` tokens. */
static void put_steps(uint64_t first, uint64_t last, size_t n_results, size_t n_scored)
{
    int32_t ids[] = {70, 71};
    float logits[] = {2, 1}, scored[] = {1, 1, 1, 1};
    int32_t tops[] = {70, 70, 70, 70};
    double sums[] = {3, 3, 3, 3};
    Longspan__Candidates best = LONGSPAN__CANDIDATES__INIT,
                         *results[] = {&best, &best, &best, &best};
    best.n_ids = best.n_logits = 2;
    best.ids = ids;
    best.logits = logits;
    best.log_sum_exp = 3;
    Longspan__Scores scores = LONGSPAN__SCORES__INIT, *score_list[] = {&scores};
    scores.n_logits = n_scored;
    scores.logits = scored;
    scores.n_log_sum_exps = n_scored;
    scores.log_sum_exps = sums;
    scores.n_top_ids = scores.n_top_logits = n_scored;
    scores.top_ids = tops;
    scores.top_logits = scored;
    Longspan__StepDone done = LONGSPAN__STEP_DONE__INIT;
    done.job = COORDINATOR_JOB;
    done.n_results = n_results;
    done.results = results;
    done.n_scores = n_scored > 0;
    done.scores = score_list;
    for (done.step = first; done.step <= last; done.step++)
        put_control(RANK, CONTROL(STEP_DONE, step_done, &done));
}

/* Two answers to one prompt, sampled, with penalties: from whole rows, which are frames. */
static void several_seed(void)
{
    static const float row[WORKER_VOCAB] = {[70] = 2, [71] = 1};
    Longspan__Prompt first = a_prompt("Once"), second = LONGSPAN__PROMPT__INIT;
    Longspan__Prompt *prompts[] = {&first, &second};
    Longspan__Sampling sampling;
    Longspan__RunRequest request = a_request(1, prompts, 2, &sampling);
    Longspan__LogitBias bias = LONGSPAN__LOGIT_BIAS__INIT, *biases[] = {&bias};
    second.again = true;
    second.seed_offset = 1;
    bias.id = 70;
    bias.bias = -1;
    sampling.temperature = 0.8f;
    sampling.min_p = 0.1f;
    sampling.top_k = 2;
    sampling.presence_penalty = sampling.frequency_penalty = 0.5f;
    sampling.repetition_penalty = 1.1f;
    sampling.n_logit_bias = 1;
    sampling.logit_bias = biases;
    put_joins();
    put_control(CLIENT, CONTROL(RUN_REQUEST, run_request, &request));
    put_reserved(1);
    put_reserved(2);
    for (uint64_t step = 1; step <= 4; step++) { /* the second answer begins a step later */
        const size_t n = step == 1 || step == 4 ? 1 : 2;
        put_steps(step, step, n, 0);
        for (size_t i = 0; i < n; i++)
            put(COORDINATOR_FRAME, row, sizeof(row));
    }
    save_input("fuzz_coordinator", "several");
}

/* A prompt of more than a page, its tokens' scores, and another one that begins like it. */
static void long_seeds(void)
{
    char text[PAGE_TOKENS + 20];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    Longspan__Prompt prompt = a_prompt(text), *prompts[] = {&prompt};
    Longspan__Sampling sampling;
    Longspan__RunRequest request = a_request(1, prompts, 1, &sampling);
    put_joins();
    put_control(CLIENT, CONTROL(RUN_REQUEST, run_request, &request));
    put_reserved(1);
    put_steps(1, 4, 0, 0); /* chunks of 64 */
    put_steps(5, 7, 1, 0);
    request.request = 2;
    put_control(CLIENT, CONTROL(RUN_REQUEST, run_request, &request));
    put_reserved(2);
    put_steps(8, 11, 1, 0);
    save_input("fuzz_coordinator", "shared");

    prompt = a_prompt("Once");
    prompt.scored = true;
    request = a_request(1, prompts, 1, &sampling);
    request.n_logprobs = 1;
    request.want_logprobs = true;
    put_joins();
    put_control(CLIENT, CONTROL(RUN_REQUEST, run_request, &request));
    put_reserved(1);
    put_steps(1, 3, 1, 4);
    save_input("fuzz_coordinator", "scored");
}

static void coordinator_seeds(void)
{
    put_joins();
    put_request("");
    put_reserved(1);
    put_steps(1, 3, 1, 0);
    Longspan__StatusRequest status = LONGSPAN__STATUS_REQUEST__INIT;
    put_control(CLIENT, CONTROL(STATUS_REQUEST, status_request, &status));
    save_input("fuzz_coordinator", "life");

    put_joins();
    put_request("{\"type\": \"integer\"}");
    Longspan__RunCancel cancel = LONGSPAN__RUN_CANCEL__INIT;
    cancel.request = 1;
    put_control(CLIENT, CONTROL(RUN_CANCEL, run_cancel, &cancel));
    Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
    leave.reason = "";
    put_control(CLIENT, CONTROL(LEAVE, leave, &leave));
    save_input("fuzz_coordinator", "cancelled");

    several_seed();
    long_seeds();
}

#endif

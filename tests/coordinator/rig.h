/* tests/coordinator/rig.h - the real coordinator in a child process, among actors that the test
 * plays.
 *
 * An actor is a worker rank, an attention node or a client: a DEALER with enough behaviour to keep
 * a job going, and switches to misbehave. The test turns the rig until something has happened. The
 * model of the fake workers is a hash of all tokens so far, so that a token computed twice,
 * missing, or out of order changes what is generated. */
#ifndef LONGSPAN_TESTS_COORDINATOR_RIG_H
#define LONGSPAN_TESTS_COORDINATOR_RIG_H

#include "coordinator/coordinator.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "sys/file.h"
#include "tests/cmocka.h"
#include "tests/coordinator/byte_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RIG_ACTORS = 16,
    RIG_TOKENS = 1 << 15,
    RIG_SEQUENCES = 32,
    RIG_PROMPTS = 8,
    RIG_SCORES = 1 << 14, /* of a prompt */
    RIG_LAYERS = 4,
    RIG_FFN = 64,
    RIG_KV_BYTES = 2 * RIG_LAYERS * 2 * 8 * 2, /* of one token, f16 */
};

enum rig_kind { RIG_RANK, RIG_NODE, RIG_CLIENT };

/* What the workers know of a sequence. */
struct rig_sequence {
    uint64_t name;
    uint32_t n;
    int32_t tokens[RIG_TOKENS];
};

struct rig_prompt {
    uint32_t n_ids, shared_tokens, n_spans, progress;
    int32_t generated[1024];
    uint32_t n_generated, n_top;
    float logprob;
    float scores[RIG_SCORES];
    uint32_t n_scores, n_score_tops; /* the first token has none, and is not counted */
    char text[2048];
    size_t text_bytes;
    char reason[16];
};

struct rig_actor {
    enum rig_kind kind;
    struct wire_socket *socket;
    uint32_t index; /* rank, or number of the node */
    uint64_t job, next_ping_us;
    bool dead; /* closed: neither pings nor answers */
    /* switches */
    bool silent_steps; /* rank: does not report steps */
    bool mute;         /* does not ping, nor answer anything */
    bool refuses_reserve;
    uint32_t holds_growth; /* node: answers growth only when this step comes; 0: at once */
    uint64_t held;         /* its last growth that is not answered; 0: none */
    const char *load_failure, *segment_failure, *setup_failure;
    uint64_t capacity;
    uint64_t loaded_bytes, load_bytes; /* rank: in its pings; load_bytes > 0: is never ready */
    /* what it has seen */
    char refusal[1024], left[1024];
    bool set_up;
    uint64_t told_loaded, told_load; /* in the last pong */
    uint32_t n_steps, n_reserves, n_frees, n_pongs, max_rows_seen;
    uint64_t reserved_tokens;
    /* of a client */
    struct rig_prompt prompts[RIG_PROMPTS];
    uint32_t n_plans, n_finished, n_prompts, n_rows;
    bool done, failed;
    uint32_t failure_status;
    char failure[1024];
    uint64_t prefill_tokens;
    char holder[64];
    uint64_t kv_bytes;
    Longspan__StatusReply *status; /* the last one; NULL: none */
    uint64_t status_number;
};

struct rig {
    char directory[FILE_PATH_BYTES], endpoint[FILE_PATH_BYTES + 32], model[FILE_PATH_BYTES + 32];
    struct coordinator_options options;
    pid_t coordinator;
    int stop; /* closing it tells the coordinator to stop */
    struct rig_result {
        enum status status;
        struct error error;
    } * result; /* shared with the child */
    struct wire_context *wire;
    struct rig_actor *actors[RIG_ACTORS];
    uint32_t n_actors;
    struct frames in, out;
    struct rig_sequence *sequences; /* [RIG_SEQUENCES] */
    uint64_t last_step;
    uint32_t ends_at; /* the fake model ends generation behind so many tokens; 0: never */
    bool bad_numbers; /* its log-sum-exp is NaN */
};

/* A directory, the model file, and options that suit tests; the coordinator is not started. */
struct rig *rig_open(uint32_t workers, uint32_t nodes);
void rig_start(struct rig *rig);
void rig_close(struct rig *rig);

/* Tells the coordinator to stop; rig_wait waits (for `seconds`, turning) until it has ended. */
void rig_stop(struct rig *rig);
enum status rig_wait(struct rig *rig, uint32_t seconds);
bool rig_running(struct rig *rig);

/* Actors do what is due, for at most `ms`. */
void rig_turn(struct rig *rig, uint32_t ms);

/* Turns until *what is not zero; fails the test after 20 s. */
void rig_until_bool(struct rig *rig, const bool *what, const char *name);
void rig_until_count(struct rig *rig, const uint32_t *what, uint32_t n, const char *name);
#define rig_until(rig, what)      rig_until_bool(rig, &(what), #what)
#define rig_until_n(rig, what, n) rig_until_count(rig, &(what), n, #what)

struct rig_actor *rig_add(struct rig *rig, enum rig_kind kind);
void rig_kill(struct rig_actor *actor); /* closes its connection at once */
void rig_send(struct rig *rig, struct rig_actor *actor, const Longspan__Control *message,
              const void *tensor, size_t tensor_bytes);
void rig_send_bytes(struct rig *rig, struct rig_actor *actor, const void *bytes, size_t n_bytes);

/* Ranks 0.. are added, rank 0 joins for all; returns rank 0. `protocol` 0: ours. */
struct rig_actor *rig_join_workers(struct rig *rig, uint32_t n, uint32_t protocol);
/* The last rank has other kernels than the others. */
struct rig_actor *rig_join_workers_of(struct rig *rig, uint32_t n, uint32_t protocol,
                                      const char *last_kernels);
struct rig_actor *rig_join_node(struct rig *rig, const char *name, uint64_t memory, uint64_t job,
                                uint32_t protocol, const char *kernels);

/* All workers and nodes of the options join, and the client (added) gets a first answer. */
struct rig_actor *rig_ready(struct rig *rig);

/* Asks for n_predict tokens behind each of these prompts of `lengths` tokens, the first `common`
 * tokens of which are equal. */
struct rig_ask {
    const uint32_t *lengths;
    uint32_t n, common, n_predict;
    bool want_logits;
    float temperature;
    uint32_t n_logprobs;
    bool no_sharing;
    uint64_t seed;
    bool scored, no_answer;
    bool again; /* all prompts are the first one */
};
void rig_request(struct rig *rig, struct rig_actor *client, uint64_t number,
                 const struct rig_ask *ask);
/* Asks for the coordinator's status and waits for it; it lives until the next call for this
 * client. */
const Longspan__StatusReply *rig_status(struct rig *rig, struct rig_actor *client);

int32_t rig_prompt_token(uint32_t prompt, uint32_t position, uint32_t common);

/* The log-probability that the fake model gives to the token behind the first n. */
float rig_score(const int32_t *tokens, uint32_t n);

/* What the fake model says after these tokens. */
int32_t rig_next(const int32_t *tokens, uint32_t n);

/* Closes the rig. Ends in order: the stop is noticed, everybody is told, and nothing was wrong. */
void rig_end(struct rig *rig);

/* Closes the rig, whose coordinator ends by itself, with this status and an error that has
 * `text`. */
void rig_expect_end(struct rig *rig, enum status status, const char *text);

/* What the fake model generates behind the prompts is what came back. */
void rig_check_generated(const struct rig_actor *client, const struct rig_ask *ask);

#endif

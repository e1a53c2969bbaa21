/* cluster/result.h - what a request has brought so far: filled by the coordinator's events, printed
 * by output.h and report.h.
 *
 * Every event is checked before it is believed: a prompt that was not asked, a token after the end
 * or a row of another width is a protocol error. */
#ifndef LONGSPAN_CLUSTER_RESULT_H
#define LONGSPAN_CLUSTER_RESULT_H

#include "proto/longspan.pb-c.h"
#include "sys/status.h"
#include "sys/text_buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct result_choice {
    int32_t id;
    float logprob;
};

struct result_token {
    int32_t id;
    float logprob;
    struct result_choice *top; /* n_top of them, best first */
    uint32_t n_top;
};

struct result_span {
    uint32_t prompt, begin, end; /* tokens [begin, end) of that prompt */
};

struct result_prompt {
    int32_t *ids; /* of the prompt; NULL until the plan is known */
    uint32_t n_ids, n_shared;
    uint32_t n_cached;    /* of n_ids: that were not computed; known when it has finished */
    uint32_t n_filled;    /* positions before them, for measuring */
    uint32_t n_prefilled; /* of n_filled and n_ids together */
    struct result_token *tokens;
    uint32_t n_tokens;
    size_t token_capacity;
    struct text_buffer text;
    char reason[16]; /* "stop", "length"; "" while it runs */
};

struct result_holder {
    char name[64];
    uint64_t kv_bytes, sent_bytes, received_bytes;
    struct result_span *spans; /* in the order of prompts and tokens */
    uint32_t n_spans;
};

/* A worker rank or an attention node; peak_bytes: the most that was resident, up to a second
 * ago. */
struct result_process {
    char name[64];
    uint64_t weight_bytes, peak_bytes;
};

struct result {
    struct result_prompt *prompts;
    uint32_t n_prompts;
    bool planned, done;
    struct result_holder *holders; /* known when done */
    uint32_t n_holders;
    struct result_process *processes; /* likewise */
    uint32_t n_processes;
    double load_s, prefill_s, decode_s;
    uint64_t prefill_tokens, decode_tokens;
};

/* The caller ends it with result_close. STATUS_NO_MEMORY. */
enum status result_open(struct result *result, uint32_t n_prompts, struct error *error);
void result_close(struct result *result);

/* Takes over what the event says. *text is what was added to the text of *prompt, if anything
 * (*n_bytes > 0), borrowed until the next event. STATUS_PROTOCOL: nonsense. STATUS_NO_MEMORY. For
 * a failure event: its status and text. */
enum status result_take(struct result *result, const Longspan__RunEvent *event, uint32_t *prompt,
                        const char **text, size_t *n_bytes, struct error *error);

/* How many tokens per second; 0 where no time has passed. */
double result_rate(uint64_t n_tokens, double seconds);

#endif

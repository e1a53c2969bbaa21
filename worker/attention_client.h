/* worker/attention_client.h - all remote holders of a rank: ask, append, wait, repeat, give up.
 *
 * Attempts and failures (docs/protocol.md tells the whole):
 *   no answer after retry_ms      Hello and the query again, after twice that once more ...
 *   no answer after timeout_ms    the segments of the query fail
 *   `missing`                     forks and appends again from the marks, then the query
 *   any other failure             that segment fails; the query goes again without it
 *   a frame of the wrong size, a node of another incarnation: the segments fail
 * Queries change nothing at a node, appends and forks can be repeated, and a reply counts only
 * while its query is waited for: so nothing that comes late or twice can change a result. */
#ifndef LONGSPAN_WORKER_ATTENTION_CLIENT_H
#define LONGSPAN_WORKER_ATTENTION_CLIENT_H

#include "worker/attention_plans.h"

struct attention_client; /* opaque */

/* Connects, and waits until every remote holder has answered Hello, at most config->timeout_ms.
 * STATUS_UNREACHABLE, STATUS_PROTOCOL, STATUS_TIMEOUT: names the holder. STATUS_NO_MEMORY. */
enum status attention_client_open(struct attention_client **client, struct wire_context *context,
                                  const struct attention_config *config, const char *kernels,
                                  struct error *error);
/* NULL is fine. */
void attention_client_close(struct attention_client *client);

/* STATUS_OK: the holder can be asked. Else the text says why not. */
enum status attention_client_check(const struct attention_client *client, uint32_t holder,
                                   struct error *error);

/* Reads what came since the last step: a holder may be well again. */
void attention_client_listen(struct attention_client *client);

/* A step begins: plans and parts stay until the next one. STATUS_NO_MEMORY. */
enum status attention_client_begin(struct attention_client *client, uint64_t step,
                                   struct attention_plans *plans, struct attention_part *parts,
                                   uint32_t n_parts, struct error *error);

/* q: [rows of the step][head][group][head_dim]; copied. Forks go before it. The layer's plan is
 * that of append and wait, too. */
void attention_client_query(struct attention_client *client, uint32_t layer, const float *q);

/* k and v: [rows of the step][head][head_dim] in the KV type; copied. */
void attention_client_append(struct attention_client *client, uint32_t layer, const void *k,
                             const void *v);

/* Returns when every query was answered or has failed. */
void attention_client_wait(struct attention_client *client);

/* The holder's answer: its pieces are at their offsets. NULL: there is none. The fold may write
 * there. Until attention_client_release. */
float *attention_client_reply(const struct attention_client *client, uint32_t holder);
void attention_client_release(struct attention_client *client);

/* Nothing of this sequence will be sent again. */
void attention_client_forget(struct attention_client *client,
                             const struct attention_sequence *sequence);

void attention_client_traffic(const struct attention_client *client, uint32_t holder,
                              struct attention_traffic *traffic);

#endif

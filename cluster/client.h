/* cluster/client.h - the conversation of a command with a coordinator.
 *
 * One request, then its events. The caller owns the loop: it polls the socket beside other
 * things, and calls client_progress when something may have come, at least five times a second.
 *
 * Deadlines: the coordinator must be there within `reach_us`; then it answers pings, and one that
 * has been silent for CLIENT_SILENCE_S is given up. Of a time in which we were stopped, a second
 * counts. A connection that ends, ends the request: the coordinator names clients by their
 * connection. How long the work itself takes is bounded by the coordinator's deadlines for its
 * workers and nodes. */
#ifndef LONGSPAN_CLUSTER_CLIENT_H
#define LONGSPAN_CLUSTER_CLIENT_H

#include "proto/longspan.pb-c.h"
#include "proto/wire_socket.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLIENT_SILENCE_S = 30 };

struct client; /* opaque */

/* A prompt is a text, or ids, which win when there are some; and so many positions before it that
 * are filled, for measuring (docs/protocol.md). */
struct client_prompt {
    const char *text;
    size_t n_bytes;
    const int32_t *ids;
    uint32_t n_ids;
    uint32_t fill_tokens;
    uint64_t fill_seed;
};

/* What RunRequest says. */
struct client_request {
    const struct client_prompt *prompts;
    uint32_t n_prompts, n_predict;
    float temperature, top_p, min_p;
    uint32_t top_k;
    uint64_t seed;
    bool ignore_eos, no_prefix_sharing, want_logprobs, want_logits;
    uint32_t n_logprobs;
};

/* Connects to `address` and queues the request. The prompts are copied. `key` NULL: none. The
 * caller ends *client with client_close. STATUS_INVALID: an address that is not trusted without a
 * key. STATUS_UNREACHABLE, STATUS_NO_MEMORY. */
enum status client_open(struct client **client, const char *address, const struct cluster_key *key,
                        bool insecure_network, const struct client_request *request,
                        uint64_t reach_us, struct error *error);

/* Cancels what still runs, and says goodbye. NULL is fine. */
void client_close(struct client *client);

/* For wire_poll. */
struct wire_socket *client_socket(struct client *client);

/* Sends what is due, and reads one message: *event is set to NULL when none is there that is an
 * event of our request. It, and *row (a row of logits, NULL: none), live until the next call.
 * STATUS_UNREACHABLE: nobody there in time, another key, or a refusal. STATUS_FAILED: the
 * connection was lost or the coordinator left. STATUS_TIMEOUT: it is silent. STATUS_PROTOCOL.
 * STATUS_NO_MEMORY. */
enum status client_progress(struct client *client, const Longspan__RunEvent **event,
                            const void **row, size_t *row_bytes, struct error *error);

/* Sends the ping that is due: for who waits for something else, and reads nothing meanwhile. */
void client_ping(struct client *client);

/* Bytes of weights that the cluster has read, of *n_all, as it last said; *n_all 0: it does not
 * load. */
void client_loading(const struct client *client, uint64_t *n_loaded, uint64_t *n_all);

/* What client_progress failed of last: the connection ended, which explains nothing by itself. */
bool client_is_lost(const struct client *client);

/* The coordinator's answer to our request has come to its end: nothing to cancel any more. */
void client_finished(struct client *client);

#endif

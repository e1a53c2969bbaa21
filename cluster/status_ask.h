/* cluster/status_ask.h - asks a coordinator for its status, over its own socket. */
#ifndef LONGSPAN_CLUSTER_STATUS_ASK_H
#define LONGSPAN_CLUSTER_STATUS_ASK_H

#include "proto/cluster_key.h"
#include "sys/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* *status: a new reference, as proto/status_json.h. `key` NULL: none. STATUS_INVALID: an address
 * that is not trusted without a key. STATUS_UNREACHABLE: nobody listens there, which is told at
 * once, and by *nobody; nobody answers in time, or it refuses. STATUS_PROTOCOL, STATUS_NO_MEMORY. */
enum status status_ask(const char *coordinator, const struct cluster_key *key,
                       bool insecure_network, uint32_t timeout_s, json_t **status, bool *nobody,
                       struct error *error);

#endif

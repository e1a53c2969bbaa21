/* attention_node/endpoint.h - where the data socket listens, and what workers are told about it. */
#ifndef LONGSPAN_ATTENTION_NODE_ENDPOINT_H
#define LONGSPAN_ATTENTION_NODE_ENDPOINT_H

#include "proto/address.h"
#include "sys/status.h"

#include <stdint.h>

/* `wanted`, if it is not NULL; otherwise what suits the coordinator's address: a socket beside its
 * own for ipc, 127.0.0.1 with a free port where it is on this host's loopback, else a free port on
 * all interfaces. `node` makes the name of an ipc socket unique. STATUS_INVALID: too long. */
enum status endpoint_bind(const char *wanted, const char *coordinator, uint64_t node,
                          char bind[ADDRESS_BYTES], struct error *error);

/* `wanted` (a port of * or 0 becomes the real one), or `bound` with an address that others can
 * reach: of the interface on the way to the coordinator, or `host`. STATUS_INVALID. */
enum status endpoint_advertise(const char *wanted, const char *bound, const char *coordinator,
                               const char *host, char advertised[ADDRESS_BYTES],
                               struct error *error);

/* After closing: ZeroMQ leaves the file of an ipc socket behind. */
void endpoint_remove(const char *bound);

#endif

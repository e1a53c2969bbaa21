/* proto/address.h - ZeroMQ endpoints: what they may look like, and who could reach them.
 *
 *     tcp://host:port    host: a name, 10.0.0.5, [fe80::1%eth0], * (listen on all); port: 1 to
 *                        65535, or * (listen on a free one)
 *     ipc://path         a socket in the file system, of at most 107 bytes
 *
 * Local is what no other host can reach: ipc, 127.0.0.0/8, [::1], and the name localhost. Other
 * names are not looked up for that, and count as not local. */
#ifndef LONGSPAN_PROTO_ADDRESS_H
#define LONGSPAN_PROTO_ADDRESS_H

#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    ADDRESS_HOST_BYTES = 256,
    ADDRESS_PATH_BYTES = 108,
    ADDRESS_BYTES = 288,
    ADDRESS_ADVICE_BYTES = 512,
};

enum address_kind { ADDRESS_TCP, ADDRESS_IPC };

struct address {
    enum address_kind kind;
    char host[ADDRESS_HOST_BYTES]; /* tcp: without brackets */
    uint16_t port;                 /* tcp: 0 for * */
    char path[ADDRESS_PATH_BYTES]; /* ipc */
    bool is_local;
    bool is_ipv6; /* a literal address with colons */
    bool is_any;  /* *, 0.0.0.0 or [::]: can be listened at, but not connected to */
};

/* STATUS_INVALID: not of the forms above. STATUS_UNSUPPORTED: another transport, by name. */
enum status address_parse(const char *endpoint, struct address *address, struct error *error);

/* The rule of trust: without a cluster key, only local endpoints, unless the user says that the
 * network may be trusted (--insecure-network). STATUS_INVALID: says which options would do. Also
 * fails like address_parse. */
enum status address_check(const char *endpoint, bool have_key, bool insecure_network,
                          struct error *error);

/* The same of HTTP, which listens at HOST:PORT and whose keys are --api-key-file's. STATUS_INVALID: not
 * of that form, or reachable from other hosts although has_keys is false. */
enum status address_check_http(const char *text, bool has_keys, struct address *address,
                               struct error *error);

/* For whoever found nobody at `endpoint`: that its host's name has no address on this machine, or
 * else whether somebody runs there. Asks the resolver, which may take seconds. Returns `advice`. */
const char *address_advice(const char *endpoint, char advice[ADDRESS_ADVICE_BYTES]);

/* Writes the endpoint of `address` with another port, as others may connect to it: after listening
 * at `*` or for --advertise. STATUS_INVALID: not tcp, or too long for `endpoint`. */
enum status address_with_port(const struct address *address, uint16_t port,
                              char endpoint[ADDRESS_BYTES], struct error *error);

#endif

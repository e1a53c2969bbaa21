/* proto/shared_options.h - options that several programs have: the same name, the same values and
 * the same words in every --help.
 *
 * Entries for tables of sys/options.h. */
#ifndef LONGSPAN_PROTO_SHARED_OPTIONS_H
#define LONGSPAN_PROTO_SHARED_OPTIONS_H

#include "sys/options.h"

#include <stdbool.h>

/* --cluster-key FILE: the key file of proto/cluster_key.h. */
struct option shared_options_cluster_key(const char **file);

/* --insecure-network: go without a key at addresses that other hosts reach (proto/address.h). */
struct option shared_options_insecure_network(bool *insecure);

/* --pin auto|none: whether lanes are pinned to processors (sys/seat.h). */
struct option shared_options_pin(const char **pin);

/* --exchange auto|zeromq: whether workers and attention nodes of one host may talk through shared
 * memory (proto/wire_ring.h). */
struct option shared_options_exchange(const char **exchange);

/* Variables that count for every program of a cluster: for option_usage. */
extern const char *const shared_options_environment[];

/* Of it, what counts for a client of the HTTP server. */
extern const char *const shared_options_client_environment[];

/* --version. */
struct option shared_options_version(bool *version);

#endif

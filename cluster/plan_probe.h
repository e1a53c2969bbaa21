/* cluster/plan_probe.h - what hardware can do, measured for `longspan plan --probe`: here, and by
 * the agents of all other machines at once.
 *
 * Of processors: how fast all of them together read memory, and their arithmetic; of a GPU: how
 * fast it reads its memory. Of a host: the round trip of a TCP connection from here, the median of
 * a few. How many bytes a link takes is not measured: that takes gigabytes, and iperf3 does it
 * well. */
#ifndef LONGSPAN_CLUSTER_PLAN_PROBE_H
#define LONGSPAN_CLUSTER_PLAN_PROBE_H

#include "cluster/layout.h"
#include "cluster/plan_facts.h"
#include "sys/status.h"

#include <jansson.h>
#include <stdbool.h>

/* Measures these devices of this machine, "cpu", "cuda" or "cuda:N", one after the other, about
 * half a second each: [{"memory": bytes, "processors": n, "read": bytes per s, "f32": per s,
 * "int8": per s}, ...]; 0 is not known. The caller owns *measured. STATUS_INVALID: no such list of
 * names. STATUS_UNSUPPORTED, STATUS_NOT_FOUND: no such device. STATUS_NO_MEMORY. */
enum status plan_probe_devices(json_t **measured, const json_t *devices, struct error *error);

/* Fills in what the cluster file did not say. Fails also as agents_ask. */
enum status plan_probe(struct plan_facts *facts, const struct layout *layout, bool quiet,
                       struct error *error);

#endif

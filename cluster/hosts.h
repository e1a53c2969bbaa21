/* cluster/hosts.h - the other machines of a cluster, before anything of it runs.
 *
 * Looked at, all at once and through ssh, is what otherwise shows late and as something else:
 * whether they can be logged in to, have the same Longspan and Open MPI, whether libraries are
 * missing, whether they reach the coordinator and each other, and whether they have this very
 * model. Then they get the cluster key, and with `push` the weights. */
#ifndef LONGSPAN_CLUSTER_HOSTS_H
#define LONGSPAN_CLUSTER_HOSTS_H

#include "cluster/launch.h"
#include "cluster/layout.h"
#include "sys/status.h"

#include <stdio.h>

/* Fills what layout's hosts are to be told from here on: paths of programs, model and key. `show`
 * NULL: no progress line. Fails as agents_open, agents_ask and weights_set_read; STATUS_UNREACHABLE
 * also: another Open MPI there, no way to each other. STATUS_INVALID also: another model there. */
enum status hosts_prepare(struct layout *layout, struct launch *launch, FILE *show,
                          struct error *error);

#endif

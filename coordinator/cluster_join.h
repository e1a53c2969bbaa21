/* coordinator/cluster_join.h - who may join, and what a refusal says. Part of cluster.h. */
#ifndef LONGSPAN_COORDINATOR_CLUSTER_JOIN_H
#define LONGSPAN_COORDINATOR_CLUSTER_JOIN_H

#include "coordinator/cluster.h"

/* A join that cannot be is refused, which is no failure. A failure is the end of the job: a kernel
 * variant that differs, under --strict-bits. */
enum status cluster_join_workers(struct cluster *cluster, const struct frames_peer *peer,
                                 const Longspan__WorkersJoin *join, uint64_t now_us,
                                 struct error *error);
enum status cluster_join_node(struct cluster *cluster, const struct frames_peer *peer,
                              const Longspan__NodeJoin *join, uint64_t now_us, struct error *error);

/* STATUS_UNREACHABLE, with who joined and who is missing. */
enum status cluster_join_missing(const struct cluster *cluster, struct error *error);

#endif

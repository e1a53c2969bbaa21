/* cluster/ssh.h - how other machines are logged in to: OpenSSH's client, never asking anything. */
#ifndef LONGSPAN_CLUSTER_SSH_H
#define LONGSPAN_CLUSTER_SSH_H

#include "cluster/words.h"
#include "sys/status.h"

#include <stdint.h>

/* As in the cluster file; NULL and 0: what ssh itself would take. Paths have no blanks, since
 * mpirun cuts its options at them. */
struct ssh_options {
    const char *user, *key, *config;
    uint32_t port;
};

/* Adds the options, without `ssh` before them and the host behind. */
void ssh_add_options(struct words *words, const struct ssh_options *options);

/* Adds a whole login that runs `line`, words that are quoted for a shell there. */
void ssh_add_login(struct words *words, const struct ssh_options *options, const char *host,
                   const char *line);

/* STATUS_UNREACHABLE: there is no ssh here; `why` says for what it is needed. */
enum status ssh_check(const char *why, struct error *error);

#endif

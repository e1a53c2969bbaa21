/* cluster/agents.h - talking to the agents (agent.h) of all other machines of a cluster at once.
 *
 * Each is a child of `launch`: an ssh that lives until the session ends, because the agent over
 * there keeps the cluster key as long. Questions are asked of all hosts together, and all answers
 * awaited. */
#ifndef LONGSPAN_CLUSTER_AGENTS_H
#define LONGSPAN_CLUSTER_AGENTS_H

#include "cluster/launch.h"
#include "cluster/layout.h"
#include "cluster/weights_set.h"
#include "cluster/write_progress.h"
#include "sys/status.h"

#include <jansson.h>
#include <stddef.h>

struct agents; /* opaque */

/* Starts one on each of layout's hosts, in their order. The caller ends *agents with agents_close.
 * STATUS_UNREACHABLE: there is no ssh. STATUS_NO_MEMORY. */
enum status agents_open(struct agents **agents, struct launch *launch, const struct layout *layout,
                        struct error *error);

/* Forgets them; they live on with `launch`. NULL is fine. */
void agents_close(struct agents *agents);

/* Behind the request go `bytes`, or the contents of `files`. */
struct agents_question {
    json_t *request; /* taken; NULL: this host is not asked */
    const void *bytes;
    size_t n_bytes;
    const struct weights_set *files;
    json_t *answer; /* the caller's, once asked */
};

/* One question for each host; a host that says and takes nothing for 60 s is given up, 15 s without
 * its greeting. `progress` NULL, or told of what is sent. Texts of failures begin with the host's
 * name; answers are NULL then.
 * STATUS_UNREACHABLE, STATUS_INVALID: a host cannot be logged in to, or answered with a failure;
 * with the remedy where it is known. STATUS_CANCELLED: a signal came. STATUS_IO: a file cannot be
 * read. */
enum status agents_ask(struct agents *agents, struct agents_question *questions,
                       struct write_progress *progress, struct error *error);

#endif

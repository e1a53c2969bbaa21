/* coordinator/status_reply.h - StatusReply: what the coordinator knows of its cluster, for
 * /cluster, /metrics and `longspan status`.
 *
 * Built when somebody asks, from what is kept anyway: a few thousand bytes for a small cluster, and
 * at most STATUS_REPLY_PROMPTS prompts. Whoever asks does so about once a second at most. */
#ifndef LONGSPAN_COORDINATOR_STATUS_REPLY_H
#define LONGSPAN_COORDINATOR_STATUS_REPLY_H

#include "coordinator/cluster.h"
#include "coordinator/control.h"
#include "coordinator/serving.h"

enum { STATUS_REPLY_PROMPTS = 256 };

/* Answers StatusRequest number `request`. Fails like control_send. */
enum status status_reply_send(struct control *control, const struct frames_peer *peer,
                              uint64_t request, const struct cluster *cluster,
                              const struct serving_view *view, uint64_t now_us,
                              struct error *error);

#endif

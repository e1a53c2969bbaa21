/* join.c - a coordinator that answers pings is there, and may be waiting for others: only its own
 * silence ends the wait then. */
#include "worker/join.h"

#include "kernels/attention/kv_holder.h"
#include "proto/protocol.h"
#include "sys/clock.h"

#include <stdlib.h>
#include <string.h>

/* ---- rank 0 ---------------------------------------------------------------------------------- */

/* WorkersJoin of these cards. */
static enum status send_join(struct link *link, const struct join_card *cards, uint32_t n,
                             struct error *error)
{
    Longspan__RankInfo *ranks = calloc(n, sizeof(*ranks));
    Longspan__RankInfo **pointers = calloc(n, sizeof(*pointers));
    enum status status = STATUS_OK;
    if (ranks == NULL || pointers == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "join: no memory for %u ranks", n);
        goto out;
    }
    for (uint32_t i = 0; i < n; i++) {
        longspan__rank_info__init(&ranks[i]);
        ranks[i].rank = i;
        ranks[i].host = (char *)cards[i].host;
        ranks[i].lanes = cards[i].lanes;
        ranks[i].memory_bytes = cards[i].memory_bytes;
        ranks[i].device = (char *)cards[i].device;
        ranks[i].kernels = (char *)cards[i].kernels;
        ranks[i].pid = cards[i].pid;
        ranks[i].started = cards[i].started;
        ranks[i].processors = (char *)cards[i].processors;
        pointers[i] = &ranks[i];
    }
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    constants.protocol = PROTOCOL_VERSION;
    constants.tile_tokens = TILE_TOKENS;
    constants.page_tokens = PAGE_TOKENS;
    constants.kernels = (char *)cards[0].kernels;
    constants.version = LONGSPAN_VERSION;
    Longspan__WorkersJoin join = LONGSPAN__WORKERS_JOIN__INIT;
    join.constants = &constants;
    join.n_ranks = n;
    join.ranks = pointers;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_WORKERS_JOIN;
    control.workers_join = &join;
    status = link_send(link, &control, NULL, 0, error);
out:
    free(ranks);
    free(pointers);
    return status;
}

/* Until WorkerSetup or Refusal is in *message. */
static enum status await_answer(const struct join *join, struct link_message *message,
                                const struct join_card *cards, struct error *error)
{
    const uint32_t n = group_ranks(join->group);
    enum status status = link_await(join->link, clock_us() + join->patience_us, error);
    if (status != STATUS_OK)
        return status;
    log_info(join->log, "connected to the coordinator at %s, %u rank%s", join->coordinator, n,
             n == 1 ? "" : "s");
    const uint64_t deadline_us = clock_us() + join->patience_us;
    bool heard = false;
    uint64_t next_join_us = 0;
    for (;;) {
        const uint64_t now = clock_us();
        if (!heard && now >= deadline_us)
            return error_set(error, STATUS_UNREACHABLE,
                             "somebody listens at %s, but does not answer as a coordinator",
                             join->coordinator);
        if (now >= next_join_us) {
            if ((status = send_join(join->link, cards, n, error)) != STATUS_OK)
                return status;
            next_join_us = now + 1000000;
        }
        if ((status = link_receive(join->link, message, next_join_us, error)) == STATUS_TIMEOUT)
            return error_set(error, STATUS_UNREACHABLE,
                             "the coordinator at %s went away before it had a plan",
                             join->coordinator);
        if (status != STATUS_OK)
            return status;
        if (message->control == NULL)
            continue;
        heard = true;
        switch (message->control->body_case) {
        case LONGSPAN__CONTROL__BODY_WORKER_SETUP:
        case LONGSPAN__CONTROL__BODY_REFUSAL:
            return STATUS_OK;
        case LONGSPAN__CONTROL__BODY_LEAVE:
            return error_set(error, STATUS_UNREACHABLE, "the coordinator at %s left: %s",
                             join->coordinator, message->control->leave->reason);
        default:
            break;
        }
    }
}

enum status join_refuse(struct group *group, const struct error *failure, struct error *error)
{
    Longspan__Refusal refusal = LONGSPAN__REFUSAL__INIT;
    refusal.status = (uint32_t)failure->status;
    refusal.text = (char *)failure->text;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_REFUSAL;
    control.refusal = &refusal;
    const size_t n_bytes = longspan__control__get_packed_size(&control);
    uint8_t *bytes = malloc(n_bytes);
    if (bytes == NULL)
        return error_set(error, STATUS_NO_MEMORY, "join: no memory");
    longspan__control__pack(&control, bytes);
    enum status status = group_broadcast(group, bytes, n_bytes, error);
    if (status == STATUS_OK)
        status = group_flush(group, error);
    free(bytes);
    return status;
}

/* A failure of any rank, or of reaching the coordinator, is in *failure; MPI's is returned. */
static enum status lead(const struct join *join, struct link_message *message,
                        struct join_card *cards, struct error *failure, struct error *error)
{
    const uint32_t n = group_ranks(join->group);
    *failure = (struct error){.status = STATUS_OK};
    for (uint32_t i = 0; i < n; i++) {
        cards[i].host[JOIN_HOST_BYTES - 1] = '\0';
        if (cards[i].error.status != STATUS_OK) {
            error_set(failure, cards[i].error.status, "rank %u on %s: %.900s", i, cards[i].host,
                      cards[i].error.text);
            break;
        }
    }
    if (failure->status == STATUS_OK && await_answer(join, message, cards, failure) == STATUS_OK)
        failure->status = STATUS_OK; /* a text may be left of what was got over */
    if (failure->status != STATUS_OK)
        return join_refuse(join->group, failure, error);
    const enum status status =
        group_broadcast(join->group, message->bytes, message->n_bytes, error);
    return status == STATUS_OK ? group_flush(join->group, error) : status;
}

/* ---- all ranks ------------------------------------------------------------------------------- */

static Longspan__Control *own_refusal(const struct error *failure)
{
    Longspan__Control *control = calloc(1, sizeof(*control));
    Longspan__Refusal *refusal = calloc(1, sizeof(*refusal));
    char *text = strdup(failure->text);
    if (control == NULL || refusal == NULL || text == NULL) {
        free(control);
        free(refusal);
        free(text);
        return NULL;
    }
    longspan__control__init(control);
    longspan__refusal__init(refusal);
    refusal->status = (uint32_t)failure->status;
    refusal->text = text;
    control->body_case = LONGSPAN__CONTROL__BODY_REFUSAL;
    control->refusal = refusal;
    return control;
}

enum status join_cluster(Longspan__Control **answer, const struct join *join,
                         const struct join_card *card, struct error *error)
{
    struct group *group = join->group;
    const bool leads = group_rank(group) == 0;
    struct join_card *cards = leads ? calloc(group_ranks(group), sizeof(*cards)) : NULL;
    if (leads && cards == NULL)
        return error_set(error, STATUS_NO_MEMORY, "join: no memory for %u ranks",
                         group_ranks(group));
    struct link_message message = {.control = NULL};
    struct error failure = {.status = STATUS_OK};
    enum status status = group_gather(group, card, cards, sizeof(*card), error);
    if (status == STATUS_OK && leads) {
        status = lead(join, &message, cards, &failure, error);
    } else if (status == STATUS_OK) {
        const uint8_t *bytes;
        status = group_receive(group, &bytes, &message.n_bytes, error);
        message.bytes = bytes;
    }
    free(cards);
    if (status != STATUS_OK)
        return status;

    Longspan__Control *control =
        failure.status != STATUS_OK
            ? own_refusal(&failure)
            : longspan__control__unpack(NULL, message.n_bytes, message.bytes);
    if (control == NULL)
        return error_set(error, STATUS_NO_MEMORY, "join: the answer cannot be unpacked");
    *answer = control;
    return STATUS_OK;
}

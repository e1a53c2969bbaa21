/* rank.c - every rank goes through the same states, and learns of each change from rank 0.
 *
 * Rank 0 reads the coordinator and broadcasts what concerns all: steps, the end. The others wait
 * for that broadcast, ping, and notice a silent coordinator themselves. Whatever fails on one rank
 * alone while the job runs (MPI, memory) ends the process, and MPI ends the others: they would wait
 * for it forever. */
#include "worker/rank.h"

#include "kernels/kernels.h"
#include "proto/address.h"
#include "proto/cluster_key.h"
#include "proto/waiting.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "sys/log.h"
#include "sys/memory.h"
#include "sys/seat.h"
#include "sys/size.h"
#include "sys/thread_pool.h"
#include "sys/topology.h"
#include "sys/trace.h"
#include "worker/engine.h"
#include "worker/group.h"
#include "worker/join.h"
#include "worker/link.h"
#include "worker/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SENDING_POLL_US = 200, TICK_US = 20000 };

struct rank {
    const struct rank_options *options;
    struct log log;
    struct group *group;
    struct wire_context *wire;
    struct link *link;
    uint32_t number, n_lanes;
    struct group_local local;         /* ranks of this host */
    uint32_t device_index, n_sharers; /* ranks of this host that have the same device */
    bool linked;                      /* the coordinator expects pings */
    uint64_t tick_us;                 /* last look at the link */
    struct trace *trace;
    struct trace_track *track; /* of the main thread */

    struct setup *setup;
    const struct kernels *kernels;
    struct thread_pool *pool;
    struct seat seat; /* of its lanes */
    struct device *device;
    struct shard *shard;
    struct engine engine;
    struct report *report;
    enum status
        unready; /* why some rank could not load: steps are refused; STATUS_OK: all are ready */
    bool ended;  /* all ranks have been told */
};

/* ---- while waiting --------------------------------------------------------------------------- */

/* Pings. Ranks other than 0 also read: pongs, and nothing else of interest, as rank 0 tells the
 * rest. */
static enum status tick(void *context, struct error *error)
{
    struct rank *rank = context;
    const uint64_t now = clock_us();
    if (!rank->linked || now - rank->tick_us < TICK_US)
        return STATUS_OK;
    rank->tick_us = now;
    link_ping(rank->link);
    if (rank->number == 0)
        return STATUS_OK;
    for (;;) {
        struct link_message message;
        const enum status status = link_receive(rank->link, &message, 0, error);
        if (status == STATUS_PROTOCOL)
            continue; /* rank 0 gets the same and says so */
        if (status != STATUS_OK || message.control == NULL)
            return status;
        if (message.control->body_case == LONGSPAN__CONTROL__BODY_REFUSAL)
            return error_set(error, status_received(message.control->refusal->status),
                             "the coordinator refuses rank %u: %.900s", rank->number,
                             message.control->refusal->text);
    }
}

/* For those who cannot fail; the next wait meets the same failure. */
static void progress(void *context)
{
    struct rank *rank = context;
    group_progress(rank->group, NULL);
}

static void loading(void *context, uint64_t n_loaded, uint64_t n_all)
{
    struct rank *rank = context;
    link_set_loaded(rank->link, n_loaded, n_all);
    progress(rank);
}

/* ---- joining --------------------------------------------------------------------------------- */

static enum status open_wire(struct rank *rank, struct error *error)
{
    const struct rank_options *options = rank->options;
    struct cluster_key key;
    enum status status = address_check(options->coordinator, options->cluster_key != NULL,
                                       options->insecure_network, error);
    if (status == STATUS_OK && options->cluster_key != NULL)
        status = cluster_key_read(options->cluster_key, &key, error);
    if (status != STATUS_OK)
        return status;
    const struct wire_context_options wire = {
        .key = options->cluster_key != NULL ? &key : NULL,
        .insecure_network = options->insecure_network,
    };
    status = wire_context_create(&rank->wire, &wire, error);
    if (options->cluster_key != NULL)
        cluster_key_wipe(&key);
    if (status == STATUS_OK)
        status = link_open(&rank->link, rank->wire, options->coordinator, rank->number,
                           waiting_spin_us(rank->n_lanes * rank->local.n_ranks), error);
    if (status == STATUS_OK)
        link_trace(rank->link, rank->trace);
    return status;
}

/* A device with memory of its own says how much; it needs no lanes to be opened. */
static enum status look_at_device(struct rank *rank, struct join_card *card, struct error *error)
{
    const struct kernels *kernels = rank->kernels;
    kernels_device_name(card->device, sizeof(card->device), kernels, rank->device_index);
    if (kernels->host_memory)
        return STATUS_OK;
    const enum status status = kernels->open(&rank->device, NULL, rank->device_index, error);
    if (status == STATUS_OK)
        card->memory_bytes = kernels->memory_available(rank->device);
    return status;
}

static void fill_card(struct rank *rank, struct join_card *card)
{
    const struct rank_options *options = rank->options;
    *card = (struct join_card){
        .lanes = rank->n_lanes,
        .pid = (uint32_t)getpid(),
        .memory_bytes = memory_available_bytes(),
        .started = clock_wall_s(),
    };
    topology_host_name(card->host, sizeof(card->host));
    struct topology_mask allowed;
    topology_allowed(&allowed);
    topology_text(&allowed, card->processors, sizeof(card->processors));
    enum status status =
        kernels_choose_device(&rank->kernels, options->device, options->kernels, &card->error);
    if (status == STATUS_OK)
        status = kernels_device_index(&rank->device_index, rank->kernels, options->device,
                                      rank->local.rank, &card->error);
    if (status == STATUS_OK)
        status = look_at_device(rank, card, &card->error);
    if (status == STATUS_OK)
        snprintf(card->kernels, sizeof(card->kernels), "%s", rank->kernels->name);
    if (status == STATUS_OK)
        status = open_wire(rank, &card->error);
    card->error.status = status;
}

/* The answer of the coordinator, the same on all ranks: a setup, or the end of the job. */
static enum status join(struct rank *rank, Longspan__Control **answer, struct error *error)
{
    const uint64_t patience_us = rank->options->join_timeout_s * (uint64_t)1000000;
    uint32_t n_lanes;
    enum status status = group_lanes(rank->group, &n_lanes, &rank->local, error);
    if (status != STATUS_OK)
        return status;
    rank->n_lanes = rank->options->threads > 0 ? rank->options->threads : n_lanes;
    struct join_card card;
    fill_card(rank, &card);
    status = group_sharers(rank->group, card.device, &rank->n_sharers, error);
    if (status != STATUS_OK)
        return status;
    card.memory_bytes /= rank->n_sharers;
    const struct join joining = {.group = rank->group,
                                 .link = rank->link,
                                 .coordinator = rank->options->coordinator,
                                 .patience_us = patience_us,
                                 .log = &rank->log};
    status = join_cluster(answer, &joining, &card, error);
    if (status != STATUS_OK || (*answer)->body_case != LONGSPAN__CONTROL__BODY_WORKER_SETUP)
        return status;

    /* Rank 0 has reached the coordinator; from now on all must. */
    struct error own = {.status = STATUS_OK};
    if (rank->number > 0 && link_await(rank->link, clock_us() + patience_us, &own) == STATUS_OK)
        own.status = STATUS_OK;
    uint32_t worst = own.status;
    status = group_largest(rank->group, &worst, error);
    if (status == STATUS_OK && worst != STATUS_OK) {
        rank->ended = true;
        return own.status != STATUS_OK ? error_set(error, own.status, "%s", own.text)
                                       : error_set(error, (enum status)worst,
                                                   "another rank cannot reach the coordinator");
    }
    link_set_job(rank->link, (*answer)->worker_setup->job);
    rank->linked = status == STATUS_OK;
    return status;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Lanes that compete for the processors that this rank may use. */
static uint32_t host_lanes(const struct rank *rank)
{
    return rank->setup->host_lanes != NULL ? rank->setup->host_lanes[rank->number]
                                           : rank->n_lanes * rank->local.n_ranks;
}

static enum status open_device(struct rank *rank, struct error *error)
{
    if (rank->options->kernels == NULL && rank->kernels->host_memory) {
        const enum status status = kernels_choose(&rank->kernels, rank->setup->kernels, error);
        if (status != STATUS_OK)
            return status;
    }
    const enum status status = thread_pool_create(&rank->pool, rank->n_lanes, error);
    if (status != STATUS_OK)
        return status;
    seat_take(&rank->seat, rank->pool, host_lanes(rank), rank->options->pin);
    thread_pool_trace(rank->pool, rank->trace, rank->track);
    return rank->device != NULL
               ? STATUS_OK
               : rank->kernels->open(&rank->device, rank->pool, rank->device_index, error);
}

/* For a local holder: what the user gives it, or most of what the device has left, for all ranks
 * that have it. */
static uint64_t local_kv_bytes(const struct rank *rank)
{
    return rank->setup->local_kv_bytes > 0
               ? rank->setup->local_kv_bytes
               : kv_holder_share(rank->kernels->memory_available(rank->device)) / rank->n_sharers;
}

static enum status open_engine(struct rank *rank, struct error *error)
{
    enum forward_records records;
    const enum status status = forward_records_wanted(&records, error);
    if (status != STATUS_OK)
        return status;
    const struct engine_config config = {
        .setup = rank->setup,
        .shard = rank->shard,
        .rank = rank->number,
        .group = rank->group,
        .wire = rank->wire,
        .zeromq_only = rank->options->zeromq_only,
        .pool = rank->pool,
        .seat = &rank->seat,
        .kernels = rank->kernels,
        .device = rank->device,
        .local_kv_bytes = local_kv_bytes(rank),
        .records = records,
        .progress = group_ranks(rank->group) > 1 ? progress : NULL,
        .progress_context = rank,
        .trace = rank->track,
    };
    return engine_open(&rank->engine, &config, error);
}

static enum status load_shard(struct rank *rank, struct error *error)
{
    const char *own = rank->options->model;
    const struct shard_source source = {
        .path = own != NULL ? own : rank->setup->model_path,
        .setup = rank->setup,
        .rank = rank->number,
        .kernels = rank->kernels,
        .device = rank->device,
        .log = &rank->log,
        .tick = loading,
        .context = rank,
    };
    return shard_load(&rank->shard, &source, error);
}

static enum status load(struct rank *rank, const Longspan__WorkerSetup *message,
                        struct error *error)
{
    enum status status = setup_create(&rank->setup, message, group_ranks(rank->group), error);
    if (status == STATUS_OK)
        status = open_device(rank, error);
    if (status == STATUS_OK && rank->kernels->host_memory)
        status = kv_holder_check_host("--kv-memory", rank->setup->local_kv_bytes, rank->n_sharers,
                                      error);
    if (status == STATUS_OK)
        status = load_shard(rank, error);
    if (status == STATUS_OK)
        status = group_arrange(rank->group, rank->setup->n_stages, rank->setup->tensor,
                               (size_t)rank->setup->max_rows * rank->shard->hparams.hidden,
                               rank->kernels, rank->device, error);
    if (status == STATUS_OK)
        status = open_engine(rank, error);
    return status;
}

/* Loads and reports. Afterwards every rank knows whether all of them are ready. */
static enum status get_ready(struct rank *rank, const Longspan__WorkerSetup *message,
                             struct error *error)
{
    const uint64_t began_us = clock_us();
    struct error failure = {.status = STATUS_OK};
    const struct report_config config = {
        .link = rank->link,
        .job = message->job,
        .rank = rank->number,
        .n_holders = (uint32_t)message->n_holders,
        .answers = rank->number + message->n_shards == group_ranks(rank->group),
    };
    enum status status = report_create(&rank->report, &config, error);
    if (status != STATUS_OK)
        return status;
    if (load(rank, message, &failure) == STATUS_OK)
        failure.status = STATUS_OK; /* a text may be left of what was got over */
    else
        log_error(&rank->log, "%s", failure.text);
    const struct report_ready ready = {
        .weight_bytes = rank->shard != NULL ? rank->shard->weight_bytes : 0,
        .working_bytes = engine_working_bytes(&rank->engine),
        .resident_bytes = memory_resident_bytes(),
        .local_kv_bytes =
            rank->engine.attention != NULL ? attention_local_bytes(rank->engine.attention) : 0,
        .load_s = (double)(clock_us() - began_us) / 1e6,
    };
    status = report_send_ready(rank->report, &ready, &failure, error);
    uint32_t worst = failure.status;
    if (status == STATUS_OK)
        status = group_largest(rank->group, &worst, error);
    rank->unready = (enum status)worst;
    if (status == STATUS_OK && rank->unready == STATUS_OK) {
        char size[SIZE_TEXT_BYTES];
        log_info(&rank->log, "ready after %.1f s: %s kernels, %u lane%s %s, %s resident",
                 ready.load_s, rank->kernels->name, rank->n_lanes, rank->n_lanes == 1 ? "" : "s",
                 rank->seat.text, size_format(ready.resident_bytes, size));
    }
    return status;
}

/* ---- running --------------------------------------------------------------------------------- */

static enum status run_step(struct rank *rank, const Longspan__Step *message, struct error *error)
{
    if (rank->unready != STATUS_OK) {
        const struct error failure = {.status = STATUS_FAILED,
                                      .text = "a worker rank could not load its weights"};
        return report_send_failure(rank->report, message, &failure, error);
    }
    struct step *step = rank->engine.step;
    uint64_t at = trace_begin(rank->track);
    enum status status = step_decode(step, message, error);
    if (status != STATUS_OK)
        return status;
    trace_step(rank->track, step->number,
               step->n_rows == 0                   ? TRACE_IDLE
               : step->n_rows == step->n_attention ? TRACE_DECODE
                                                   : TRACE_PREFILL);
    for (uint32_t i = 0; i < step->n_closed; i++)
        attention_drop(rank->engine.attention, step->closed[i].sequence,
                       step->closed[i].incarnation, step->closed[i].keep_tokens);
    if (step->fault.status != STATUS_OK) {
        log_error(&rank->log, "%s", step->fault.text);
        return report_send_failure(rank->report, message, &step->fault, error);
    }
    trace_span(rank->track, "read step", at);
    status = forward_run(rank->engine.forward, step, error);
    if (status != STATUS_OK)
        return status;
    log_debug(&rank->log, "step %" PRIu64 ": %u rows of %u segments, %" PRIu64 " us", step->number,
              step->n_rows, step->n_attention, forward_compute_us(rank->engine.forward));
    at = trace_begin(rank->track);
    status = report_send_step(rank->report, step, rank->engine.attention, rank->engine.results,
                              forward_compute_us(rank->engine.forward), error);
    trace_span(rank->track, "report", at);
    return status;
}

/* Rank 0: the next message that concerns all, broadcast. While something is still leaving, MPI is
 * looked at between short waits. */
static enum status next_from_coordinator(struct rank *rank, struct link_message *message,
                                         struct error *error)
{
    for (;;) {
        enum status status = group_progress(rank->group, error);
        if (status != STATUS_OK)
            return status;
        const uint64_t wait_us = group_is_sending(rank->group) ? SENDING_POLL_US : LINK_PING_US;
        status = link_receive(rank->link, message, clock_us() + wait_us, error);
        if (status == STATUS_PROTOCOL) { /* no step's number is known */
            const struct error unread = *error;
            log_warn(&rank->log, "%s", unread.text);
            status = report_send_failure(rank->report, NULL, &unread, error);
            if (status == STATUS_OK)
                continue;
        }
        if (status == STATUS_TIMEOUT) { /* the coordinator is gone: all end */
            const struct error silent = *error;
            rank->ended = join_refuse(rank->group, &silent, error) == STATUS_OK;
            return rank->ended ? error_set(error, silent.status, "%s", silent.text) : STATUS_FAILED;
        }
        if (status != STATUS_OK)
            return status;
        if (message->control == NULL)
            continue;
        switch (message->control->body_case) {
        case LONGSPAN__CONTROL__BODY_STEP:
        case LONGSPAN__CONTROL__BODY_LEAVE:
        case LONGSPAN__CONTROL__BODY_REFUSAL:
            return group_broadcast(rank->group, message->bytes, message->n_bytes, error);
        default: /* pongs; and nothing else is meant for a worker */
            break;
        }
    }
}

static enum status next_message(struct rank *rank, struct link_message *message,
                                struct error *error)
{
    if (rank->number == 0)
        return next_from_coordinator(rank, message, error);
    const uint8_t *bytes;
    size_t n_bytes;
    const enum status status = group_receive(rank->group, &bytes, &n_bytes, error);
    return status == STATUS_OK ? link_unpack(rank->link, message, bytes, n_bytes, error) : status;
}

static enum status refused(struct rank *rank, const Longspan__Refusal *refusal, struct error *error)
{
    rank->ended = true;
    link_leave(rank->link);
    return error_set(error, status_received(refusal->status), "%.1000s", refusal->text);
}

static enum status serve(struct rank *rank, struct error *error)
{
    for (;;) {
        struct link_message message;
        const uint64_t at = trace_begin(rank->track);
        enum status status = next_message(rank, &message, error);
        if (status == STATUS_OK && message.control->body_case != LONGSPAN__CONTROL__BODY_STEP)
            trace_step(rank->track, 0, TRACE_IDLE);
        trace_span(rank->track, "wait for step", at);
        if (status != STATUS_OK)
            return status;
        switch (message.control->body_case) {
        case LONGSPAN__CONTROL__BODY_STEP:
            status = run_step(rank, message.control->step, error);
            break;
        case LONGSPAN__CONTROL__BODY_LEAVE:
            rank->ended = true;
            link_leave(rank->link);
            log_debug(&rank->log, "leaving: %s", message.control->leave->reason);
            status = group_flush(rank->group, error);
            return status == STATUS_OK && rank->unready != STATUS_OK
                       ? error_set(error, rank->unready, "the job ends: a rank could not load")
                       : status;
        case LONGSPAN__CONTROL__BODY_REFUSAL: {
            /* Read first: flushing ticks, a tick reads the link, and the text lies there. */
            struct error refusal = {.status = STATUS_OK};
            status = refused(rank, message.control->refusal, &refusal);
            rank->ended = group_flush(rank->group, error) == STATUS_OK;
            return rank->ended ? error_set(error, status, "%s", refusal.text) : error->status;
        }
        default:
            break;
        }
        if (status != STATUS_OK)
            return status;
    }
}

/* One file for each rank: all of them have the same command line. */
static enum status open_trace(struct rank *rank, const char *role, struct error *error)
{
    char path[FILE_PATH_BYTES];
    if (rank->options->trace == NULL)
        return STATUS_OK;
    snprintf(path, sizeof(path), "%s.%u", rank->options->trace, rank->number);
    const enum status status = trace_create(&rank->trace, path, role, error);
    rank->track = trace_track(rank->trace, "main");
    group_trace(rank->group, rank->track);
    return status;
}

static void write_trace(struct rank *rank)
{
    struct error error;
    if (trace_write(rank->trace, &rank->log, &error) != STATUS_OK)
        log_error(&rank->log, "%s", error.text);
    trace_destroy(rank->trace);
    rank->trace = NULL;
}

static void close_all(struct rank *rank)
{
    report_destroy(rank->report);
    engine_close(&rank->engine);
    shard_destroy(rank->shard);
    if (rank->group != NULL)
        group_disperse(rank->group);
    if (rank->device != NULL)
        rank->kernels->close(rank->device);
    seat_give(&rank->seat);
    thread_pool_destroy(rank->pool);
    write_trace(rank);
    setup_destroy(rank->setup);
    link_close(rank->link);
    wire_context_destroy(rank->wire);
    group_destroy(rank->group);
}

enum status rank_run(const struct rank_options *options, bool *together)
{
    struct rank rank = {.options = options};
    struct error error = {.status = STATUS_OK};
    Longspan__Control *answer = NULL;
    char role[LOG_ROLE_BYTES] = "worker";
    log_open(&rank.log, role, options->verbosity);
    enum status status = group_create(&rank.group, tick, &rank, &error);
    if (status == STATUS_OK) {
        rank.number = group_rank(rank.group);
        snprintf(role, sizeof(role), "worker %u", rank.number);
        log_open(&rank.log, role, options->verbosity);
        status = open_trace(&rank, role, &error);
    }
    if (status == STATUS_OK)
        status = join(&rank, &answer, &error);
    if (status == STATUS_OK && answer->body_case == LONGSPAN__CONTROL__BODY_REFUSAL) {
        status = refused(&rank, answer->refusal, &error);
    } else if (status == STATUS_OK) {
        status = get_ready(&rank, answer->worker_setup, &error);
        if (status == STATUS_OK)
            status = serve(&rank, &error);
    }
    /* What all ranks know is said once. */
    if (status != STATUS_OK && (rank.number == 0 || !rank.ended))
        log_error(&rank.log, "%s", error.text);
    if (answer != NULL)
        longspan__control__free_unpacked(answer, NULL);
    *together = rank.ended;
    if (rank.ended || rank.group == NULL || group_ranks(rank.group) == 1)
        close_all(&rank); /* otherwise the process is about to be aborted, with others waiting */
    return status;
}

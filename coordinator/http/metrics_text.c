/* metrics_text.c - see metrics_text.h. One function for each subject, written into a stream in
 * memory; whether there was memory is known when the stream is closed. */
#include "coordinator/http/metrics_text.h"

#include "coordinator/metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROCESS_BYTES = 96 };

static void family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP longspan_%s %s\n# TYPE longspan_%s %s\n", name, help, name, type);
}

/* A label's value, quoted. Names come from other processes: what is not printable ASCII is "?". */
static void value_of(FILE *out, const char *label, const char *value)
{
    fprintf(out, "%s=\"", label);
    for (const char *c = value; *c != '\0'; c++)
        if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else
            fputc(*c >= ' ' && *c <= '~' ? *c : '?', out);
    fputc('"', out);
}

static void sample(FILE *out, const char *name, const char *label, const char *value, double number)
{
    fprintf(out, "longspan_%s", name);
    if (label != NULL) {
        fputc('{', out);
        value_of(out, label, value);
        fputc('}', out);
    }
    fprintf(out, " %.17g\n", number);
}

static void gauge(FILE *out, const char *name, const char *help, double number)
{
    family(out, name, "gauge", help);
    sample(out, name, NULL, NULL, number);
}

/* ---- the coordinator's own ------------------------------------------------------------------- */

static bool is_ready(const Longspan__StatusReply *reply)
{
    return reply->coordinator != NULL && strcmp(reply->coordinator->phase, "ready") == 0;
}

static void write_coordinator(FILE *out, const Longspan__StatusReply *reply)
{
    family(out, "info", "gauge", "Version and model, as labels; always 1.");
    fputs("longspan_info{", out);
    value_of(out, "version", reply->coordinator != NULL ? reply->coordinator->version : "");
    fputc(',', out);
    value_of(out, "model", reply->model != NULL ? reply->model->name : "");
    fputc(',', out);
    value_of(out, "kv_type", reply->model != NULL ? reply->model->kv_type : "");
    fputs("} 1\n", out);
    gauge(out, "ready", "1: the cluster serves requests.", is_ready(reply));
    gauge(out, "prompts_waiting", "Prompts in the queue.", reply->prompts_waiting);
    gauge(out, "prompts_running", "Prompts that are being read or answered.",
          reply->prompts_running);
}

static void write_counters(FILE *out, const Longspan__StatusReply *reply)
{
    for (size_t i = 0; i < reply->n_counters && i < METRICS_N_COUNTERS; i++) {
        const char *name = metrics_counter_name((enum metrics_counter)i);
        family(out, name, "counter", metrics_counter_help((enum metrics_counter)i));
        fprintf(out, "longspan_%s %" PRIu64 "\n", name, reply->counters[i]->value);
    }
}

/* Prometheus wants buckets that include all smaller ones. */
static void write_histograms(FILE *out, const Longspan__StatusReply *reply)
{
    for (size_t i = 0; i < reply->n_histograms && i < METRICS_N_HISTOGRAMS; i++) {
        const Longspan__HistogramStatus *from = reply->histograms[i];
        const char *name = metrics_histogram_name((enum metrics_histogram)i);
        uint64_t below = 0;
        family(out, name, "histogram", metrics_histogram_help((enum metrics_histogram)i));
        for (size_t j = 0; j < from->n_bounds && j < from->n_counts; j++) {
            below += from->counts[j];
            fprintf(out, "longspan_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, from->bounds[j],
                    below);
        }
        fprintf(out, "longspan_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, from->count);
        fprintf(out, "longspan_%s_sum %.17g\n", name, from->sum);
        fprintf(out, "longspan_%s_count %" PRIu64 "\n", name, from->count);
    }
}

static void write_answers(const char *path, unsigned code, uint64_t n, void *out)
{
    fputs("longspan_http_requests_total{", out);
    value_of(out, "path", path);
    if (code == 0)
        fprintf(out, ",code=\"none\"} %" PRIu64 "\n", n);
    else
        fprintf(out, ",code=\"%u\"} %" PRIu64 "\n", code, n);
}

static void write_http(FILE *out, const struct metrics_http *http)
{
    family(out, "http_requests_total", "counter",
           "HTTP requests that ended, by path and status code.");
    tally_walk(http->tally, write_answers, out);
    gauge(out, "http_requests_running", "HTTP requests that the coordinator has.", http->running);
    gauge(out, "http_requests_waiting",
          "HTTP requests that are read, or wait for a place at the coordinator.", http->waiting);
    gauge(out, "http_body_bytes",
          "Bytes of long requests that are being sent and read; at most --http-bodies.",
          (double)http->body_bytes);
    gauge(out, "http_streams", "Answers that are being streamed.",
          atomic_load(&http->tally->streams));
    gauge(out, "http_connections", "Open connections.", atomic_load(&http->tally->connections));
}

static void write_holders(FILE *out, const Longspan__StatusReply *reply)
{
    gauge(out, "kv_page_bytes",
          "Bytes of a page of all layers, or, where some have a sliding window, of one.",
          (double)reply->page_bytes);
    if (reply->n_holders == 0)
        return;
    family(out, "kv_pages_used", "gauge", "Pages in use, by KV holder.");
    for (size_t i = 0; i < reply->n_holders; i++)
        sample(out, "kv_pages_used", "holder", reply->holders[i]->name,
               (double)reply->holders[i]->pages_used);
    family(out, "kv_pages_kept", "gauge",
           "Of those in use, pages of prefixes that no prompt uses now.");
    for (size_t i = 0; i < reply->n_holders; i++)
        sample(out, "kv_pages_kept", "holder", reply->holders[i]->name,
               (double)reply->holders[i]->pages_kept);
    family(out, "kv_pages_free", "gauge", "Pages not in use, by KV holder.");
    for (size_t i = 0; i < reply->n_holders; i++) {
        const Longspan__HolderStatus *holder = reply->holders[i];
        sample(out, "kv_pages_free", "holder", holder->name,
               holder->pages_total > holder->pages_used
                   ? (double)(holder->pages_total - holder->pages_used)
                   : 0.0);
    }
}

/* ---- processes ------------------------------------------------------------------------------- */

/* A node that has not joined has no name yet. */
static const char *node_name(const Longspan__StatusReply *reply, size_t i, char text[PROCESS_BYTES])
{
    if (reply->nodes[i]->name[0] == '\0')
        snprintf(text, PROCESS_BYTES, "missing%zu", i);
    else
        snprintf(text, PROCESS_BYTES, "%s", reply->nodes[i]->name);
    return text;
}

static const char *rank_name(uint32_t rank, char text[PROCESS_BYTES])
{
    snprintf(text, PROCESS_BYTES, "worker%u", rank);
    return text;
}

static void write_processes(FILE *out, const Longspan__StatusReply *reply)
{
    static const struct {
        const char *name, *type, *help;
    } families[] = {
        {"process_ready", "gauge", "1: the process has joined, is ready and is connected."},
        {"process_peak_bytes", "gauge", "The most memory that the process has had resident."},
        {"process_start_time_seconds", "gauge",
         "When the process started, in seconds since 1970; it changes with every restart."},
        {"process_reconnects_total", "counter",
         "Connections to the coordinator that were lost and came back."},
    };
    char name[PROCESS_BYTES];
    for (int f = 0; f < 4; f++) {
        family(out, families[f].name, families[f].type, families[f].help);
        if (f < 3 && reply->coordinator != NULL)
            sample(out, families[f].name, "process", "coordinator",
                   f == 0   ? 1.0
                   : f == 1 ? (double)reply->coordinator->peak_bytes
                            : reply->coordinator->started);
        for (size_t i = 0; i < reply->n_ranks; i++) {
            const Longspan__RankStatus *rank = reply->ranks[i];
            sample(out, families[f].name, "process", rank_name(rank->rank, name),
                   f == 0   ? rank->state == LONGSPAN__PROCESS_STATE__PROCESS_READY
                   : f == 1 ? (double)rank->peak_bytes
                   : f == 2 ? rank->started
                            : rank->reconnects);
        }
        for (size_t i = 0; i < reply->n_nodes; i++) {
            const Longspan__NodeStatus *node = reply->nodes[i];
            sample(out, families[f].name, "process", node_name(reply, i, name),
                   f == 0   ? node->state == LONGSPAN__PROCESS_STATE__PROCESS_READY
                   : f == 1 ? (double)node->peak_bytes
                   : f == 2 ? node->started
                            : node->reconnects);
        }
    }
}

/* What does not change while a process lives. */
static void process_info(FILE *out, const char *name, const char *host, const char *device,
                         const char *kernels)
{
    fputs("longspan_process_info{", out);
    value_of(out, "process", name);
    fputc(',', out);
    value_of(out, "host", host);
    fputc(',', out);
    value_of(out, "device", device);
    fputc(',', out);
    value_of(out, "kernels", kernels);
    fputs("} 1\n", out);
}

static void write_process_infos(FILE *out, const Longspan__StatusReply *reply)
{
    char name[PROCESS_BYTES];
    family(out, "process_info", "gauge", "Host, device and kernels, as labels; always 1.");
    if (reply->coordinator != NULL)
        process_info(out, "coordinator", reply->coordinator->host, "", "");
    for (size_t i = 0; i < reply->n_ranks; i++) {
        const Longspan__RankStatus *rank = reply->ranks[i];
        process_info(out, rank_name(rank->rank, name), rank->host, rank->device, rank->kernels);
    }
    for (size_t i = 0; i < reply->n_nodes; i++) {
        const Longspan__NodeStatus *node = reply->nodes[i];
        process_info(out, node_name(reply, i, name), node->host, node->device, node->kernels);
    }
}

static void rank_sample(FILE *out, const char *name, uint32_t rank, double number)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", rank);
    sample(out, name, "rank", text, number);
}

static void write_ranks(FILE *out, const Longspan__StatusReply *reply)
{
    family(out, "rank_weight_bytes", "gauge", "Bytes of weights, by worker rank.");
    for (size_t i = 0; i < reply->n_ranks; i++)
        rank_sample(out, "rank_weight_bytes", reply->ranks[i]->rank,
                    (double)reply->ranks[i]->weight_bytes);
    family(out, "rank_step_seconds_total", "counter",
           "Time in steps, waiting for attention nodes included, by worker rank.");
    for (size_t i = 0; i < reply->n_ranks; i++)
        rank_sample(out, "rank_step_seconds_total", reply->ranks[i]->rank,
                    reply->ranks[i]->compute_s);
    bool waits = false;
    for (size_t i = 0; i < reply->n_ranks; i++)
        waits |= reply->ranks[i]->n_layer_wait_s > 0;
    if (!waits)
        return;
    family(out, "attention_wait_seconds_total", "counter",
           "Time that a worker rank waited for attention nodes, by layer.");
    for (size_t i = 0; i < reply->n_ranks; i++)
        for (size_t j = 0; j < reply->ranks[i]->n_layer_wait_s; j++)
            fprintf(out, "longspan_attention_wait_seconds_total{rank=\"%u\",layer=\"%zu\"} %.17g\n",
                    reply->ranks[i]->rank, reply->ranks[i]->first_layer + j,
                    reply->ranks[i]->layer_wait_s[j]);
}

/* ---- attention nodes ------------------------------------------------------------------------- */

static void write_links(FILE *out, const Longspan__StatusReply *reply)
{
    static const struct {
        const char *name, *help;
    } families[] = {
        {"link_sent_bytes_total", "Bytes that a worker rank sent to an attention node."},
        {"link_received_bytes_total", "Bytes that a worker rank received from an attention node."},
        {"link_kv_bytes_total", "Bytes of keys and values that a worker rank put there."},
        {"link_round_trips_total", "Queries that were answered."},
        {"link_round_trip_seconds_total", "Their times from sending to answer, added."},
    };
    for (int f = 0; reply->n_links > 0 && f < 5; f++) {
        family(out, families[f].name, "counter", families[f].help);
        for (size_t i = 0; i < reply->n_links; i++) {
            const Longspan__HolderTraffic *traffic = reply->links[i]->traffic;
            if (traffic == NULL || traffic->holder >= reply->n_holders)
                continue;
            const double numbers[] = {(double)traffic->sent_bytes, (double)traffic->received_bytes,
                                      (double)traffic->kv_bytes, (double)traffic->round_trips,
                                      (double)traffic->round_trip_us * 1e-6};
            fprintf(out, "longspan_%s{rank=\"%u\",", families[f].name, reply->links[i]->rank);
            value_of(out, "node", reply->holders[traffic->holder]->name);
            fprintf(out, "} %.17g\n", numbers[f]);
        }
    }
}

static void write_nodes(FILE *out, const Longspan__StatusReply *reply)
{
    static const struct {
        const char *name, *type, *help;
    } families[] = {
        {"node_memory_bytes", "gauge", "Memory for pages, by attention node."},
        {"node_read_bytes_per_second", "gauge", "Read bandwidth as measured when it started."},
        {"node_pages_capacity", "gauge", "Pages of one layer and KV head that it has room for."},
        {"node_pages_reserved", "gauge", "Of them, promised to sequences."},
        {"node_pages_taken", "gauge", "Of them, holding tokens."},
        {"node_queries_total", "counter", "Queries that it answered."},
        {"node_appends_total", "counter", "Messages with new keys and values that it took."},
        {"node_dropped_total", "counter",
         "Messages without effect: late, malformed, of strangers."},
        {"node_attend_seconds_total", "counter", "Time spent evaluating queries."},
    };
    for (int f = 0; reply->n_nodes > 0 && f < 9; f++) {
        family(out, families[f].name, families[f].type, families[f].help);
        for (size_t i = 0; i < reply->n_nodes; i++) {
            const Longspan__NodeUsage nothing = LONGSPAN__NODE_USAGE__INIT;
            const Longspan__NodeStatus *node = reply->nodes[i];
            const Longspan__NodeUsage *usage = node->usage != NULL ? node->usage : &nothing;
            const double numbers[] = {(double)node->memory_bytes,     node->read_bytes_per_s,
                                      (double)usage->pages_total,     (double)usage->pages_reserved,
                                      (double)usage->pages_taken,     (double)usage->queries,
                                      (double)usage->appends,         (double)usage->dropped,
                                      (double)usage->attend_us * 1e-6};
            char name[PROCESS_BYTES];
            sample(out, families[f].name, "node", node_name(reply, i, name), numbers[f]);
        }
    }
}

enum status metrics_text(const Longspan__StatusReply *reply, const struct metrics_http *http,
                         char **text, size_t *bytes, struct error *error)
{
    char *made = NULL;
    size_t made_bytes = 0;
    FILE *out = open_memstream(&made, &made_bytes);
    if (out == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for metrics");
    write_coordinator(out, reply);
    write_counters(out, reply);
    write_histograms(out, reply);
    write_http(out, http);
    write_holders(out, reply);
    write_processes(out, reply);
    write_process_infos(out, reply);
    write_ranks(out, reply);
    write_links(out, reply);
    write_nodes(out, reply);
    const bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(made);
        return error_set(error, STATUS_NO_MEMORY, "no memory for metrics");
    }
    *text = made;
    *bytes = made_bytes;
    return STATUS_OK;
}

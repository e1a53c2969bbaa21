/* proto/status_json.h - a StatusReply as JSON: what GET /cluster answers, and `longspan status
 * --json` prints. The HTTP server adds "server": {"model": its id for clients, "chat": there is a
 * chat template}.
 *
 *     {"job": "8f...", "coordinator": {host, pid, version, listen, phase, started, uptime_s, peak_bytes},
 *      "model": {name, path, n_layers, n_heads, n_kv_heads, head_dim, context, kv_type},
 *      "page_tokens", "page_bytes",
 *      "stages": [{first_layer, n_layers}...],
 *      "ranks": [{rank, state, host, pid, lanes, device, kernels, stage, shard, first_layer, n_layers,
 *                 kv_heads: [begin, end], weight_bytes, working_bytes, peak_bytes, local_kv_bytes, steps,
 *                 compute_s, layer_wait_s: [...], reconnects, started}...],
 *      "nodes": [{name, state, host, pid, lanes, device, kernels, endpoint, memory_bytes, peak_bytes,
 *                 read_bytes_per_s, share, first_layer, n_layers, kv_heads, pages_taken,
 *                 pages_reserved, pages_total, page_bytes, queries, appends, dropped, attend_s,
 *                 reconnects, started}...],
 *      "holders": [{name, pages_used, pages_kept, pages_total}...],
 *      "links": [{rank, holder, sent_bytes, received_bytes, kv_bytes, round_trips, round_trip_s}...],
 *      "waiting", "running",
 *      "prompts": [{id, request, prompt, state, priority, age_s, prompt_tokens, prompt_done, cached_tokens,
 *                   generated, max_tokens, preemptions, spans: [[holder, begin, end]...]}...],
 *      "counters": {NAME: value...},
 *      "histograms": {NAME: {count, sum, bounds: [...], counts: [...]}...}}
 *
 * The fields mean what proto/longspan.proto says. `state` is "absent", "joined", "ready" or
 * "lost". */
#ifndef LONGSPAN_PROTO_STATUS_JSON_H
#define LONGSPAN_PROTO_STATUS_JSON_H

#include "proto/longspan.pb-c.h"

#include <jansson.h>

/* A new reference; NULL: no memory. Texts that are no UTF-8, which peers can send, become "?". */
json_t *status_json(const Longspan__StatusReply *reply);

#endif

/* attention_node/serve_state.h - what serve.c (messages), serve_attend.c (queries) and
 * serve_repeated.c (queries that come again) share. */
#ifndef LONGSPAN_ATTENTION_NODE_SERVE_STATE_H
#define LONGSPAN_ATTENTION_NODE_SERVE_STATE_H

#include "attention_node/serve.h"
#include "attention_node/serve_memory.h"
#include "kernels/attention/attend.h"
#include "proto/arena.h"
#include "proto/frame_pool.h"

/* The answer to a peer's last query, as it was sent (serve.h, keep_after_us). */
struct serve_kept {
    uint64_t query;
    struct frame_buffer *header, *partials; /* header NULL: none is kept */
    size_t header_bytes, partials_bytes;
};

struct serve_peer {
    struct frames_peer identity;
    uint32_t rank;
    uint64_t used; /* for finding the oldest */
    struct serve_kept kept;
};

/* An entry of a query that has been checked. */
struct serve_entry {
    uint64_t sequence;
    uint32_t incarnation;
    uint32_t position, n_tokens, window;
    size_t first_range, n_ranges;
    size_t row; /* of its first token in the query's frame */
};

/* A query that waits. Its message is serve->frames[index of the query]. */
struct serve_query {
    uint64_t query, step, came_us;
    uint32_t layer, head, n_heads;
    size_t first_entry, n_entries;
    size_t n_works, reply_floats;
    size_t q_at, reply_at;      /* bytes and floats, in the memory of a run (serve_memory.h) */
    struct frame_buffer *reply; /* while it runs; NULL: it was answered */
    size_t first_mark;
};

struct serve {
    struct serve_config config;

    /* The job. */
    uint64_t job; /* 0: none, and the rest is void */
    Longspan__NodeSetup setup;
    struct kv_holder *holder;
    struct attend *attend;
    struct attend_shape shape;
    struct serve_memory memory;

    struct serve_peer *peers;
    size_t n_peers, peers_capacity, last_peer;
    uint64_t peer_uses;
    size_t kept_bytes; /* of all peers' answers that are kept */

    /* Queries that wait, and the message that is being read: frames[n_queries]. */
    struct frames *frames[SERVE_QUERIES + 1];
    struct serve_query queries[SERVE_QUERIES];
    size_t n_queries;
    uint64_t waiting_bytes; /* of the queries, of what is kept of them, and of their answers */
    struct serve_entry *entries;
    size_t n_entries, entries_capacity;
    struct tile_range *ranges;
    size_t n_ranges, ranges_capacity;

    /* Of one run. */
    struct attend_work *works;
    size_t works_capacity;
    uint32_t *marks;
    size_t marks_capacity;

    struct arena arena; /* of one message, in or out */
    struct frame_pool pool;
    struct frames answer;
    struct serve_counts counts;
    uint64_t warned_us; /* the last line about a bad message */
};

/* Makes *items, of `bytes` each, hold at least n; content stays. STATUS_NO_MEMORY. */
enum status serve_grow(void *items, size_t *capacity, size_t n, size_t bytes, struct error *error);

/* Whether the message's layer and heads are ours. STATUS_PROTOCOL. */
enum status serve_check_place(const struct serve *serve, const Longspan__Data *data,
                              struct error *error);

/* Who sent the message; NULL: it has not said Hello. Until the next peer is added. */
struct serve_peer *serve_find_peer(struct serve *serve, const struct frames *message);

/* serve_attend.c: keeps the query that is in frames[n_queries], or says why not; *entry is then the
 * entry that was wrong. */
enum status serve_query_add(struct serve *serve, const Longspan__Data *data, uint32_t *entry,
                            struct error *error);

/* ---- serve_repeated.c ---- */

/* Whether this query of the message's peer needs no evaluation: it waits already, or was the last
 * one to be answered, and the answer, which was kept, has gone again. */
bool serve_is_repeated(struct serve *serve, const struct frames *message, uint64_t query);

/* Keeps what is packed in serve->answer, the answer to this query. Not without memory, or beyond
 * SERVE_KEPT_BYTES: then the query is evaluated again when it comes again. */
void serve_keep_answer(struct serve *serve, const struct serve_query *query,
                       const struct frames *request);
void serve_forget_kept(struct serve *serve, struct serve_peer *peer);

/* Sends what is packed in serve->answer. */
void serve_send_answer(struct serve *serve, const struct frames *request);

/* ---- serve_attend.c ---- */

/* Why a query is not answered by partials. */
struct serve_refusal {
    uint64_t query;
    const struct error *why;
    uint32_t entry;  /* the one that was wrong */
    bool missing;    /* tokens are missing: they may be sent again */
    uint32_t *marks; /* how far tokens are here, of all its entries; NULL: not told */
    size_t n_marks;
};
void serve_refuse(struct serve *serve, const struct frames *request, const Longspan__Data *place,
                  const struct serve_refusal *refusal);

#endif

/* attention_node/serve.h - the data side of an attention node: tokens in, queries in, partials out.
 *
 * A `serve` holds the pages of one job at a time. The loop receives a message into serve_inbox and
 * hands it over with serve_message: forks and appends take effect at once, queries are kept until
 * serve_run evaluates all that are there as one lean schedule (kernels/attention/attend.h). A query
 * names whole tiles, which nothing can change once they are held; so it does not matter that
 * appends that came after it take effect before it.
 *
 * Messages come from a network: everything is checked against the job before it is used. A query is
 * always answered, by partials for all that it names or by a failure; never by a part of it.
 * Answers go out through `send`. One thread owns a serve; in steady state nothing is allocated
 * but what ZeroMQ takes. docs/protocol.md tells the sequences. */
#ifndef LONGSPAN_ATTENTION_NODE_SERVE_H
#define LONGSPAN_ATTENTION_NODE_SERVE_H

#include "kernels/attention/kv_holder.h"
#include "kernels/kernels.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "sys/log.h"
#include "sys/seat.h"
#include "sys/status.h"
#include "sys/thread_pool.h"
#include "sys/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SERVE_HEADER_BYTES = 4 << 20,  /* of a header, at most */
    SERVE_MESSAGE_BYTES = 1 << 30, /* of a message or an answer, at most */
    SERVE_QUERIES = 64,            /* that run together, at most */
    SERVE_RUN_BYTES = 1 << 30,     /* of those and their answers: from then on no other joins */
    SERVE_PEERS = 4096,            /* ranks that may be greeted, at most */
    SERVE_KEPT_BYTES = 1 << 30     /* of answers that are kept, all together, at most */
};

struct serve; /* opaque */
struct store;

enum serve_answer {
    SERVE_GREETING, /* goes the way that Hello came: it settles which one the rest takes */
    SERVE_ANSWER
};

struct serve_config {
    const char *name;              /* of this node, for messages */
    uint64_t node;                 /* its incarnation */
    uint64_t memory_bytes;         /* for pages */
    struct thread_pool *pool;      /* lives longer */
    const struct kernels *kernels; /* with `device`: what computes, and where pages lie */
    struct device *device;
    const struct log *log; /* NULL: silent */
    /* Takes over the frames of an answer, peer set; they are empty afterwards. */
    void (*send)(void *context, struct frames *answer, enum serve_answer kind);
    /* A good Hello offers shared memory, or none (NULL). True: it is used. NULL: it never is. */
    bool (*offer)(void *context, const struct frames *hello, const Longspan__Ring *offer);
    void *context;
    const struct seat *seat;   /* of the pool's lanes, when a job is set up; NULL: none */
    struct trace_track *trace; /* of the thread that owns the serve, or NULL */
    struct store *store;       /* where kept pages go; NULL: nowhere */
    /* An answer that took longer than this, from its query's arrival on, is kept until the rank's
     * next query: the rank may have repeated its query meanwhile, and gets the same answer again
     * without another evaluation. 0: none is kept. */
    uint32_t keep_after_us;
    uint64_t run_bytes; /* 0: SERVE_RUN_BYTES */
};

/* What was dropped or repeated, since creation. */
struct serve_counts {
    uint64_t queries, runs, appends, forks;
    uint64_t malformed; /* messages that cannot be read, or break a rule */
    uint64_t strangers; /* messages of a peer that has not said Hello */
    uint64_t dropped;   /* appends and forks that had no effect: unknown sequence, a gap */
    uint64_t attend_us; /* spent in serve_run */
};

/* STATUS_NO_MEMORY. `config` is copied, its pointers are not. */
enum status serve_create(struct serve **serve, const struct serve_config *config,
                         struct error *error);
/* NULL is fine. */
void serve_destroy(struct serve *serve);

/* ---- the job ---- */

/* Takes memory for a job. The job it serves already: STATUS_OK, nothing changes. STATUS_FAILED: it
 * serves another job, which goes on. STATUS_INVALID, STATUS_UNSUPPORTED: a shape that cannot be.
 * STATUS_EXHAUSTED, STATUS_NO_MEMORY. */
enum status serve_setup(struct serve *serve, const Longspan__NodeSetup *setup, struct error *error);

/* Forgets the job: pages, sequences, queries that wait, and who was greeted. */
void serve_drop(struct serve *serve);

/* 0: none. */
uint64_t serve_job(const struct serve *serve);

/* Bytes of whole pages that there is memory for. */
uint64_t serve_capacity(const struct serve *serve);

/* STATUS_EXHAUSTED: not enough pages; nothing changes. STATUS_NOT_FOUND: another job.
 * STATUS_INVALID: spans. */
enum status serve_reserve(struct serve *serve, const Longspan__Reserve *reserve,
                          struct error *error);
void serve_free(struct serve *serve, const Longspan__Free *free_message);

/* Opens a sequence, and begins to read its pages from the store, which tells when they are there.
 * Fails as serve_reserve, and as store_restore; without a store STATUS_NOT_FOUND. */
enum status serve_restore(struct serve *serve, const Longspan__Restore *restore,
                          struct error *error);

/* Zeros without a job. */
struct kv_holder_usage serve_usage(const struct serve *serve);

/* ---- data messages ---- */

/* Where the next message is received into. */
struct frames *serve_inbox(struct serve *serve);

/* Takes the message in the inbox. Where there is no room for another query, those that wait run
 * first. */
void serve_message(struct serve *serve);

/* Queries that wait for serve_run. */
size_t serve_pending(const struct serve *serve);
/* Whether another may wait beside them: by number, and by bytes, its own not counted. */
bool serve_has_room(const struct serve *serve);

/* Evaluates and answers them all. */
void serve_run(struct serve *serve);

struct serve_counts serve_counts(const struct serve *serve);

#endif

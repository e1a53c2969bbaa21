/* worker/attention.h - one rank's attention over everything: its own newest tiles, and the KV
 * holders.
 *
 * A step's rows are segments: consecutive tokens of one sequence. For each layer the rank calls
 *     attention_query    q is sent to every remote holder of earlier tiles, first of all (Lamina's
 *                        early query), before k and v are even computed
 *     attention_append   k and v, rounded to the KV type, are put into the open tiles and the
 *                        chunk's tiles, and sent to the holders of these tokens, off the critical
 *                        path
 *     attention_finish   evaluates local tiles while the holders work, waits, merges (tree.h)
 * so prefill and decode, local and offloaded, one holder and many are one code path. Appends are
 * retained until a holder's mark covers them, and sent again when it says that some are missing.
 *
 * What fails (a holder that does not answer, that lost its pages) fails segments, not the step:
 * their rows become zeros, the rank stays in lockstep with its group, and attention_end_step says
 * which and why. The lead reports it; nothing of a failed segment is ever sampled. */
#ifndef LONGSPAN_WORKER_ATTENTION_H
#define LONGSPAN_WORKER_ATTENTION_H

#include "kernels/attention/attend.h"
#include "kernels/attention/kv_holder.h"
#include "kernels/kernels.h"
#include "proto/wire_context.h"
#include "sys/seat.h"
#include "sys/status.h"
#include "sys/thread_pool.h"
#include "sys/trace.h"

struct attention; /* opaque; belongs to the rank's main thread */

struct attention_holder {
    const char *name;     /* for messages: "node0 (mem01)" */
    const char *endpoint; /* "" or NULL: the rank's own memory */
    uint64_t node;        /* the node's incarnation: another one at that address is an error */
};

struct attention_config {
    uint64_t job;
    uint32_t rank;
    uint32_t first_layer, n_layers;     /* of this stage */
    bool last;                          /* the last of them is the model's last */
    uint32_t first_kv_head, n_kv_heads; /* of this shard */
    struct attend_shape shape;          /* KV type, head_dim, group, scale, soft cap */
    const uint32_t
        *windows;   /* [n_layers] sliding windows in tokens, 0: none; NULL: no layer has one */
    uint32_t chunk; /* tokens of one sequence in a step, at most; only where there are windows */
    uint32_t max_rows, max_sequences, max_tokens;
    const struct attention_holder *holders;
    uint32_t n_holders;
    uint64_t local_kv_bytes;       /* for a local holder; 0: most of what the device has left */
    uint32_t timeout_ms, retry_ms; /* one answer; sending a query again */
    const struct kernels *kernels; /* with `device`: where q, k, v and out are, and tiles lie */
    struct device *device;
    const char *constants_version; /* goes into Hello */
    bool zeromq_only;              /* no rings to nodes of this host (proto/wire_ring.h) */
    /* Called again and again while waiting for holders: progresses MPI. NULL: nothing to do. */
    void (*progress)(void *context);
    void *progress_context;
    struct trace_track *trace; /* of this thread, or NULL */
    const struct seat *seat;   /* of the pool's lanes; NULL: not pinned, nobody else is here */
};

struct attention_span {
    uint32_t holder; /* index into holders */
    struct span tokens;
};

struct attention_segment {
    uint64_t sequence;
    uint32_t incarnation;
    uint32_t position, n_tokens;
    uint32_t n_needed; /* its last rows, the only ones that ask in the model's last layer */
    const struct attention_span *spans; /* new ones of this sequence; those known are ignored. A
                                         * fork has its parent's below `position` without saying,
                                         * as long as this rank knows the parent */
    uint32_t n_spans;
    bool fill; /* its rows attend to nothing: q and out are not touched (worker/fill.h) */
    bool fork; /* first segment of a sequence that shares whole pages of `parent` below `position`;
                * the parent may be dropped, if all of its holders keep these pages */
    uint64_t parent;
    uint32_t parent_incarnation;
};

struct attention_traffic {
    uint64_t sent_bytes, received_bytes; /* on the wire with this holder; 0 for the local one */
    uint64_t kv_bytes; /* K and V bytes of this rank's layers and heads put there so far */
    uint64_t round_trips,
        round_trip_ns; /* queries answered; from sending to answer, all together */
    bool ring;         /* it goes through shared memory */
};

/* Connects to all remote holders and waits, at most timeout_ms, until each has answered Hello.
 * STATUS_UNREACHABLE or STATUS_PROTOCOL names the holder. `pool` and `wire` outlive it. */
enum status attention_open(struct attention **attention, struct thread_pool *pool,
                           struct wire_context *wire, const struct attention_config *config,
                           struct error *error);
void attention_close(struct attention *attention);

/* Forgets a sequence: its open tiles, retained appends, local pages from keep_tokens on (a multiple
 * of PAGE_TOKENS). Those below stay, for forks, until it is dropped again with 0. Unknown ones are
 * fine.
 */
void attention_drop(struct attention *attention, uint64_t sequence, uint32_t incarnation,
                    uint32_t keep_tokens);

/* Rows of the step are the segments' tokens, one after the other. Segments with a new sequence open
 * it. A bad segment (gap in positions, unknown parent, too many sequences) fails that segment.
 * `segments` is copied. */
void attention_begin_step(struct attention *attention, uint64_t step,
                          const struct attention_segment *segments, uint32_t n_segments);

/* Whether remote holders take part in this step: then q, k and v leave while others are
 * computed. */
bool attention_has_remote(const struct attention *attention);

/* Layers are counted in the whole model: first_layer, first_layer + 1 ... in turn, and for each one
 * query, append and finish in this order. k and v have all rows of the step. q and out have them
 * too, but in the model's last layer (config.last): there they have the needed rows of all
 * segments, one after the other.
 *
 * q: [rows][n_kv_heads][group][head_dim], with RoPE; must stay until attention_finish. q, k, v and
 * out are device memory. Nothing waits for the device unless a remote holder takes part. */
void attention_query(struct attention *attention, uint32_t layer, const float *q);

/* Where k (with RoPE) and v, [rows][n_kv_heads][head_dim], are to be when append is called, rounded to
 * the type (kernels.h, turn): device memory of this step. NULL: the step could have none. */
struct attention_kv {
    enum kv_type type;
    void *k, *v;
};
struct attention_kv attention_kv(const struct attention *attention);

void attention_append(struct attention *attention, uint32_t layer);

/* out: [rows][n_kv_heads][group][head_dim]. */
void attention_finish(struct attention *attention, uint32_t layer, float *out);

/* Steps in which the rest of attention may be recorded too (recordings.h): one local holder has
 * everything, and each segment is one token. Then two calls may stand for query, append and finish,
 * of which the second one is the device's alone:
 *     attention_prepare   pages are taken, tiles planned, the device told; *kind: what was recorded of a layer's
 *                         launch serves as long as it is the same. False: something has failed, and
 *                         the launch must not be recorded
 *     attention_launch    k and v are put into their tiles, tiles evaluated
 * in this order, layer after layer. */
bool attention_may_prepare(const struct attention *attention);
bool attention_prepare(struct attention *attention, uint32_t layer, const float *q, float *out,
                       uint64_t *kind);
enum status attention_launch(struct attention *attention, uint32_t layer, float *out,
                             struct error *error);

/* The failures of this step: *error of segment i, or NULL. Valid until the next begin. Also
 * advances the sequences' open tiles. */
void attention_end_step(struct attention *attention);
const struct error *attention_segment_error(const struct attention *attention, uint32_t segment);

/* Microseconds that the last step waited for holders. */
uint64_t attention_wait_us(const struct attention *attention);
/* The same by layer of this stage, *n_layers of them; changed by the next begin. */
uint32_t *attention_layer_wait_us(const struct attention *attention, uint32_t *n_layers);
void attention_traffic(const struct attention *attention, uint32_t holder,
                       struct attention_traffic *traffic);

/* Device memory for the open tiles of all sequences; a GPU's is taken as they come. */
uint64_t attention_tile_bytes(const struct attention *attention);

/* Bytes of pages that the local holder may use on this rank; 0 without one. */
uint64_t attention_local_bytes(const struct attention *attention);

#endif

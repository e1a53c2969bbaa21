/* plan/estimate.h - how long a token, and a prompt, will take on a divided model: from rates that
 * somebody measured or gave, and the laws that bound a step.
 *
 * A step passes through the stages one after the other. In a stage:
 *     weights   the slowest rank reads its weights, or computes its products, whichever takes longer
 *     KV        the same ranks read their own KV cache; or, with attention nodes, the slowest node reads its
 *               stripes of the sequence (a sequence of one stripe is all at one node). Or attention's
 *               arithmetic, where that takes longer.
 *     links     with nodes, one exchange a layer: a round trip, the query and the partials at the rate of the
 *               slower host; with more than one shard, two sums a layer; between stages, the rows. Nothing
 *               within one host.
 * Nothing of that overlaps here, although some of it does (the query leaves first): what is told at
 * best is what hardware needs at least, in this order. What is expected takes longer, by what is
 * reached of a machine's rates (estimate_reached). A rate that is not known makes what needs it
 * NAN, never zero. Pure. */
#ifndef LONGSPAN_PLAN_ESTIMATE_H
#define LONGSPAN_PLAN_ESTIMATE_H

#include "model/hparams.h"
#include "plan/capacity.h"
#include "plan/step_limit.h"

#include <stdbool.h>
#include <stdint.h>

/* What whole steps reach of a machine's rates
 * (docs/performance.md, "What longspan plan expected"). */
struct estimate_reach {
    double read;         /* of reading memory */
    double floats, int8; /* of the arithmetic of products, by the type of the weights */
    double attend;       /* of that of attention */
    double
        layer_s; /* seconds of a layer of a step, whatever it reads: kernels that start and wait */
};

/* On CPUs by `longspan bench` on one kind of machine, by steps of decode and by chunks of prompts.
 * On GPUs by one H200, of the rates that its data sheet has; of prompts with float weights only the
 * products were measured, and nothing of attention nodes on GPUs: layer_s is not counted there. */
struct estimate_reach estimate_reached(bool gpu, bool prompt);

enum estimate_kind { ESTIMATE_AT_BEST, ESTIMATE_EXPECTED };

/* What this process has of its device while others of its stage, or other nodes, compute beside it.
 * NAN: not known. `host`: an index of hosts. */
struct estimate_process {
    struct step_limit_machine machine;
    uint32_t host;
    bool gpu;
};

/* Between it and others: NAN where not known. */
struct estimate_host {
    double bytes_per_s, round_trip_s;
};

struct estimate_cluster {
    const struct capacity *capacity;
    const struct hparams *hparams;
    const struct estimate_process *ranks; /* [workers] */
    const struct estimate_process *nodes; /* [nodes] */
    const double *shares;                 /* [nodes] of the tokens, together 1 */
    const struct estimate_host *hosts;
    uint32_t head;   /* the coordinator's host */
    uint32_t stripe; /* tokens */
};

struct estimate_time {
    double weights_s, kv_s, links_s;
};
double estimate_sum(const struct estimate_time *time);

/* A decode step of `rows` sequences behind `depth` tokens each; `slowest`, unless NULL: of the
 * stage that takes longest, which limits many sequences at once. */
struct estimate_time estimate_decode(const struct estimate_cluster *cluster,
                                     enum estimate_kind kind, double rows, uint64_t depth,
                                     struct estimate_time *slowest);

/* What one process has of that, of one sequence: a rank reads its weights and its own KV cache, a
 * node its stripes in all stages. Seconds at best. */
double estimate_rank(const struct estimate_cluster *cluster, uint32_t rank, uint64_t depth);
double estimate_node(const struct estimate_cluster *cluster, uint32_t node, uint64_t depth);

/* Expected tokens per second of all of n sequences behind `depth`, in as many micro-batches as
 * there are stages. */
double estimate_decode_rate(const struct estimate_cluster *cluster, uint32_t n, uint64_t depth);

/* Expected: tokens per second that a prompt is read with behind `depth`, in chunks, as many at once
 * as there are stages; and seconds that one of so many tokens takes from its beginning on. */
double estimate_prefill_rate(const struct estimate_cluster *cluster, uint64_t depth);
double estimate_prefill(const struct estimate_cluster *cluster, uint64_t tokens);

/* What crosses between one rank and a node in a layer, in a step of one row: bytes. */
struct estimate_exchange {
    double query, answer; /* waited for */
    double append;        /* to the node that holds the new token; not waited for */
};
struct estimate_exchange estimate_exchange(const struct estimate_cluster *cluster, uint32_t rank,
                                           uint64_t depth);

/* Bytes of a row between stages; of a sum of a row, from each of the ranks to each other. */
double estimate_row_bytes(const struct estimate_cluster *cluster);

/* The depth from which on a step with the attention nodes is expected to take less time than one in
 * which the ranks have the KV cache themselves; 0: always; INFINITY: never; NAN: not known. What
 * fits is another question. */
double estimate_break_even(const struct estimate_cluster *cluster);

#endif

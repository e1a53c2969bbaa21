/* cluster/bench_limit.h - how fast a step could be at best on this hardware.
 *
 * A step reads every weight once (of the embedding only its rows; of experts those that its rows are
 * routed to: of E experts of which a row uses k, n rows meet E (1 - (1 - k / E)^n) if each choice is
 * as likely as another, so for one row it is k) and the KV cache of each sequence
 * once, and does a multiplication and an addition for every weight and row, and for every row,
 * query head, dimension and earlier token twice: in scores and in values. The limit is the longer
 * one of the bytes over the read bandwidth, and the arithmetic over what the lanes can do: products
 * of blocks with 8-bit integers, of floats in f32 (in bf16 where the kernels round them), everything
 * else in f32. Nothing overlaps better than that. */
#ifndef LONGSPAN_CLUSTER_BENCH_LIMIT_H
#define LONGSPAN_CLUSTER_BENCH_LIMIT_H

#include "cluster/bench_cases.h"
#include "kernels/quant/kv_type.h"
#include "sys/status.h"
#include "sys/thread_pool.h"

#include <stdbool.h>
#include <stdint.h>

/* Of products, by the arithmetic that they need. */
struct bench_limit_operations {
    double f32, int8;
};

/* What a model asks of a step. */
struct bench_limit_model {
    uint64_t weight_bytes;                /* that a step reads, without experts' */
    uint64_t expert_bytes;                /* of all experts */
    double expert_share;                  /* of the experts, that a row uses; 0: there are none */
    struct bench_limit_operations layers; /* of one row */
    struct bench_limit_operations output; /* of one row whose token is predicted */
    double attend_operations;             /* of one row and one earlier token */
    double kv_token_bytes;                /* of one token, all layers */
    uint32_t vocab;                       /* tokens that there are */
};

/* Reads the header of a GGUF file that was checked before. */
enum status bench_limit_model_read(struct bench_limit_model *model, const char *path,
                                   enum kv_type kv_type, struct error *error);

/* What the lanes can do. */
struct bench_limit_machine {
    double read_bytes_per_s, f32_per_s, int8_per_s;
    double floats_per_s; /* products with F32, F16 and BF16 weights: f32_per_s, or of bf16 */
};

struct bench_limit {
    double seconds;           /* of a step */
    double bytes, operations; /* that it reads and does */
    bool arithmetic;          /* takes longer than the bytes */
};

/* Of a decode step, or of a whole prefill. */
struct bench_limit bench_limit_of(const struct bench_limit_model *model,
                                  const struct bench_limit_machine *machine,
                                  const struct bench_case *bench_case);

#endif

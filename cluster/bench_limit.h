/* cluster/bench_limit.h - how fast a step could be at best on this hardware.
 *
 * A step reads the weights (of the embedding only its rows, of experts those that its rows meet)
 * and the KV cache of each sequence once (plan/shard_cost.h), and does a multiplication and an
 * addition for every weight and row, and for every row, query head, dimension and earlier token
 * twice: in scores and in values. Of a prompt's rows all but the last end as keys and values of the last
 * layer. The limit is the longer one of bytes and arithmetic
 * (plan/step_limit.h); products of floats count in f32, or in bf16 where the kernels round them. */
#ifndef LONGSPAN_CLUSTER_BENCH_LIMIT_H
#define LONGSPAN_CLUSTER_BENCH_LIMIT_H

#include "cluster/bench_cases.h"
#include "kernels/quant/kv_type.h"
#include "plan/step_limit.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

/* What a model asks of a step. */
struct bench_limit_model {
    struct shard_cost weights; /* of all of it */
    double attend_operations;  /* of one row and one earlier token, all layers */
    double attend_last;        /* of them: of the last layer */
    double kv_token_bytes;     /* of one token, all layers */
    uint32_t vocab;            /* tokens that there are */
};

/* Reads the header of a GGUF file that was checked before. */
enum status bench_limit_model_read(struct bench_limit_model *model, const char *path,
                                   enum kv_type kv_type, struct error *error);

struct bench_limit {
    double seconds;           /* of a step */
    double bytes, operations; /* that it reads and does */
    bool arithmetic;          /* takes longer than the bytes */
};

/* Of a decode step, or of a whole prefill. */
struct bench_limit bench_limit_of(const struct bench_limit_model *model,
                                  const struct step_limit_machine *machine,
                                  const struct bench_case *bench_case);

#endif

/* cluster/plan_memory.h - what the processes of a plan need of their devices' memory, and which of
 * it is used up first. */
#ifndef LONGSPAN_CLUSTER_PLAN_MEMORY_H
#define LONGSPAN_CLUSTER_PLAN_MEMORY_H

#include "cluster/layout.h"
#include "cluster/plan_facts.h"
#include "model/hparams.h"
#include "plan/capacity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plan_memory {
    const struct hparams *hparams;
    const struct layout *layout;
    const struct plan_facts *facts; /* applied to `capacity` */
    const struct capacity *capacity;
    uint32_t max_batch;
};

/* What a rank computes in (plan/working_size.h). */
uint64_t plan_memory_working(const struct plan_memory *memory, uint32_t rank);

/* What a rank's own holder takes; 0: it has none, or what it takes is not known. */
uint64_t plan_memory_local_kv(const struct plan_memory *memory, uint32_t rank);

/* Of all devices of that name together: what they have (0: not known), and what their processes
 * need. */
uint64_t plan_memory_of_device(const struct plan_memory *memory, uint32_t device);
uint64_t plan_memory_needed(const struct plan_memory *memory, uint32_t device);

/* Whether it is known what all KV holders have. */
bool plan_memory_known(const struct plan_memory *memory);

/* Writes which limit sequences of so many tokens meet first, when `fitting` of them fit. */
void plan_memory_runs_out(const struct plan_memory *memory, uint64_t n_tokens, uint64_t fitting,
                          char *text, size_t size);

#endif

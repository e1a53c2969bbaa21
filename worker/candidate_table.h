/* worker/candidate_table.h - what is told of some rows of logits: of each its best candidates, its
 * log-sum-exp, and the logit of one token that somebody names.
 *
 * Each shard of the last stage has the logits of its part of the vocabulary. Its device finds the
 * best of its part, so that the rest need not leave it; shard 0 collects and merges. The rows may
 * be found in several pieces, whose logits need not be there at the same time. Memory grows with
 * the largest table.
 *
 *     begin ─▶ the caller fills k and named ─▶ find, piece by piece ─▶ merge, all shards
 * together */
#ifndef LONGSPAN_WORKER_CANDIDATE_TABLE_H
#define LONGSPAN_WORKER_CANDIDATE_TABLE_H

#include "kernels/candidates.h"
#include "kernels/kernels.h"
#include "sys/status.h"
#include "sys/thread_pool.h"
#include "worker/group.h"
#include "worker/setup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CANDIDATE_TABLE_UNNAMED = -1 };

/* Where logits come from and meet; all is borrowed. `shards`: what each shard of the stage holds,
 * [tensor]. */
struct candidate_source {
    struct thread_pool *pool;
    const struct kernels *kernels;
    struct device *device;
    struct group *group;
    const struct shard_part *shards;
};

/* Memory that grows; content is not kept. */
struct growing {
    void *data;
    size_t bytes;
};

/* Zero is a table of nothing, but for `source`. */
struct candidate_table {
    const struct candidate_source *source;
    uint32_t n_rows;
    size_t stride;

    /* Wished for, [n_rows]. */
    uint32_t *k;    /* candidates of each row, `stride` at most */
    int32_t *named; /* a token of the vocabulary, or CANDIDATE_TABLE_UNNAMED */

    /* Found: of the own part of the vocabulary; on shard 0, after the merge, of the whole. */
    const struct candidates_sum *sums; /* [n_rows] */
    const struct candidate *best;      /* row i: sums[i].count from best + i * stride on */
    const float *named_logits;         /* [n_rows] */

    struct growing wishes, mine, all, merged, picked; /* private */
};

/* NULL is fine. */
void candidate_table_close(struct candidate_table *table);

/* A table of n_rows rows of at most `stride` candidates: k and named are to be filled.
 * STATUS_NO_MEMORY. */
enum status candidate_table_begin(struct candidate_table *table, uint32_t n_rows, size_t stride,
                                  struct error *error);

/* Must the logits of this table's rows be on the host too, since it wants more candidates than the
 * device finds? */
bool candidate_table_needs_host(const struct candidate_table *table);

/* Rows [first, first + n), whose logits [n][own part of the vocabulary] are made on the device;
 * `host`: where they are downloaded to, if they have to be. The device has then done all that it
 * was asked. */
enum status candidate_table_find(struct candidate_table *table, uint32_t first, uint32_t n,
                                 const float *logits, const float *host, struct error *error);

/* All shards of the stage together, once every row has been found. */
enum status candidate_table_merge(struct candidate_table *table, struct error *error);

/* STATUS_NO_MEMORY. */
enum status growing_reserve(struct growing *memory, size_t n, size_t size, struct error *error);

#endif

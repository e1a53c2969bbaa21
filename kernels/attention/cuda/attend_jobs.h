/* kernels/attention/cuda/attend_jobs.h - the schedule of one call as a device reads it.
 *
 * Made on the host from the plan's cuts (kernels/attention/attend_plan.h), all of it in one block
 * of memory that goes to the device in one copy. A thread block walks one share: some *segments*,
 * each an interval of one output's tree, evaluated from nothing. A segment that is a whole node
 * goes straight to the work's `out`, and one that is everything that a work with final_out sees
 * becomes its finished rows. Others are *parts* of a *join* (a split node; the past and the own
 * tile of a work with final_out): they go to scratch memory. A share arrives at a join with the
 * last of its parts there; who arrives last merges all of them, by a list that says after each part
 * how many merges follow. A join has JOIN_PARTS parts at most: where there would be more, whole
 * subtrees are joins of their own, and what comes of them is a part, so that many thread blocks
 * merge at the same time. Bits depend neither on the cut nor on this. Host and device. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_JOBS_H
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct attend_plan;

#define JOBS_NONE UINT32_MAX

/* Parts of a join, at most; and so many that a node of the tree becomes one of its own. A join
 * of another one's results is waited for, and so is a long one. */
enum { JOIN_PARTS = 16, JOIN_EARLY = 8 };

/* A row block of a work. */
struct job_output {
    const float *q; /* row r of the work: q + r / group * q_token_stride + r % group * head_dim */
    uint64_t q_token_stride;
    float *out; /* the work's partials */
    float *final_out;
    uint64_t final_token_stride;
    uint32_t row_begin, n_rows; /* this block's */
    uint32_t work_rows;
    uint32_t window;                        /* as in struct attend_work */
    uint32_t first_position, last_position; /* of this block's rows */
    uint32_t row_offset;                    /* of the first row in the group of its token */
    uint32_t n_tiles;                       /* before the own tile, whose number this is */
    uint32_t visible_from;                  /* the first tile that any row sees */
    uint32_t n_settled;  /* tiles from the first on that may be read before the kernels ahead end */
    uint32_t first_page; /* in the table of pages; its first tile is page_tile */
    uint32_t page_tile, page_tiles;
};

struct job_segment {
    uint32_t output;
    uint32_t begin, end; /* tiles; [n_tiles, n_tiles + 1): the own tile */
    uint32_t node; /* of the work's partials; JOBS_NONE: the finished rows; when it is no part */
    uint32_t join, part; /* JOBS_NONE, or the join and the number of this part in scratch memory */
    uint32_t arrives;    /* with this one, the share's parts of the join are there */
};

struct job_join {
    uint32_t first_part, n_parts;
    uint32_t n_arrivals; /* of shares that have parts of it, and of joins that are parts of it */
    uint32_t output;
    uint32_t node; /* what comes of it: a node; JOBS_NONE: the finished rows; when it is no part */
    uint32_t join, part; /* as of a segment */
};

/* What a thread block copies first, so that it need not go from table to table: tiles side by
 * side. */
struct job_start {
    const char *tile;
    uint32_t n_tiles; /* 0: look into the tables */
    uint32_t unused;
};

/* One call. The tables lie in one block of `bytes`, each at the offset of its name. */
struct jobs {
    void *scratch; /* host memory, where they are made: */
    size_t scratch_room;
    struct job_segment *segments;
    struct job_join *joins;
    uint32_t *shares, *pending, *merges;
    size_t bytes;
    uint32_t n_shares, n_segments, n_outputs, n_joins, n_parts, n_pages;
    uint32_t most_tiles; /* of an output: as deep are trees */
    size_t outputs_at, segments_at, shares_at, joins_at, pending_at, merges_at, pages_at;
    /* shares: uint32 [n_shares + 1], segments of each; pending: uint32 [n_joins], shares that have
     * not arrived (afterwards n_arrivals again); merges: uint32 [n_parts]; pages: pointers
     * [n_pages] */
};

/* What a share costs, in any unit of time: its tiles, and each of its segments but the first. */
struct jobs_costs {
    uint64_t tile, part;
    uint32_t most_shares; /* so many thread blocks are there; 0: shares stay as the plan has them */
};

/* All but the block itself, of a plan that was cut. Thread blocks without a share take over
 * segments of the shares that would end last. false: no memory. */
bool jobs_make(struct jobs *jobs, const struct attend_plan *plan, size_t n_works,
               const struct jobs_costs *costs);

/* Writes the block, `bytes` large; plan->works[i].work is read once more: where the work's q, pages
 * and results are, which may be others than when the plan was made. settled: its settled_tiles
 * count. */
void jobs_pack(const struct jobs *jobs, const struct attend_plan *plan, size_t n_works,
               bool settled, void *block);

/* Of a block that was packed: where share i begins, for all i < n; tile_bytes: of one. Only settled
 * tiles are told. */
void jobs_starts(const struct jobs *jobs, const void *block, size_t tile_bytes,
                 struct job_start *starts, uint32_t n);

/* Frees what jobs_make took. */
void jobs_clear(struct jobs *jobs);

#endif

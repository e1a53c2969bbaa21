/* worker/attention_plan.h - who evaluates what in a step: the same for every layer of the rank.
 *
 *     part    one segment of the step
 *     run     tokens of a part that ask and lie in one tile: rows that share their whole tiles [0, tile)
 *     piece   what one source gives to a run: the nodes (tree.h) over the source's tiles, per head
 *     entry   the rows of a part that one remote holder is asked about
 *
 * A source is a KV holder; or the rank's own tiles, from the tile of the part's first token to the
 * row's own tile; or nothing: tiles that lie outside the sliding window of all rows, which still
 * have to be named, because a fold accepts only what covers all tiles exactly once. The pieces of a
 * run cover [0, tile). Pieces of a remote holder are linked in the order of its reply. All arrays
 * are reused from step to step.
 *
 * A plan is of one window; attention_plans.h has one for each. In the model's last layer only rows
 * ask that are needed behind it (`needed_only`): q and what is attended have those rows alone, one
 * after the other. All tokens are appended, there too.
 *
 * Where one local holder has everything (`whole_holder`), a run is one piece: that holder's tiles,
 * the own tile among them, from which a device makes finished rows at once (attend.h,
 * final_out). */
#ifndef LONGSPAN_WORKER_ATTENTION_PLAN_H
#define LONGSPAN_WORKER_ATTENTION_PLAN_H

#include "sys/status.h"
#include "worker/attention_sequence.h"

#define ATTENTION_OWN   UINT32_MAX
#define ATTENTION_BLANK (UINT32_MAX - 1)
static const size_t ATTENTION_NONE = SIZE_MAX; /* the end of a list */

struct attention_part {
    struct attention_sequence *sequence; /* NULL: it failed before it began */
    uint64_t id;
    uint32_t incarnation;
    uint32_t position, n_tokens, row; /* row: of its first token in the step */
    uint32_t n_needed, needed; /* its last rows, needed behind the model's last layer; the first of
                                * them, counted among those of the step */
    uint32_t first_tile, n_tiles; /* tiles that its tokens lie in */
    bool fill;                    /* its rows attend to nothing */
    size_t first_page;  /* where its own tiles are: pages[first_page + head * n_tiles + tile] */
    size_t first_chunk; /* its chunk tiles: all but the first, tile by tile within each head */
    struct error error; /* not STATUS_OK: it failed, its rows become zeros */
};

struct attention_run {
    uint32_t part, row, n_tokens, position, tile;
    size_t n_rows; /* query rows: n_tokens * group */
    size_t first_piece, n_pieces;
};

struct attention_piece {
    uint32_t source; /* index of a holder, or ATTENTION_OWN, ATTENTION_BLANK */
    uint32_t run;
    size_t first_range, n_ranges;
    size_t first_node, n_nodes;
    size_t head_floats; /* of one head, the own tile included */
    size_t offset;      /* of its first head: in the rank's memory, or in the holder's reply */
    size_t next;        /* of this holder */
};

struct attention_entry {
    struct attention_sequence *sequence;
    uint32_t part;                /* ATTENTION_NO_PART: no rows, only to hear what the holder has */
    size_t first_range, n_ranges; /* its tiles; none: likewise */
    size_t next;
};

/* New tokens of a part that one holder will hold. */
struct attention_plan_append {
    uint32_t part;
    struct span tokens;
};

/* Of one holder. */
struct attention_plan_list {
    size_t first_entry, last_entry, n_entries;
    size_t first_piece, last_piece;
    size_t first_append, n_appends; /* one after the other */
};

/* Which of the plan's ranges are a holder's, before the part that is planned. */
struct attention_plan_held {
    size_t first_range, n_ranges;
};

struct attention_plan_shape {
    uint32_t head_dim, group, n_heads, n_holders;
    uint32_t window;    /* tokens; 0: none */
    bool needed_only;   /* of the model's last layer: rows that are not needed ask nothing */
    const bool *remote; /* [n_holders] */
    bool whole_holder;  /* holder 0 is the only one, and not remote: runs are whole */
};

struct attention_plan {
    struct attention_plan_shape shape;
    struct attention_run *runs;
    struct attention_piece *pieces;
    struct attention_entry *entries;
    struct attention_plan_append *appends;
    struct tile_range *ranges, *nodes;
    struct attention_plan_list *lists; /* [n_holders] */
    struct attention_plan_held *held;  /* [n_holders], scratch: of the part that is planned */
    size_t n_runs, n_pieces, n_entries, n_appends, n_ranges, n_nodes;
    size_t runs_capacity, pieces_capacity, entries_capacity, appends_capacity;
    size_t ranges_capacity, nodes_capacity;
    size_t own_floats; /* memory for the pieces that are evaluated here */
    size_t n_pages, n_chunk_tiles;
};

/* STATUS_NO_MEMORY. `shape.remote` stays the caller's. */
enum status attention_plan_open(struct attention_plan *plan,
                                const struct attention_plan_shape *shape, struct error *error);
/* Zeroed memory is fine. */
void attention_plan_close(struct attention_plan *plan);

void attention_plan_reset(struct attention_plan *plan);

/* The rows of a part that ask: where they are in q and in what is attended, and the position of the
 * first. */
struct attention_asking {
    uint32_t row, n_tokens, position;
};
struct attention_asking attention_plan_asking(const struct attention_plan *plan,
                                              const struct attention_part *part);

/* Plans part number `index`: its rows and fill are set, the rest is set here.
 * STATUS_INVALID: some tile before it has no holder. STATUS_NO_MEMORY. The caller marks the part as
 * failed then; what was planned for it is left out later like that of any failed part. */
enum status attention_plan_add(struct attention_plan *plan, struct attention_part *part,
                               uint32_t index, struct error *error);

/* Plans which holder gets which new tokens, after all parts. STATUS_NO_MEMORY. */
enum status attention_plan_appends(struct attention_plan *plan, const struct attention_part *parts,
                                   uint32_t n_parts, struct error *error);

/* Asks `holder` what it has of the sequence, without rows: for those it is asked nothing else
 * about. STATUS_NO_MEMORY. */
enum status attention_plan_confirm(struct attention_plan *plan, uint32_t holder,
                                   struct attention_sequence *sequence, struct error *error);

/* Whether some remote holder is asked, or gets tokens. */
bool attention_plan_asks(const struct attention_plan *plan);
bool attention_plan_sends(const struct attention_plan *plan);

/* Makes *items, of `bytes` each, hold at least n; content stays. STATUS_NO_MEMORY. */
enum status attention_grow(void *items, size_t *capacity, size_t n, size_t bytes,
                           struct error *error);

#endif

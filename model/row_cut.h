/* model/row_cut.h - matrices that a file holds as one, each one's rows below those of another.
 *
 * Files of Phi 3 and GLM 4 have, in a layer,
 *     attn_qkv.weight  [hidden, (n_heads + 2 n_kv_heads) head_dim]  for attn_q, attn_k and attn_v
 *     ffn_up.weight    [hidden, 2 ffn], and no ffn_gate.weight      for ffn_gate and ffn_up
 * A row is one piece of bytes, so each of them is a part of the whole one's. */
#ifndef LONGSPAN_MODEL_ROW_CUT_H
#define LONGSPAN_MODEL_ROW_CUT_H

#include "model/model_entry.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

enum { ROW_CUT_MOST = 3 }; /* tensors that one may become */

struct row_cut; /* opaque: one such tensor */

struct row_cuts {
    struct row_cut *cuts;
    size_t n;
};

/* What the model's keys say; 0: they do not, and nothing is cut by it. */
struct row_cut_shape {
    uint32_t n_heads, n_kv_heads, ffn;
};

/* Puts in the place of each such tensor what it holds; `tensors` has room for ROW_CUT_MOST * n. One
 * whose rows do not divide as they must stays as it is: weights_check names it. Of `cuts`, all
 * zeros, even on failure the caller frees what there is by row_cuts_free; the list's tensors
 * outlive it. STATUS_NO_MEMORY. */
enum status row_cuts_make(struct row_cuts *cuts, const struct row_cut_shape *shape,
                          const struct model_tensor **tensors, size_t *n, const char *path,
                          struct error *error);
void row_cuts_free(struct row_cuts *cuts);

#endif

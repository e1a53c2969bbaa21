/* model/expert_stack.h - experts that a file holds one by one, as tensors of three dimensions.
 *
 * Old files of Mixtral have a matrix for each expert, as Hugging Face directories do:
 *     blk.3.ffn_gate.0.weight ... blk.3.ffn_gate.7.weight      (likewise ffn_up, ffn_down)
 * Together they become blk.3.ffn_gate_exps.weight, as newer files have it, whose matrices lie
 * apart: its `data` is NULL. */
#ifndef LONGSPAN_MODEL_EXPERT_STACK_H
#define LONGSPAN_MODEL_EXPERT_STACK_H

#include "model/model_entry.h"
#include "model/string_table.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct expert_stack; /* opaque: one such tensor */

struct expert_stacks {
    struct expert_stack *stacks;
    size_t n;
    struct string_table by_name;
};

/* Takes experts out of the list and puts each stack where the first of its experts was. Of
 * `stacks`, all zeros, even on failure the caller frees what there is by expert_stacks_free; the
 * list's tensors outlive it. STATUS_INVALID: an expert is missing, or has another shape or type
 * than the first one. STATUS_NO_MEMORY. Error texts begin with `path`. */
enum status expert_stacks_make(struct expert_stacks *stacks, const struct model_tensor **tensors,
                               size_t *n, const char *path, struct error *error);
void expert_stacks_free(struct expert_stacks *stacks);

/* The tensor that holds one expert of a stack; NULL: `tensor` is none. */
const struct model_tensor *expert_stacks_find(const struct expert_stacks *stacks,
                                              const struct model_tensor *tensor, uint64_t expert);

#endif

/* row_cut.c - from the end of the list to its beginning: what is moved is never overwritten. */
#include "model/row_cut.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64 };

struct row_cut {
    struct model_tensor tensor;
    char name[NAME_BYTES];
};

/* What a tensor becomes: names behind "blk.N.", and how many equal shares of its rows each has. */
struct parts {
    uint32_t n;
    const char *names[ROW_CUT_MOST];
    uint64_t shares[ROW_CUT_MOST];
};

/* "blk.3.ffn_up.weight" is ffn_up.weight of layer 3. */
static bool is_of_layer(const char *name, const char *suffix, uint32_t *layer)
{
    char canonical[NAME_BYTES];
    if (sscanf(name, "blk.%6u.", layer) != 1)
        return false;
    snprintf(canonical, sizeof(canonical), "blk.%u.%s", *layer, suffix);
    return strcmp(name, canonical) == 0;
}

static bool find_parts(struct parts *parts, const struct row_cut_shape *shape,
                       const struct model_tensor *tensor, uint32_t *layer)
{
    const struct parts qkv = {3,
                              {"attn_q.weight", "attn_k.weight", "attn_v.weight"},
                              {shape->n_heads, shape->n_kv_heads, shape->n_kv_heads}};
    const struct parts gate_up = {2, {"ffn_gate.weight", "ffn_up.weight"}, {1, 1}};
    if (tensor->n_dims != 2)
        return false;
    if (is_of_layer(tensor->name, "attn_qkv.weight", layer))
        *parts = qkv;
    else if (shape->ffn > 0 && tensor->dims[1] == 2 * (uint64_t)shape->ffn &&
             is_of_layer(tensor->name, "ffn_up.weight", layer))
        *parts = gate_up;
    else
        return false;
    const uint64_t shares = parts->shares[0] + parts->shares[1] + parts->shares[2];
    return parts->shares[0] > 0 && parts->shares[1] > 0 && tensor->dims[1] % shares == 0;
}

/* The parts, one below the other; they begin at cuts->cuts[cuts->n]. */
static void cut(struct row_cuts *cuts, const struct parts *parts, const struct model_tensor *whole,
                uint32_t layer)
{
    uint64_t shares = 0, before = 0;
    for (uint32_t i = 0; i < parts->n; i++)
        shares += parts->shares[i];
    const uint64_t share_bytes = whole->n_bytes / shares;
    for (uint32_t i = 0; i < parts->n; i++) {
        struct row_cut *part = &cuts->cuts[cuts->n++];
        snprintf(part->name, sizeof(part->name), "blk.%u.%s", layer, parts->names[i]);
        part->tensor = *whole;
        part->tensor.name = part->name;
        part->tensor.dims[1] = whole->dims[1] / shares * parts->shares[i];
        part->tensor.n_bytes = share_bytes * parts->shares[i];
        part->tensor.offset += share_bytes * before;
        part->tensor.data = (const uint8_t *)whole->data + share_bytes * before;
        before += parts->shares[i];
    }
}

enum status row_cuts_make(struct row_cuts *cuts, const struct row_cut_shape *shape,
                          const struct model_tensor **tensors, size_t *n, const char *path,
                          struct error *error)
{
    struct parts parts;
    uint32_t layer;
    size_t n_parts = 0, n_whole = 0;
    for (size_t i = 0; i < *n; i++)
        if (find_parts(&parts, shape, tensors[i], &layer)) {
            n_parts += parts.n;
            n_whole++;
        }
    if (n_whole == 0)
        return STATUS_OK;
    if ((cuts->cuts = calloc(n_parts, sizeof(*cuts->cuts))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tensors", path);
    size_t to = *n - n_whole + n_parts;
    const size_t n_all = to;
    for (size_t i = *n; i-- > 0;) {
        const struct model_tensor *tensor = tensors[i];
        if (!find_parts(&parts, shape, tensor, &layer)) {
            tensors[--to] = tensor;
            continue;
        }
        cut(cuts, &parts, tensor, layer);
        for (uint32_t k = 1; k <= parts.n; k++)
            tensors[--to] = &cuts->cuts[cuts->n - k].tensor;
    }
    *n = n_all;
    return STATUS_OK;
}

void row_cuts_free(struct row_cuts *cuts)
{
    free(cuts->cuts);
    *cuts = (struct row_cuts){0};
}

/* partial.c - merging, and folding what several holders returned along the tree.
 *
 * A fold sorts its nodes from left to right and then does what tree_joins says. Nodes that do
 * not make up the tree over [0, n), whatever a peer sent, do not melt into one: that is the check.
 */
#include "kernels/attention/partial.h"

#include "kernels/attention/tile.h"

void partial_clear(float *partial, size_t n_rows, size_t head_dim)
{
    tile_partial_clear(tile_partial_at(partial, n_rows, head_dim, 0), n_rows, head_dim);
}

void partial_merge(float *a, const float *b, size_t n_rows, size_t head_dim)
{
    /* merge only reads its second partial. All variants give the same bits: the fastest will do. */
    tile_kernels_fastest()->merge(tile_partial_at(a, n_rows, head_dim, 0),
                                  tile_partial_at((float *)b, n_rows, head_dim, 0), n_rows,
                                  head_dim);
}

void partial_fold_reset(struct partial_fold *fold, uint32_t n_tiles, size_t n_rows, size_t head_dim)
{
    fold->n_tiles = n_tiles;
    fold->n_nodes = 0;
    fold->n_rows = n_rows;
    fold->head_dim = head_dim;
}

int partial_fold_add(struct partial_fold *fold, struct tile_range range, float *partial)
{
    if (fold->n_nodes == sizeof(fold->nodes) / sizeof(fold->nodes[0]))
        return 0;
    /* Kept sorted: a holder's nodes come in order, so the place is mostly the end. */
    uint32_t i = fold->n_nodes++;
    for (; i > 0 && fold->nodes[i - 1].range.begin > range.begin; i--)
        fold->nodes[i] = fold->nodes[i - 1];
    fold->nodes[i].range = range;
    fold->nodes[i].partial = partial;
    return 1;
}

/* The merge of all nodes, in one of their partials; NULL: they do not make up [0, n_tiles). */
static float *merge_nodes(struct partial_fold *fold)
{
    const struct tile_kernels *kernels = tile_kernels_fastest();
    const size_t n_rows = fold->n_rows, head_dim = fold->head_dim;
    uint32_t top = 0; /* nodes[0 .. top) is the stack of what is not merged yet */

    for (uint32_t i = 0; i < fold->n_nodes; i++) {
        fold->nodes[top++] = fold->nodes[i];
        while (top >= 2 &&
               tree_joins(fold->n_tiles, fold->nodes[top - 2].range, fold->nodes[top - 1].range)) {
            kernels->merge(tile_partial_at(fold->nodes[top - 2].partial, n_rows, head_dim, 0),
                           tile_partial_at(fold->nodes[top - 1].partial, n_rows, head_dim, 0),
                           n_rows, head_dim);
            fold->nodes[top - 2].range.end = fold->nodes[top - 1].range.end;
            top--;
        }
    }
    fold->n_nodes = 0;
    const bool whole =
        top == 1 && fold->nodes[0].range.begin == 0 && fold->nodes[0].range.end == fold->n_tiles;
    return whole ? fold->nodes[0].partial : NULL;
}

int partial_fold_finish(struct partial_fold *fold, float *own, float *out, size_t out_token_stride,
                        uint32_t group)
{
    const size_t n_rows = fold->n_rows, head_dim = fold->head_dim;
    float *result = own;

    if (fold->n_tiles > 0 || fold->n_nodes > 0) {
        result = merge_nodes(fold);
        if (result == NULL)
            return 0;
        if (own != NULL)
            partial_merge(result, own, n_rows, head_dim);
    }
    if (result == NULL)
        return 0; /* neither past nor present: nothing to attend to */

    const struct tile_partial rows = tile_partial_at(result, n_rows, head_dim, 0);
    for (size_t row = 0; row < n_rows; row++) {
        float *to = out + row / group * out_token_stride + row % group * head_dim;
        const float *o = rows.o + row * head_dim, l = rows.l[row];
        for (size_t d = 0; d < head_dim; d++)
            to[d] = l > 0.0f ? o[d] / l : l == 0.0f ? 0.0f : l; /* a NaN stays visible */
    }
    return 1;
}

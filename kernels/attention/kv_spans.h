/* kernels/attention/kv_spans.h - the token ranges that a holder owns of one sequence.
 *
 * A set of tokens as an ascending list of spans, adjacent ones joined. Pure, for kv_holder.c. */
#ifndef LONGSPAN_KERNELS_ATTENTION_KV_SPANS_H
#define LONGSPAN_KERNELS_ATTENTION_KV_SPANS_H

#include "kernels/attention/kv_holder.h"

#include <stdbool.h>

#define KV_MAX_TOKENS ((uint64_t)TREE_MAX_TILES * TILE_TOKENS) /* of one sequence: 2^31 */
#define KV_NO_TOKEN   UINT32_MAX

struct kv_spans {
    struct span *spans;
    size_t n;
};

/* Whether a peer's list ascends, is disjoint, and is cut at pages. STATUS_INVALID. */
enum status kv_spans_check(const struct span *spans, size_t n, struct error *error);

/* *united = a and the list, which was checked. false: no memory. Ended with kv_spans_clear. */
bool kv_spans_unite(struct kv_spans *united, const struct kv_spans *a, const struct span *spans,
                    size_t n);
void kv_spans_clear(struct kv_spans *spans);

/* Takes away the tokens from `token` on. */
void kv_spans_cut(struct kv_spans *spans, uint32_t token);

/* The first token of the set at or after `token`; KV_NO_TOKEN when there is none. */
uint32_t kv_spans_next(const struct kv_spans *spans, uint32_t token);

/* The first token at or after `token` that is not in the set. */
uint32_t kv_spans_next_gap(const struct kv_spans *spans, uint32_t token);

/* Pages of the set, from token `from` (a page's first) on. */
uint64_t kv_spans_pages(const struct kv_spans *spans, uint32_t from);

/* The most pages of the set, from token `from` on, in any n_pages consecutive pages. */
uint64_t kv_spans_most_pages(const struct kv_spans *spans, uint32_t from, uint32_t n_pages);

/* The first token, and the one after the last; 0 for the empty set. */
uint32_t kv_spans_begin(const struct kv_spans *spans);
uint32_t kv_spans_end(const struct kv_spans *spans);

#endif

/* model/tokenizer/pair_merge.h - byte-pair encoding's inner loop, for both kinds of tokenizer.
 *
 * A text begins as a list of symbols. The adjacent pair of the lowest order is joined into one
 * symbol, the leftmost among equals, until no pair has an order (Sennrich et al. 2016,
 * section 3.2). Candidates wait in a heap, symbols are a linked list: O(n log n), whatever the
 * text. */
#ifndef LONGSPAN_MODEL_TOKENIZER_PAIR_MERGE_H
#define LONGSPAN_MODEL_TOKENIZER_PAIR_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAIR_MERGE_NONE UINT32_MAX

struct pair_merge_symbol {
    uint32_t begin, n_bytes; /* in the text; n_bytes 0: joined to the symbol before */
    uint32_t previous, next; /* PAIR_MERGE_NONE at the ends */
    int32_t id;              /* token, or -1 */
};

struct pair_merge_candidate {
    uint64_t key; /* order << 32 | left symbol: the smallest is joined first */
    uint32_t n_bytes;
    int32_t id;
};

/* Memory that is kept from one text to the next. Zero-initialised is empty. */
struct pair_merge {
    struct pair_merge_symbol *symbols;
    size_t n_symbols, symbols_capacity;
    struct pair_merge_candidate *heap;
    size_t n_heap, heap_capacity;
};

/* Can the two neighbours be joined? Then their order (lower first) and the joined token. */
typedef bool pair_merge_rule(const void *rules, const char *text,
                             const struct pair_merge_symbol *left,
                             const struct pair_merge_symbol *right, uint32_t *order, int32_t *id);

/* Begins a new text. */
void pair_merge_reset(struct pair_merge *merge);

/* Appends a symbol that begins where the last one ended. False: no memory. */
bool pair_merge_append(struct pair_merge *merge, uint32_t n_bytes, int32_t id);

/* Joins to the end. Afterwards walk from symbol 0 along `next`. False: no memory. */
bool pair_merge_run(struct pair_merge *merge, const char *text, pair_merge_rule *rule,
                    const void *rules);

void pair_merge_free(struct pair_merge *merge);

#endif

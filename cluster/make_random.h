/* cluster/make_random.h - models of a given shape with seeded random weights.
 *
 * For tests and benchmarks: everything of a real model but sense. Matrices are scaled by
 * 1/sqrt(inputs), queries and logits some more, so that attention picks and the best logits stand
 * apart; norms are around 1. The same seed, shape, type and vocabulary give the same bytes. */
#ifndef LONGSPAN_CLUSTER_MAKE_RANDOM_H
#define LONGSPAN_CLUSTER_MAKE_RANDOM_H

#include "model/gguf.h"
#include "model/hparams.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct make_random_shape {
    struct hparams hparams;
    bool vocab_given; /* by the text: not to be replaced by that of another file's tokenizer */
};

/* The names of the shapes that are known, NULL at the end. */
extern const char *const make_random_presets[];

/* Reads "tiny", "layers=2,hidden=64,heads=4" (the rest as in tiny) or "tiny-96,layers=7": a preset
 * first, then changes. Keys: layers, hidden, heads, kv-heads, head-dim, ffn, vocab, ctx, rope-base.
 * head-dim is hidden / heads unless it is given. STATUS_INVALID: something else; an impossible
 * shape. */
enum status make_random_shape(struct make_random_shape *shape, const char *text,
                              struct error *error);

struct make_random_options {
    const struct make_random_shape *shape;
    enum gguf_type type; /* of matrices: F32, F16, Q8_0; norms are F32 */
    uint64_t seed;
    bool tied;                    /* no output.weight */
    const struct gguf *tokenizer; /* NULL: bytes, BOS, EOS, the rest unused */
    FILE *progress;               /* NULL, or a terminal for a line about large files */
};

/* Streams the file: memory for some rows only. STATUS_INVALID: rows that are no whole blocks of the
 * type, or a vocabulary that does not fit. STATUS_IO, STATUS_NO_MEMORY. */
enum status make_random(const char *path, const struct make_random_options *options,
                        struct error *error);

#endif

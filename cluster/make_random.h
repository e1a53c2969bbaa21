/* cluster/make_random.h - models of a given shape with seeded random weights.
 *
 * For tests and benchmarks: everything of a real model but sense. Matrices are scaled by
 * 1/sqrt(inputs), queries and logits some more, so that attention picks and the best logits stand
 * apart; norms are around 1, biases around 0. The same seed, shape, types and vocabulary give the
 * same bytes.
 *
 * F32 to Q8_0 are draws that are then rounded. Super-blocks (Q4_K, Q5_K, Q6_K) are drawn as blocks,
 * uniform integers under scales that give the same mean and variance, because the search for the
 * scales of a billion drawn weights takes a minute: see make_random_blocks.h. */
#ifndef LONGSPAN_CLUSTER_MAKE_RANDOM_H
#define LONGSPAN_CLUSTER_MAKE_RANDOM_H

#include "cluster/mixture.h"
#include "model/hparams.h"
#include "model/model_file.h"
#include "sys/log.h"
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
 * first, then changes. Keys: layers, hidden, heads, kv-heads, head-dim, ffn (of one expert where
 * there are some), experts, experts-used (2), experts-softmax-of-all, vocab, ctx, rope-base;
 * arch (llama when not given), biases=1 where the architecture may have them; window and
 * window-period; rope-scaling (linear, llama3, yarn; llama3 becomes rope_freqs.weight) with
 * rope-factor and rope-context, the context before scaling. head-dim is hidden / heads unless it is
 * given. STATUS_INVALID: something else; an impossible shape. */
enum status make_random_shape(struct make_random_shape *shape, const char *text,
                              struct error *error);

struct make_random_options {
    const struct make_random_shape *shape;
    const struct mixture *mixture; /* types of matrices; norms are F32 */
    uint64_t seed;
    bool tied;                          /* no output.weight */
    const struct model_file *tokenizer; /* NULL: bytes, BOS, EOS, the rest unused */
    const struct log *log;              /* NULL: says nothing */
    FILE *progress;                     /* NULL, or a terminal for a line about large files */
};

/* Streams the file: memory for some rows only. A tensor whose rows are no whole blocks of its type
 * gets one that fits (mixture_fitting_type), and the log says so.
 * STATUS_INVALID: a vocabulary that does not fit. STATUS_IO, STATUS_NO_MEMORY. */
enum status make_random(const char *path, const struct make_random_options *options,
                        struct error *error);

#endif

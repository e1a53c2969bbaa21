/* coordinator/penalties.h - logits changed before sampling, by what was said already and by the
 * client's wish.
 *
 *     repetition  l > 0 ? l / r : l * r     tokens of the prompt and of the answer (Keskar et al.
 *                                           2019, section 4.1)
 *     frequency   l - f times the count     tokens of the answer, as OpenAI defines it
 *     presence    l - p                     tokens of the answer
 *     bias        l + b                     last, so that -100 forbids whatever the rest says
 *
 * in this order. Penalties may also be negative, and biases positive: any token may then become the
 * best, so the whole row of logits is needed (sampler_settings.adjusts). One sequence's; no I/O. */
#ifndef LONGSPAN_COORDINATOR_PENALTIES_H
#define LONGSPAN_COORDINATOR_PENALTIES_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct penalties_bias {
    int32_t id;
    float bias;
};

struct penalties_settings {
    float presence, frequency;
    float repetition;                    /* 1 (or 0, what a message without the field says): none */
    const struct penalties_bias *biases; /* borrowed */
    size_t n_biases;
};

struct penalties; /* opaque */

/* STATUS_INVALID: no number, or beyond +-100 (repetition: not in [0.01, 100]), an id outside the
 * vocabulary. The text names value and limit. */
enum status penalties_check(const struct penalties_settings *settings, uint32_t vocab,
                            struct error *error);

/* Would they change anything? */
bool penalties_needed(const struct penalties_settings *settings);

/* The settings are checked; their biases outlive *penalties. The caller ends it with
 * penalties_destroy. STATUS_NO_MEMORY. */
enum status penalties_create(struct penalties **penalties,
                             const struct penalties_settings *settings, uint32_t vocab,
                             const int32_t *prompt, size_t n_prompt, struct error *error);
void penalties_destroy(struct penalties *penalties);

/* A token of the answer. */
void penalties_count(struct penalties *penalties, int32_t id);

/* Changes a row of `vocab` logits. */
void penalties_apply(const struct penalties *penalties, float *logits);

#endif

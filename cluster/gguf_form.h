/* cluster/gguf_form.h - what a model is in a GGUF file that any program reads: the differences of
 * Hugging Face directories undone.
 *
 *     longspan.rope.neox      where the architecture's files have adjacent pairs (llama, hence mistral
 *                             and mixtral), rows of attn_q and attn_k and their biases change places
 *     longspan.norm.offset    is added to the weights of norms
 *     rope.scaling of llama3  becomes the tensor rope_freqs.weight
 *     tokenizer.json          goes into the file whole (model/tokenizer_files.h)
 * and vectors are F32. The form of a model that comes from a GGUF file is that file's own. */
#ifndef LONGSPAN_CLUSTER_GGUF_FORM_H
#define LONGSPAN_CLUSTER_GGUF_FORM_H

#include "model/gguf_writer.h"
#include "model/hparams.h"
#include "model/model_file.h"
#include "model/weights.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct gguf_form {
    const struct model_file *file;
    uint32_t head_dim, rope_dims;
    bool pairs;          /* rows change places, from (i, i + rope_dims / 2) to (2i, 2i + 1) */
    float norm_offset;   /* to be added */
    float *rope_factors; /* NULL, or [rope_dims / 2]: rope_freqs.weight */
    const char *architecture;
};

/* The caller ends it with gguf_form_free. STATUS_NO_MEMORY; fails also as hparams_rope_frequencies.
 */
enum status gguf_form_make(struct gguf_form *form, const struct model_file *file,
                           const struct hparams *hparams, struct error *error);
void gguf_form_free(struct gguf_form *form);

/* Whether a key of the model stands in such a file. */
bool gguf_form_keeps(const struct gguf_form *form, const char *key);

/* The keys that the model does not have. A writer's first failure sticks. */
enum status gguf_form_add_keys(const struct gguf_form *form, struct gguf_writer *writer,
                               struct error *error);

/* Whether rows of this tensor change places; and which row of the model is row `row` of the
 * file. */
bool gguf_form_moves(const struct gguf_form *form, enum weights_id id);
uint64_t gguf_form_row(const struct gguf_form *form, uint64_t row);

#endif

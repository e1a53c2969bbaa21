/* cluster/model_keys.h - the metadata of the models that `longspan model make-...` writes. */
#ifndef LONGSPAN_CLUSTER_MODEL_KEYS_H
#define LONGSPAN_CLUSTER_MODEL_KEYS_H

#include "model/gguf_writer.h"
#include "model/hparams.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { MODEL_KEYS_BYTES = 256, MODEL_KEYS_BOS = 256, MODEL_KEYS_EOS = 257 };

/* The general.* keys and those of the architecture that give `hparams` back when they are read,
 * together with the tensors (weights_has); ROPE_LLAMA3 is a tensor. */
enum status model_keys_hparams(struct gguf_writer *writer, const struct hparams *hparams,
                               struct error *error);

/* A `gpt2` tokenizer without merges: token b < 256 is the byte b, 256 is BOS (added in front of
 * every text), 257 is EOS where `has_eos`, and the rest up to `vocab` are never produced by text.
 * With the chat template `plain`, that the model continues the last message.
 * STATUS_INVALID: a vocabulary too small for these. */
enum status model_keys_byte_tokenizer(struct gguf_writer *writer, uint32_t vocab, bool has_eos,
                                      struct error *error);

/* All tokenizer.* keys of another model. */
enum status model_keys_copy_tokenizer(struct gguf_writer *writer, const struct model_file *source,
                                      struct error *error);

#endif

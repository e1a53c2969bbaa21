/* model/huggingface/hf_directory.h - a model as Hugging Face's transformers saves it: a directory
 * with config.json, and model.safetensors, or several files and model.safetensors.index.json.
 *
 * Keys and tensors come out as a GGUF file of the same model would have them (hf_config.h,
 * hf_names.h), with the differences that hparams.h names. Experts, which are tensors of their own
 * there, have the names of those in old GGUF files; model_file.c puts them together
 * (expert_stack.h), and sees that no tensor is there twice. The chat template is that of
 * chat_template.jinja, else of tokenizer_config.json.
 *
 * Checked as it is opened: everything that safetensors.h and hf_config.h check, that the index
 * names what is there, and that each tensor is one that such a model has. */
#ifndef LONGSPAN_MODEL_HUGGINGFACE_HF_DIRECTORY_H
#define LONGSPAN_MODEL_HUGGINGFACE_HF_DIRECTORY_H

#include "model/model_entry.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct hf_directory; /* opaque; immutable after opening */

enum { HF_FINGERPRINT_BYTES = 32 };

/* The caller ends *directory with hf_directory_close. STATUS_NOT_FOUND: no config.json, or a file
 * of weights is missing; the text says which. STATUS_INVALID, STATUS_UNSUPPORTED: as above.
 * STATUS_IO, STATUS_NO_MEMORY. Error texts begin with the path of a file. */
enum status hf_directory_open(struct hf_directory **directory, const char *path,
                              struct error *error);

/* NULL is fine. */
void hf_directory_close(struct hf_directory *directory);

size_t hf_directory_key_count(const struct hf_directory *directory);
const struct model_key *hf_directory_key_at(const struct hf_directory *directory, size_t index);
size_t hf_directory_tensor_count(const struct hf_directory *directory);
const struct model_tensor *hf_directory_tensor_at(const struct hf_directory *directory,
                                                  size_t index);

/* config.json, the index where there is one, and the files of weights. */
size_t hf_directory_part_count(const struct hf_directory *directory);
const struct model_part *hf_directory_part_at(const struct hf_directory *directory, size_t index);

/* SHA-256 over config.json and what safetensors_hash takes of each file of weights. */
void hf_directory_fingerprint(const struct hf_directory *directory,
                              uint8_t fingerprint[HF_FINGERPRINT_BYTES]);

#endif

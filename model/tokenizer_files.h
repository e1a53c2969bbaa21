/* model/tokenizer_files.h - the JSON files that Hugging Face's tokenizers come in: beside the
 * weights of a directory, or, whole, as keys of a GGUF file that was made of one.
 *
 *     tokenizer.json          tokenizer.huggingface.json, as the GGUF specification calls it
 *     tokenizer_config.json   tokenizer.huggingface.tokenizer_config
 *     generation_config.json  tokenizer.huggingface.generation_config
 *     config.json             tokenizer.huggingface.config
 * Only the first has to be there; the others say which tokens are BOS and EOS. */
#ifndef LONGSPAN_MODEL_TOKENIZER_FILES_H
#define LONGSPAN_MODEL_TOKENIZER_FILES_H

#include "model/gguf_writer.h"
#include "model/model_file.h"
#include "sys/status.h"

#include <stdbool.h>

/* Is there one, of a model without keys tokenizer.ggml...? */
bool tokenizer_files_in(const struct model_file *file);

/* Adds those that a directory has as keys. STATUS_NOT_FOUND: there is no tokenizer.json. Fails also
 * as file_read and gguf_writer_add_string. */
enum status tokenizer_files_copy(struct gguf_writer *writer, const char *directory,
                                 struct error *error);

#endif

/* model/huggingface/hf_tensors.h - the tensors of a directory's files, as a GGUF file has them. */
#ifndef LONGSPAN_MODEL_HUGGINGFACE_HF_TENSORS_H
#define LONGSPAN_MODEL_HUGGINGFACE_HF_TENSORS_H

#include "model/huggingface/hf_config.h"
#include "model/model_entry.h"
#include "model/string_table.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct hf_tensors {
    struct hf_config config;
    struct model_tensor *items; /* [n]; names and widened vectors are owned */
    float **widened;            /* [n]; NULL: the data is in the file */
    size_t n;
    struct string_table table;
};

/* For tensors of files that have `n_tensors` together; *tensors is zero before, and the caller ends
 * it with hf_tensors_destroy, also on failure. STATUS_NO_MEMORY. */
enum status hf_tensors_create(struct hf_tensors *tensors, const struct hf_config *config,
                              size_t n_tensors, const char *path, struct error *error);

/* STATUS_UNSUPPORTED: no tensor of such a model. STATUS_INVALID: it is there twice. */
enum status hf_tensors_add(struct hf_tensors *tensors, const struct model_tensor *tensor,
                           const char *path, struct error *error);

/* After the last. STATUS_INVALID: the output matrix is missing. */
enum status hf_tensors_finish(struct hf_tensors *tensors, const char *path, struct error *error);

void hf_tensors_destroy(struct hf_tensors *tensors);

#endif

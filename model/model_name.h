/* model/model_name.h - what people call a model, by where it lies. */
#ifndef LONGSPAN_MODEL_MODEL_NAME_H
#define LONGSPAN_MODEL_MODEL_NAME_H

#include "model/model_entry.h"

/* A part of `path`: "Qwen3-8B" of "/models/Qwen3-8B.gguf", "/models/Qwen3-8B/" and
 * "/models/Qwen3-8B-00002-of-00003.gguf". Empty for "/" and "". */
struct model_string model_name(const char *path);

#endif

/* model/huggingface/hf_keys.h - a list of keys made in memory, in the form of those in a GGUF file.
 *
 * A failed allocation sticks in `failed`; the caller looks once, at the end. */
#ifndef LONGSPAN_MODEL_HUGGINGFACE_HF_KEYS_H
#define LONGSPAN_MODEL_HUGGINGFACE_HF_KEYS_H

#include "model/model_entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hf_keys {
    const char *prefix; /* the architecture */
    struct model_key *keys;
    size_t n, capacity;
    bool failed;
};

/* `name` is a key's whole name, or begins with a dot and gets `prefix` in front of it:
 * ".block_count". No name may be added twice. */
void hf_keys_add_u32(struct hf_keys *keys, const char *name, uint32_t value);
void hf_keys_add_f32(struct hf_keys *keys, const char *name, float value);
void hf_keys_add_bool(struct hf_keys *keys, const char *name, bool value);
void hf_keys_add_string(struct hf_keys *keys, const char *name, const char *text, size_t n_bytes);

void hf_keys_free(struct hf_keys *keys);

#endif

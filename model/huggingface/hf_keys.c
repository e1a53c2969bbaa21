/* hf_keys.c - see hf_keys.h. */
#include "model/huggingface/hf_keys.h"

#include "sys/array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct hf_keys *keys, const char *name, enum gguf_value_type type,
                const void *value, size_t n_bytes)
{
    if (!array_grow(&keys->keys, &keys->capacity, keys->n + 1, sizeof(*keys->keys))) {
        keys->failed = true;
        return;
    }
    char *whole = NULL;
    uint8_t *data = malloc(n_bytes);
    if (data == NULL || asprintf(&whole, "%s%s", name[0] == '.' ? keys->prefix : "", name) < 0) {
        free(data);
        keys->failed = true;
        return;
    }
    memcpy(data, value, n_bytes);
    keys->keys[keys->n++] = (struct model_key){.name = whole,
                                               .type = type,
                                               .element_type = type,
                                               .n = 1,
                                               .data = data,
                                               .n_bytes = n_bytes};
}

void hf_keys_add_u32(struct hf_keys *keys, const char *name, uint32_t value)
{
    add(keys, name, GGUF_VALUE_U32, &value, sizeof(value));
}

void hf_keys_add_f32(struct hf_keys *keys, const char *name, float value)
{
    add(keys, name, GGUF_VALUE_F32, &value, sizeof(value));
}

void hf_keys_add_bool(struct hf_keys *keys, const char *name, bool value)
{
    add(keys, name, GGUF_VALUE_BOOL, &(uint8_t){value}, 1);
}

void hf_keys_add_string(struct hf_keys *keys, const char *name, const char *text, size_t n_bytes)
{
    const uint64_t length = n_bytes;
    uint8_t *value = malloc(sizeof(length) + n_bytes);
    if (value == NULL) {
        keys->failed = true;
        return;
    }
    memcpy(value, &length, sizeof(length));
    memcpy(value + sizeof(length), text, n_bytes);
    add(keys, name, GGUF_VALUE_STRING, value, sizeof(length) + n_bytes);
    free(value);
}

void hf_keys_free(struct hf_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++) {
        free((char *)keys->keys[i].name);
        free((uint8_t *)keys->keys[i].data);
    }
    free(keys->keys);
    *keys = (struct hf_keys){0};
}

/* mixture.c - one table row per name; the rules of the mixtures are those that files of these names
 * have everywhere. */
#include "cluster/mixture.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { QUANTIZATION_VERSION = 2 }; /* of GGUF's block formats, since May 2023 */

#define ALL_OF(t) .type = GGUF_TYPE_##t, .output = GGUF_TYPE_##t, .higher = GGUF_TYPE_##t

const struct mixture mixtures[] = {
    {"F32", "all matrices; exact", 0, ALL_OF(F32)},
    {"F16", "all matrices", 1, ALL_OF(F16)},
    {"BF16", "all matrices", 32, ALL_OF(BF16)},
    {"Q8_0", "all matrices; nearly as good as F16", 7, ALL_OF(Q8_0)},
    {"Q4_0", "all matrices", 2, ALL_OF(Q4_0)},
    {"Q4_1", "all matrices", 3, ALL_OF(Q4_1)},
    {"Q5_0", "all matrices", 8, ALL_OF(Q5_0)},
    {"Q5_1", "all matrices", 9, ALL_OF(Q5_1)},
    {"Q4_K", "all matrices", 14, ALL_OF(Q4_K)},
    {"Q5_K", "all matrices", 16, ALL_OF(Q5_K)},
    {"Q6_K", "all matrices", 18, ALL_OF(Q6_K)},
    {"Q4_K_S", "Q4_K; output Q6_K; attn_v of 4 layers and ffn_down of an eighth Q5_K", 14,
     GGUF_TYPE_Q4_K, GGUF_TYPE_Q6_K, GGUF_TYPE_Q5_K, MIXTURE_FIRST_FOUR, MIXTURE_FIRST_EIGHTH},
    {"Q4_K_M", "Q4_K; output, and attn_v and ffn_down of half the layers, Q6_K: a good choice", 15,
     GGUF_TYPE_Q4_K, GGUF_TYPE_Q6_K, GGUF_TYPE_Q6_K, MIXTURE_MORE, MIXTURE_MORE},
    {"Q5_K_S", "Q5_K; output Q6_K", 16, GGUF_TYPE_Q5_K, GGUF_TYPE_Q6_K, GGUF_TYPE_Q5_K,
     MIXTURE_NO_LAYER, MIXTURE_NO_LAYER},
    {"Q5_K_M", "Q5_K; output, and attn_v and ffn_down of half the layers, Q6_K", 17, GGUF_TYPE_Q5_K,
     GGUF_TYPE_Q6_K, GGUF_TYPE_Q6_K, MIXTURE_MORE, MIXTURE_MORE},
    {"mixed", "every type in turn, for tests", MIXTURE_NO_FILE_TYPE, ALL_OF(F32)},
    {.name = NULL},
};

enum { N_MIXTURES = sizeof(mixtures) / sizeof(mixtures[0]) - 1, MIXED = N_MIXTURES - 1 };

enum status mixture_find(const struct mixture **mixture, const char *name, struct error *error)
{
    char names[256];
    size_t at = 0;
    for (uint32_t i = 0; i < N_MIXTURES; i++) {
        if (strcasecmp(name, mixtures[i].name) == 0) {
            *mixture = &mixtures[i];
            return STATUS_OK;
        }
        at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i == 0 ? "" : ", ",
                               mixtures[i].name);
    }
    return error_set(error, STATUS_INVALID, "'%.64s' is no type of weights; there are %s", name,
                     names);
}

static bool has_layer(enum mixture_layers layers, uint32_t layer, uint32_t n)
{
    switch (layers) {
    case MIXTURE_FIRST_FOUR:
        return layer < 4;
    case MIXTURE_FIRST_EIGHTH:
        return layer < n / 8;
    case MIXTURE_MORE:
        return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    default:
        return false;
    }
}

/* The types of `mixtures` that stand before the mixtures proper, dealt over layers and tensors. */
static enum gguf_type type_in_turn(enum weights_id id, uint32_t layer)
{
    enum { N_TYPES = 11 };
    return mixtures[(layer * 3 + (uint32_t)id) % N_TYPES].type;
}

enum gguf_type mixture_type(const struct mixture *mixture, const struct hparams *hparams,
                            enum weights_id id, uint32_t layer)
{
    uint64_t dims[WEIGHTS_DIMS];
    if (weights_shape(hparams, id, dims) == 1 || id == WEIGHTS_FFN_ROUTER)
        return GGUF_TYPE_F32;
    if (mixture == &mixtures[MIXED])
        return type_in_turn(id, layer);
    if (id == WEIGHTS_OUTPUT || (id == WEIGHTS_TOKEN_EMBD && hparams->tied))
        return mixture->output;
    if ((id == WEIGHTS_ATTN_V && has_layer(mixture->v, layer, hparams->n_layers)) ||
        ((id == WEIGHTS_FFN_DOWN || id == WEIGHTS_FFN_DOWN_EXPS) &&
         has_layer(mixture->down, layer, hparams->n_layers)))
        return mixture->higher;
    return mixture->type;
}

enum gguf_type mixture_fitting_type(enum gguf_type type, uint64_t n_columns)
{
    if (n_columns % gguf_type_traits(type)->block_elements == 0)
        return type;
    switch (type) {
    case GGUF_TYPE_Q4_K:
        return mixture_fitting_type(GGUF_TYPE_Q5_0, n_columns);
    case GGUF_TYPE_Q5_K:
        return mixture_fitting_type(GGUF_TYPE_Q5_1, n_columns);
    case GGUF_TYPE_Q6_K:
        return mixture_fitting_type(GGUF_TYPE_Q8_0, n_columns);
    default:
        return GGUF_TYPE_F16;
    }
}

enum status mixture_add_keys(const struct mixture *mixture, struct gguf_writer *writer,
                             struct error *error)
{
    if (mixture->file_type != MIXTURE_NO_FILE_TYPE)
        gguf_writer_add_u32(writer, "general.file_type", mixture->file_type, error);
    return gguf_writer_add_u32(writer, "general.quantization_version", QUANTIZATION_VERSION, error);
}

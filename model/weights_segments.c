/* weights_segments.c - see weights.h. The blocks of all layers count, since files mix types. */
#include "model/weights.h"

static uint32_t largest_block(const struct model_file *file, uint32_t n_layers, enum weights_id id)
{
    uint32_t largest = 1;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        const struct model_tensor *tensor = weights_find(file, layer, id);
        const struct gguf_type_traits *traits =
            tensor != NULL ? gguf_type_traits(tensor->type) : NULL;
        if (traits != NULL && traits->block_elements > largest)
            largest = traits->block_elements;
    }
    return largest;
}

void weights_segments(struct weights_segments *segments, const struct model_file *file,
                      const struct hparams *h)
{
    const uint32_t output_block = largest_block(file, h->n_layers, WEIGHTS_ATTN_OUTPUT);
    const uint32_t down_block = largest_block(file, h->n_layers, WEIGHTS_FFN_DOWN);
    /* 32 columns are whole cache lines and vector registers. */
    const uint32_t unit = 32 % down_block == 0 ? 32 : down_block;
    const uint64_t columns = (uint64_t)h->n_heads * h->head_dim; /* of attn_output */
    const uint32_t units = h->ffn / unit;
    uint32_t n = WEIGHTS_SEGMENTS;

    while (n > 1 &&
           (h->n_kv_heads % n != 0 || columns / n % output_block != 0 || (h->ffn > 0 && units < n)))
        n /= 2;
    segments->n = n;
    for (uint32_t i = 0; i <= n; i++) {
        segments->kv_head[i] = h->n_kv_heads / n * i;
        segments->ffn[i] = i < n ? (uint32_t)((uint64_t)units * i / n) * unit : h->ffn;
    }
}

uint32_t weights_expert_ranges(uint32_t n_experts)
{
    uint32_t n = WEIGHTS_SEGMENTS;
    while (n_experts % n != 0)
        n /= 2;
    return n;
}

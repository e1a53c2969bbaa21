/* worker/attention_state.h - what attention.c (steps) and attention_layer.c (layers) share. */
#ifndef LONGSPAN_WORKER_ATTENTION_STATE_H
#define LONGSPAN_WORKER_ATTENTION_STATE_H

#include "kernels/attention/device.h"
#include "kernels/device_buffer.h"
#include "worker/attention_client.h"
#include "worker/attention_plans.h"
#include "worker/attention_sequence.h"
#include "worker/attention_tiles.h"

#define ATTENTION_NO_HOLDER UINT32_MAX

struct attention {
    struct attention_config config; /* without the pointers */
    const struct kernels *kernels;
    struct device *device;
    struct thread_pool *pool;
    struct attend *attend;
    struct attention_client *client;
    struct attention_sequences sequences;
    struct attention_tiles tiles;
    struct attention_plans plans;
    struct attention_plan *plan; /* of the layer under way */
    bool whole;                  /* one local holder has everything (attention_plan.h) */
    struct kv_holder *holder;    /* the local one, or NULL */
    uint32_t local;              /* its index, or NO_HOLDER */
    uint64_t local_kv_bytes;     /* put there so far */
    bool *remote;
    bool asks,
        appends; /* some remote holder is asked in some layer, or appended to, in this step */
    size_t q_row, kv_row; /* values of one token, all heads */

    struct attention_part *parts;
    uint32_t n_parts;
    size_t parts_capacity, n_rows, n_needed;
    struct span *spans; /* scratch: of one sequence at the local holder */
    size_t spans_capacity;

    /* Of one layer: on the device, and what the host sees of it where that is elsewhere. */
    const float *q;
    struct device_buffer kv;  /* k, then v, of all rows in the KV type */
    struct device_buffer own; /* partials that are evaluated here */
    struct device_buffer q_host, kv_host, own_host, out_host;
    size_t v_offset;
    void **pages; /* of the own tiles, on the device */
    size_t pages_capacity;
    struct tile_tokens *writes; /* into them, where the device writes */
    size_t writes_capacity;
    struct attend_work *works;
    size_t works_capacity;
    uint8_t *unfolded; /* [runs]: the fold did not add up */
    size_t unfolded_capacity;
    float *out;    /* as the host sees it, once rows are folded */
    bool launches; /* what was prepared for the layer can be launched */
    uint64_t wait_us;
    uint32_t *layer_wait_us; /* [n_layers], of the step */
};

/* The part has failed, and its sequence with it; the first reason stays. */
void attention_fail_part(struct attention_part *part, const struct error *error);

#endif

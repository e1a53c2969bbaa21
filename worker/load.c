/* load.c - a table of cuts: for each tensor of a layer, which rows and which columns belong here.
 */
#include "worker/load.h"

#include "model/model_file.h"
#include "model/weights.h"
#include "sys/clock.h"
#include "sys/size.h"

#include <stdlib.h>
#include <string.h>

struct loader {
    struct shard *shard;
    const struct model_file *file;
    const struct log *log;
    void (*tick)(void *context);
    void *context;
    uint32_t n_tensors, n_done;
    uint64_t logged_us;
    struct weights_segments segments; /* of attn_output's and ffn_down's columns */
};

struct cut {
    uint32_t row_begin, row_end, column_begin, column_end;
};

/* ---- checks ---------------------------------------------------------------------------------- */

static enum status check_split(const struct hparams *hparams, const struct setup *setup,
                               const char *path, struct error *error)
{
    const struct setup_shard *last = &setup->shards[setup->tensor - 1];
    const uint32_t n_layers = setup->stages[setup->n_stages - 1].end;
    if (n_layers != hparams->n_layers || last->kv_head_end != hparams->n_kv_heads ||
        last->ffn_end != hparams->ffn || last->vocab_end != hparams->vocab)
        return error_set(error, STATUS_INVALID,
                         "%s: the split covers %u layers, %u KV heads, %u FFN columns and %u "
                         "tokens; the model has %u, %u, %u and %u",
                         path, n_layers, last->kv_head_end, last->ffn_end, last->vocab_end,
                         hparams->n_layers, hparams->n_kv_heads, hparams->ffn, hparams->vocab);
    return STATUS_OK;
}

static enum status check_file(const struct model_file *file, const struct setup *setup,
                              const char *path, struct error *error)
{
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
    _Static_assert((int)MODEL_FINGERPRINT_BYTES == (int)SETUP_FINGERPRINT_BYTES, "one fingerprint");
    model_fingerprint(file, fingerprint);
    if (memcmp(fingerprint, setup->fingerprint, sizeof(fingerprint)) != 0)
        return error_set(error, STATUS_INVALID,
                         "%s is not the coordinator's model (%s): copy that file here, or name the "
                         "right one with --model",
                         path, setup->model_path);
    return STATUS_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void progressed(struct loader *loader)
{
    loader->n_done++;
    if (loader->tick != NULL)
        loader->tick(loader->context);
    const uint64_t now = clock_us();
    if (now - loader->logged_us >= 2000000) {
        loader->logged_us = now;
        log_info(loader->log, "loading: %u of %u tensors", loader->n_done, loader->n_tensors);
    }
}

static enum status load_tensor(struct loader *loader, struct matrix *matrix, uint32_t layer,
                               enum weights_id id, const struct cut *cut, struct error *error)
{
    struct shard *shard = loader->shard;
    const struct model_tensor *tensor = weights_find(loader->file, layer, id);
    char name[WEIGHTS_NAME_BYTES];
    weights_name(name, layer, id);
    if (tensor == NULL) /* weights_check saw it */
        return error_set(error, STATUS_INVALID, "%s: no tensor %s", model_path(loader->file), name);

    struct error cause = {.status = STATUS_OK};
    struct matrix created = {0};
    const enum status status =
        shard->kernels->matrix_create(shard->device, &created, (enum weight_type)tensor->type,
                                      tensor->data, (uint32_t)tensor->dims[0], cut->row_begin,
                                      cut->row_end, cut->column_begin, cut->column_end, &cause);
    if (status != STATUS_OK)
        return error_set(error, status, "%s: %s, rows [%u, %u) and columns [%u, %u): %s",
                         model_path(loader->file), name, cut->row_begin, cut->row_end,
                         cut->column_begin, cut->column_end, cause.text);
    /* Copied: the file's pages would count as much memory again. */
    model_tensor_release(loader->file, tensor);
    *matrix = created;
    shard->weight_bytes += matrix->bytes;
    progressed(loader);
    return STATUS_OK;
}

/* The model's segments (begins[0..n] in whole columns) that a shard's columns from `first` on meet.
 */
static void cut_segments(struct matrix *matrix, const uint32_t *begins, uint32_t n, uint32_t first)
{
    const uint32_t end = first + matrix->n_columns;
    _Static_assert((int)WEIGHTS_SEGMENTS == (int)MATRIX_SEGMENTS, "one for one");
    matrix->n_segments = 0;
    for (uint32_t i = 0; i < n; i++)
        if (begins[i] < end && begins[i + 1] > first && begins[i + 1] > begins[i])
            matrix->segment_end[matrix->n_segments++] =
                (begins[i + 1] < end ? begins[i + 1] : end) - first;
}

static enum status load_layer(struct loader *loader, uint32_t layer, struct error *error)
{
    const struct hparams *h = &loader->shard->hparams;
    const struct setup_shard *part = &loader->shard->part;
    struct shard_layer *to = &loader->shard->layers[layer - loader->shard->first_layer];
    const uint32_t kv_begin = part->kv_head_begin * h->head_dim;
    const uint32_t kv_end = part->kv_head_end * h->head_dim;
    const uint32_t group = h->n_heads / h->n_kv_heads;
    const struct {
        enum weights_id id;
        struct matrix *matrix;
        struct cut cut;
    } table[] = {
        {WEIGHTS_ATTN_NORM, &to->attn_norm, {0, 1, 0, h->hidden}},
        {WEIGHTS_ATTN_Q, &to->q, {kv_begin * group, kv_end * group, 0, h->hidden}},
        {WEIGHTS_ATTN_K, &to->k, {kv_begin, kv_end, 0, h->hidden}},
        {WEIGHTS_ATTN_V, &to->v, {kv_begin, kv_end, 0, h->hidden}},
        {WEIGHTS_ATTN_OUTPUT, &to->attn_output, {0, h->hidden, kv_begin * group, kv_end * group}},
        {WEIGHTS_FFN_NORM, &to->ffn_norm, {0, 1, 0, h->hidden}},
        {WEIGHTS_FFN_GATE, &to->gate, {part->ffn_begin, part->ffn_end, 0, h->hidden}},
        {WEIGHTS_FFN_UP, &to->up, {part->ffn_begin, part->ffn_end, 0, h->hidden}},
        {WEIGHTS_FFN_DOWN, &to->down, {0, h->hidden, part->ffn_begin, part->ffn_end}},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]) && status == STATUS_OK; i++)
        status = load_tensor(loader, table[i].matrix, layer, table[i].id, &table[i].cut, error);
    if (status == STATUS_OK) {
        uint32_t columns[WEIGHTS_SEGMENTS + 1];
        for (uint32_t i = 0; i <= loader->segments.n; i++)
            columns[i] = loader->segments.kv_head[i] * group * h->head_dim;
        cut_segments(&to->attn_output, columns, loader->segments.n, kv_begin * group);
        cut_segments(&to->down, loader->segments.ffn, loader->segments.n, part->ffn_begin);
    }
    return status;
}

static enum status load_all(struct loader *loader, struct error *error)
{
    struct shard *shard = loader->shard;
    const struct hparams *h = &shard->hparams;
    const struct cut vocab = {shard->part.vocab_begin, shard->part.vocab_end, 0, h->hidden};
    const struct cut norm = {0, 1, 0, h->hidden};
    enum status status = STATUS_OK;

    shard->output_is_token_embd = shard->first && shard->last && h->tied;
    loader->n_tensors = shard->n_layers * 9 + shard->first + shard->last +
                        (shard->last && !shard->output_is_token_embd);
    if (shard->first)
        status = load_tensor(loader, &shard->token_embd, 0, WEIGHTS_TOKEN_EMBD, &vocab, error);
    for (uint32_t i = 0; i < shard->n_layers && status == STATUS_OK; i++)
        status = load_layer(loader, shard->first_layer + i, error);
    if (shard->last && status == STATUS_OK)
        status = load_tensor(loader, &shard->output_norm, 0, WEIGHTS_OUTPUT_NORM, &norm, error);
    if (shard->last && !shard->output_is_token_embd && status == STATUS_OK)
        status = load_tensor(loader, &shard->output, 0, WEIGHTS_OUTPUT, &vocab, error);
    return status;
}

static enum status load_rope(struct shard *shard, const struct model_file *file,
                             struct error *error)
{
    const struct hparams *h = &shard->hparams;
    if ((shard->frequency = calloc(h->rope_dims / 2 + 1, sizeof(double))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory", model_path(file));
    shard->rope = (struct rope){
        .n_dims = h->rope_dims, .neox = false, .frequency = shard->frequency, .magnitude = 1.0f};
    return hparams_rope_frequencies(h, file, shard->frequency, error);
}

static enum status load(struct loader *loader, const struct setup *setup, const char *path,
                        struct error *error)
{
    struct shard *shard = loader->shard;
    enum status status = check_file(loader->file, setup, path, error);
    if (status == STATUS_OK)
        status = hparams_read(&shard->hparams, loader->file, error);
    if (status == STATUS_OK)
        status = weights_check(loader->file, &shard->hparams, error);
    if (status == STATUS_OK)
        status = check_split(&shard->hparams, setup, path, error);
    if (status == STATUS_OK)
        status = load_rope(shard, loader->file, error);
    if (status != STATUS_OK)
        return status;
    weights_segments(&loader->segments, loader->file, &shard->hparams);
    if ((shard->layers = calloc(shard->n_layers, sizeof(*shard->layers))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %u layers", path,
                         shard->n_layers);
    return load_all(loader, error);
}

enum status shard_load(struct shard **shard, const char *path, const struct setup *setup,
                       uint32_t rank, const struct kernels *kernels, struct device *device,
                       const struct log *log, void (*tick)(void *context), void *context,
                       struct error *error)
{
    struct model_file *file;
    enum status status = model_open(&file, path, error);
    if (status != STATUS_OK)
        return status;
    struct shard *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        model_close(file);
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory", path);
    }
    s->kernels = kernels;
    s->device = device;
    s->stage = rank / setup->tensor;
    s->index = rank % setup->tensor;
    s->first = s->stage == 0;
    s->last = s->stage + 1 == setup->n_stages;
    s->part = setup->shards[s->index];
    s->first_layer = setup->stages[s->stage].begin;
    s->n_layers = setup->stages[s->stage].end - s->first_layer;

    struct loader loader = {.shard = s, .file = file, .log = log, .tick = tick, .context = context};
    loader.logged_us = clock_us();
    status = load(&loader, setup, path, error);
    model_close(file);
    if (status != STATUS_OK) {
        shard_destroy(s);
        return status;
    }
    char size[SIZE_TEXT_BYTES];
    log_info(log, "loaded layers %u to %u, shard %u of %u: %s", s->first_layer,
             s->first_layer + s->n_layers - 1, s->index + 1, setup->tensor,
             size_format(s->weight_bytes, size));
    *shard = s;
    return STATUS_OK;
}

void shard_destroy(struct shard *shard)
{
    if (shard == NULL)
        return;
    struct matrix *once[] = {&shard->token_embd, &shard->output_norm, &shard->output};
    for (size_t i = 0; i < sizeof(once) / sizeof(once[0]); i++)
        if (once[i]->data != NULL)
            shard->kernels->matrix_destroy(shard->device, once[i]);
    for (uint32_t i = 0; shard->layers != NULL && i < shard->n_layers; i++) {
        struct shard_layer *layer = &shard->layers[i];
        struct matrix *all[] = {&layer->attn_norm, &layer->q,           &layer->k,
                                &layer->v,         &layer->attn_output, &layer->ffn_norm,
                                &layer->gate,      &layer->up,          &layer->down};
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++)
            if (all[j]->data != NULL)
                shard->kernels->matrix_destroy(shard->device, all[j]);
    }
    free(shard->layers);
    free(shard->frequency);
    free(shard);
}

const struct matrix *shard_output(const struct shard *shard)
{
    return shard->output_is_token_embd ? &shard->token_embd : &shard->output;
}

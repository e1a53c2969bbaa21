/* load.c - a table of a layer's tensors; which rows and columns of one belong here follows from
 * what its dimensions run over (weights_extent). All tensors are walked twice: first only to list
 * what will be read of the file (load_progress.h). */
#include "worker/load.h"

#include "model/mapping.h"
#include "model/model_file.h"
#include "model/weights.h"
#include "sys/size.h"
#include "worker/load_progress.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct loader {
    struct shard *shard;
    const struct model_file *file;
    struct load_progress progress;
    bool listing;                     /* the first walk: nothing is loaded */
    struct weights_segments segments; /* of attn_output's and ffn_down's columns */
};

/* ---- checks ---------------------------------------------------------------------------------- */

static enum status check_split(const struct hparams *hparams, const struct setup *setup,
                               const char *path, struct error *error)
{
    const struct shard_part *last = &setup->shards[setup->tensor - 1];
    const uint32_t n_layers = setup->stages[setup->n_stages - 1].end;
    if (n_layers != hparams->n_layers || last->kv_head_end != hparams->n_kv_heads ||
        last->ffn_end != hparams->ffn || last->expert_end != hparams->n_experts ||
        last->vocab_end != hparams->vocab)
        return error_set(error, STATUS_INVALID,
                         "%s: the split covers %u layers, %u KV heads, %u FFN columns, %u experts "
                         "and %u tokens; the model has %u, %u, %u, %u and %u",
                         path, n_layers, last->kv_head_end, last->ffn_end, last->expert_end,
                         last->vocab_end, hparams->n_layers, hparams->n_kv_heads, hparams->ffn,
                         hparams->n_experts, hparams->vocab);
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

/* The rows of a matrix at `data`, whole: their other columns lie between. */
static struct read_ahead_piece piece_of(const struct model_tensor *tensor, const void *data,
                                        const struct shard_cut *cut)
{
    const size_t row_bytes =
        weight_row_bytes((enum weight_type)tensor->type, (uint32_t)tensor->dims[0]);
    return (struct read_ahead_piece){(const char *)data + cut->row_begin * row_bytes,
                                     (cut->row_end - cut->row_begin) * row_bytes};
}

static enum status not_loaded(const struct loader *loader, const char *name,
                              const struct shard_cut *cut, enum status status,
                              const struct error *cause, struct error *error)
{
    return error_set(error, status, "%s: %s, rows [%u, %u) and columns [%u, %u): %s",
                     model_path(loader->file), name, cut->row_begin, cut->row_end,
                     cut->column_begin, cut->column_end, cause->text);
}

/* A vector as the device takes it: f32, and of norms what their weights count from added. */
static enum status widen_vector(const struct loader *loader, const struct model_tensor *tensor,
                                float offset, float **values, struct error *error)
{
    const size_t n = tensor->dims[0];
    if ((*values = malloc(n * sizeof(**values))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %s", model_path(loader->file),
                         tensor->name);
    weight_dequantize((enum weight_type)tensor->type, *values, tensor->data, n);
    for (size_t i = 0; i < n && offset != 0; i++)
        (*values)[i] += offset;
    return STATUS_OK;
}

/* Makes a matrix of the piece of a tensor that belongs here; or, while pieces are listed, lists it.
 * What is at `data` is one expert's, or the whole tensor. */
static enum status load_piece(struct loader *loader, struct matrix *matrix,
                              const struct model_tensor *tensor, const void *data,
                              enum weights_id id, struct error *error)
{
    struct shard *shard = loader->shard;
    const struct shard_cut cut = shard_cut_of(&shard->part, &shard->hparams, id);
    const struct read_ahead_piece piece = piece_of(tensor, data, &cut);
    if (loader->listing)
        return load_progress_add(&loader->progress, piece, error);
    load_progress_reach(&loader->progress, piece);
    struct error cause = {.status = STATUS_OK};
    struct matrix created = {0};
    enum weight_type type = (enum weight_type)tensor->type;
    float *widened = NULL;
    enum status status = STATUS_OK;
    if (tensor->n_dims == 1) {
        type = WEIGHT_F32;
        status = widen_vector(loader, tensor, weights_is_norm(id) ? shard->hparams.norm_offset : 0,
                              &widened, error);
        if (status != STATUS_OK)
            return status;
    }
    status = shard->kernels->matrix_create(
        shard->device, &created, type, widened != NULL ? widened : data, (uint32_t)tensor->dims[0],
        cut.row_begin, cut.row_end, cut.column_begin, cut.column_end, &cause);
    free(widened);
    if (status != STATUS_OK)
        return not_loaded(loader, tensor->name, &cut, status, &cause, error);
    mapping_release(piece.data, piece.n_bytes); /* copied: it would count as much memory again */
    *matrix = created;
    shard->weight_bytes += matrix->bytes;
    load_progress_done(&loader->progress, piece);
    return STATUS_OK;
}

static enum status load_tensor(struct loader *loader, struct matrix *matrix, uint32_t layer,
                               enum weights_id id, struct error *error)
{
    const struct model_tensor *tensor = weights_find(loader->file, layer, id);
    char name[WEIGHTS_NAME_BYTES];
    weights_name(name, layer, id);
    if (tensor == NULL) /* weights_check saw it */
        return error_set(error, STATUS_INVALID, "%s: no tensor %s", model_path(loader->file), name);
    return load_piece(loader, matrix, tensor, tensor->data, id, error);
}

/* A matrix for each expert of this rank. What is made by a failure is the shard's to give back. */
static enum status load_experts(struct loader *loader, struct matrix **experts, uint32_t layer,
                                enum weights_id id, struct error *error)
{
    const struct shard_part *part = &loader->shard->part;
    const struct model_tensor *tensor = weights_find(loader->file, layer, id);
    const uint32_t n = part->expert_end - part->expert_begin;
    enum status status = STATUS_OK;
    if (*experts == NULL && (*experts = calloc(n, sizeof(**experts))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for experts of layer %u",
                         model_path(loader->file), layer);
    for (uint32_t i = 0; i < n && status == STATUS_OK; i++)
        status = load_piece(loader, &(*experts)[i], tensor,
                            model_tensor_expert(loader->file, tensor, part->expert_begin + i), id,
                            error);
    return status;
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

/* The tensors of a layer, and where they go. */
static const struct {
    enum weights_id id;
    size_t offset; /* of a struct matrix in struct shard_layer */
} members[] = {
    {WEIGHTS_ATTN_NORM, offsetof(struct shard_layer, attn_norm)},
    {WEIGHTS_ATTN_Q, offsetof(struct shard_layer, q)},
    {WEIGHTS_ATTN_K, offsetof(struct shard_layer, k)},
    {WEIGHTS_ATTN_V, offsetof(struct shard_layer, v)},
    {WEIGHTS_ATTN_OUTPUT, offsetof(struct shard_layer, attn_output)},
    {WEIGHTS_FFN_NORM, offsetof(struct shard_layer, ffn_norm)},
    {WEIGHTS_FFN_GATE, offsetof(struct shard_layer, gate)},
    {WEIGHTS_FFN_UP, offsetof(struct shard_layer, up)},
    {WEIGHTS_FFN_DOWN, offsetof(struct shard_layer, down)},
    {WEIGHTS_ATTN_Q_BIAS, offsetof(struct shard_layer, q_bias)},
    {WEIGHTS_ATTN_K_BIAS, offsetof(struct shard_layer, k_bias)},
    {WEIGHTS_ATTN_V_BIAS, offsetof(struct shard_layer, v_bias)},
    {WEIGHTS_ATTN_OUTPUT_BIAS, offsetof(struct shard_layer, output_bias)},
    {WEIGHTS_ATTN_Q_NORM, offsetof(struct shard_layer, q_norm)},
    {WEIGHTS_ATTN_K_NORM, offsetof(struct shard_layer, k_norm)},
    {WEIGHTS_ATTN_POST_NORM, offsetof(struct shard_layer, attn_post_norm)},
    {WEIGHTS_FFN_POST_NORM, offsetof(struct shard_layer, ffn_post_norm)},
    {WEIGHTS_FFN_ROUTER, offsetof(struct shard_layer, router)},
};
enum { N_MEMBERS = sizeof(members) / sizeof(members[0]) };
_Static_assert((int)N_MEMBERS == (int)WEIGHTS_FIRST_OF_EXPERTS - (int)WEIGHTS_FIRST_OF_LAYER,
               "every tensor of a layer has its place");

static struct matrix *member(struct shard_layer *layer, size_t i)
{
    return (struct matrix *)(void *)((char *)layer + members[i].offset);
}

/* Likewise of experts, from WEIGHTS_FIRST_OF_EXPERTS on. */
static struct matrix **experts_of(struct shard_layer *layer, int id)
{
    return id == WEIGHTS_FFN_GATE_EXPS ? &layer->gate_experts
           : id == WEIGHTS_FFN_UP_EXPS ? &layer->up_experts
                                       : &layer->down_experts;
}

static enum status load_layer(struct loader *loader, uint32_t layer, struct error *error)
{
    struct shard *shard = loader->shard;
    const struct hparams *h = &shard->hparams;
    struct shard_layer *to = &shard->layers[layer - shard->first_layer];
    enum status status = STATUS_OK;
    for (size_t i = 0; i < N_MEMBERS && status == STATUS_OK; i++)
        if (weights_has(h, members[i].id))
            status = load_tensor(loader, member(to, i), layer, members[i].id, error);
    for (int id = WEIGHTS_FIRST_OF_EXPERTS; id < WEIGHTS_COUNT && status == STATUS_OK; id++)
        if (weights_has(h, (enum weights_id)id))
            status = load_experts(loader, experts_of(to, id), layer, (enum weights_id)id, error);
    if (status != STATUS_OK || loader->listing)
        return status;
    uint32_t columns[WEIGHTS_SEGMENTS + 1];
    const uint32_t group_columns = h->n_heads / h->n_kv_heads * h->head_dim;
    for (uint32_t i = 0; i <= loader->segments.n; i++)
        columns[i] = loader->segments.kv_head[i] * group_columns;
    cut_segments(&to->attn_output, columns, loader->segments.n,
                 shard->part.kv_head_begin * group_columns);
    cut_segments(&to->down, loader->segments.ffn, loader->segments.n, shard->part.ffn_begin);
    const struct hparams_rope *rope = hparams_layer_rope(h, layer);
    to->rope = rope == NULL ? NULL : rope == &h->rope ? &shard->rope : &shard->local_rope;
    return STATUS_OK;
}

static enum status walk(struct loader *loader, struct error *error)
{
    struct shard *shard = loader->shard;
    enum status status = STATUS_OK;
    if (shard->first)
        status = load_tensor(loader, &shard->token_embd, 0, WEIGHTS_TOKEN_EMBD, error);
    for (uint32_t i = 0; i < shard->n_layers && status == STATUS_OK; i++)
        status = load_layer(loader, shard->first_layer + i, error);
    if (shard->last && status == STATUS_OK)
        status = load_tensor(loader, &shard->output_norm, 0, WEIGHTS_OUTPUT_NORM, error);
    if (shard->last && !shard->output_is_token_embd && status == STATUS_OK)
        status = load_tensor(loader, &shard->output, 0, WEIGHTS_OUTPUT, error);
    return status;
}

static enum status load_all(struct loader *loader, struct error *error)
{
    struct shard *shard = loader->shard;
    shard->output_is_token_embd = shard->first && shard->last && shard->hparams.tied;
    loader->listing = true;
    enum status status = walk(loader, error);
    loader->listing = false;
    if (status == STATUS_OK)
        status = load_progress_begin(&loader->progress, error);
    if (status == STATUS_OK)
        status = walk(loader, error);
    load_progress_end(&loader->progress);
    return status;
}

/* Frequencies are made on the host and lie on the device. */
static enum status load_rope(struct shard *shard, const struct hparams_rope *source,
                             const struct model_file *file, struct rope *rope, struct error *error)
{
    const struct hparams *h = &shard->hparams;
    const size_t bytes = h->rope_dims / 2 * sizeof(double);
    double *made = malloc(bytes + 1);
    void *memory = NULL;
    if (made == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory", model_path(file));
    enum status status = hparams_rope_frequencies(h, source, file, made, error);
    if (status == STATUS_OK)
        status = shard->kernels->memory_take(shard->device, &memory, bytes, error);
    if (status == STATUS_OK) {
        *rope = (struct rope){.n_dims = h->rope_dims,
                              .neox = h->rope_neox,
                              .frequency = memory,
                              .magnitude = source->magnitude};
        shard->kernels->upload(shard->device, memory, made, bytes);
        status = shard->kernels->finish(shard->device, error);
    }
    free(made);
    return status;
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
        status = load_rope(shard, &shard->hparams.rope, loader->file, &shard->rope, error);
    if (status == STATUS_OK && shard->hparams.has_local_rope)
        status =
            load_rope(shard, &shard->hparams.local_rope, loader->file, &shard->local_rope, error);
    if (status != STATUS_OK)
        return status;
    weights_segments(&loader->segments, loader->file, &shard->hparams);
    if ((shard->layers = calloc(shard->n_layers, sizeof(*shard->layers))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %u layers", path,
                         shard->n_layers);
    return load_all(loader, error);
}

enum status shard_load(struct shard **shard, const struct shard_source *source, struct error *error)
{
    const struct setup *setup = source->setup;
    struct model_file *file;
    enum status status = model_open(&file, source->path, error);
    if (status != STATUS_OK)
        return status;
    struct shard *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        model_close(file);
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory", source->path);
    }
    s->kernels = source->kernels;
    s->device = source->device;
    s->stage = source->rank / setup->tensor;
    s->index = source->rank % setup->tensor;
    s->first = s->stage == 0;
    s->last = s->stage + 1 == setup->n_stages;
    s->part = setup->shards[s->index];
    s->first_layer = setup->stages[s->stage].begin;
    s->n_layers = setup->stages[s->stage].end - s->first_layer;

    struct loader loader = {
        .shard = s,
        .file = file,
        .progress = {.tick = source->tick, .context = source->context, .log = source->log}};
    status = load(&loader, setup, source->path, error);
    model_close(file);
    if (status != STATUS_OK) {
        shard_destroy(s);
        return status;
    }
    char size[SIZE_TEXT_BYTES];
    log_info(source->log, "loaded layers %u to %u, shard %u of %u: %s", s->first_layer,
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
    const uint32_t n_experts = shard->part.expert_end - shard->part.expert_begin;
    for (uint32_t i = 0; shard->layers != NULL && i < shard->n_layers; i++) {
        for (size_t j = 0; j < N_MEMBERS; j++)
            if (member(&shard->layers[i], j)->data != NULL)
                shard->kernels->matrix_destroy(shard->device, member(&shard->layers[i], j));
        for (int id = WEIGHTS_FIRST_OF_EXPERTS; id < WEIGHTS_COUNT; id++) {
            struct matrix *experts = *experts_of(&shard->layers[i], id);
            for (uint32_t e = 0; experts != NULL && e < n_experts; e++)
                if (experts[e].data != NULL)
                    shard->kernels->matrix_destroy(shard->device, &experts[e]);
            free(experts);
        }
    }
    free(shard->layers);
    shard->kernels->memory_give(shard->device, (void *)shard->rope.frequency);
    shard->kernels->memory_give(shard->device, (void *)shard->local_rope.frequency);
    free(shard);
}

struct attend_shape shard_attend_shape(const struct shard *shard, enum kv_type kv_type)
{
    const struct hparams *h = &shard->hparams;
    return (struct attend_shape){.type = kv_type,
                                 .head_dim = h->head_dim,
                                 .group = h->n_heads / h->n_kv_heads,
                                 .scale = h->attention_scale,
                                 .soft_cap = h->attention_cap};
}

const struct matrix *shard_output(const struct shard *shard)
{
    return shard->output_is_token_embd ? &shard->token_embd : &shard->output;
}

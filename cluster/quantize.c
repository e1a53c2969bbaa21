/* quantize.c - all tensors are planned and declared before the first is read, so that what cannot
 * be done is said before the work. */
#include "cluster/quantize.h"

#include "cluster/copy_tensor.h"
#include "cluster/gguf_form.h"
#include "cluster/write_progress.h"
#include "kernels/quant/types.h"
#include "model/gguf_writer.h"
#include "sys/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE_VALUES = 1 << 21 };

#define GREATEST_F16 65504.0f

struct quantizer {
    const struct quantize_options *options;
    const struct model_file *file;
    struct hparams hparams;
    struct gguf_form form;
    struct gguf_writer *writer;
    struct write_progress progress;
    struct quantize_result result;
    enum gguf_type *types; /* [tensors], of the output */
};

/* ---- what becomes of each tensor ------------------------------------------------------------- */

static bool is_blocks(enum gguf_type type)
{
    return gguf_type_traits(type)->block_elements > 1;
}

static enum status plan_tensor(struct quantizer *q, const struct model_tensor *tensor,
                               enum gguf_type *type, struct error *error)
{
    enum weights_id id;
    uint32_t layer;
    *type = tensor->type;
    if (!weights_identify(tensor->name, q->hparams.n_layers, &id, &layer))
        return STATUS_OK;
    if (tensor->n_dims == 1) {
        *type = GGUF_TYPE_F32;
        return STATUS_OK;
    }
    const enum gguf_type wanted = mixture_type(q->options->mixture, &q->hparams, id, layer);
    *type = mixture_fitting_type(wanted, tensor->dims[0]);
    if (*type != wanted)
        log_info(q->options->log, "%s: rows of %llu are no whole blocks of %s (%u): it gets %s",
                 tensor->name, (unsigned long long)tensor->dims[0], gguf_type_traits(wanted)->name,
                 gguf_type_traits(wanted)->block_elements, gguf_type_traits(*type)->name);
    if (*type != tensor->type && *type != GGUF_TYPE_F32 && is_blocks(tensor->type) &&
        !q->options->allow_requantize)
        return error_set(error, STATUS_INVALID,
                         "%s: tensor %s is %s already; to round it again, to %s, loses more than "
                         "to round the original: take an F32, F16 or BF16 file, or say "
                         "--allow-requantize",
                         model_path(q->file), tensor->name, gguf_type_traits(tensor->type)->name,
                         gguf_type_traits(*type)->name);
    return STATUS_OK;
}

static enum status copy_keys(struct quantizer *q, struct error *error)
{
    static const char *const ours[] = {"general.file_type", "general.quantization_version"};
    for (size_t i = 0; i < model_key_count(q->file); i++) {
        const struct model_key *key = model_key_at(q->file, i);
        bool copied = !gguf_writer_is_own_key(key->name) && gguf_form_keeps(&q->form, key->name);
        for (size_t k = 0; k < sizeof(ours) / sizeof(ours[0]); k++)
            copied &= strcmp(key->name, ours[k]) != 0;
        if (copied)
            gguf_writer_copy_key(q->writer, key, error); /* a writer's first failure sticks */
    }
    const enum status status = gguf_form_add_keys(&q->form, q->writer, error);
    return status == STATUS_OK ? mixture_add_keys(q->options->mixture, q->writer, error) : status;
}

/* Behind the model's own tensors. */
static enum status declare_factors(struct quantizer *q, struct error *error)
{
    const uint64_t n = q->form.rope_dims / 2;
    char name[WEIGHTS_NAME_BYTES];
    if (q->form.rope_factors == NULL)
        return STATUS_OK;
    q->result.bytes += n * sizeof(float);
    return gguf_writer_declare(q->writer, weights_name(name, 0, WEIGHTS_ROPE_FREQS), GGUF_TYPE_F32,
                               1, &n, error);
}

static enum status plan(struct quantizer *q, struct error *error)
{
    const size_t n = model_tensor_count(q->file);
    enum status status = copy_keys(q, error);
    q->types = malloc(n * sizeof(*q->types));
    if (status == STATUS_OK && q->types == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a list of %zu tensors", n);
    for (size_t i = 0; status == STATUS_OK && i < n; i++) {
        const struct model_tensor *tensor = model_tensor_at(q->file, i);
        uint64_t bytes = 0;
        status = plan_tensor(q, tensor, &q->types[i], error);
        if (status == STATUS_OK)
            status = gguf_tensor_bytes(&bytes, q->types[i], tensor->n_dims, tensor->dims, error);
        if (status == STATUS_OK)
            status = gguf_writer_declare(q->writer, tensor->name, q->types[i], tensor->n_dims,
                                         tensor->dims, error);
        q->result.bytes += bytes;
    }
    if (status == STATUS_OK)
        status = declare_factors(q, error);
    q->progress.n_all = q->result.bytes;
    return status;
}

/* ---- conversion ------------------------------------------------------------------------------ */

/* A weight that the output's type cannot hold. */
struct bad_weight {
    bool found;
    uint64_t row, column;
    float value;
};

struct piece {
    const struct model_tensor *tensor;
    const struct gguf_form *form; /* NULL: rows keep their places */
    enum weight_type to;
    uint64_t expert;       /* 0 but for tensors of three dimensions */
    const uint8_t *matrix; /* the expert's, or the tensor's */
    uint64_t row, n_rows;  /* these rows of it */
    uint8_t *out;
    float *values;          /* one row per lane */
    struct bad_weight *bad; /* one per lane: its first */
};

static bool holds(enum weight_type type, float value)
{
    if (type == WEIGHT_F32 || type == WEIGHT_BF16)
        return isfinite(value);
    return fabsf(value) <= GREATEST_F16; /* false for a NaN */
}

static void convert_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct piece *piece = context;
    const enum weight_type from = (enum weight_type)piece->tensor->type;
    const uint32_t n = (uint32_t)piece->tensor->dims[0];
    const size_t from_bytes = weight_row_bytes(from, n), to_bytes = weight_row_bytes(piece->to, n);
    float *values = piece->values + (size_t)lane * n;
    struct bad_weight *bad = &piece->bad[lane];
    size_t begin, end;

    thread_pool_share(piece->n_rows, 1, lane, n_lanes, &begin, &end);
    for (size_t i = begin; i < end && !bad->found; i++) {
        const uint64_t row = piece->row + i;
        const uint64_t source = piece->form != NULL ? gguf_form_row(piece->form, row) : row;
        const uint8_t *weights = piece->matrix + source * from_bytes;
        if (from == piece->to) { /* moved, not rounded */
            memcpy(piece->out + i * to_bytes, weights, to_bytes);
            continue;
        }
        weight_dequantize(from, values, weights, n);
        for (uint32_t k = 0; k < n && !bad->found; k++)
            if (!holds(piece->to, values[k]))
                *bad = (struct bad_weight){true, row, k, values[k]};
        weight_quantize(piece->to, piece->out + i * to_bytes, values, n);
    }
}

static enum status check_piece(const struct quantizer *q, const struct piece *piece,
                               struct error *error)
{
    const uint32_t n_lanes = thread_pool_lanes(q->options->pool);
    for (uint32_t lane = 0; lane < n_lanes; lane++) { /* in the order of rows */
        const struct bad_weight *bad = &piece->bad[lane];
        if (bad->found)
            return error_set(
                error, STATUS_INVALID, "%s: tensor %s, row %llu, column %llu is %g: %s",
                model_path(q->file), piece->tensor->name,
                (unsigned long long)(piece->expert * piece->tensor->dims[1] + bad->row),
                (unsigned long long)bad->column, (double)bad->value,
                isfinite(bad->value)
                    ? "beyond half precision, which every type but F32 and BF16 uses"
                    : "the model is damaged; no type can mend it");
    }
    return STATUS_OK;
}

static enum status convert_rows(struct quantizer *q, struct piece *piece, uint64_t rows_at_once,
                                struct error *error)
{
    const struct model_tensor *tensor = piece->tensor;
    const uint64_t n_rows = tensor->dims[1];
    enum status status = STATUS_OK;
    piece->matrix = model_tensor_expert(q->file, tensor, piece->expert);
    for (uint64_t row = 0; status == STATUS_OK && row < n_rows; row += rows_at_once) {
        piece->row = row;
        piece->n_rows = n_rows - row < rows_at_once ? n_rows - row : rows_at_once;
        thread_pool_run(q->options->pool, convert_lane, piece);
        status = check_piece(q, piece, error);
        const size_t bytes = piece->n_rows * weight_row_bytes(piece->to, (uint32_t)tensor->dims[0]);
        if (status == STATUS_OK)
            status = gguf_writer_data(q->writer, piece->out, bytes, error);
        write_progress_add(&q->progress, bytes);
    }
    return status;
}

static enum status convert(struct quantizer *q, const struct model_tensor *tensor,
                           enum gguf_type type, bool moves, struct error *error)
{
    const uint32_t n_lanes = thread_pool_lanes(q->options->pool);
    const uint64_t n = tensor->dims[0];
    const uint64_t rows_at_once = n < PIECE_VALUES ? PIECE_VALUES / n : 1;
    struct piece piece = {
        .tensor = tensor,
        .form = moves ? &q->form : NULL,
        .to = (enum weight_type)type,
        .out = malloc(rows_at_once * weight_row_bytes((enum weight_type)type, (uint32_t)n)),
        .values = malloc(n_lanes * n * sizeof(float)),
        .bad = calloc(n_lanes, sizeof(*piece.bad)),
    };
    enum status status = STATUS_OK;
    if (piece.out == NULL || piece.values == NULL || piece.bad == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %llu rows of %s",
                           (unsigned long long)rows_at_once, tensor->name);
    for (; status == STATUS_OK && piece.expert < tensor->dims[2]; piece.expert++)
        status = convert_rows(q, &piece, rows_at_once, error);
    free(piece.out);
    free(piece.values);
    free(piece.bad);
    return status;
}

/* A norm or a bias, as F32. */
static enum status write_vector(struct quantizer *q, const struct model_tensor *tensor,
                                enum weights_id id, struct error *error)
{
    const uint64_t n = tensor->dims[0];
    float *values = malloc(2 * n * sizeof(*values)), *moved = values + n;
    if (values == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %s", tensor->name);
    weight_dequantize((enum weight_type)tensor->type, values, tensor->data, n);
    for (uint64_t i = 0; i < n; i++) {
        moved[i] = values[gguf_form_moves(&q->form, id) ? gguf_form_row(&q->form, i) : i];
        if (weights_is_norm(id) && q->form.norm_offset != 0)
            moved[i] += q->form.norm_offset;
    }
    const enum status status = gguf_writer_data(q->writer, moved, n * sizeof(*moved), error);
    write_progress_add(&q->progress, n * sizeof(*moved));
    free(values);
    return status;
}

static enum status write_tensor(struct quantizer *q, const struct model_tensor *tensor,
                                enum gguf_type type, struct error *error)
{
    enum weights_id id = WEIGHTS_COUNT;
    uint32_t layer;
    const bool known = weights_identify(tensor->name, q->hparams.n_layers, &id, &layer);
    const bool moves = known && gguf_form_moves(&q->form, id);
    if (known && tensor->n_dims == 1)
        return write_vector(q, tensor, id, error);
    if (type == tensor->type && !moves)
        return copy_tensor(q->writer, q->file, tensor, &q->progress, error);
    const enum status status = convert(q, tensor, type, moves, error);
    model_tensor_release(q->file, tensor);
    return status;
}

static enum status write_tensors(struct quantizer *q, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < model_tensor_count(q->file); i++) {
        const struct model_tensor *tensor = model_tensor_at(q->file, i);
        uint64_t weights = 1; /* their bytes lie in the file, so this cannot overflow */
        for (uint32_t k = 0; k < tensor->n_dims; k++)
            weights *= tensor->dims[k];
        q->result.n_weights += weights;
        q->result.source_bytes += tensor->n_bytes;
        status = write_tensor(q, tensor, q->types[i], error);
    }
    if (status == STATUS_OK && q->form.rope_factors != NULL)
        status = gguf_writer_data(q->writer, q->form.rope_factors,
                                  q->form.rope_dims / 2 * sizeof(float), error);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* By what the paths lead to, so that links and ./ do not matter. */
static enum status check_paths(const char *source, const char *out, struct error *error)
{
    struct stat a, b;
    if (stat(source, &a) == 0 && stat(out, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return error_set(error, STATUS_INVALID,
                         "%s is the source itself, %s: write to another file", out, source);
    return STATUS_OK;
}

static enum status write_model(struct quantizer *q, const char *out, struct error *error)
{
    enum status status = hparams_read(&q->hparams, q->file, error);
    if (status == STATUS_OK)
        status = weights_check(q->file, &q->hparams, error);
    if (status == STATUS_OK)
        status = gguf_form_make(&q->form, q->file, &q->hparams, error);
    if (status == STATUS_OK)
        status = gguf_writer_create(&q->writer, out, error);
    if (status == STATUS_OK)
        status = plan(q, error);
    if (status == STATUS_OK)
        status = write_tensors(q, error);
    if (status != STATUS_OK)
        return status;
    status = gguf_writer_finish(q->writer, error);
    q->writer = NULL;
    return status;
}

enum status quantize_model(const char *source, const char *out,
                           const struct quantize_options *options, struct quantize_result *result,
                           struct error *error)
{
    struct model_file *file = NULL;
    struct quantizer q = {.options = options,
                          .progress = {.out = options->progress, .began_us = clock_us()}};
    enum status status = check_paths(source, out, error);
    if (status == STATUS_OK)
        status = model_open(&file, source, error);
    q.file = file;
    if (status == STATUS_OK)
        status = write_model(&q, out, error);
    write_progress_clear(&q.progress);
    if (status == STATUS_OK)
        *result = q.result;
    gguf_writer_destroy(q.writer);
    model_close(file);
    gguf_form_free(&q.form);
    free(q.types);
    return status;
}

/* bench_limit.c - sums over tensors and sequences. */
#include "cluster/bench_limit.h"

#include "kernels/attention/attend.h"
#include "kernels/attention/tree.h"
#include "model/hparams.h"
#include "model/model_file.h"
#include "model/weights.h"

#include <math.h>

/* Of a tensor of three dimensions a row uses a share of the matrices. */
static void add_products(struct bench_limit_operations *sum, const struct model_tensor *tensor,
                         double expert_share)
{
    const double n_used = tensor->n_dims == 3 ? expert_share * (double)tensor->dims[2] : 1;
    const double operations = 2.0 * (double)tensor->dims[0] * (double)tensor->dims[1] * n_used;
    if (tensor->n_dims < 2)
        return;
    if (tensor->type == GGUF_TYPE_F32 || tensor->type == GGUF_TYPE_F16 ||
        tensor->type == GGUF_TYPE_BF16)
        sum->f32 += operations;
    else
        sum->int8 += operations;
}

enum status bench_limit_model_read(struct bench_limit_model *model, const char *path,
                                   enum kv_type kv_type, struct error *error)
{
    struct model_file *file = NULL;
    struct hparams h;
    enum status status = model_open(&file, path, error);
    if (status == STATUS_OK)
        status = hparams_read(&h, file, error);
    if (status != STATUS_OK) {
        model_close(file);
        return status;
    }
    struct bench_limit_model read = {
        .expert_share = h.n_experts > 0 ? (double)h.n_experts_used / h.n_experts : 0};
    const struct model_tensor *embedding = weights_find(file, 0, WEIGHTS_TOKEN_EMBD);
    const struct model_tensor *output = weights_find(file, 0, WEIGHTS_OUTPUT);
    for (size_t i = 0; i < model_tensor_count(file); i++) {
        const struct model_tensor *tensor = model_tensor_at(file, i);
        if (tensor == embedding && tensor != output)
            continue; /* only rows of it are read */
        *(tensor->n_dims == 3 ? &read.expert_bytes : &read.weight_bytes) += tensor->n_bytes;
        add_products(tensor == output ? &read.output : &read.layers, tensor, read.expert_share);
    }
    read.vocab = h.vocab;
    read.attend_operations = 4.0 * h.n_heads * h.head_dim * h.n_layers;
    read.kv_token_bytes =
        (double)tile_bytes(kv_type, h.head_dim) / TILE_TOKENS * h.n_kv_heads * h.n_layers;
    model_close(file);
    *model = read;
    return STATUS_OK;
}

static double product_seconds(const struct bench_limit_operations *operations,
                              const struct bench_limit_machine *machine)
{
    return operations->f32 / machine->floats_per_s +
           (machine->int8_per_s > 0 ? operations->int8 / machine->int8_per_s : 0);
}

struct bench_limit bench_limit_of(const struct bench_limit_model *model,
                                  const struct bench_limit_machine *machine,
                                  const struct bench_case *bench_case)
{
    const double depth = (double)bench_case_depth(bench_case), n = bench_case->n_tokens;
    const double rows = bench_case->prefill ? n : bench_case->n_sequences;
    const double predicted = bench_case->prefill ? 1 : rows;
    /* A row of a prompt sees the rows before it too. */
    const double seen = bench_case->prefill ? n * depth + n * (n + 1) / 2 : depth + rows;
    const double met = 1 - pow(1 - model->expert_share, rows); /* of the experts */
    const double bytes = (double)model->weight_bytes + met * (double)model->expert_bytes +
                         depth * model->kv_token_bytes;
    const double operations = rows * (model->layers.f32 + model->layers.int8) +
                              predicted * (model->output.f32 + model->output.int8) +
                              seen * model->attend_operations;
    const double read_s = bytes / machine->read_bytes_per_s;
    const double compute_s = rows * product_seconds(&model->layers, machine) +
                             predicted * product_seconds(&model->output, machine) +
                             seen * model->attend_operations / machine->f32_per_s;
    return (struct bench_limit){.seconds = read_s > compute_s ? read_s : compute_s,
                                .bytes = bytes,
                                .operations = operations,
                                .arithmetic = compute_s > read_s};
}

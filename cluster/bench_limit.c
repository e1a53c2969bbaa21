/* bench_limit.c - sums over tensors and sequences. */
#include "cluster/bench_limit.h"

#include "kernels/attention/attend.h"
#include "kernels/attention/tree.h"
#include "model/model_file.h"

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
    struct bench_limit_model read = {.vocab = h.vocab};
    shard_cost_whole(&read.weights, &h, file);
    read.attend_last = 4.0 * h.n_heads * h.head_dim;
    read.attend_operations = read.attend_last * h.n_layers;
    read.kv_token_bytes =
        (double)tile_bytes(kv_type, h.head_dim) / TILE_TOKENS * h.n_kv_heads * h.n_layers;
    model_close(file);
    *model = read;
    return STATUS_OK;
}

struct bench_limit bench_limit_of(const struct bench_limit_model *model,
                                  const struct step_limit_machine *machine,
                                  const struct bench_case *bench_case)
{
    const double depth = (double)bench_case_depth(bench_case), n = bench_case->n_tokens;
    const double rows = bench_case->prefill ? n : bench_case->n_sequences;
    /* A row of a prompt sees the rows before it too. */
    const double seen = bench_case->prefill ? n * depth + n * (n + 1) / 2 : depth + rows;
    struct step_limit_demand demand =
        step_limit_products(&model->weights, rows, bench_case->prefill ? 1 : rows);
    demand.bytes += depth * model->kv_token_bytes;
    demand.attend_operations = seen * model->attend_operations;
    if (bench_case->prefill)
        demand.attend_operations -= (seen - (depth + n)) * model->attend_last;
    struct bench_limit limit = {.bytes = demand.bytes,
                                .operations = demand.products.f32 + demand.products.int8 +
                                              demand.attend_operations};
    limit.seconds = step_limit_seconds(&demand, machine, &limit.arithmetic);
    return limit;
}

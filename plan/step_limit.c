/* step_limit.c - see step_limit.h. */
#include "plan/step_limit.h"

struct step_limit_demand step_limit_products(const struct shard_cost *cost, double rows,
                                             double predicted)
{
    return (struct step_limit_demand){
        .bytes = (double)cost->read_bytes +
                 shard_cost_experts_met(cost, rows) * (double)cost->expert_bytes,
        .products = {.f32 = rows * cost->rows.f32 + predicted * cost->predicted.f32,
                     .int8 = rows * cost->rows.int8 + predicted * cost->predicted.int8}};
}

double step_limit_seconds(const struct step_limit_demand *demand,
                          const struct step_limit_machine *machine, bool *arithmetic)
{
    const double read_s = demand->bytes / machine->read_bytes_per_s;
    const double compute_s =
        demand->products.f32 / machine->floats_per_s +
        (machine->int8_per_s > 0 ? demand->products.int8 / machine->int8_per_s : 0) +
        demand->attend_operations / machine->f32_per_s;
    *arithmetic = compute_s > read_s;
    return *arithmetic ? compute_s : read_s;
}

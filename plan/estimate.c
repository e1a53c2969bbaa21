/* estimate.c - sums over stages; the laws are those of estimate.h. */
#include "plan/estimate.h"

#include "kernels/quant/kv_type.h"

#include <math.h>

enum {
    MOST_PARTIALS = 8,  /* of a row at one node: a prompt is dealt in about so many runs */
    MOST_CHUNKS = 4096, /* that are looked at one by one */
    SUM_DIRECT =
        64 * 1024, /* bytes of a sum that everybody sends to everybody (worker/group_exchange.c) */
};

struct estimate_reach estimate_reached(bool gpu, bool prompt)
{
    static const struct estimate_reach cpu_decode = {0.87, 0.87, 0.87, 0.87, 0};
    static const struct estimate_reach cpu_prompt = {0.87, 0.65, 0.65, 0.82, 0};
    static const struct estimate_reach of_gpu = {0.75, 0.75, 0.045, 0.95, 65e-6};
    return gpu ? of_gpu : prompt ? cpu_prompt : cpu_decode;
}

double estimate_sum(const struct estimate_time *time)
{
    return time->weights_s + time->kv_s + time->links_s;
}

/* The longer one; what is not known is not shorter. */
static double longer(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
}

static uint32_t kv_heads_of(const struct estimate_cluster *e, uint32_t rank)
{
    const struct planner_plan *plan = &e->capacity->plan;
    const struct shard_part *part = &plan->shards[rank % plan->tensor];
    return part->kv_head_end - part->kv_head_begin;
}

/* What is asked: a step, or a chunk of a prompt. */
struct pass {
    enum estimate_kind kind;
    double rows, depth;
    bool prompt; /* rows of one sequence, of which no token is asked for */
};

/* Seconds that a process needs for it. */
static double seconds_of(const struct estimate_process *process, const struct pass *pass,
                         const struct step_limit_demand *demand)
{
    const struct estimate_reach reach = estimate_reached(process->gpu, pass->prompt);
    struct step_limit_machine machine = process->machine;
    bool arithmetic;
    if (pass->kind == ESTIMATE_EXPECTED) {
        machine.read_bytes_per_s *= reach.read;
        machine.floats_per_s *= reach.floats;
        machine.int8_per_s *= reach.int8;
        machine.f32_per_s *= reach.attend;
    }
    return step_limit_seconds(demand, &machine, &arithmetic);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* Layers of the stage behind whose k and v all rows go on: in the model's last one only those do
 * whose token is asked for, of a prompt none. */
static uint32_t full_layers(const struct estimate_cluster *e, const struct planner_stage *stage,
                            bool prompt)
{
    const bool last = stage->first_layer + stage->n_layers == e->hparams->n_layers;
    return stage->n_layers - (prompt && last);
}

/* Tokens that a row behind `depth` sees, summed over the stage's layers. */
static double seen(const struct estimate_cluster *e, const struct planner_stage *stage, bool prompt,
                   double depth)
{
    double sum = 0;
    for (uint32_t i = 0; i < full_layers(e, stage, prompt); i++) {
        const uint32_t window = hparams_window(e->hparams, stage->first_layer + i);
        sum += window > 0 && window < depth ? window : depth;
    }
    return sum;
}

/* Of `rows` rows that see so many tokens, of this many KV heads; a prompt's rows are of one
 * sequence, whose cache is read once. */
static struct step_limit_demand attention(const struct estimate_cluster *e, double n_seen,
                                          double rows, bool prompt, double kv_heads)
{
    const struct hparams *h = e->hparams;
    const double token_bytes =
        2.0 * kv_heads * (double)kv_row_bytes(e->capacity->options.kv_type, h->head_dim);
    const double group = (double)h->n_heads / h->n_kv_heads;
    return (struct step_limit_demand){.bytes = n_seen * token_bytes * (prompt ? 1 : rows),
                                      .attend_operations =
                                          n_seen * rows * 4.0 * kv_heads * group * h->head_dim};
}

/* Of a sequence of `depth` tokens, as whole stripes are dealt. */
static double tokens_at(const struct estimate_cluster *e, uint32_t node, double depth)
{
    const double n_stripes = ceil(depth / e->stripe);
    if (n_stripes <= 1 || e->capacity->options.nodes == 1)
        return depth;
    const double tokens = ceil(e->shares[node] * n_stripes - 1e-6) * e->stripe;
    return tokens < depth ? tokens : depth;
}

/* A node's part of a stage's attention; it has the heads of all its ranks. */
static double node_seconds(const struct estimate_cluster *e, uint32_t node,
                           const struct planner_stage *stage, const struct pass *pass)
{
    const double depth = pass->depth;
    if (depth <= 0)
        return 0;
    const struct step_limit_demand demand =
        attention(e, tokens_at(e, node, depth) / depth * seen(e, stage, pass->prompt, depth),
                  pass->rows, pass->prompt, e->hparams->n_kv_heads);
    return seconds_of(&e->nodes[node], pass, &demand);
}

/* ---- links ----------------------------------------------------------------------------------- */

/* n_bytes from one host to another, `trips` times half a round trip. */
static double crossing(const struct estimate_cluster *e, uint32_t a, uint32_t b, double n_bytes,
                       double trips)
{
    if (a == b)
        return 0;
    const struct estimate_host *x = &e->hosts[a], *y = &e->hosts[b];
    const double rate = x->bytes_per_s < y->bytes_per_s ? x->bytes_per_s : y->bytes_per_s;
    if (isnan(x->bytes_per_s) || isnan(y->bytes_per_s))
        return NAN;
    return trips / 2 * longer(x->round_trip_s, y->round_trip_s) + n_bytes / rate;
}

struct estimate_exchange estimate_exchange(const struct estimate_cluster *e, uint32_t rank,
                                           uint64_t depth)
{
    const struct hparams *h = e->hparams;
    const double heads = (double)kv_heads_of(e, rank) * (h->n_heads / h->n_kv_heads);
    double partials = 1;
    if (e->capacity->options.nodes > 1 && depth > e->stripe) {
        partials = ceil((double)depth / e->stripe / e->capacity->options.nodes);
        partials = partials < MOST_PARTIALS ? partials : MOST_PARTIALS;
    }
    return (struct estimate_exchange){
        .query = heads * h->head_dim * sizeof(float),
        .answer = partials * heads * (h->head_dim + 2) * sizeof(float),
        .append = 2.0 * kv_heads_of(e, rank) *
                  (double)kv_row_bytes(e->capacity->options.kv_type, h->head_dim)};
}

double estimate_row_bytes(const struct estimate_cluster *e)
{
    return (double)e->hparams->hidden * sizeof(float);
}

/* A layer's exchange of a rank with all nodes: they answer at the same time, over the rank's own
 * link. */
static double ask_nodes(const struct estimate_cluster *e, uint32_t rank, double rows,
                        uint64_t depth)
{
    const struct estimate_exchange exchange = estimate_exchange(e, rank, depth);
    double slowest = 0, n_away = 0;
    for (uint32_t i = 0; i < e->capacity->options.nodes; i++)
        n_away += e->nodes[i].host != e->ranks[rank].host;
    if (depth <= e->stripe && n_away > 1)
        n_away = 1;
    for (uint32_t i = 0; i < e->capacity->options.nodes; i++)
        slowest = longer(slowest, crossing(e, e->ranks[rank].host, e->nodes[i].host,
                                           rows * n_away * (exchange.query + exchange.answer), 2));
    return slowest;
}

/* A sum over the ranks of a group (worker/group_exchange.c). */
static double sum_ranks(const struct estimate_cluster *e, uint32_t first, double rows)
{
    const uint32_t n = e->capacity->plan.tensor;
    const double bytes = rows * estimate_row_bytes(e);
    const bool direct = n == 2 || bytes <= SUM_DIRECT;
    double slowest = 0;
    for (uint32_t i = 1; i < n; i++)
        slowest = longer(slowest,
                         crossing(e, e->ranks[first].host, e->ranks[first + i].host,
                                  bytes * (direct ? n - 1.0 : 2.0 * (n - 1) / n), direct ? 1 : 2));
    return slowest;
}

/* What enters the stage: rows of the one before; the first
 * one's step, and the last one's result. */
static double enter_stage(const struct estimate_cluster *e, uint32_t stage, double rows)
{
    const struct planner_plan *plan = &e->capacity->plan;
    const uint32_t lead = e->ranks[stage * plan->tensor].host;
    double seconds = stage == 0 ? crossing(e, e->head, lead, 0, 1)
                                : crossing(e, e->ranks[(stage - 1) * plan->tensor].host, lead,
                                           rows * estimate_row_bytes(e), 1);
    if (stage + 1 == plan->pipeline)
        seconds += crossing(e, lead, e->head, 0, 1);
    return seconds;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* A rank's weights, and its own KV cache. */
static double rank_seconds(const struct estimate_cluster *e, uint32_t rank, const struct pass *pass,
                           bool with_cache)
{
    const struct planner_plan *plan = &e->capacity->plan;
    const struct planner_stage *stage = &plan->stages[rank / plan->tensor];
    const double kv_heads = kv_heads_of(e, rank);
    const struct estimate_process *process = &e->ranks[rank];
    struct step_limit_demand demand = step_limit_products(
        &e->capacity->ranks[rank].cost, pass->rows, pass->prompt ? 0 : pass->rows);
    /* A row of a prompt sees, of its own chunk, half on average; no cache is read for that. */
    const double own = pass->prompt ? pass->rows / 2 : 0;
    demand.attend_operations =
        attention(e, seen(e, stage, pass->prompt, own), pass->rows, true, kv_heads)
            .attend_operations;
    if (with_cache) {
        const struct step_limit_demand kv = attention(e, seen(e, stage, pass->prompt, pass->depth),
                                                      pass->rows, pass->prompt, kv_heads);
        demand.bytes += kv.bytes;
        demand.attend_operations += kv.attend_operations;
    }
    const double besides =
        pass->kind == ESTIMATE_EXPECTED ? estimate_reached(process->gpu, pass->prompt).layer_s : 0;
    return seconds_of(process, pass, &demand) + stage->n_layers * besides;
}

static struct estimate_time stage_time(const struct estimate_cluster *e, uint32_t index,
                                       const struct pass *pass)
{
    const struct planner_plan *plan = &e->capacity->plan;
    const struct planner_stage *stage = &plan->stages[index];
    const uint32_t first = index * plan->tensor, n_nodes = e->capacity->options.nodes;
    struct estimate_time time = {0};
    double all = 0, exchange = 0;
    for (uint32_t rank = first; rank < first + plan->tensor; rank++) {
        time.weights_s = longer(time.weights_s, rank_seconds(e, rank, pass, false));
        all = longer(all, rank_seconds(e, rank, pass, n_nodes == 0));
        if (n_nodes > 0 && pass->depth > 0)
            exchange = longer(exchange, ask_nodes(e, rank, pass->rows, (uint64_t)pass->depth));
    }
    time.kv_s = all - time.weights_s;
    for (uint32_t i = 0; i < n_nodes; i++)
        time.kv_s = longer(time.kv_s, node_seconds(e, i, stage, pass));
    time.links_s =
        full_layers(e, stage, pass->prompt) * (exchange + 2 * sum_ranks(e, first, pass->rows)) +
        enter_stage(e, index, pass->rows);
    return time;
}

double estimate_rank(const struct estimate_cluster *cluster, uint32_t rank, uint64_t depth)
{
    const struct pass pass = {.rows = 1, .depth = (double)depth};
    return rank_seconds(cluster, rank, &pass, cluster->capacity->options.nodes == 0);
}

double estimate_node(const struct estimate_cluster *cluster, uint32_t node, uint64_t depth)
{
    const struct pass pass = {.rows = 1, .depth = (double)depth};
    double sum = 0;
    for (uint32_t i = 0; i < cluster->capacity->plan.pipeline; i++)
        sum += node_seconds(cluster, node, &cluster->capacity->plan.stages[i], &pass);
    return sum;
}

struct estimate_time estimate_decode(const struct estimate_cluster *cluster,
                                     enum estimate_kind kind, double rows, uint64_t depth,
                                     struct estimate_time *slowest)
{
    const struct pass pass = {.kind = kind, .rows = rows, .depth = (double)depth};
    struct estimate_time sum = {0}, worst = {0};
    for (uint32_t i = 0; i < cluster->capacity->plan.pipeline; i++) {
        const struct estimate_time time = stage_time(cluster, i, &pass);
        sum.weights_s += time.weights_s;
        sum.kv_s += time.kv_s;
        sum.links_s += time.links_s;
        if (!(estimate_sum(&time) <= estimate_sum(&worst)))
            worst = time;
    }
    if (slowest != NULL)
        *slowest = worst;
    return sum;
}

double estimate_decode_rate(const struct estimate_cluster *cluster, uint32_t n, uint64_t depth)
{
    const uint32_t pipeline = cluster->capacity->plan.pipeline;
    const uint32_t batches = n < pipeline ? n : pipeline;
    struct estimate_time slowest;
    const struct estimate_time whole =
        estimate_decode(cluster, ESTIMATE_EXPECTED, ceil((double)n / batches), depth, &slowest);
    return n / longer(estimate_sum(&whole), batches * estimate_sum(&slowest));
}

/* A prompt is arithmetic: where that is not known, nothing is. */
static bool arithmetic_known(const struct estimate_cluster *e)
{
    bool known = true;
    for (uint32_t i = 0; i < e->capacity->options.workers; i++)
        known = known && isfinite(e->ranks[i].machine.f32_per_s) &&
                isfinite(e->ranks[i].machine.int8_per_s);
    for (uint32_t i = 0; i < e->capacity->options.nodes; i++)
        known = known && isfinite(e->nodes[i].machine.f32_per_s);
    return known;
}

/* Seconds of a chunk in the slowest stage; `all`: in all of them. */
static double chunk_seconds(const struct estimate_cluster *e, double rows, double depth,
                            double *all)
{
    const struct pass pass = {
        .kind = ESTIMATE_EXPECTED, .rows = rows, .depth = depth, .prompt = true};
    double slowest = 0;
    *all = 0;
    for (uint32_t k = 0; k < e->capacity->plan.pipeline; k++) {
        const struct estimate_time time = stage_time(e, k, &pass);
        slowest = longer(slowest, estimate_sum(&time));
        *all += estimate_sum(&time);
    }
    return arithmetic_known(e) ? slowest : NAN;
}

double estimate_prefill_rate(const struct estimate_cluster *cluster, uint64_t depth)
{
    const double chunk = cluster->capacity->options.chunk;
    double all;
    return chunk / chunk_seconds(cluster, chunk, (double)depth, &all);
}

double estimate_prefill(const struct estimate_cluster *cluster, uint64_t tokens)
{
    const double chunk = cluster->capacity->options.chunk, n = ceil((double)tokens / chunk);
    const double n_looks = n < MOST_CHUNKS ? n : MOST_CHUNKS;
    double seconds = 0;
    for (double i = 0; i < n_looks; i++) {
        double all;
        const double slowest =
            chunk_seconds(cluster, (double)tokens / n, (double)tokens * i / n_looks, &all);
        seconds += n / n_looks * slowest;
        seconds += i == 0 ? all - slowest : 0; /* the pipeline fills with the first */
    }
    return seconds;
}

/* What a token takes less without nodes, against what it takes
 * with them: positive where they cost. */
static double cost_of_nodes(const struct estimate_cluster *with,
                            const struct estimate_cluster *without, uint64_t depth)
{
    const struct estimate_time a = estimate_decode(with, ESTIMATE_EXPECTED, 1, depth, NULL);
    const struct estimate_time b = estimate_decode(without, ESTIMATE_EXPECTED, 1, depth, NULL);
    return estimate_sum(&a) / estimate_sum(&b) - 1;
}

double estimate_break_even(const struct estimate_cluster *cluster)
{
    const uint64_t most = 1ull << 30;
    struct capacity local = *cluster->capacity;
    struct estimate_cluster without = *cluster;
    local.options.nodes = 0;
    without.capacity = &local;
    uint64_t slower = 0, faster;
    for (uint64_t depth = 1; depth <= most; depth *= 2) {
        const double cost = cost_of_nodes(cluster, &without, depth);
        if (isnan(cost))
            return NAN;
        if (cost > -1e-9)
            slower = depth;
    }
    if (slower == most)
        return INFINITY;
    if (slower == 0)
        return 0;
    for (faster = 2 * slower; faster - slower > 1;) {
        const uint64_t middle = slower + (faster - slower) / 2;
        if (cost_of_nodes(cluster, &without, middle) > -1e-9)
            slower = middle;
        else
            faster = middle;
    }
    return (double)faster;
}

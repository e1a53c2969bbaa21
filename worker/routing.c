/* routing.c - choose for each row, count for each expert, deal the pairs. */
#include "worker/routing.h"

#include "kernels/numeric.h"
#include "model/weights.h"
#include "plan/expert_size.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* One of a row's experts. */
struct routing_choice {
    uint32_t expert;
    float weight; /* the logit until they are all chosen */
};

/* A rank whose experts are not an aligned power of two of whole ranges adds them up as one: for
 * such a split the bits of one rank are not promised. */
static uint32_t rank_ranges(const struct routing_shape *shape, uint32_t range_experts)
{
    const uint32_t here = shape->end - shape->first, n = here / range_experts;
    const bool whole = here % range_experts == 0 && shape->first % range_experts == 0;
    return whole && (n & (n - 1)) == 0 && shape->first % here == 0 ? n : 1;
}

enum status routing_open(struct routing *routing, const struct routing_shape *shape,
                         struct error *error)
{
    const uint32_t here = shape->end - shape->first;
    const uint32_t of_range = shape->n_experts / weights_expert_ranges(shape->n_experts);
    const uint32_t n_ranges = rank_ranges(shape, of_range);
    const size_t n_pairs = expert_size_pairs(shape->max_rows, shape->n_used, here);
    struct routing r = {.shape = *shape, .range_experts = n_ranges > 1 ? of_range : here};
    assert(here > 0 && shape->n_used > 0 && shape->n_used <= shape->n_experts);
    r.row = malloc(n_pairs * sizeof(*r.row));
    r.expert = malloc(here * sizeof(*r.expert));
    r.end = malloc(here * sizeof(*r.end));
    r.next = malloc(here * sizeof(*r.next));
    r.choices = malloc((size_t)shape->max_rows * shape->n_used * sizeof(*r.choices));
    r.term_end = malloc((size_t)shape->max_rows * n_ranges * sizeof(*r.term_end));
    r.term_row = malloc(n_pairs * sizeof(*r.term_row));
    r.term_weight = malloc(n_pairs * sizeof(*r.term_weight));
    r.terms = (struct combine_terms){n_ranges, r.term_end, r.term_row, r.term_weight};
    if (r.row == NULL || r.expert == NULL || r.end == NULL || r.next == NULL || r.choices == NULL ||
        r.term_end == NULL || r.term_row == NULL || r.term_weight == NULL) {
        routing_close(&r);
        return error_set(error, STATUS_NO_MEMORY, "routing: no memory for %zu pairs of %zu bytes",
                         n_pairs, 3 * sizeof(uint32_t));
    }
    *routing = r;
    return STATUS_OK;
}

void routing_close(struct routing *routing)
{
    free(routing->row);
    free(routing->expert);
    free(routing->end);
    free(routing->next);
    free(routing->choices);
    free(routing->term_end);
    free(routing->term_row);
    free(routing->term_weight);
    *routing = (struct routing){0};
}

/* ---- one row --------------------------------------------------------------------------------- */

/* The n largest, in descending order; an expert passes those before it only where it is larger. */
static void choose(struct routing_choice *choices, uint32_t n, const float *logits,
                   uint32_t n_experts)
{
    for (uint32_t e = 0, chosen = 0; e < n_experts; e++) {
        if (chosen == n && !(logits[e] > choices[n - 1].weight))
            continue;
        uint32_t at = chosen < n ? chosen++ : n - 1;
        for (; at > 0 && logits[e] > choices[at - 1].weight; at--)
            choices[at] = choices[at - 1];
        choices[at] = (struct routing_choice){e, logits[e]};
    }
}

/* Logits become weights. */
static void weigh(struct routing_choice *choices, uint32_t n, const float *logits,
                  uint32_t n_experts, bool normalise)
{
    const float largest = choices[0].weight;
    float sum = 0;
    for (uint32_t i = 0; i < n; i++)
        choices[i].weight = exp_f32(choices[i].weight - largest);
    for (uint32_t i = 0; i < n && normalise; i++)
        sum += choices[i].weight;
    for (uint32_t e = 0; e < n_experts && !normalise; e++)
        sum += exp_f32(logits[e] - largest);
    for (uint32_t i = 0; i < n; i++)
        choices[i].weight /= sum;
}

static void sort_by_expert(struct routing_choice *choices, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        const struct routing_choice moved = choices[i];
        uint32_t at = i;
        for (; at > 0 && choices[at - 1].expert > moved.expert; at--)
            choices[at] = choices[at - 1];
        choices[at] = moved;
    }
}

/* ---- all rows -------------------------------------------------------------------------------- */

static bool is_here(const struct routing *r, const struct routing_choice *choice)
{
    return choice->expert >= r->shape.first && choice->expert < r->shape.end;
}

/* From counts in `next` to groups, and to where each expert's next pair goes. */
static void make_groups(struct routing *r)
{
    r->n_pairs = r->n_groups = 0;
    for (uint32_t e = 0; e < r->shape.end - r->shape.first; e++) {
        const uint32_t n = r->next[e];
        r->next[e] = r->n_pairs;
        r->n_pairs += n;
        if (n == 0)
            continue;
        r->expert[r->n_groups] = e;
        r->end[r->n_groups++] = r->n_pairs;
    }
}

static void deal_row(struct routing *r, uint32_t row, uint32_t *n_terms)
{
    const struct routing_choice *choices = r->choices + (size_t)row * r->shape.n_used;
    uint32_t *end = r->term_end + (size_t)row * r->terms.n_ranges, range = 0;
    for (uint32_t i = 0; i < r->shape.n_used; i++) {
        if (!is_here(r, &choices[i]))
            continue;
        const uint32_t e = choices[i].expert - r->shape.first;
        for (; range < e / r->range_experts; range++)
            end[range] = *n_terms;
        r->row[r->next[e]] = row;
        r->term_row[*n_terms] = r->next[e]++;
        r->term_weight[(*n_terms)++] = choices[i].weight;
    }
    for (; range < r->terms.n_ranges; range++)
        end[range] = *n_terms;
}

void routing_make(struct routing *routing, const float *logits, uint32_t n_rows)
{
    struct routing *r = routing;
    const uint32_t n_experts = r->shape.n_experts, n_used = r->shape.n_used;
    assert(n_rows <= r->shape.max_rows);
    memset(r->next, 0, (r->shape.end - r->shape.first) * sizeof(*r->next));
    for (uint32_t row = 0; row < n_rows; row++) {
        const float *from = logits + (size_t)row * n_experts;
        struct routing_choice *choices = r->choices + (size_t)row * n_used;
        choose(choices, n_used, from, n_experts);
        weigh(choices, n_used, from, n_experts, r->shape.normalise);
        sort_by_expert(choices, n_used);
        for (uint32_t i = 0; i < n_used; i++)
            if (is_here(r, &choices[i]))
                r->next[choices[i].expert - r->shape.first]++;
    }
    make_groups(r);
    for (uint32_t row = 0, n_terms = 0; row < n_rows; row++)
        deal_row(r, row, &n_terms);
}

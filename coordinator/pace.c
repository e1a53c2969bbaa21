/* pace.c - see pace.h. */
#include "coordinator/pace.h"

#include "coordinator/step_cost.h"

#include <assert.h>
#include <stdlib.h>

struct flying {
    uint64_t sent_us;
    struct step_work work;
    bool counts; /* it computes something */
};

struct pace {
    double target_us; /* of a step; 0: none */
    uint32_t chunk, depth;
    struct step_cost cost;
    struct flying *flying; /* [depth], a ring */
    uint32_t first, n;
    uint64_t reported_us;
};

enum status pace_create(struct pace **pace, uint32_t target_ms, uint32_t chunk, uint32_t depth,
                        struct error *error)
{
    struct pace *p = calloc(1, sizeof(*p));
    if (p == NULL || (p->flying = calloc(depth, sizeof(*p->flying))) == NULL) {
        free(p);
        return error_set(error, STATUS_NO_MEMORY, "no memory to measure %u steps", depth);
    }
    p->target_us = target_ms * 1000.0 / depth;
    p->chunk = chunk;
    p->depth = depth;
    *pace = p;
    return STATUS_OK;
}

void pace_destroy(struct pace *pace)
{
    if (pace != NULL)
        free(pace->flying);
    free(pace);
}

void pace_sent(struct pace *p, const struct scheduler_step *step, const struct scheduler *scheduler,
               uint64_t now_us)
{
    assert(p->n < p->depth);
    struct flying *f = &p->flying[(p->first + p->n++) % p->depth];
    *f = (struct flying){.sent_us = now_us, .counts = step->n_segments > 0};
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_segment *segment = &step->segments[i];
        f->counts = f->counts && !segment->fills;
        f->work.prompts =
            f->work.prompts ||
            segment->position < scheduler_sequence(scheduler, segment->sequence)->n_again;
        step_work_add(&f->work, segment->position, segment->n_tokens);
    }
}

void pace_reported(struct pace *p, struct scheduler *scheduler, uint64_t now_us)
{
    assert(p->n > 0);
    const struct flying *f = &p->flying[p->first];
    const uint64_t began_us = f->sent_us > p->reported_us ? f->sent_us : p->reported_us;
    p->first = (p->first + 1) % p->depth;
    p->n--;
    p->reported_us = now_us;
    if (!f->counts || p->target_us == 0.0)
        return;
    step_cost_learn(&p->cost, &f->work, (double)(now_us - began_us));
    const uint32_t most = step_cost_most_tokens(&p->cost);
    scheduler_set_budget(scheduler, &p->cost.prices, p->target_us,
                         most < p->chunk ? most : p->chunk);
}

/* needed_rows.c - rows that follow each other, as those of a step's decodes, are one copy. */
#include "worker/needed_rows.h"

#include <stddef.h>

/* Copies that are still to be made: n rows, `from` and `to` counted in rows. */
struct pending {
    const struct needed_rows *rows;
    float *to_rows;
    const float *from_rows;
    size_t to, from, n;
};

/* Within one memory rows move towards its beginning. A copy must not overlap (kernels.h), so it has
 * no more rows than the distance. */
static void flush(struct pending *p)
{
    const bool within = p->to_rows == p->from_rows;
    const size_t hidden = p->rows->hidden, most = within ? p->from - p->to : p->n;
    for (size_t i = 0, n; i < p->n && most > 0; i += n) {
        n = p->n - i < most ? p->n - i : most;
        p->rows->kernels->copy(p->rows->device, p->to_rows + (p->to + i) * hidden,
                               p->from_rows + (p->from + i) * hidden, n * hidden * sizeof(float));
    }
    p->n = 0;
}

static void add(struct pending *p, size_t to, size_t from, size_t n)
{
    if (p->n == 0 || to != p->to + p->n || from != p->from + p->n) {
        flush(p);
        p->to = to;
        p->from = from;
    }
    p->n += n;
}

void needed_rows_gather(const struct needed_rows *rows, const struct step *step, float *x)
{
    struct pending pending = {.rows = rows, .to_rows = x, .from_rows = x};
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (segment->error.status == STATUS_OK && segment->n_needed > 0)
            add(&pending, segment->needed, segment->row + segment->n_tokens - segment->n_needed,
                segment->n_needed);
    }
    flush(&pending);
}

const float *needed_rows_wanted(const struct needed_rows *rows, const struct step *step, float *to,
                                const float *x)
{
    struct pending pending = {.rows = rows, .to_rows = to, .from_rows = x};
    uint32_t n = 0;
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (segment->error.status == STATUS_OK && segment->want != STEP_WANT_NOTHING)
            add(&pending, n++, segment->needed + segment->n_needed - 1, 1);
    }
    if (pending.n == n)
        return x + pending.from * rows->hidden;
    flush(&pending);
    return to;
}

/* worker/needed_rows.h - the rows of a step whose logits somebody wants.
 *
 * A row's bits do not depend on the other rows. So the model's last layer makes k and v of all rows,
 * and does the rest for the needed ones alone (struct step): the last row of a segment that wants a
 * result, the rows of one that is scored. From there on they lie one after the other. */
#ifndef LONGSPAN_WORKER_NEEDED_ROWS_H
#define LONGSPAN_WORKER_NEEDED_ROWS_H

#include "kernels/kernels.h"
#include "worker/step.h"

#include <stdint.h>

/* Rows of `hidden` floats on a device. */
struct needed_rows {
    const struct kernels *kernels;
    struct device *device;
    uint32_t hidden;
};

/* Moves the needed rows of x, which has all rows of the step, to its beginning. */
void needed_rows_gather(const struct needed_rows *rows, const struct step *step, float *x);

/* Of the needed rows x the last one of each segment that wants a result: n_wanted rows, one after
 * the other. Returns where they lie: in x, as those of decodes do, or copied to `to`, other
 * memory. */
const float *needed_rows_wanted(const struct needed_rows *rows, const struct step *step, float *to,
                                const float *x);

#endif

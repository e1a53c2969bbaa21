/* worker/recordings.h - the pieces of a step that a device repeats, recorded once for each shape.
 *
 * From layer to layer a step makes the same calls again and again: only positions change, and what
 * lies in memory. A decode step makes hundreds, each of which takes the host longer than the
 * device. Where the device can record calls (kernels.h), steps of a few rows are recorded when
 * their shape comes for the second time, piece by piece, and from then on each piece is one call.
 *
 * A few shapes are kept; the one that was not used for longest makes room. What cannot be recorded
 * is called, as on devices that do not record; either way results are the same bits. */
#ifndef LONGSPAN_WORKER_RECORDINGS_H
#define LONGSPAN_WORKER_RECORDINGS_H

#include "kernels/kernels.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct recordings; /* opaque */

/* Of steps that have n_pieces. The device outlives it. STATUS_NO_MEMORY. */
enum status recordings_create(struct recordings **recordings, const struct kernels *kernels,
                              struct device *device, uint32_t n_pieces, struct error *error);
void recordings_destroy(struct recordings *recordings);

/* Everything but positions that the calls of a step depend on. */
struct recordings_shape {
    uint32_t n_rows;
    const float *stream; /* that the rows lie in */
    const void *kv;      /* where their k and v are rounded to; NULL: nowhere */
    bool launches;       /* attention is launched by them */
};

/* Begins a step. `may`: false: nothing of this step may be recorded or replayed. */
void recordings_begin(struct recordings *recordings, bool may, const uint32_t *positions,
                      const struct recordings_shape *shape);

#define RECORDINGS_NOT UINT64_MAX

/* Does piece number `index`, whose calls `piece` makes: those that may be recorded (kernels.h), and
 * the same for each step of a shape in which `kind` is the same; of another kind it is recorded
 * anew. RECORDINGS_NOT: it is called. Its failure is returned; that piece is not recorded then. */
enum status recordings_run(struct recordings *recordings, uint32_t index, uint64_t kind,
                           enum status (*piece)(void *context, struct error *error), void *context,
                           struct error *error);

/* Pieces that were replayed so far. */
uint64_t recordings_replayed(const struct recordings *recordings);

#endif

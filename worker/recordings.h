/* worker/recordings.h - the pieces of a step that a device repeats, recorded once for each shape.
 *
 * Between two attentions a step makes the same calls again and again: only positions change, and what
 * lies in memory. A decode step makes hundreds, each of which takes the host longer than the device.
 * Where the device can record calls (kernels.h), steps of a few rows are recorded when their shape
 * comes for the second time, piece by piece, and from then on each piece is one call.
 *
 * A few shapes are kept; the one that was not used for longest makes room. What cannot be recorded is
 * called, as on devices that do not record; either way results are the same bits. */
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

/* Begins a step. Its shape: everything but positions that its calls depend on, so the number of rows
 * and the stream that they lie in. `may`: false: nothing of this step may be recorded or replayed. */
void recordings_begin(struct recordings *recordings, bool may, const uint32_t *positions,
                      uint32_t n_rows, const float *stream);

/* Does piece number `index`, whose calls `piece` makes: those that may be recorded (kernels.h), and
 * the same for each step of a shape. Its failure is returned; that piece is not recorded then. */
enum status recordings_run(struct recordings *recordings, uint32_t index,
                           enum status (*piece)(void *context, struct error *error), void *context,
                           struct error *error);

/* Pieces that were replayed so far. */
uint64_t recordings_replayed(const struct recordings *recordings);

#endif

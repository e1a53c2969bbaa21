/* cluster/bench_probe.h - what the hardware can do that this machine's processes compute on.
 *
 * Of processors: how fast the lanes read memory, and their arithmetic. Of a GPU: how fast it reads
 * its memory; its arithmetic is not probed and counts as infinite, so that limits are memory's
 * alone. Probed while the processes sleep. */
#ifndef LONGSPAN_CLUSTER_BENCH_PROBE_H
#define LONGSPAN_CLUSTER_BENCH_PROBE_H

#include "cluster/bench_limit.h"
#include "cluster/place_options.h"
#include "kernels/cpu/limits.h"
#include "kernels/kernels.h"

struct bench_probe {
    struct thread_pool *pool; /* NULL: nothing is probed */
    struct limits_reader *reader;
    const struct kernels *kernels; /* of `device` */
    struct device *device;         /* NULL: processors */
    struct step_limit_machine machine;
};

/* Probes arithmetic. STATUS_NO_MEMORY; of a device, what kernels_choose_device and open say. The
 * caller ends it with bench_probe_close, also after a failure. */
enum status bench_probe_open(struct bench_probe *probe, const struct place_options *place,
                             uint32_t n_lanes, struct error *error);
/* All zeros is fine. */
void bench_probe_close(struct bench_probe *probe);

/* Probes the read rate anew: machine.read_bytes_per_s. */
void bench_probe_read(struct bench_probe *probe);

#endif

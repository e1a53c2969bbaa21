/* bench_probe.c - the table of the device, or the lanes of the processors. */
#include "cluster/bench_probe.h"

#include <math.h>
#include <string.h>

enum { READ_BUDGET_MS = 150 };
static const size_t READ_BYTES = (size_t)512 << 20;

static enum status open_device(struct bench_probe *probe, const char *device, struct error *error)
{
    uint32_t index = 0;
    enum status status = kernels_choose_device(&probe->kernels, device, NULL, error);
    if (status == STATUS_OK)
        status = kernels_device_index(&index, probe->kernels, device, 0, error);
    if (status == STATUS_OK)
        status = probe->kernels->open(&probe->device, probe->pool, index, error);
    return status;
}

static enum status open_processors(struct bench_probe *probe, const char *kernels,
                                   struct error *error)
{
    const enum status status = limits_reader_create(&probe->reader, probe->pool, READ_BYTES, error);
    if (status != STATUS_OK)
        return status;
    probe->machine.f32_per_s = limits_f32(probe->pool);
    probe->machine.int8_per_s = limits_int8(probe->pool);
    probe->machine.floats_per_s =
        kernels_round_products(kernels) ? limits_bf16(probe->pool) : probe->machine.f32_per_s;
    return STATUS_OK;
}

enum status bench_probe_open(struct bench_probe *probe, const struct place_options *place,
                             uint32_t n_lanes, struct error *error)
{
    const bool processors = kernels_device_is_cpu(place->device);
    probe->machine = (struct step_limit_machine){INFINITY, INFINITY, INFINITY, INFINITY};
    const enum status status = thread_pool_create(&probe->pool, n_lanes, error);
    if (status != STATUS_OK)
        return status;
    return processors ? open_processors(probe, place->kernels, error)
                      : open_device(probe, place->device, error);
}

void bench_probe_close(struct bench_probe *probe)
{
    if (probe->device != NULL)
        probe->kernels->close(probe->device);
    limits_reader_destroy(probe->reader);
    thread_pool_destroy(probe->pool);
    *probe = (struct bench_probe){0};
}

void bench_probe_read(struct bench_probe *probe)
{
    probe->machine.read_bytes_per_s =
        probe->device != NULL
            ? probe->kernels->read_rate(probe->device, 4 * READ_BYTES, READ_BUDGET_MS)
            : limits_reader_median(probe->reader, READ_BUDGET_MS);
}

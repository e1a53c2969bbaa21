/* kernels/device_buffer.h - memory on a device, or beside it on the host, that grows.
 *
 * Content is lost when it grows. Host memory is of the kind that copies fastest to the device. */
#ifndef LONGSPAN_KERNELS_DEVICE_BUFFER_H
#define LONGSPAN_KERNELS_DEVICE_BUFFER_H

#include "kernels/kernels.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Zeroed: empty. */
struct device_buffer {
    const struct kernels *kernels;
    struct device *device;
    bool on_host;
    void *memory;
    size_t bytes;
};

/* The device outlives the buffer. */
static inline struct device_buffer device_buffer(const struct kernels *kernels,
                                                 struct device *device, bool on_host)
{
    return (struct device_buffer){.kernels = kernels, .device = device, .on_host = on_host};
}

/* At least `bytes`, and somewhat more where it has to grow and the device has as much: then nothing may be under way with what
 * it was, which the caller has waited for where the device's memory is not the host's.
 * STATUS_NO_MEMORY: it is empty then. */
enum status device_buffer_reserve(struct device_buffer *buffer, size_t bytes, struct error *error);

/* Zeroed is fine. */
void device_buffer_release(struct device_buffer *buffer);

#endif

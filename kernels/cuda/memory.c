/* memory.c - device and pinned memory, copies on the stream, and small index arguments. */
#include "kernels/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- lending --------------------------------------------------------------------------------- */

enum status cuda_memory_take(struct device *device, void **memory, size_t bytes,
                             struct error *error)
{
    void *taken = NULL;
    (void)device;
    const cudaError_t result = cudaMalloc(&taken, bytes > 0 ? bytes : 1); /* 256-byte aligned */
    if (result != cudaSuccess) {
        char what[64];
        snprintf(what, sizeof(what), "no GPU memory of %zu bytes", bytes);
        return cuda_error(error, result, what);
    }
    *memory = taken;
    return STATUS_OK;
}

void cuda_memory_give(struct device *device, void *memory)
{
    if (memory == NULL)
        return;
    cuda_flush(device); /* cudaFree waits for the work that uses it */
    cuda_check(device, cudaFree(memory), "giving memory back");
}

enum status cuda_host_take(struct device *device, void **memory, size_t bytes, struct error *error)
{
    void *taken = NULL;
    (void)device;
    const cudaError_t result = cudaHostAlloc(&taken, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
    if (result != cudaSuccess) {
        char what[64];
        snprintf(what, sizeof(what), "no pinned memory of %zu bytes", bytes);
        return cuda_error(error, result, what);
    }
    *memory = taken;
    return STATUS_OK;
}

void cuda_host_give(struct device *device, void *memory)
{
    if (memory != NULL)
        cuda_check(device, cudaFreeHost(memory), "giving pinned memory back");
}

uint64_t cuda_memory_available(struct device *device)
{
    size_t available = 0, total = 0;
    if (!cuda_check(device, cudaMemGetInfo(&available, &total), "free memory"))
        return 0;
    return available;
}

enum status cuda_grow(struct device *device, void **memory, size_t *capacity, size_t bytes,
                      struct error *error)
{
    void *larger = NULL;
    if (bytes <= *capacity)
        return STATUS_OK;
    const enum status status = cuda_memory_take(device, &larger, bytes, error);
    if (status != STATUS_OK)
        return status;
    cuda_memory_give(device, *memory);
    *memory = larger;
    *capacity = bytes;
    return STATUS_OK;
}

/* ---- copies ---------------------------------------------------------------------------------- */

static void copy(struct device *device, void *to, const void *from, size_t bytes,
                 enum cudaMemcpyKind kind, const char *what)
{
    if (bytes > 0 && to != from)
        cuda_check(device, cudaMemcpyAsync(to, from, bytes, kind, cuda_stream(device)), what);
}

void cuda_upload(struct device *device, void *to, const void *from, size_t bytes)
{
    copy(device, to, from, bytes, cudaMemcpyHostToDevice, "upload");
}

void cuda_download(struct device *device, void *to, const void *from, size_t bytes)
{
    copy(device, to, from, bytes, cudaMemcpyDeviceToHost, "download");
}

void cuda_copy(struct device *device, void *to, const void *from, size_t bytes)
{
    copy(device, to, from, bytes, cudaMemcpyDeviceToDevice, "copy");
}

void cuda_clear(struct device *device, void *memory, size_t bytes)
{
    if (bytes > 0)
        cuda_check(device, cudaMemsetAsync(memory, 0, bytes, cuda_stream(device)), "clear");
}

enum status cuda_finish(struct device *device, struct error *error)
{
    cuda_check(device, cudaStreamSynchronize(cuda_stream(device)), "the GPU's work");
    const enum status status = device->status;
    if (status != STATUS_OK && error != NULL)
        *error = device->error;
    device->status = STATUS_OK;
    return status;
}

/* ---- index arguments ------------------------------------------------------------------------- */

enum { RING_HALF = CUDA_RING_BYTES / 2 };

/* `bytes` of the ring, at most a half. Its halves are used in turn: before one is used again, the
 * copies that went out of it must be done, which they long are. NULL: failed, and kept. */
static void *ring_take(struct device *device, size_t bytes)
{
    if (device->ring_used + bytes > RING_HALF) {
        if (!cuda_check(device,
                        cudaEventRecord(device->ring_done[device->ring_half], cuda_stream(device)),
                        "ring"))
            return NULL;
        device->ring_half = 1 - device->ring_half;
        device->ring_used = 0;
        if (!cuda_check(device, cudaEventSynchronize(device->ring_done[device->ring_half]), "ring"))
            return NULL;
    }
    char *at = device->ring + device->ring_half * RING_HALF + device->ring_used;
    device->ring_used += (bytes + 15) / 16 * 16;
    return at;
}

enum status cuda_indices_reserve(struct device *device, enum cuda_index_kind kind, size_t bytes,
                                 struct error *error)
{
    struct cuda_indices *indices = &device->indices[kind];
    if (bytes <= indices->capacity)
        return STATUS_OK;
    void *host = malloc(bytes);
    if (host == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of indices", bytes);
    const enum status status =
        cuda_grow(device, &indices->device, &indices->capacity, bytes, error);
    if (status != STATUS_OK) {
        free(host);
        return status;
    }
    free(indices->host);
    indices->host = host;
    indices->bytes = 0;
    return STATUS_OK;
}

const void *cuda_indices(struct device *device, enum cuda_index_kind kind, const void *host,
                         size_t bytes)
{
    struct cuda_indices *indices = &device->indices[kind];
    if (bytes > 0 && bytes == indices->bytes && memcmp(host, indices->host, bytes) == 0)
        return indices->device;
    struct error error;
    if (device->recording != NULL) { /* the copy would be recorded, of memory that is used again */
        cuda_fail(device, STATUS_UNSUPPORTED, "new indices in a recording");
        return NULL;
    }
    if (bytes > indices->capacity &&
        cuda_indices_reserve(device, kind, 2 * bytes, &error) != STATUS_OK) {
        cuda_fail(device, error.status, "%s", error.text);
        return NULL;
    }
    indices->bytes = 0;
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < RING_HALF ? bytes - at : (size_t)RING_HALF;
        void *ring = ring_take(device, n);
        if (ring == NULL)
            return NULL;
        memcpy(ring, (const char *)host + at, n);
        if (!cuda_check(device,
                        cudaMemcpyAsync((char *)indices->device + at, ring, n,
                                        cudaMemcpyHostToDevice, cuda_stream(device)),
                        "index upload"))
            return NULL;
    }
    memcpy(indices->host, host, bytes);
    indices->bytes = bytes;
    return indices->device;
}

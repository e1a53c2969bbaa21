/* device.c - which GPUs there are, opening one, and the errors that wait for finish. */
#include "kernels/cuda/device.h"

#include "kernels/cuda/blas.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status cuda_error(struct error *error, cudaError_t result, const char *what)
{
    (void)cudaGetLastError(); /* said here; not the next launch's */
    return error_set(error, result == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_FAILED,
                     "cuda: %s: %s", what, cudaGetErrorString(result));
}

void cuda_fail(struct device *device, enum status status, const char *format, ...)
{
    char text[256];
    va_list arguments;
    if (device->status != STATUS_OK)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    device->status = error_set(&device->error, status, "cuda: %s", text);
}

bool cuda_check(struct device *device, cudaError_t result, const char *what)
{
    if (result == cudaSuccess)
        return true;
    (void)cudaGetLastError(); /* as in cuda_error */
    cuda_fail(device, result == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_FAILED,
              "%s: %s", what, cudaGetErrorString(result));
    return false;
}

bool cuda_launched(struct device *device, const char *kernel)
{
    return cuda_check(device, cudaGetLastError(), kernel);
}

/* ---- which there are ------------------------------------------------------------------------- */

uint32_t cuda_count(struct error *error)
{
    int driver = 0, n = 0;
    cudaError_t result = cudaDriverGetVersion(&driver);
    if (result != cudaSuccess || driver == 0) {
        error_set(error, STATUS_UNSUPPORTED,
                  "no NVIDIA driver is installed (libcuda.so.1 is not found)");
        return 0;
    }
    result = cudaGetDeviceCount(&n);
    if (result == cudaErrorInsufficientDriver)
        error_set(error, STATUS_UNSUPPORTED,
                  "the NVIDIA driver is too old: it is for CUDA %d.%d, this build needs %d.%d",
                  driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                  CUDART_VERSION % 1000 / 10);
    else if (result == cudaErrorNoDevice || (result == cudaSuccess && n <= 0))
        error_set(error, STATUS_UNSUPPORTED, "the NVIDIA driver sees no GPU");
    else if (result != cudaSuccess)
        error_set(error, STATUS_UNSUPPORTED, "the GPUs cannot be counted: %s",
                  cudaGetErrorString(result));
    if (result != cudaSuccess)
        (void)cudaGetLastError(); /* said here; not the next call's */
    return result == cudaSuccess && n > 0 ? (uint32_t)n : 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The first architecture that the kernels are compiled for; older GPUs lack what they use. */
enum { LEAST_CAPABILITY = 80 };

static enum status open_stream(struct device *d, struct error *error)
{
    struct cudaDeviceProp properties;
    cudaError_t result = cudaGetDeviceProperties(&properties, d->index);
    if (result != cudaSuccess)
        return cuda_error(error, result, "the GPU's properties");
    d->n_multiprocessors = properties.multiProcessorCount;
    d->shared_bytes = properties.sharedMemPerMultiprocessor;
    d->compute_capability = properties.major * 10 + properties.minor;
    if (d->compute_capability < LEAST_CAPABILITY)
        return error_set(error, STATUS_UNSUPPORTED,
                         "cuda: %s has compute capability %d.%d; %d.%d or newer is needed",
                         properties.name, properties.major, properties.minor, LEAST_CAPABILITY / 10,
                         LEAST_CAPABILITY % 10);
    if ((result = cudaSetDevice(d->index)) != cudaSuccess)
        return cuda_error(error, result, "choosing the GPU");
    int of_code = 0;
    const enum status status = cuda_code_architecture(d, &of_code, error);
    if (status != STATUS_OK)
        return status;
    if (of_code < d->compute_capability)
        d->compute_capability = of_code;
    if ((result = cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking)) != cudaSuccess)
        return cuda_error(error, result, "a stream");
    for (int i = 0; i < 2; i++)
        if ((result = cudaEventCreateWithFlags(&d->ring_done[i], cudaEventDisableTiming)) !=
            cudaSuccess)
            return cuda_error(error, result, "an event");
    void *ring;
    if ((result = cudaHostAlloc(&ring, CUDA_RING_BYTES, cudaHostAllocDefault)) != cudaSuccess)
        return cuda_error(error, result, "pinned memory");
    d->ring = ring;
    return STATUS_OK;
}

enum status cuda_open(struct device **device, struct thread_pool *pool, uint32_t index,
                      struct error *error)
{
    struct error why = {.status = STATUS_OK};
    const uint32_t n = cuda_count(&why);
    (void)pool; /* the GPU has its own lanes */
    if (n == 0)
        return error_set(error, STATUS_UNSUPPORTED, "cuda: %s", why.text);
    if (index >= n)
        return error_set(error, STATUS_NOT_FOUND, "cuda: GPU %u of %u", index, n);
    struct device *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return error_set(error, STATUS_NO_MEMORY, "cuda: no memory for a device");
    d->index = (int)index;
    const enum status status = open_stream(d, error);
    if (status != STATUS_OK) {
        cuda_close(d);
        return status;
    }
    *device = d;
    return STATUS_OK;
}

void cuda_close(struct device *device)
{
    if (device == NULL)
        return;
    if (device->stream != NULL)
        cudaStreamSynchronize(device->stream);
    cuda_blas_destroy(device->blas);
    void *const memory[] = {device->x.quantized, device->x.scales,      device->x.parts,
                            device->x.halves,    device->x.powers,      device->pending,
                            device->panel,       device->upload_device, device->candidates};
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
        cudaFree(memory[i]);
    for (size_t i = 0; i < CUDA_INDEX_KINDS; i++) {
        cudaFree(device->indices[i].device);
        free(device->indices[i].host);
    }
    cudaFreeHost(device->upload_host);
    cudaFreeHost(device->ring);
    for (int i = 0; i < 2; i++)
        if (device->ring_done[i] != NULL)
            cudaEventDestroy(device->ring_done[i]);
    if (device->stream != NULL)
        cudaStreamDestroy(device->stream);
    (void)cudaGetLastError();
    free(device);
}

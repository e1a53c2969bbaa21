/* record.c - calls recorded as a CUDA graph: the stream is captured, the graph launched again and
 * again.
 *
 * A graph keeps addresses, also of what calls copy. So that it may be launched later with other
 * positions, these lie in one place (cuda_reserve), and come there before the graph: a call that
 * would copy indices while it is recorded makes the recording fail. */
#include "kernels/cuda/device.h"

#include <stdlib.h>

struct recording {
    cudaGraphExec_t graph;
    uint32_t n_rows;
    const void *positions;     /* on the device */
    struct cuda_activations x; /* as the last `prepare` among the calls leaves them */
};

enum status cuda_record_begin(struct device *device, const uint32_t *positions, uint32_t n_rows,
                              struct error *error)
{
    cuda_flush(device); /* a failure of what waits is not the recording's */
    if (device->status != STATUS_OK)
        return error_set(error, STATUS_UNSUPPORTED, "cuda: nothing is recorded after a failure");
    struct recording *recording = calloc(1, sizeof(*recording));
    if (recording == NULL)
        return error_set(error, STATUS_NO_MEMORY, "cuda: no memory for a recording");
    recording->n_rows = n_rows;
    recording->positions =
        cuda_indices(device, CUDA_POSITIONS, positions, n_rows * sizeof(*positions));
    if (recording->positions == NULL) {
        free(recording);
        return error_set(error, device->status, "%s", device->error.text);
    }
    const cudaError_t result =
        cudaStreamBeginCapture(cuda_stream(device), cudaStreamCaptureModeThreadLocal);
    if (result != cudaSuccess) {
        free(recording);
        return cuda_error(error, result, "recording");
    }
    device->recording = recording;
    return STATUS_OK;
}

enum status cuda_record_end(struct device *device, struct recording **recording,
                            struct error *error)
{
    struct recording *made = device->recording;
    cudaGraph_t graph = NULL;
    device->recording = NULL;
    cudaError_t result = cudaStreamEndCapture(cuda_stream(device), &graph);
    if (result == cudaSuccess && device->status == STATUS_OK)
        result = cudaGraphInstantiate(&made->graph, graph, 0);
    if (result == cudaSuccess && made->graph != NULL)
        result = cudaGraphUpload(made->graph, cuda_stream(device));
    if (graph != NULL)
        cudaGraphDestroy(graph);
    made->x = device->x;
    if (result == cudaSuccess && made->graph != NULL) {
        *recording = made;
        return STATUS_OK;
    }
    const enum status status = device->status != STATUS_OK
                                   ? error_set(error, device->status, "%s", device->error.text)
                                   : cuda_error(error, result, "recording");
    device->status = STATUS_OK; /* what failed was the recording, which the caller does without */
    cuda_recording_destroy(device, made);
    return status;
}

void cuda_recording_destroy(struct device *device, struct recording *recording)
{
    if (recording == NULL)
        return;
    if (recording->graph != NULL)
        cuda_check(device, cudaGraphExecDestroy(recording->graph), "ending a recording");
    free(recording);
}

void cuda_replay(struct device *device, const struct recording *recording,
                 const uint32_t *positions)
{
    const void *at =
        cuda_indices(device, CUDA_POSITIONS, positions, recording->n_rows * sizeof(*positions));
    if (at == NULL)
        return;
    if (at != recording->positions) {
        cuda_fail(device, STATUS_INVALID, "a recording is older than the workspace");
        return;
    }
    device->x = recording->x;
    cuda_check(device, cudaGraphLaunch(recording->graph, cuda_stream(device)), "a recording");
}

/* kernels/cuda/device.h - an NVIDIA GPU as a device: one stream, one thread, errors that wait.
 *
 * Inside the CUDA sources only (kernels/cuda, and the CUDA executor of attention). Everything a
 * device does is put on its one stream, in the order of the calls, and nothing here waits for it
 * but `finish` and what says so. A call that cannot return a status leaves its error with
 * cuda_check or cuda_fail; the first one stays until finish reports it.
 *
 * Devices of one thread are of one GPU: what CUDA does without a stream, as with memory, it does on
 * the GPU that the thread chose last, and open chooses.
 *
 * Index arguments (tokens, positions, frequencies) come from the host: cuda_indices copies them
 * through a ring of pinned memory, so that the caller may reuse its array at once. */
#ifndef LONGSPAN_KERNELS_CUDA_DEVICE_H
#define LONGSPAN_KERNELS_CUDA_DEVICE_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" { /* the headers of the project are C's; this one brings them to .cu files */
#endif

#include "kernels/kernels.h"
#include "kernels/matrix_cut.h"

/* Index arguments that the last call of a kind brought; a call with the same ones copies
 * nothing. */
struct cuda_indices {
    void *host;   /* what lies in `device` */
    void *device; /* NULL until the first use */
    size_t bytes, capacity;
};
enum cuda_index_kind {
    CUDA_TOKENS,
    CUDA_POSITIONS,
    CUDA_COUNTS,
    CUDA_GATHERED,
    CUDA_TERM_ENDS,
    CUDA_TERM_ROWS,
    CUDA_TERM_WEIGHTS,
    CUDA_INDEX_KINDS
};

/* Activations made ready by `prepare`; see product.h. */
struct cuda_activations {
    void *quantized, *scales, *parts, *halves, *powers;
    size_t quantized_bytes, scales_bytes, parts_bytes, halves_bytes, powers_bytes;
    uint32_t n_rows, n_columns, types;
    bool rounded; /* to bf16, and in the memory of `blas` */
};

/* Calls that are not launched yet (fused.cuh): x += y, a norm and SwiGLU. */
struct cuda_waiting {
    bool adds, norms, swiglus;
    float *sum; /* += addend */
    const float *addend;
    size_t n_added;
    float *normed;
    const float *norm_x, *weight;
    uint32_t n_rows, n_columns;
    float epsilon;
    float *gate;
    const float *up;
    size_t n_gate;
};

struct blas;

struct device {
    int index;           /* CUDA's own number of the device */
    cudaStream_t stream; /* by cuda_stream, so that nothing waits any more */
    struct cuda_waiting waiting;
    int n_multiprocessors;
    size_t shared_bytes;    /* of a multiprocessor */
    int compute_capability; /* 90 for 9.0; of the code, where that is for an older GPU */
    enum status status;     /* the first error since the last finish */
    struct error error;
    struct cuda_activations x;
    uint8_t narrow_warps[5][32]; /* by row tiles, weight type; 0: not known yet; narrow.cuh */
    struct blas *blas;           /* blas.h; NULL but for the table cuda-blas */
    void *pending;               /* sums of segments that wait for their sibling; see product.cuh */
    void *panel;                 /* a matrix of one row, as a product wants it */
    void *candidates;            /* what candidates.cu finds, and its scratch */
    size_t pending_bytes, panel_bytes, candidates_bytes;
    void *upload_host, *upload_device; /* staging of matrix_create */
    struct cuda_indices indices[CUDA_INDEX_KINDS];
    char *ring;                  /* pinned, two halves */
    int ring_half;               /* the one in use */
    size_t ring_used;            /* of it */
    cudaEvent_t ring_done[2];    /* the copies from this half are done */
    struct recording *recording; /* what is being recorded, or NULL; see record.c */
};

enum { CUDA_RING_BYTES = 1 << 20, CUDA_UPLOAD_BYTES = 32 << 20 };

/* fused.cu: launches what waits. */
void cuda_flush(struct device *device);

/* The stream, with everything launched that was called before. */
static inline cudaStream_t cuda_stream(struct device *device)
{
    if (device->waiting.adds || device->waiting.norms || device->waiting.swiglus)
        cuda_flush(device);
    return device->stream;
}

/* The first failure stays; `what` names the operation: "product", "upload of 4096 bytes". */
void cuda_fail(struct device *device, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* True if `result` is cudaSuccess; else keeps it. */
bool cuda_check(struct device *device, cudaError_t result, const char *what);
/* After a launch. */
bool cuda_launched(struct device *device, const char *kernel);

/* A CUDA result as a status, with its text. */
enum status cuda_error(struct error *error, cudaError_t result, const char *what);

/* `bytes` of host memory, on the device in the order of its work; NULL: failed, and kept. Not in
 * the host's way: waits only when the ring has gone round before the device was done with it. While
 * calls are recorded only those that lie there already can be had. */
const void *cuda_indices(struct device *device, enum cuda_index_kind kind, const void *host,
                         size_t bytes);

/* Room for so many bytes of a kind, so that indices of up to that size always lie in one place. */
enum status cuda_indices_reserve(struct device *device, enum cuda_index_kind kind, size_t bytes,
                                 struct error *error);

/* Grows *memory to `bytes` if it is smaller; its content is lost. Waits for the device if it
 * grows. */
enum status cuda_grow(struct device *device, void **memory, size_t *capacity, size_t bytes,
                      struct error *error);

/* The functions of the table; kernels.h says what they do. */
uint32_t cuda_count(struct error *error);
enum status cuda_open(struct device **device, struct thread_pool *pool, uint32_t index,
                      struct error *error);
void cuda_close(struct device *device);

/* memory.c */
enum status cuda_memory_take(struct device *device, void **memory, size_t bytes,
                             struct error *error);
void cuda_memory_give(struct device *device, void *memory);
enum status cuda_host_take(struct device *device, void **memory, size_t bytes, struct error *error);
void cuda_host_give(struct device *device, void *memory);
uint64_t cuda_memory_available(struct device *device);
void cuda_upload(struct device *device, void *to, const void *from, size_t bytes);
void cuda_download(struct device *device, void *to, const void *from, size_t bytes);
void cuda_copy(struct device *device, void *to, const void *from, size_t bytes);
void cuda_clear(struct device *device, void *memory, size_t bytes);
enum status cuda_finish(struct device *device, struct error *error);

/* code.cu: the architecture for which the code was made that this GPU runs: 80 for PTX of 8.0,
 * whatever the GPU is. STATUS_UNSUPPORTED: there is none. */
enum status cuda_code_architecture(const struct device *device, int *architecture,
                                   struct error *error);

/* record.c */
enum status cuda_record_begin(struct device *device, const uint32_t *positions, uint32_t n_rows,
                              struct error *error);
enum status cuda_record_end(struct device *device, struct recording **recording,
                            struct error *error);
void cuda_recording_destroy(struct device *device, struct recording *recording);
void cuda_replay(struct device *device, const struct recording *recording,
                 const uint32_t *positions);

/* candidates.cu */
enum { CUDA_MOST_CANDIDATES = 1024 };
void cuda_candidates(struct device *device, struct candidates_sum *sums, struct candidate *best,
                     size_t stride, const float *logits, uint32_t n_rows, uint32_t n, int32_t first,
                     const uint32_t *k);

/* read_rate.cu */
double cuda_read_rate(struct device *device, size_t bytes, uint32_t budget_ms);

#ifdef __cplusplus
}
#endif

#endif

/* kernels/cpu/device_memory.h - the memory functions of kernels.h, where device and host are one.
 *
 * A block is a reservation of sys/memory.h (huge pages where it is large, touched when used), with
 * its size before it. A large one begins on a huge page, so that it touches no more of them than it
 * needs. */
#ifndef LONGSPAN_KERNELS_CPU_DEVICE_MEMORY_H
#define LONGSPAN_KERNELS_CPU_DEVICE_MEMORY_H

#include "kernels/kernels.h"

enum status cpu_memory_take(struct device *device, void **memory, size_t bytes,
                            struct error *error);
void cpu_memory_give(struct device *device, void *memory);
uint64_t cpu_memory_available(struct device *device);

/* memcpy where it is another place: upload, download and copy. */
void cpu_memory_copy(struct device *device, void *to, const void *from, size_t bytes);
void cpu_memory_clear(struct device *device, void *memory, size_t bytes);

/* Calls return when they are done. */
enum status cpu_finish(struct device *device, struct error *error);

#endif

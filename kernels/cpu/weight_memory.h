/* kernels/cpu/weight_memory.h - where matrices lie: one after the other, in few large blocks.
 *
 * A decode step reads every weight once, at the pace of memory, and a matrix is often a few MiB. In
 * memory of its own it would lie in small pages for the most part, and reading it would wait for a
 * translation every 4 KiB; side by side matrices fill huge pages. A block takes memory as it is
 * touched, so that what is wasted is less than a huge page in each. A matrix larger than a block
 * has its own. A block goes back to the system with its last matrix. */
#ifndef LONGSPAN_KERNELS_CPU_WEIGHT_MEMORY_H
#define LONGSPAN_KERNELS_CPU_WEIGHT_MEMORY_H

#include "sys/status.h"

#include <stddef.h>

enum { WEIGHT_MEMORY_ALIGNMENT = 64 };

struct weight_block; /* opaque */

/* Zeroed: empty. One thread. */
struct weight_memory {
    struct weight_block *blocks;
};

/* `bytes` > 0 of zeros, untouched. The caller ends it with weight_memory_give. STATUS_NO_MEMORY. */
enum status weight_memory_take(struct weight_memory *memory, void **start, size_t bytes,
                               struct error *error);

/* What weight_memory_take gave; NULL is fine. */
void weight_memory_give(struct weight_memory *memory, void *start);

#endif

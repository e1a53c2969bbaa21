/* sys/memory.h - large memory: address space first, pages when they are touched.
 *
 * A reservation costs nothing until it is written, and reads as zeros. So a pool can have its final
 * shape from the start, and take memory as it is needed. */
#ifndef LONGSPAN_SYS_MEMORY_H
#define LONGSPAN_SYS_MEMORY_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

/* Address space for `bytes`, zeros, aligned for huge pages where it is large (otherwise to a page);
 * the kernel is asked for huge pages. The caller ends it with memory_release.
 * STATUS_INVALID: 0 bytes. STATUS_NO_MEMORY: no such address space, or a limit (`ulimit -v`). */
enum status memory_reserve(void **base, size_t bytes, struct error *error);

/* `bytes` as reserved. NULL is fine. */
void memory_release(void *base, size_t bytes);

/* Gives the system back what malloc keeps of freed memory, after work in many small pieces: it would
 * be kept for good. glibc walks all of its arenas and holds each one's lock meanwhile, so that any
 * thread that allocates may wait: for when nothing waits for the caller. Does nothing where the C
 * library cannot. */
void memory_give_back(void);

/* Text or JSON of so many bytes takes tens of times that while it is read: worth giving back. */
enum { MEMORY_MUCH_TEXT_BYTES = 1 << 20 };

/* What this process could still take without swapping: MemAvailable, or less where a control
 * group (container, Slurm job) has a limit. 0: the kernel does not say. */
uint64_t memory_available_bytes(void);

/* What it could have if it were alone: the machine's memory, or the control group's limit. 0: the
 * kernel does not say. */
uint64_t memory_total_bytes(void);

/* What this process holds in physical memory now, the pages of mapped files included. 0: the kernel
 * does not say. */
uint64_t memory_resident_bytes(void);

/* The most that memory_resident_bytes has ever been. */
uint64_t memory_peak_bytes(void);

#endif

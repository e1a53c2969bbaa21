/* kernels/cpu/limits.h - what this machine's lanes can do at most, measured: the limits that every
 * result is put beside.
 *
 * A lane reads its own part of memory, and who is ready first helps the others; arithmetic runs from registers, in the widest instruction
 * set that the processor has, whatever variant the kernels use. The limits belong to the moment:
 * on a shared host they move, so they are taken in the run that they are compared with. */
#ifndef LONGSPAN_KERNELS_CPU_LIMITS_H
#define LONGSPAN_KERNELS_CPU_LIMITS_H

#include "sys/status.h"
#include "sys/thread_pool.h"

#include <stddef.h>
#include <stdint.h>

enum { LIMITS_PATTERNS = 3 }; /* ways to read memory (limits_read.h) */

/* Bytes per second that all lanes together read from `bytes` of memory, which they touched first,
 * in the pattern that is fastest here: the median of as many passes as fit into budget_ms (touching
 * not counted), at least one. Make it several times the last-level cache, or it is the cache that
 * is measured. 0: no memory to measure with. */
double limits_read(struct thread_pool *pool, size_t bytes, uint32_t budget_ms);

/* The same, to be asked again and again beside what it is the limit of: memory that stays touched,
 * and is not given back between two measurements: the host of a virtual machine that takes back
 * what its guest frees stops the guest's processors for it, tens of milliseconds at a time, seconds
 * later. The pool must outlive it. STATUS_NO_MEMORY, also where bytes are less than a page. */
struct limits_reader; /* opaque */
enum status limits_reader_create(struct limits_reader **reader, struct thread_pool *pool,
                                 size_t bytes, struct error *error);
void limits_reader_destroy(struct limits_reader *reader);

/* Of the moment, in a few milliseconds: the rate of each pattern over `bytes` of the memory (at
 * most all of it), each behind what the one before it read, round and round. Which pattern is the
 * fastest is for the caller to say, who has asked often: the best of a few short looks is luck. */
void limits_reader_rates(struct limits_reader *reader, size_t bytes, double rates[LIMITS_PATTERNS]);

/* As limits_read. */
double limits_reader_median(struct limits_reader *reader, uint32_t budget_ms);

/* Operations per second of all lanes together, a multiplication and an addition counting as two:
 * fused multiply-adds of f32; products of 8-bit integers summed in 32 bits; products of bf16 pairs
 * summed in f32. 0: no instruction for it. Each takes about 50 ms: the median of five passes. */
double limits_f32(struct thread_pool *pool);
double limits_int8(struct thread_pool *pool);
double limits_bf16(struct thread_pool *pool);

#endif

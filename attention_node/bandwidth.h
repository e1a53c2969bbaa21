/* attention_node/bandwidth.h - how fast this node reads its memory: its weight in the placement. */
#ifndef LONGSPAN_ATTENTION_NODE_BANDWIDTH_H
#define LONGSPAN_ATTENTION_NODE_BANDWIDTH_H

#include "sys/thread_pool.h"

#include <stdint.h>

/* Bytes per second that all lanes read together, from memory of at most `most_bytes` (and at most
 * 256 MiB). Takes about 0.3 s. 0: no memory to measure with. */
double bandwidth_measure(struct thread_pool *pool, uint64_t most_bytes);

#endif

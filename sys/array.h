/* sys/array.h - arrays that grow. */
#ifndef LONGSPAN_SYS_ARRAY_H
#define LONGSPAN_SYS_ARRAY_H

#include <stdbool.h>
#include <stddef.h>

/* Makes room for n elements of `bytes` each in the array that `array`, the address of a pointer of
 * any type, points to: NULL while *capacity is 0, ended by free. Content stays; capacity at least
 * doubles, so that elements which come one by one are moved twice each on the mean.
 * False: no memory, or more bytes than there can be; nothing has changed. */
bool array_grow(void *array, size_t *capacity, size_t n, size_t bytes);

/* The same for two arrays that have one capacity. False: either may have more room than that
 * says. */
bool array_grow_pair(void *array, size_t bytes, void *other, size_t other_bytes, size_t *capacity,
                     size_t n);

#endif

/* array.c - see array.h. */
#include "sys/array.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST = 16 };

bool array_grow(void *array, size_t *capacity, size_t n, size_t bytes)
{
    if (n <= *capacity)
        return true;
    size_t wanted = *capacity > SIZE_MAX / 2 ? SIZE_MAX : 2 * *capacity, total;
    wanted = wanted < n ? n : wanted;
    wanted = wanted < LEAST ? LEAST : wanted;
    if (__builtin_mul_overflow(wanted, bytes, &total))
        return false;
    void *memory;
    memcpy(&memory, array, sizeof(memory)); /* whatever type of pointer it is */
    memory = realloc(memory, total);
    if (memory == NULL)
        return false;
    memcpy(array, &memory, sizeof(memory));
    *capacity = wanted;
    return true;
}

bool array_grow_pair(void *array, size_t bytes, void *other, size_t other_bytes, size_t *capacity,
                     size_t n)
{
    size_t grown = *capacity, other_grown = *capacity;
    if (!array_grow(array, &grown, n, bytes) || !array_grow(other, &other_grown, n, other_bytes))
        return false;
    *capacity = grown;
    return true;
}

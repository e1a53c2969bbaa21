/* tree.c - aligned intervals by bit arithmetic.
 *
 * The blocks D1..Dk of n are its binary digits from the left. An aligned interval of size 2^j that
 * lies in [0, n) always lies in one D: two neighbours of equal size that are halves of an aligned
 * interval are therefore siblings in one perfect tree, and no D has to be looked up. */
#include "kernels/attention/tree.h"

/* The largest power of two that is not above x; x > 0. */
static uint32_t power_below(uint32_t x)
{
    return UINT32_C(1) << (31 - __builtin_clz(x));
}

uint32_t tree_step(uint32_t begin, uint32_t end)
{
    const uint32_t room = power_below(end - begin);
    const uint32_t alignment = begin & (0 - begin); /* 0 for begin 0, which is aligned to all */
    return begin == 0 || room < alignment ? room : alignment;
}

/* Whether [0, end) is made of whole D1..Di. */
static bool is_prefix(uint32_t n, uint32_t end)
{
    if (end == 0)
        return false;
    const uint32_t lowest = end & (0 - end);
    return (n & ~(lowest - 1)) == end;
}

bool tree_joins(uint32_t n, struct tile_range left, struct tile_range right)
{
    if (left.begin >= left.end || left.end != right.begin || right.begin >= right.end ||
        right.end > n)
        return false;
    const uint32_t size = right.end - right.begin;
    if ((size & (size - 1)) == 0 && left.end - left.begin == size &&
        (left.begin & (2 * size - 1)) == 0)
        return true;
    return left.begin == 0 && is_prefix(n, left.end) && size == power_below(n - left.end);
}

size_t tree_nodes(uint32_t n, const struct tile_range *ranges, size_t n_ranges,
                  struct tile_range *nodes, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < n_ranges; i++) {
        uint32_t begin = ranges[i].begin;
        const uint32_t end = ranges[i].end;
        while (begin < end) {
            uint32_t next = begin + tree_step(begin, end);
            if (begin == 0) /* the longest prefix: as many of D1, D2, ... as the range has */
                for (uint32_t prefix = 0, rest = n; rest != 0; rest = n - prefix) {
                    prefix += power_below(rest);
                    if (prefix > end)
                        break;
                    next = prefix;
                }
            if (count < max)
                nodes[count] = (struct tile_range){begin, next};
            count++;
            begin = next;
        }
    }
    return count;
}

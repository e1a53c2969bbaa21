/* stream.c - read bandwidth of this machine with 1 to N lanes: the limit of decode.
 *
 *     stream [MAX_LANES]       default: every processor */
#include "bench/measure.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct thread_pool *pool;
    if (thread_pool_create(&pool, argc > 1 ? (uint32_t)atoi(argv[1]) : 0, NULL) != STATUS_OK)
        return 4;
    const uint32_t most = thread_pool_lanes(pool);
    thread_pool_destroy(pool);
    measure_print_machine();
    printf("# read bandwidth, 1 GiB, median of 7 runs\n%-6s %10s\n", "lanes", "GB/s");
    for (uint32_t lanes = 1; lanes <= most; lanes++) {
        if (thread_pool_create(&pool, lanes, NULL) != STATUS_OK)
            return 4;
        printf("%-6u %10.1f\n", lanes, measure_read_bandwidth(pool, (size_t)1 << 30) / 1e9);
        thread_pool_destroy(pool);
    }
    return 0;
}

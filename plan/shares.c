/* shares.c - see shares.h. */
#include "plan/shares.h"

#include <string.h>

static double host_rate(const struct shares_node *nodes, uint32_t n, const char *host)
{
    double sum = 0.0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(nodes[i].host, host) == 0) {
            sum += nodes[i].read_bytes_per_s;
            count++;
        }
    return sum / count;
}

bool shares_weigh(double *weights, const struct shares_node *nodes, uint32_t n)
{
    bool measured = true;
    for (uint32_t i = 0; i < n; i++)
        measured = measured && nodes[i].read_bytes_per_s > 0.0 && nodes[i].read_bytes_per_s < 1e18;
    for (uint32_t i = 0; i < n; i++)
        weights[i] = measured ? host_rate(nodes, n, nodes[i].host) : 1.0;
    return measured;
}

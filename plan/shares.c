/* shares.c - see shares.h. */
#include "plan/shares.h"

#include "sys/parse.h"

#include <stdlib.h>
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

enum status shares_parse(double *weights, uint32_t n, const char *text, struct error *error)
{
    char *copy = strdup(text), *rest = copy;
    enum status status =
        copy != NULL ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory for --shares");
    uint32_t count = 0;
    for (; status == STATUS_OK && rest != NULL; count++) {
        float value = 0;
        status = parse_f32("--shares", strsep(&rest, ","), 1e-6f, 1e15f, &value, error);
        if (count < n)
            weights[count] = (double)value;
    }
    free(copy);
    return status != STATUS_OK || count == n
               ? status
               : error_set(error, STATUS_INVALID,
                           "--shares has %u numbers, there are %u attention nodes", count, n);
}

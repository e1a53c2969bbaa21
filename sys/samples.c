/* samples.c - see samples.h. */
#include "sys/samples.h"

#include <assert.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct samples samples_of(double *values, uint32_t n)
{
    assert(n > 0);
    qsort(values, n, sizeof(values[0]), compare);
    const double median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
    return (struct samples){median, values[0], values[n - 1], n};
}

/* sys/samples.h - what is told of something that was measured several times. */
#ifndef LONGSPAN_SYS_SAMPLES_H
#define LONGSPAN_SYS_SAMPLES_H

#include <stdint.h>

struct samples {
    double median, min, max; /* median of an even number: the mean of the middle two */
    uint32_t n;
};

/* Of n values (not 0), which it sorts. */
struct samples samples_of(double *values, uint32_t n);

#endif

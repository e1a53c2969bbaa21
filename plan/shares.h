/* plan/shares.h - which part of the tokens each attention node gets: in proportion to its read
 * rate, so that all are done at the same time. Pure. */
#ifndef LONGSPAN_PLAN_SHARES_H
#define LONGSPAN_PLAN_SHARES_H

#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct shares_node {
    const char *host;        /* borrowed */
    double read_bytes_per_s; /* measured, or a weight that was given; else 0 */
};

/* Nodes of one host get the mean of that host: they share its memory, and measured it at the same
 * time or one after the other, so that differences between them are chance. Writes a weight for
 * each node; only their proportions count. False: of one nothing sensible is known, and all are
 * equal. */
bool shares_weigh(double *weights, const struct shares_node *nodes, uint32_t n);

/* The user's --shares instead, "A,B,...": exactly n numbers, from 1e-6 to 1e15. STATUS_INVALID,
 * STATUS_NO_MEMORY. */
enum status shares_parse(double *weights, uint32_t n, const char *text, struct error *error);

#endif

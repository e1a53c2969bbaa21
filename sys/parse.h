/* sys/parse.h - numbers that a person wrote, checked whole: no sign, blank or rest is let through.
 *
 * `name` is what the person knows the value by ("--threads", "lab.yaml: weight"). On failure the
 * output is untouched and the message says name, text and what would be right. */
#ifndef LONGSPAN_SYS_PARSE_H
#define LONGSPAN_SYS_PARSE_H

#include "sys/status.h"

#include <stdint.h>

/* Decimal digits only. STATUS_INVALID: something else, or not in [least, most]. */
enum status parse_u32(const char *name, const char *text, uint32_t least, uint32_t most,
                      uint32_t *value, struct error *error);
enum status parse_u64(const char *name, const char *text, uint64_t least, uint64_t most,
                      uint64_t *value, struct error *error);

/* A decimal number such as -1, 0.95 or 1e-3, rounded to the nearest float.
 * STATUS_INVALID: something else (also inf and nan), or not in [least, most]. */
enum status parse_f32(const char *name, const char *text, float least, float most, float *value,
                      struct error *error);

#endif

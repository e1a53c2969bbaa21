/* sys/size.h - bytes as people write them: "64GiB", "512M", "1g", "4096". */
#ifndef LONGSPAN_SYS_SIZE_H
#define LONGSPAN_SYS_SIZE_H

#include "sys/status.h"

#include <stdint.h>

enum { SIZE_TEXT_BYTES = 16, SIZE_PROGRESS_BYTES = 96 };

/* Digits, then a unit, in either case: none or B; K, M, G, T, P or KiB, MiB ... (powers of 1024);
 * KB, MB ... (powers of 1000). One blank may stand between. `name`: as in sys/parse.h.
 * STATUS_INVALID: anything else, or 2^64 and more. */
enum status size_parse(const char *name, const char *text, uint64_t *bytes, struct error *error);

/* "0 B", "1023 B", "1.50 GiB", "117 MiB": three digits, rounded. Returns `text`. */
const char *size_format(uint64_t bytes, char text[SIZE_TEXT_BYTES]);

/* "3.10 GiB of 8.00 GiB, 1.12 GiB/s, 4 s left": by the speed of `n_timed` bytes in `us`; without
 * speed and time where nothing was timed. Returns `text`. */
const char *size_progress(uint64_t n_done, uint64_t n_all, uint64_t n_timed, uint64_t us,
                          char text[SIZE_PROGRESS_BYTES]);

#endif

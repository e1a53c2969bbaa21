/* cluster/write_progress.h - one line on a terminal while a large file is written, read or sent. */
#ifndef LONGSPAN_CLUSTER_WRITE_PROGRESS_H
#define LONGSPAN_CLUSTER_WRITE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Set `out` (NULL: shows nothing), `began_us` (clock_us) and `n_all`; zero the rest. `verb` NULL:
 * "writing". */
struct write_progress {
    FILE *out;
    const char *verb;
    uint64_t n_written, n_all; /* bytes */
    uint64_t began_us, shown_us;
    bool shown;
};

/* So many bytes more. The line changes five times a second, and work of a moment shows none. */
void write_progress_add(struct write_progress *progress, uint64_t n_bytes);

/* Takes the line away, so that something else can be printed. */
void write_progress_clear(struct write_progress *progress);

#endif

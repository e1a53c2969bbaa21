/* write_progress.c - see write_progress.h. */
#include "cluster/write_progress.h"

#include "sys/clock.h"
#include "sys/size.h"

enum { INTERVAL_US = 200000 };

void write_progress_add(struct write_progress *progress, uint64_t n_bytes)
{
    const uint64_t now = clock_us();
    const uint64_t last = progress->shown ? progress->shown_us : progress->began_us;
    char done[SIZE_TEXT_BYTES], all[SIZE_TEXT_BYTES];

    progress->n_written += n_bytes;
    if (progress->out == NULL || now - last < INTERVAL_US)
        return;
    progress->shown_us = now;
    progress->shown = true;
    fprintf(progress->out, "\r%s %s of %s (%.0f%%)\033[K",
            progress->verb != NULL ? progress->verb : "writing",
            size_format(progress->n_written, done), size_format(progress->n_all, all),
            100.0 * (double)progress->n_written / (double)progress->n_all);
    fflush(progress->out);
}

void write_progress_clear(struct write_progress *progress)
{
    if (!progress->shown)
        return;
    fputs("\r\033[K", progress->out);
    fflush(progress->out);
    progress->shown = false;
}

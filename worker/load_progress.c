/* load_progress.c - see load_progress.h. */
#include "worker/load_progress.h"

#include "sys/array.h"
#include "sys/clock.h"
#include "sys/size.h"

#include <stdlib.h>

enum { LOG_US = 2000000 };

enum status load_progress_add(struct load_progress *progress, struct read_ahead_piece piece,
                              struct error *error)
{
    if (!array_grow(&progress->pieces, &progress->capacity, progress->n + 1,
                    sizeof(*progress->pieces)))
        return error_set(error, STATUS_NO_MEMORY, "no memory for a list of tensors");
    progress->pieces[progress->n++] = piece;
    progress->n_bytes += piece.n_bytes;
    return STATUS_OK;
}

static void tell(struct load_progress *progress)
{
    if (progress->tick != NULL)
        progress->tick(progress->context, progress->n_loaded, progress->n_bytes);
    const uint64_t now = clock_us();
    char text[SIZE_PROGRESS_BYTES];
    if (now - progress->logged_us < LOG_US)
        return;
    progress->logged_us = now;
    log_info(progress->log, "loading: %s",
             size_progress(progress->n_loaded, progress->n_bytes, progress->n_loaded,
                           now - progress->began_us, text));
}

enum status load_progress_begin(struct load_progress *progress, struct error *error)
{
    progress->began_us = progress->logged_us = clock_us();
    tell(progress);
    return read_ahead_start(&progress->ahead, progress->pieces, progress->n, error);
}

void load_progress_reach(struct load_progress *progress, struct read_ahead_piece piece)
{
    progress->n_reached += piece.n_bytes;
    read_ahead_reach(progress->ahead, progress->n_reached);
}

void load_progress_done(struct load_progress *progress, struct read_ahead_piece piece)
{
    progress->n_loaded += piece.n_bytes;
    tell(progress);
}

void load_progress_end(struct load_progress *progress)
{
    read_ahead_stop(progress->ahead);
    free(progress->pieces);
    progress->ahead = NULL;
    progress->pieces = NULL;
}

/* cluster/progress.h - one line on a terminal that says how far things are. */
#ifndef LONGSPAN_CLUSTER_PROGRESS_H
#define LONGSPAN_CLUSTER_PROGRESS_H

#include "cluster/result.h"

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: shows nothing. */
struct progress {
    bool on, shown;
    uint64_t began_us, shown_us, prefill_began_us;
    uint64_t prefill_before;             /* tokens that were done when the clock of prefill began */
    uint64_t load_began_us, load_before; /* likewise bytes of loading */
    uint64_t loaded, loaded_us;          /* as last told, which is not each time that is shown */
};

/* `on`: standard error is a terminal and nobody asked for silence. */
void progress_begin(struct progress *progress, bool on);

/* While nothing of the request has come: `what` is the newest thing said about it. */
void progress_starting(struct progress *progress, const char *what);

/* While the cluster reads weights, of `n_all` bytes: with speed and the time to go. */
void progress_loading(struct progress *progress, uint64_t n_loaded, uint64_t n_all);

/* Prompt tokens done of all, with speed and the time to go. Nothing once tokens come: they are
 * the progress, except where the text is kept for the end (`quiet_text`). */
void progress_running(struct progress *progress, const struct result *result, bool quiet_text);

/* Takes the line away, so that something else can be printed. */
void progress_clear(struct progress *progress);

#endif

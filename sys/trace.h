/* sys/trace.h - where each microsecond goes: spans of time by thread, written as a Chrome trace.
 *
 * A process has one trace, a thread has one track of it. A span is recorded when it ends, into
 * memory that was touched before: two looks at the clock and one store, no system call, no lock.
 * Without a trace a track is NULL, and a span costs one branch:
 *
 *     uint64_t at = trace_begin(track);
 *     norm(...);
 *     at = trace_span(track, "norm", at); // the next span begins where this one ends
 *     product(...);
 *     at = trace_span(track, "product", at);
 *
 * The file is a JSON array of complete events ("ph": "X") and names of processes and threads, as
 * chrome://tracing and Perfetto read it (Trace Event Format, 2016), one event per line, in
 * microseconds of the coordinator's clock. A span's category says what kind of step it belongs to,
 * its arguments which step and layer. */
#ifndef LONGSPAN_SYS_TRACE_H
#define LONGSPAN_SYS_TRACE_H

#include "sys/clock.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

enum trace_phase { TRACE_IDLE, TRACE_PREFILL, TRACE_DECODE };

#define TRACE_NO_LAYER UINT16_MAX

struct trace; /* opaque */

struct trace_event {
    const char *name; /* a literal */
    uint64_t begin_ns, duration_ns;
    uint32_t step;
    uint16_t layer, phase;
};

/* Of one thread. Fields belong to trace.c, but for the three that say where the thread is, which
 * its owner sets: they go into every span that ends from then on. */
struct trace_track {
    struct trace_event *events;
    size_t n, capacity;
    uint64_t n_dropped; /* ended when the track was full */
    char name[32];
    uint32_t step;  /* 0: none */
    uint16_t layer; /* TRACE_NO_LAYER: none */
    uint16_t phase; /* enum trace_phase */
};

/* The file is created at once, so that a path that cannot be written is told before any work; path
 * NULL: no trace, *trace is NULL, which every function here takes. `process` is what a viewer
 * shows, cut to 63 bytes. The caller ends *trace with trace_destroy. Fails like
 * file_not_made.
 * STATUS_NO_MEMORY. */
enum status trace_create(struct trace **trace, const char *path, const char *process,
                         struct error *error);

/* Frees without writing. */
void trace_destroy(struct trace *trace);

/* A new track, which lives until trace_destroy; NULL: no trace, or no memory for another track.
 * Call it before the work begins: it touches the track's memory (256 Ki spans, 10 MiB). Not while
 * another thread adds one. */
struct trace_track *trace_track(struct trace *trace, const char *name);

/* One answer of the process whose clock the trace shall have: what its clock_ns was, and what ours
 * was when it was asked. Of all answers the one that took the shortest time is used; a difference
 * that is within that time is none, as between processes of one host. */
void trace_heard(struct trace *trace, uint64_t asked_ns, uint64_t peer_ns);

/* Writes everything, once, when no thread records any more. What did not fit is counted and said.
 * STATUS_IO. STATUS_OK without a trace. */
enum status trace_write(struct trace *trace, const struct log *log, struct error *error);

/* The slow half of trace_span. */
uint64_t trace_record(struct trace_track *track, const char *name, uint64_t begin_ns);

static inline uint64_t trace_begin(const struct trace_track *track)
{
    return track != NULL ? clock_ns() : 0;
}

/* The span since `begin_ns` ends here. Returns now, for the next one. `name` is a literal. */
static inline uint64_t trace_span(struct trace_track *track, const char *name, uint64_t begin_ns)
{
    return track != NULL ? trace_record(track, name, begin_ns) : 0;
}

/* Where the thread is from now on. */
static inline void trace_step(struct trace_track *track, uint64_t step, enum trace_phase phase)
{
    if (track == NULL)
        return;
    track->step = (uint32_t)step;
    track->phase = (uint16_t)phase;
    track->layer = TRACE_NO_LAYER;
}

static inline void trace_layer(struct trace_track *track, uint32_t layer)
{
    if (track != NULL)
        track->layer = (uint16_t)layer;
}

#endif

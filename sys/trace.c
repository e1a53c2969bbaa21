/* trace.c - one array of spans per track; text is made of them when all is over. */
#include "sys/trace.h"

#include "sys/file.h"
#include "sys/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_TRACKS = 1025, /* as many lanes as a pool may have, and a loop that is none of them */
    TRACK_SPANS = 1 << 18,
    PROCESS_BYTES = 64,
};

struct trace {
    FILE *file;
    char *path;
    char process[PROCESS_BYTES];
    struct trace_track *tracks[MAX_TRACKS];
    uint32_t n_tracks;
    int64_t offset_ns; /* of the other clock, relative to ours */
    uint64_t round_trip_ns;
    bool written;
};

static const char *const phases[] = {"idle", "prefill", "decode"};

/* What goes into a JSON string as it is: other characters of a name, which may come from a command
 * line, become '?'. */
static void copy_name(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", name);
    for (char *c = out; *c != '\0'; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
}

enum status trace_create(struct trace **trace, const char *path, const char *process,
                         struct error *error)
{
    *trace = NULL;
    if (path == NULL)
        return STATUS_OK;
    struct trace *t = calloc(1, sizeof(*t));
    if (t == NULL || (t->path = strdup(path)) == NULL) {
        trace_destroy(t);
        return error_set(error, STATUS_NO_MEMORY, "trace: no memory");
    }
    if ((t->file = fopen(path, "we")) == NULL) {
        const int code = errno;
        trace_destroy(t);
        return file_not_made(path, code, error);
    }
    copy_name(t->process, sizeof(t->process), process);
    t->round_trip_ns = UINT64_MAX;
    *trace = t;
    return STATUS_OK;
}

void trace_destroy(struct trace *trace)
{
    if (trace == NULL)
        return;
    for (uint32_t i = 0; i < trace->n_tracks; i++) {
        memory_release(trace->tracks[i]->events,
                       trace->tracks[i]->capacity * sizeof(struct trace_event));
        free(trace->tracks[i]);
    }
    if (trace->file != NULL)
        fclose(trace->file);
    free(trace->path);
    free(trace);
}

struct trace_track *trace_track(struct trace *trace, const char *name)
{
    if (trace == NULL || trace->n_tracks == MAX_TRACKS)
        return NULL;
    struct trace_track *track = calloc(1, sizeof(*track));
    const size_t bytes = TRACK_SPANS * sizeof(struct trace_event);
    void *events = NULL;
    if (track == NULL || memory_reserve(&events, bytes, NULL) != STATUS_OK) {
        free(track);
        return NULL;
    }
    memset(events, 0, bytes); /* so that recording never takes a page */
    track->events = events;
    track->capacity = TRACK_SPANS;
    track->layer = TRACE_NO_LAYER;
    copy_name(track->name, sizeof(track->name), name);
    trace->tracks[trace->n_tracks++] = track;
    return track;
}

uint64_t trace_record(struct trace_track *track, const char *name, uint64_t begin_ns)
{
    const uint64_t now = clock_ns();
    if (track->n == track->capacity) {
        track->n_dropped++;
        return now;
    }
    track->events[track->n++] = (struct trace_event){
        .name = name,
        .begin_ns = begin_ns,
        .duration_ns = now - begin_ns,
        .step = track->step,
        .layer = track->layer,
        .phase = track->phase,
    };
    return now;
}

void trace_heard(struct trace *trace, uint64_t asked_ns, uint64_t peer_ns)
{
    const uint64_t now = clock_ns();
    if (trace == NULL || now - asked_ns >= trace->round_trip_ns || peer_ns == 0)
        return;
    trace->round_trip_ns = now - asked_ns;
    trace->offset_ns = (int64_t)(peer_ns - (asked_ns + trace->round_trip_ns / 2));
}

/* ---- writing --------------------------------------------------------------------------------- */

static int64_t offset(const struct trace *trace)
{
    const uint64_t size =
        trace->offset_ns < 0 ? -(uint64_t)trace->offset_ns : (uint64_t)trace->offset_ns;
    return size > trace->round_trip_ns ? trace->offset_ns : 0;
}

static void write_names(const struct trace *trace, int pid)
{
    fprintf(
        trace->file,
        "{\"pid\":%d,\"tid\":0,\"ph\":\"M\",\"name\":\"process_name\",\"args\":{\"name\":\"%s\"}}",
        pid, trace->process);
    for (uint32_t i = 0; i < trace->n_tracks; i++)
        fprintf(trace->file,
                ",\n{\"pid\":%d,\"tid\":%u,\"ph\":\"M\",\"name\":\"thread_name\","
                "\"args\":{\"name\":\"%s\"}}",
                pid, i, trace->tracks[i]->name);
}

static void write_event(const struct trace *trace, int pid, uint32_t tid,
                        const struct trace_event *event)
{
    const uint64_t begin = event->begin_ns + (uint64_t)offset(trace);
    char layer[24] = "";
    if (event->layer != TRACE_NO_LAYER)
        snprintf(layer, sizeof(layer), ",\"layer\":%u", event->layer);
    fprintf(trace->file,
            ",\n{\"pid\":%d,\"tid\":%u,\"ph\":\"X\",\"name\":\"%s\",\"cat\":\"%s\","
            "\"ts\":%" PRIu64 ".%03u,\"dur\":%" PRIu64 ".%03u,\"args\":{\"step\":%" PRIu32 "%s}}",
            pid, tid, event->name, phases[event->phase], begin / 1000, (unsigned)(begin % 1000),
            event->duration_ns / 1000, (unsigned)(event->duration_ns % 1000), event->step, layer);
}

enum status trace_write(struct trace *trace, const struct log *log, struct error *error)
{
    if (trace == NULL || trace->written)
        return STATUS_OK;
    trace->written = true;
    const int pid = (int)getpid();
    fputs("[\n", trace->file);
    write_names(trace, pid);
    for (uint32_t i = 0; i < trace->n_tracks; i++) {
        const struct trace_track *track = trace->tracks[i];
        for (size_t j = 0; j < track->n; j++)
            write_event(trace, pid, i, &track->events[j]);
        if (track->n_dropped > 0)
            log_warn(log, "the trace has the first %zu spans of %s; %" PRIu64 " more did not fit",
                     track->n, track->name, track->n_dropped);
    }
    fputs("\n]\n", trace->file);
    const bool failed = ferror(trace->file) != 0;
    const bool unclosed = fclose(trace->file) != 0;
    trace->file = NULL;
    if (failed || unclosed)
        return error_set(error, STATUS_IO, "trace: %s could not be written: is the disk full?",
                         trace->path);
    return STATUS_OK;
}

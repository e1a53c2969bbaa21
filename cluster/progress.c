/* progress.c - the line is written over itself, five times a second at most. */
#include "cluster/progress.h"

#include "sys/clock.h"
#include "sys/size.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

enum { INTERVAL_US = 200000, LINE_BYTES = 512, BAR = 20, DEFAULT_COLUMNS = 80 };

void progress_begin(struct progress *progress, bool on)
{
    *progress = (struct progress){.on = on, .began_us = clock_us()};
}

static bool is_due(struct progress *progress)
{
    const uint64_t now = clock_us();
    if (!progress->on || now - progress->shown_us < INTERVAL_US)
        return false;
    progress->shown_us = now;
    return true;
}

static void show(struct progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void show(struct progress *progress, const char *format, ...)
{
    char line[LINE_BYTES];
    struct winsize size = {0};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    for (char *c = line; *c != '\0'; c++) /* words of other processes */
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = ' ';
    /* A line that wraps could not be taken away again. */
    if (ioctl(2, TIOCGWINSZ, &size) != 0 || size.ws_col < 20)
        size.ws_col = DEFAULT_COLUMNS;
    if (strlen(line) > (size_t)size.ws_col - 1 && (size_t)size.ws_col < sizeof(line))
        line[size.ws_col - 1] = '\0';
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    progress->shown = true;
}

void progress_clear(struct progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}

void progress_starting(struct progress *progress, const char *what)
{
    if (is_due(progress))
        show(progress, "starting, %.0f s  %s", (double)(clock_us() - progress->began_us) * 1e-6,
             what);
}

void progress_loading(struct progress *progress, uint64_t n_loaded, uint64_t n_all)
{
    char text[SIZE_PROGRESS_BYTES];
    const uint64_t now = clock_us();
    if (progress->load_began_us == 0) {
        progress->load_began_us = progress->loaded_us = now;
        progress->load_before = progress->loaded = n_loaded;
    }
    if (n_loaded != progress->loaded) {
        progress->loaded = n_loaded;
        progress->loaded_us = now;
    }
    if (is_due(progress))
        show(progress, "loading %s",
             size_progress(n_loaded, n_all, n_loaded - progress->load_before,
                           progress->loaded_us - progress->load_began_us, text));
}

/* What is still to do takes as long as what was done so far, and somewhat longer per token:
 * attention grows with the position. With a fixed part a and a part b per earlier token, the time
 * for n tokens is a n + b n^2 / 2; without knowing a and b the line between both extremes is taken.
 */
static double seconds_left(uint64_t done, uint64_t total, double seconds)
{
    const double part = (double)done / (double)total;
    const double linear = seconds * (1 - part) / part;
    const double square = seconds * (1 - part * part) / (part * part);
    return 0.5 * (linear + square);
}

void progress_running(struct progress *progress, const struct result *result, bool quiet_text)
{
    uint64_t done = 0, total = 0, generated = 0;
    for (uint32_t i = 0; i < result->n_prompts; i++) {
        done += result->prompts[i].n_prefilled;
        total += result->prompts[i].n_filled + result->prompts[i].n_ids;
        generated += result->prompts[i].n_tokens;
    }
    if (progress->prefill_began_us == 0 && total != 0) {
        progress->prefill_began_us = clock_us();
        progress->prefill_before = done;
    }
    if (total == 0 || !is_due(progress))
        return;
    const double seconds = (double)(clock_us() - progress->prefill_began_us) * 1e-6;
    const uint64_t timed = done - progress->prefill_before;
    if (done < total && timed != 0) {
        char bar[BAR + 1];
        const uint32_t full = (uint32_t)(done * BAR / total);
        for (uint32_t i = 0; i < BAR; i++)
            bar[i] = i < full ? '#' : '.';
        bar[BAR] = '\0';
        const double left = seconds_left(done, total, seconds);
        show(progress, "reading [%s] %" PRIu64 "/%" PRIu64 " tokens, %.0f tokens/s, %d:%02d left",
             bar, done, total, result_rate(timed, seconds), (int)left / 60, (int)left % 60);
    } else if (done < total) {
        show(progress, "reading %" PRIu64 " tokens", total);
    } else if (quiet_text) {
        show(progress, "writing, %" PRIu64 " tokens", generated);
    }
}

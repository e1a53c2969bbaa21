/* log.c - see log.h. A line is built on the stack: no lock, no buffer to flush before a crash. */
#include "sys/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

void log_open(struct log *log, const char *role, int verbosity)
{
    snprintf(log->role, sizeof(log->role), "%s", role);
    log->verbosity = verbosity;
    log->descriptor = STDERR_FILENO;
}

static bool is_debug(const struct log *log)
{
    return log != NULL && log->verbosity >= 1;
}

static size_t print_time(char *line, size_t size)
{
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &parts);
    return (size_t)snprintf(line, size, "%02d:%02d:%02d.%03ld ", parts.tm_hour, parts.tm_min,
                            parts.tm_sec, now.tv_nsec / 1000000);
}

static void write_line(const struct log *log, const char *level, const char *format,
                       va_list arguments)
{
    char line[LOG_LINE_BYTES + 1]; /* one more for the newline */
    size_t used = 0;
    if (log->verbosity >= 1)
        used = print_time(line, LOG_LINE_BYTES);
    used += (size_t)snprintf(line + used, LOG_LINE_BYTES - used, "%s: %s", log->role, level);
    const int wanted = vsnprintf(line + used, LOG_LINE_BYTES - used, format, arguments);
    if (wanted > 0)
        used += (size_t)wanted;
    if (used > LOG_LINE_BYTES - 1)
        used = LOG_LINE_BYTES - 1;
    while (used > 0 && line[used - 1] == '\n')
        used--;
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = ' ';
    line[used++] = '\n';

    for (size_t done = 0; done < used;) {
        const ssize_t n = write(log->descriptor, line + done, used - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nowhere left to say it */
        done += (size_t)n;
    }
}

void log_debug(const struct log *log, const char *format, ...)
{
    if (!is_debug(log))
        return;
    va_list arguments;
    va_start(arguments, format);
    write_line(log, "", format, arguments);
    va_end(arguments);
}

void log_info(const struct log *log, const char *format, ...)
{
    if (log == NULL || log->verbosity < 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    write_line(log, "", format, arguments);
    va_end(arguments);
}

void log_warn(const struct log *log, const char *format, ...)
{
    if (log == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    write_line(log, "warning: ", format, arguments);
    va_end(arguments);
}

void log_error(const struct log *log, const char *format, ...)
{
    if (log == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    write_line(log, "error: ", format, arguments);
    va_end(arguments);
}

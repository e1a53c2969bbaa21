/* status.c - see status.h. */
#include "sys/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
    if (error != NULL) {
        char text[sizeof(error->text)] = ""; /* apart: it may quote error->text */
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        error->status = status;
        strcpy(error->text, text);
    }
    return status;
}

enum status status_received(uint32_t number)
{
    return number > STATUS_OK && number < STATUS_COUNT ? (enum status)number : STATUS_FAILED;
}

const char *status_name(enum status status)
{
    static const char *const names[STATUS_COUNT] = {
        [STATUS_OK] = "ok",
        [STATUS_INVALID] = "invalid",
        [STATUS_NOT_FOUND] = "not found",
        [STATUS_UNSUPPORTED] = "unsupported",
        [STATUS_NO_MEMORY] = "no memory",
        [STATUS_EXHAUSTED] = "exhausted",
        [STATUS_IO] = "input/output error",
        [STATUS_PROTOCOL] = "protocol error",
        [STATUS_UNREACHABLE] = "unreachable",
        [STATUS_TIMEOUT] = "timed out",
        [STATUS_CANCELLED] = "cancelled",
        [STATUS_FAILED] = "failed",
    };
    return (unsigned)status < STATUS_COUNT ? names[status] : "unknown status";
}

int status_exit_code(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return 0;
    case STATUS_INVALID:
    case STATUS_NOT_FOUND:
    case STATUS_UNSUPPORTED:
    case STATUS_EXHAUSTED:
        return 2;
    case STATUS_UNREACHABLE:
        return 3;
    default:
        return 4;
    }
}

/* api_error.c - see api_error.h. */
#include "coordinator/http/api_error.h"

#include "model/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void write_error(struct api_error *error, unsigned http, const char *param, const char *code,
                        const char *format, va_list arguments)
{
    *error = (struct api_error){.http = http, .code = code};
    snprintf(error->param, sizeof(error->param), "%s", param != NULL ? param : "");
    vsnprintf(error->message, sizeof(error->message), format, arguments);
}

bool api_error_set(struct api_error *error, unsigned http, const char *param, const char *code,
                   const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_error(error, http, param, code, format, arguments);
    va_end(arguments);
    return false;
}

bool api_error_field(struct api_error *error, const char *param, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_error(error, 400, param, NULL, format, arguments);
    va_end(arguments);
    return false;
}

bool api_error_from(struct api_error *error, enum status status, const char *text)
{
    switch (status) {
    case STATUS_INVALID:
        return api_error_set(error, 400, NULL, NULL, "%s", text);
    case STATUS_UNSUPPORTED:
        return api_error_set(error, 400, NULL, "unsupported", "%s", text);
    case STATUS_EXHAUSTED:
        return api_error_set(error, 429, NULL, "queue_full", "%s", text);
    case STATUS_CANCELLED:
    case STATUS_UNREACHABLE:
    case STATUS_NO_MEMORY:
        return api_error_set(error, 503, NULL, "unavailable", "%s", text);
    default:
        return api_error_set(error, 500, NULL, NULL, "%s", text);
    }
}

/* OpenAI's word for an HTTP status. */
static const char *type_of(unsigned http)
{
    switch (http) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    default:
        return http >= 500 ? "server_error" : "invalid_request_error";
    }
}

json_t *api_error_json(const struct api_error *error)
{
    /* The text may quote what a client sent, cut in the middle of a character. */
    char text[API_ERROR_TEXT_BYTES];
    snprintf(text, sizeof(text), "%s", error->message);
    for (char *at = text; *at != '\0';) {
        const size_t n = utf8_char_bytes(at, strlen(at));
        if (n == 0)
            *at = '?';
        at += n > 0 ? n : 1;
    }
    json_t *message = json_string(text);
    return json_pack("{s:{s:o, s:s, s:s?, s:s?}}", "error", "message", message, "type",
                     type_of(error->http), "param", error->param[0] != '\0' ? error->param : NULL,
                     "code", error->code);
}

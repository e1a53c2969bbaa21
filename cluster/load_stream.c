/* load_stream.c - see load_stream.h. */
#include "cluster/load_stream.h"

#include "sys/array.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t MOST_LINE = (size_t)16 << 20;

static void copy_error(char text[LOAD_STREAM_ERROR_BYTES], const json_t *error)
{
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));
    snprintf(text, LOAD_STREAM_ERROR_BYTES, "%.60s%s%.120s", code != NULL ? code : "",
             code != NULL && message != NULL ? ": " : "", message != NULL ? message : "");
    if (text[0] == '\0')
        snprintf(text, LOAD_STREAM_ERROR_BYTES, "an error without words");
}

void load_stream_explain(char text[LOAD_STREAM_ERROR_BYTES], const char *body, size_t n)
{
    json_t *json = json_loadb(body, n, 0, NULL);
    const json_t *error = json_object_get(json, "error");
    if (json_is_object(error))
        copy_error(text, error);
    else
        snprintf(text, LOAD_STREAM_ERROR_BYTES, "%.*s", n < 120 ? (int)n : 120, body);
    json_decref(json);
}

/* A gap that finds no memory is not counted, which nothing else depends on. */
static void note_text(struct load_stream *s, uint64_t now_us)
{
    if (s->first_us == 0) {
        s->first_us = s->last_us = now_us;
        return;
    }
    if (array_grow(&s->gaps_s, &s->gaps_capacity, (size_t)s->n_gaps + 1, sizeof(*s->gaps_s)))
        s->gaps_s[s->n_gaps++] = (double)(now_us - s->last_us) * 1e-6;
    s->last_us = now_us;
}

static uint32_t tokens_of(const json_t *usage, const char *name)
{
    const json_int_t n = json_integer_value(json_object_get(usage, name));
    return n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

static void take_object(struct load_stream *s, const json_t *object, uint64_t now_us)
{
    const json_t *error = json_object_get(object, "error");
    const json_t *usage = json_object_get(object, "usage");
    const json_t *choice = json_array_get(json_object_get(object, "choices"), 0);
    const json_t *text = json_object_get(choice, "text");
    if (text == NULL)
        text = json_object_get(json_object_get(choice, "delta"), "content");
    if (json_is_object(error))
        copy_error(s->error, error);
    if (json_string_length(text) > 0)
        note_text(s, now_us);
    if (!json_is_object(usage))
        return;
    s->has_usage = true;
    s->prompt_tokens = tokens_of(usage, "prompt_tokens");
    s->output_tokens = tokens_of(usage, "completion_tokens");
    s->cached_tokens = tokens_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
}

static void take_line(struct load_stream *s, const char *line, size_t n, uint64_t now_us)
{
    static const char data[] = "data:", end[] = "[DONE]";
    if (n < strlen(data) || memcmp(line, data, strlen(data)) != 0)
        return; /* blank, a comment, or another field */
    line += strlen(data);
    n -= strlen(data);
    for (; n > 0 && *line == ' '; n--)
        line++;
    if (n >= strlen(end) && memcmp(line, end, strlen(end)) == 0) {
        s->done = true;
        return;
    }
    json_t *object = json_loadb(line, n, 0, NULL);
    if (json_is_object(object))
        take_object(s, object, now_us);
    else
        snprintf(s->error, sizeof(s->error), "an event that is no JSON object");
    json_decref(object);
}

bool load_stream_take(struct load_stream *s, const char *bytes, size_t n, uint64_t now_us)
{
    if (n > MOST_LINE - s->line.n || !text_queue_add(&s->line, bytes, n))
        return false;
    const char *line = text_queue_front(&s->line), *end;
    while ((end = memchr(line, '\n', s->line.n)) != NULL) {
        const size_t length = (size_t)(end - line);
        const bool has_return = length > 0 && end[-1] == '\r';
        take_line(s, line, length - has_return, now_us);
        text_queue_drop(&s->line, length + 1);
        line = end + 1;
    }
    return true;
}

void load_stream_free(struct load_stream *s)
{
    free(s->line.bytes);
    free(s->gaps_s);
    *s = (struct load_stream){0};
}

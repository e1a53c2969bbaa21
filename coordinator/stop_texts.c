/* stop_texts.c - see stop_texts.h.
 *
 * A text that matches begins with the first byte of a character, since it is UTF-8 as the answer
 * is: so what is let out is whole characters too. */
#include "coordinator/stop_texts.h"

#include "sys/text_queue.h"

#include <stdlib.h>
#include <string.h>

struct pattern {
    uint8_t *bytes;
    uint32_t *borders; /* [n + 1]: the longest proper prefix of the first i bytes that ends them */
    uint32_t n, matched;
};

struct stop_texts {
    struct pattern *patterns;
    size_t n_patterns;
    struct text_queue held;
};

static enum status make_pattern(struct pattern *p, const struct stop_text *text,
                                struct error *error)
{
    if (text->n_bytes == 0 || text->n_bytes > STOP_TEXTS_MOST_BYTES)
        return error_set(error, STATUS_INVALID, "a stop text of %zu bytes: it must have 1 to %d",
                         text->n_bytes, STOP_TEXTS_MOST_BYTES);
    p->n = (uint32_t)text->n_bytes;
    p->bytes = malloc(p->n);
    p->borders = malloc((p->n + 1) * sizeof(*p->borders));
    if (p->bytes == NULL || p->borders == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a stop text");
    memcpy(p->bytes, text->bytes, p->n);
    p->borders[0] = p->borders[1] = 0;
    for (uint32_t i = 1, border = 0; i < p->n; i++) {
        while (border > 0 && p->bytes[i] != p->bytes[border])
            border = p->borders[border];
        border += p->bytes[i] == p->bytes[border];
        p->borders[i + 1] = border;
    }
    return STATUS_OK;
}

enum status stop_texts_create(struct stop_texts **stops, const struct stop_text *texts, size_t n,
                              struct error *error)
{
    if (n > STOP_TEXTS_MOST)
        return error_set(error, STATUS_INVALID, "%zu stop texts: at most %d", n, STOP_TEXTS_MOST);
    struct stop_texts *s = NULL;
    enum status status = STATUS_OK;
    if (n > 0 && ((s = calloc(1, sizeof(*s))) == NULL ||
                  (s->patterns = calloc(n, sizeof(*s->patterns))) == NULL))
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %zu stop texts", n);
    for (size_t i = 0; status == STATUS_OK && i < n; i++) {
        s->n_patterns = i + 1;
        status = make_pattern(&s->patterns[i], &texts[i], error);
    }
    if (status == STATUS_OK)
        *stops = s;
    else
        stop_texts_destroy(s);
    return status;
}

void stop_texts_destroy(struct stop_texts *stops)
{
    if (stops == NULL)
        return;
    for (size_t i = 0; i < stops->n_patterns; i++) {
        free(stops->patterns[i].bytes);
        free(stops->patterns[i].borders);
    }
    free(stops->patterns);
    free(stops->held.bytes);
    free(stops);
}

/* True: the pattern ends with this byte. */
static bool step(struct pattern *p, uint8_t byte)
{
    if (p->matched == p->n)
        p->matched = p->borders[p->n];
    while (p->matched > 0 && p->bytes[p->matched] != byte)
        p->matched = p->borders[p->matched];
    p->matched += p->bytes[p->matched] == byte;
    return p->matched == p->n;
}

/* Looks at one more byte; *n_end: the length of the longest pattern that it ends, 0: none. Returns
 * the length of the longest beginning that the text now ends with. */
static uint32_t look(struct stop_texts *s, uint8_t byte, uint32_t *n_end)
{
    uint32_t longest = 0;
    *n_end = 0;
    for (size_t i = 0; i < s->n_patterns; i++) {
        struct pattern *p = &s->patterns[i];
        if (step(p, byte) && p->n > *n_end)
            *n_end = p->n;
        longest = p->matched > longest ? p->matched : longest;
    }
    return longest;
}

enum status stop_texts_push(struct stop_texts *stops, const char *text, size_t n_bytes,
                            const char **out, size_t *n_out, bool *found, struct error *error)
{
    *found = false;
    *out = text;
    *n_out = n_bytes;
    if (stops == NULL || n_bytes == 0)
        return STATUS_OK;
    size_t end = stops->held.n, held = end;
    if (!text_queue_add(&stops->held, text, n_bytes))
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of an answer",
                         stops->held.n + n_bytes);
    *out = text_queue_front(&stops->held);
    while (end < stops->held.n && !*found) {
        uint32_t n_end;
        held = look(stops, (uint8_t)(*out)[end++], &n_end);
        *found = n_end > 0;
        held = *found ? n_end : held;
    }
    *n_out = end - held;
    text_queue_drop(&stops->held, *n_out); /* what is behind a stop text is held as that is */
    return STATUS_OK;
}

size_t stop_texts_held(const struct stop_texts *stops)
{
    return stops == NULL ? 0 : stops->held.n;
}

enum status stop_texts_end(struct stop_texts *stops, const char *text, size_t n_bytes,
                           const char **out, size_t *n_out, bool *found, struct error *error)
{
    const enum status status = stop_texts_push(stops, text, n_bytes, out, n_out, found, error);
    if (status != STATUS_OK || stops == NULL || *found)
        return status;
    if (n_bytes == 0) { /* nothing was pushed: what was let out before is no part of it */
        *out = text_queue_front(&stops->held);
        *n_out = 0;
    }
    *n_out += stops->held.n;
    text_queue_drop(&stops->held, stops->held.n);
    return STATUS_OK;
}

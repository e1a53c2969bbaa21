/* tokenize.c - reads all of standard input first: it is a text, or lines of them. */
#include "cluster/tokenize.h"

#include "model/detokenizer.h"
#include "sys/array.h"
#include "sys/file.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TEXT_BYTES = 1 << 30 };

typedef enum status line_action(const struct tokenizer *tokenizer,
                                const struct tokenize_options *options, const json_t *value,
                                size_t line, struct error *error);

/* Each line that is not empty is a JSON value. */
static enum status for_each_line(const struct tokenizer *tokenizer,
                                 const struct tokenize_options *options, const char *text,
                                 size_t n_bytes, line_action *action, struct error *error)
{
    enum status status = STATUS_OK;
    size_t line = 1;
    for (size_t begin = 0, end; begin < n_bytes && status == STATUS_OK; begin = end + 1, line++) {
        const char *newline = memchr(text + begin, '\n', n_bytes - begin);
        end = newline == NULL ? n_bytes : (size_t)(newline - text);
        json_error_t why;
        if (end == begin)
            continue;
        json_t *value =
            json_loadb(text + begin, end - begin, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
        if (value == NULL)
            return error_set(error, STATUS_INVALID, "standard input, line %zu: %s", line, why.text);
        status = action(tokenizer, options, value, line, error);
        json_decref(value);
    }
    return status;
}

/* ---- to ids --------------------------------------------------------------------------------- */

static void print_ids(const int32_t *ids, size_t n, const char *before, const char *between,
                      const char *after)
{
    fputs(before, stdout);
    for (size_t i = 0; i < n; i++)
        printf("%s%" PRId32, i == 0 ? "" : between, ids[i]);
    fputs(after, stdout);
}

static enum status tokenize_line(const struct tokenizer *tokenizer,
                                 const struct tokenize_options *options, const json_t *value,
                                 size_t line, struct error *error)
{
    int32_t *ids;
    size_t n;
    if (!json_is_string(value))
        return error_set(error, STATUS_INVALID, "standard input, line %zu: no JSON string", line);
    const enum status status =
        tokenizer_encode(tokenizer, json_string_value(value), json_string_length(value),
                         options->flags, &ids, &n, error);
    if (status != STATUS_OK)
        return status;
    print_ids(ids, n, "[", ", ", "]\n");
    free(ids);
    return STATUS_OK;
}

static enum status tokenize_text(const struct tokenizer *tokenizer,
                                 const struct tokenize_options *options, const char *text,
                                 size_t n_bytes, struct error *error)
{
    int32_t *ids;
    size_t n;
    const enum status status =
        tokenizer_encode(tokenizer, text, n_bytes, options->flags, &ids, &n, error);
    if (status != STATUS_OK)
        return status;
    print_ids(ids, n, options->json ? "{\"ids\": [" : "", options->json ? ", " : " ",
              options->json ? "]}\n" : "\n");
    free(ids);
    return STATUS_OK;
}

enum status tokenize_input(const struct tokenizer *tokenizer,
                           const struct tokenize_options *options, struct error *error)
{
    char *text;
    size_t n_bytes;
    enum status status = file_read(NULL, MOST_TEXT_BYTES, &text, &n_bytes, error);
    if (status != STATUS_OK)
        return status;
    status = options->lines ? for_each_line(tokenizer, options, text, n_bytes, tokenize_line, error)
                            : tokenize_text(tokenizer, options, text, n_bytes, error);
    free(text);
    return status;
}

/* ---- to text -------------------------------------------------------------------------------- */

/* Ids of a JSON array. */
static enum status read_ids(const json_t *value, size_t line, int32_t *ids, struct error *error)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *id = json_array_get(value, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return error_set(error, STATUS_INVALID,
                             "standard input, line %zu: element %zu is no token id", line, i);
        ids[i] = (int32_t)json_integer_value(id);
    }
    return STATUS_OK;
}

static enum status detokenize_line(const struct tokenizer *tokenizer,
                                   const struct tokenize_options *options, const json_t *value,
                                   size_t line, struct error *error)
{
    char *text = NULL;
    size_t n_bytes = 0;
    if (!json_is_array(value))
        return error_set(error, STATUS_INVALID, "standard input, line %zu: no JSON array", line);
    int32_t *ids = malloc((json_array_size(value) + 1) * sizeof(*ids));
    if (ids == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu ids", json_array_size(value));
    enum status status = read_ids(value, line, ids, error);
    if (status == STATUS_OK)
        status = detokenizer_text(tokenizer, ids, json_array_size(value), options->flags, &text,
                                  &n_bytes, error);
    if (status == STATUS_OK) {
        json_t *string = json_stringn(text, n_bytes);
        if (string == NULL || json_dumpf(string, stdout, JSON_ENCODE_ANY) != 0)
            status = error_set(error, STATUS_IO, "line %zu: its text could not be printed", line);
        json_decref(string);
        putchar('\n');
    }
    free(text);
    free(ids);
    return status;
}

/* Ids between anything that is no digit and no minus. */
static enum status scan_ids(const char *text, int32_t **ids, size_t *n, struct error *error)
{
    size_t capacity = 0;
    int32_t *list = NULL;
    bool complete = array_grow(&list, &capacity, 1, sizeof(*list)); /* of none too */
    *n = 0;
    for (const char *at = text; complete && *at != '\0';) {
        if (isspace((unsigned char)*at) || strchr(",[]", *at) != NULL) {
            at++;
            continue;
        }
        char *end;
        errno = 0;
        const long id = strtol(at, &end, 10);
        if (end == at || errno != 0 || id < 0 || id > INT32_MAX) {
            free(list);
            return error_set(error, STATUS_INVALID, "standard input: '%.16s' is no token id", at);
        }
        at = end;
        complete = array_grow(&list, &capacity, *n + 1, sizeof(*list));
        if (complete)
            list[(*n)++] = (int32_t)id;
    }
    if (!complete) {
        free(list);
        return error_set(error, STATUS_NO_MEMORY, "no memory for the ids");
    }
    *ids = list;
    return STATUS_OK;
}

static enum status detokenize_ids(const struct tokenizer *tokenizer,
                                  const struct tokenize_options *options, const char *input,
                                  struct error *error)
{
    int32_t *ids = NULL;
    size_t n = 0, n_bytes;
    char *text;
    enum status status = scan_ids(input, &ids, &n, error);
    if (status != STATUS_OK)
        return status;
    status = detokenizer_text(tokenizer, ids, n, options->flags | DETOKENIZER_RAW, &text, &n_bytes,
                              error);
    if (status == STATUS_OK) {
        fwrite(text, 1, n_bytes, stdout);
        free(text);
    }
    free(ids);
    return status;
}

enum status detokenize_input(const struct tokenizer *tokenizer,
                             const struct tokenize_options *options, struct error *error)
{
    char *input;
    size_t n_bytes;
    enum status status = file_read(NULL, MOST_TEXT_BYTES, &input, &n_bytes, error);
    if (status != STATUS_OK)
        return status;
    status = options->lines
                 ? for_each_line(tokenizer, options, input, n_bytes, detokenize_line, error)
                 : detokenize_ids(tokenizer, options, input, error);
    free(input);
    return status;
}

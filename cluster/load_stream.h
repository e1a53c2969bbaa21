/* cluster/load_stream.h - reads a completion's event stream as it comes, in pieces of any size.
 *
 * Of each `data: {...}` line only what a load test needs is kept: whether there was text, how many
 * tokens the usage says, and an error. Pure: the caller says when the bytes came. */
#ifndef LONGSPAN_CLUSTER_LOAD_STREAM_H
#define LONGSPAN_CLUSTER_LOAD_STREAM_H

#include "sys/text_queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_STREAM_ERROR_BYTES = 200 };

/* Zeroed: nothing has come. */
struct load_stream {
    struct text_queue line;     /* unfinished */
    uint64_t first_us, last_us; /* of pieces of text; 0: none came */
    double *gaps_s;             /* between them */
    uint32_t n_gaps;
    size_t gaps_capacity;
    bool done;      /* [DONE] came */
    bool has_usage; /* then these are the server's own: */
    uint32_t prompt_tokens, cached_tokens, output_tokens;
    char error[LOAD_STREAM_ERROR_BYTES]; /* "": none */
};

/* False: no memory, or a line of more than 16 MiB; the rest of the answer is useless. */
bool load_stream_take(struct load_stream *stream, const char *bytes, size_t n, uint64_t now_us);
void load_stream_free(struct load_stream *stream);

/* What an answer that is no stream says went wrong: OpenAI's error object, or the beginning of the
 * text. */
void load_stream_explain(char text[LOAD_STREAM_ERROR_BYTES], const char *body, size_t n);

#endif

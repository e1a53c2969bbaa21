/* coordinator/http/http_options.h - what the command line says about the HTTP server. */
#ifndef LONGSPAN_COORDINATOR_HTTP_HTTP_OPTIONS_H
#define LONGSPAN_COORDINATOR_HTTP_HTTP_OPTIONS_H

#include <stdint.h>

/* Strings are borrowed; NULL: not given. */
struct http_options {
    const char *address;       /* HOST:PORT to listen at; NULL: no HTTP */
    const char *api_key_file;  /* needed where other hosts can connect */
    const char *api_key;       /* the same, without a file: the environment's */
    const char *cors;          /* origin whose pages may use it, or *; NULL: none but our own */
    const char *model_name;    /* as clients call it; NULL: the file's name */
    const char *chat_template; /* a name or a file; NULL: the model's own */
    uint64_t body_bytes;       /* of one request, at most */
    uint64_t bodies_bytes;     /* of all that are being sent and read, at most */
    uint32_t prompt_tokens;    /* of one prompt, at most; 0: as many as the context has */
    uint32_t running, queued;  /* requests with the scheduler, and waiting for that, at most */
    uint32_t idle_s;           /* a connection on which nothing moves is closed after this */
    uint32_t read_s;           /* and one whose request is not whole after this */
    uint32_t silence_s;        /* of a stream, after which it gets a comment; 0: never */
    uint32_t drain_s;          /* running requests may take so long after SIGTERM */
};

#endif

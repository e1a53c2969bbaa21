/* tests/proto/wire_fixture.h - a temporary directory, a context, and sockets in it. */
#ifndef LONGSPAN_TESTS_PROTO_WIRE_FIXTURE_H
#define LONGSPAN_TESTS_PROTO_WIRE_FIXTURE_H

#include "proto/frames.h"
#include "proto/wire_context.h"
#include "proto/wire_socket.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Long enough for a loaded machine: tests wait for events, and this only ends a failure. */
enum { PATIENCE_US = 20000000, SHORT_US = 50000 };

struct wire_fixture {
    char directory[FILE_PATH_BYTES];
    char ipc[FILE_PATH_BYTES + 16];
    struct wire_context *context;
};

static inline int wire_fixture_make(void **state)
{
    struct wire_fixture *f = calloc(1, sizeof(*f));
    const struct wire_context_options options = {0};
    if (f == NULL || file_make_temporary(f->directory, NULL) != STATUS_OK ||
        wire_context_create(&f->context, &options, NULL) != STATUS_OK)
        return -1;
    snprintf(f->ipc, sizeof(f->ipc), "ipc://%s/socket", f->directory);
    *state = f;
    return 0;
}

static inline int wire_fixture_remove(void **state)
{
    struct wire_fixture *f = *state;
    wire_context_destroy(f->context);
    const enum status status = file_remove_temporary(f->directory);
    free(f);
    return status == STATUS_OK ? 0 : -1;
}

static inline uint64_t soon(uint64_t us)
{
    return clock_us() + us;
}

static inline struct wire_socket *open_socket(struct wire_context *context,
                                              struct wire_socket_options options)
{
    struct wire_socket *socket = NULL;
    struct error error = {0};
    if (wire_socket_open(&socket, context, &options, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return socket;
}

/* A message of one text frame; frames begin as zeros. */
static inline void put_text(struct frames *frames, const char *text)
{
    frames_clear(frames);
    assert_int_equal(frames_add_copy(frames, text, strlen(text), NULL), STATUS_OK);
}

static inline void assert_text(struct frames *frames, uint32_t i, const char *text)
{
    assert_true(i < frames->n);
    assert_int_equal(frames_size(frames, i), strlen(text));
    assert_memory_equal(frames_data(frames, i), text, strlen(text));
}

static inline void assert_sent(struct wire_socket *socket, struct frames *frames)
{
    struct error error = {0};
    if (frames_send(socket, frames, soon(PATIENCE_US), &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_int_equal(frames->n, 0);
}

static inline void assert_received(struct wire_socket *socket, struct frames *frames)
{
    struct error error = {0};
    if (frames_receive(socket, frames, soon(PATIENCE_US), &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

#endif

/* cluster/chat_input.h - messages, line by line, from standard input: a terminal, a pipe, a file.
 *
 * A line that ends with a backslash goes on in the next one, with a newline in between.
 * Lines end with LF or CR LF; any other byte is a line's, also a NUL. */
#ifndef LONGSPAN_CLUSTER_CHAT_INPUT_H
#define LONGSPAN_CLUSTER_CHAT_INPUT_H

#include "sys/status.h"
#include "sys/text_buffer.h"

#include <stdbool.h>
#include <stddef.h>

/* Zeroed: nothing was read. */
struct chat_input {
    struct text_buffer
        text; /* of it, `used` bytes were given out, `looked` have no end of a line */
    size_t used, looked;
    bool ended;
};

/* The next line of what was read, without its end, with a NUL behind its n_bytes, until the next
 * call; after the end of the input also one that has no newline. NULL: it is not complete, or there
 * is none. */
char *chat_input_line(struct chat_input *input, size_t *n_bytes);

/* Reads what there is, and waits for it where there is nothing: poll first. STATUS_INVALID: a line
 * of more than 256 MiB. STATUS_IO, STATUS_NO_MEMORY. */
enum status chat_input_read(struct chat_input *input, int descriptor, struct error *error);

void chat_input_free(struct chat_input *input);

#endif

/* chat_input.c - bytes are kept until they are a line: stdio would hide from poll what it has. */
#include "cluster/chat_input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 65536, MOST_BYTES = 256 << 20 };

char *chat_input_line(struct chat_input *input, size_t *n_bytes)
{
    struct text_buffer *text = &input->text;
    if (text->n == 0)
        return NULL;
    char *line = text->bytes + input->used;
    while (input->looked < text->n) {
        char *end = memchr(text->bytes + input->looked, '\n', text->n - input->looked);
        if (end == NULL)
            break;
        const size_t at = (size_t)(end - text->bytes);
        size_t line_end = at; /* a line of Windows has a CR in front of the newline */
        if (line_end > input->used && text->bytes[line_end - 1] == '\r')
            line_end--;
        if (line_end > input->used && text->bytes[line_end - 1] == '\\') {
            memmove(text->bytes + line_end - 1, end, text->n - at + 1); /* the newline instead */
            text->n -= at - (line_end - 1);
            input->looked = line_end;
            continue;
        }
        text->bytes[line_end] = '\0';
        *n_bytes = line_end - input->used;
        input->used = input->looked = at + 1;
        return line;
    }
    input->looked = text->n;
    if (!input->ended || input->used == text->n)
        return NULL;
    *n_bytes = text->n - input->used;
    input->used = text->n;
    return line;
}

enum status chat_input_read(struct chat_input *input, int descriptor, struct error *error)
{
    struct text_buffer *text = &input->text;
    if (input->used > 0) {
        memmove(text->bytes, text->bytes + input->used, text->n - input->used + 1);
        text->n -= input->used;
        input->looked -= input->used;
        input->used = 0;
    }
    if (text->n > MOST_BYTES)
        return error_set(error, STATUS_INVALID, "a message of more than %d MiB", MOST_BYTES >> 20);
    if (!text_buffer_reserve(text, AT_ONCE))
        return error_set(error, STATUS_NO_MEMORY, "no memory for a message");
    const ssize_t n = read(descriptor, text->bytes + text->n, AT_ONCE);
    if (n < 0 && errno != EINTR && errno != EAGAIN)
        return error_set(error, STATUS_IO, "standard input: %s", strerror(errno));
    if (n > 0)
        text->n += (size_t)n;
    text->bytes[text->n] = '\0';
    input->ended = n == 0;
    return STATUS_OK;
}

void chat_input_free(struct chat_input *input)
{
    free(input->text.bytes);
    *input = (struct chat_input){0};
}

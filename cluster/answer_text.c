/* answer_text.c - see answer_text.h. */
#include "cluster/answer_text.h"

#include "cluster/progress.h"
#include "cluster/standard_output.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum status answer_text_show(struct answer_text *text, struct ask *ask, const char *bytes,
                             size_t n_bytes, struct error *error)
{
    if (n_bytes == 0)
        return STATUS_OK;
    const enum status status = ask_await_output(ask, error);
    if (status != STATUS_OK)
        return status;
    progress_clear(ask->progress);
    text->shown = true;
    text->ends_in_newline = bytes[n_bytes - 1] == '\n';
    fwrite(bytes, 1, n_bytes, stdout);
    return standard_output_flush(error);
}

enum status answer_text_end(const struct answer_text *text, struct error *error)
{
    if (!text->ends_in_newline)
        putchar('\n');
    return standard_output_flush(error);
}

void answer_text_break_off(struct answer_text *text)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (text->shown && !text->ends_in_newline && poll(&out, 1, 0) > 0)
        (void)!write(STDOUT_FILENO, "\n", 1);
    text->ends_in_newline = true;
}

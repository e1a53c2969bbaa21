/* cluster/prompts.h - the texts to continue, from -p and -f, in the order of the command line. */
#ifndef LONGSPAN_CLUSTER_PROMPTS_H
#define LONGSPAN_CLUSTER_PROMPTS_H

#include "sys/options.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

enum { PROMPTS_NAME_BYTES = 64 };

struct prompts_item {
    char name[PROMPTS_NAME_BYTES]; /* for people: the file, or the beginning of the text */
    char *text;                    /* any bytes */
    size_t n_bytes;
};

struct prompts {
    struct prompts_item *items;
    uint32_t n;
};

/* `list`: items "prompt" (a text) and "file" (a path, or - for standard input). The caller ends
 * *prompts with prompts_free. STATUS_NOT_FOUND, STATUS_INVALID: a file that is missing, empty or
 * too large. STATUS_IO, STATUS_NO_MEMORY. */
enum status prompts_read(struct prompts *prompts, const struct option_list *list,
                         struct error *error);

void prompts_free(struct prompts *prompts);

#endif

/* prompts.c - whole files, and arguments as they are. */
#include "cluster/prompts.h"

#include "sys/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A request is one message: its limit is 256 MiB. */
enum { MOST_BYTES = 200 << 20 };

static void name_item(struct prompts_item *item, const struct option_item *from)
{
    if (strcmp(from->name, "file") == 0) {
        const size_t length = strlen(from->text);
        const bool cut = length >= PROMPTS_NAME_BYTES;
        const char *end = cut ? from->text + length - (PROMPTS_NAME_BYTES - 4) : from->text;
        snprintf(item->name, sizeof(item->name), "%s%s", cut ? "..." : "",
                 strcmp(from->text, "-") == 0 ? "standard input" : end);
        return;
    }
    /* The first line, cut between characters. */
    size_t length = strcspn(from->text, "\r\n");
    const bool cut = length > PROMPTS_NAME_BYTES - 4 || from->text[length] != '\0';
    if (length > PROMPTS_NAME_BYTES - 4)
        for (length = PROMPTS_NAME_BYTES - 4; length > 0 && (from->text[length] & 0xc0) == 0x80;)
            length--;
    snprintf(item->name, sizeof(item->name), "%.*s%s", (int)length, from->text, cut ? "..." : "");
}

enum status prompts_read(struct prompts *prompts, const struct option_list *list,
                         struct error *error)
{
    struct prompts read = {.items = calloc((size_t)list->n + 1, sizeof(*read.items))};
    enum status status = read.items == NULL
                             ? error_set(error, STATUS_NO_MEMORY, "no memory for prompts")
                             : STATUS_OK;
    size_t total = 0;
    for (uint32_t i = 0; status == STATUS_OK && i < list->n; i++) {
        const struct option_item *from = &list->items[i];
        struct prompts_item *item = &read.items[read.n++];
        const bool is_file = strcmp(from->name, "file") == 0;
        const char *path = strcmp(from->text, "-") == 0 ? NULL : from->text;
        name_item(item, from);
        if (is_file) {
            status = file_read(path, MOST_BYTES, &item->text, &item->n_bytes, error);
        } else {
            item->text = strdup(from->text);
            item->n_bytes = strlen(from->text);
            if (item->text == NULL)
                status = error_set(error, STATUS_NO_MEMORY, "no memory for prompts");
        }
        total += item->n_bytes;
        if (status == STATUS_OK && item->n_bytes == 0)
            status = error_set(error, STATUS_INVALID, "%s is empty: there is nothing to continue",
                               is_file ? item->name : "-p");
        if (status == STATUS_OK && total > MOST_BYTES)
            status = error_set(error, STATUS_INVALID, "the prompts are more than %d MiB together",
                               MOST_BYTES >> 20);
    }
    if (status == STATUS_OK)
        *prompts = read;
    else
        prompts_free(&read);
    return status;
}

void prompts_free(struct prompts *prompts)
{
    for (uint32_t i = 0; i < prompts->n; i++)
        free(prompts->items[i].text);
    free(prompts->items);
    *prompts = (struct prompts){0};
}

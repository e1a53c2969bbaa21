/* json_file.c - see json_file.h. */
#include "model/huggingface/json_file.h"

#include "sys/file.h"

#include <stdlib.h>

enum status json_text_read(json_t **root, const char *text, size_t n_bytes, const char *name,
                           struct error *error)
{
    json_error_t why;
    json_t *object = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &why);
    if (object == NULL)
        return error_set(error, STATUS_INVALID, "%s, line %d: %s", name, why.line, why.text);
    if (!json_is_object(object)) {
        json_decref(object);
        return error_set(error, STATUS_INVALID, "%s: no JSON object", name);
    }
    *root = object;
    return STATUS_OK;
}

enum status json_file_read(json_t **root, const char *path, uint64_t max_bytes, char **text,
                           size_t *n_bytes, struct error *error)
{
    char *data = NULL;
    size_t n = 0;
    enum status status = file_read(path, max_bytes, &data, &n, error);
    if (status == STATUS_OK)
        status = json_text_read(root, data, n, path, error);
    if (status != STATUS_OK || text == NULL) {
        free(data);
    } else {
        *text = data;
        *n_bytes = n;
    }
    return status;
}

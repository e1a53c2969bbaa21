/* json_file.c - see json_file.h. */
#include "model/huggingface/json_file.h"

#include "sys/file.h"

#include <stdlib.h>

enum status json_file_read(json_t **root, const char *path, uint64_t max_bytes, char **text,
                           size_t *n_bytes, struct error *error)
{
    char *data = NULL;
    size_t n = 0;
    json_error_t why;
    enum status status = file_read(path, max_bytes, &data, &n, error);
    if (status != STATUS_OK)
        return status;
    json_t *object = json_loadb(data, n, JSON_REJECT_DUPLICATES, &why);
    if (object == NULL)
        status = error_set(error, STATUS_INVALID, "%s, line %d: %s", path, why.line, why.text);
    else if (!json_is_object(object))
        status = error_set(error, STATUS_INVALID, "%s: no JSON object", path);
    if (status != STATUS_OK || text == NULL) {
        free(data);
    } else {
        *text = data;
        *n_bytes = n;
    }
    if (status == STATUS_OK)
        *root = object;
    else
        json_decref(object);
    return status;
}

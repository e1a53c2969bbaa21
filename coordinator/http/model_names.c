/* model_names.c - see model_names.h. */
#include "coordinator/http/model_names.h"

#include <string.h>

static bool same(const char *name, const char *other)
{
    return other != NULL && strcmp(name, other) == 0;
}

bool model_names_check(const struct model_names *names, const char *name, struct api_error *error)
{
    return same(name, names->id) || same(name, names->file) || same(name, names->general) ||
           api_error_set(error, 404, "model", "model_not_found",
                         "the model '%.200s' does not exist here: this server has '%s'", name,
                         names->id);
}

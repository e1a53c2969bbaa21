/* coordinator/http/model_names.h - what clients may call the one model that is served. */
#ifndef LONGSPAN_COORDINATOR_HTTP_MODEL_NAMES_H
#define LONGSPAN_COORDINATOR_HTTP_MODEL_NAMES_H

#include "coordinator/http/api_error.h"

#include <stdbool.h>

/* Borrowed; `id` is what clients are told, the others may be NULL. */
struct model_names {
    const char *id, *file, *general; /* general: general.name of the file */
};

/* False: `name` is another model's, and *error the 404. */
bool model_names_check(const struct model_names *names, const char *name, struct api_error *error);

#endif

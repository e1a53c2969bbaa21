/* cluster/field.h - fields of a JSON object that is shown as tables. It may be another program's:
 * what is missing, or of another type, is shown as not there. */
#ifndef LONGSPAN_CLUSTER_FIELD_H
#define LONGSPAN_CLUSTER_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Borrowed from the object. */
const char *field_text(const json_t *object, const char *name, const char *absent);

bool field_is_number(const json_t *object, const char *name);
double field_number(const json_t *object, const char *name);  /* else 0 */
uint64_t field_whole(const json_t *object, const char *name); /* else, and below 0: 0 */

/* [begin, end]; false: it is no such range, and both are 0. */
bool field_range(const json_t *object, const char *name, uint64_t *begin, uint64_t *end);

#endif

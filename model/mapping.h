/* model/mapping.h - a whole file as read-only memory.
 *
 * A file that another process truncates while it is mapped raises SIGBUS when read, of which
 * sys/bus_error.h makes a message: replace model files by rename. Error texts begin with the
 * path. */
#ifndef LONGSPAN_MODEL_MAPPING_H
#define LONGSPAN_MODEL_MAPPING_H

#include "sys/status.h"

#include <stdint.h>

struct mapping {
    const uint8_t *data; /* at the beginning of a page; NULL: nothing is mapped */
    uint64_t n_bytes;
};

/* The caller ends it with mapping_close. STATUS_NOT_FOUND: no such file. STATUS_IO: it cannot be
 * read or mapped. STATUS_INVALID: empty, or not a regular file. */
enum status mapping_open(struct mapping *mapping, const char *path, struct error *error);
void mapping_close(struct mapping *mapping);

/* Wishes about a part of a mapping, by address; whole pages, with what neighbours share of them.
 * Expect: will be read soon, the kernel may fetch it now; does not wait for the disk. Release: has
 * been read, its pages need not stay in this process's memory; they can be read again. */
void mapping_expect(const void *data, uint64_t n_bytes);
void mapping_release(const void *data, uint64_t n_bytes);

#endif

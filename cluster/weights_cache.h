/* cluster/weights_cache.h - models that were pushed to this machine, by the hash of their content:
 *
 *     DIR/ID/NAME       a file of the model (weights_set.h); made whole, or not at all
 *     DIR/ID/.NAME.seen its hash, size and time (content_hash.h): what changed since is read again
 *     DIR/.new-XXXXXX/  what is on its way, locked; left over, it goes with the next push
 *
 * DIR is ~/.cache/longspan/weights (or below $XDG_CACHE_HOME) unless the cluster file says
 * another. */
#ifndef LONGSPAN_CLUSTER_WEIGHTS_CACHE_H
#define LONGSPAN_CLUSTER_WEIGHTS_CACHE_H

#include "cluster/weights_set.h"
#include "sys/file.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>

/* The folder for `kind` ("weights", "hashes"): `wanted`, or the default one; made where it is
 * missing. STATUS_IO: with the kernel's reason. */
enum status weights_cache_folder(char folder[FILE_PATH_BYTES], const char *wanted, const char *kind,
                                 struct error *error);

/* Whether the set is there, with the content that its id names; one that is not is removed. `path`:
 * what to open. STATUS_IO: it can neither be read nor removed. */
enum status weights_cache_find(bool *found, char path[FILE_PATH_BYTES], const char *folder,
                               const struct weights_set *set, struct error *error);

/* Where a push reads its bytes; true: all `n_bytes` came. */
typedef bool weights_cache_source(void *context, void *data, size_t n_bytes);

/* Takes the files' bytes, one after the other, and keeps them once all are right.
 * STATUS_EXHAUSTED: the disk has less room. STATUS_IO: with the kernel's reason. STATUS_PROTOCOL:
 * other bytes than the hash says, or too few. Nothing is left of it then. */
enum status weights_cache_take(char path[FILE_PATH_BYTES], const char *folder,
                               const struct weights_set *set, weights_cache_source *source,
                               void *context, struct error *error);

#endif

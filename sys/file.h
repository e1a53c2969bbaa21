/* sys/file.h - whole files, and directories for things that shall not outlive us. */
#ifndef LONGSPAN_SYS_FILE_H
#define LONGSPAN_SYS_FILE_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

enum { FILE_PATH_BYTES = 4096 };

#define FILE_TEMPORARY_PREFIX "longspan-" /* of the names of temporary directories */

/* Reads a regular file, or a pipe to its end; path NULL: standard input, from where it is. The
 * caller frees *data, which has one zero byte more than *size, so that text can be used as a
 * string.
 * STATUS_NOT_FOUND: no such file. STATUS_INVALID: a directory, or more than max_bytes.
 * STATUS_IO: no permission, or a read failed. STATUS_NO_MEMORY. */
enum status file_read(const char *path, uint64_t max_bytes, char **data, size_t *size,
                      struct error *error);

/* Writes `path` so that a reader, and a crash, finds the old file or the whole new one: a temporary
 * file beside it, synced, then renamed. `mode` as in open(2), less the umask.
 * STATUS_INVALID: a device, a pipe or a socket is there, whose place the file would take; and as
 * file_not_made. STATUS_IO: with the kernel's reason; no temporary file is left. */
enum status file_write(const char *path, const void *data, size_t size, unsigned mode,
                       struct error *error);

/* Why a file that somebody named could not be made, of an errno. STATUS_INVALID: another name is
 * needed, such as one in a folder that exists; STATUS_IO: there is no room, or the disk fails. */
enum status file_not_made(const char *path, int reason, struct error *error);

/* Could file_write write it, as things are? For who has much to lose at the end. Nothing is left.
 * STATUS_INVALID: also a directory, and as file_not_made. STATUS_IO. */
enum status file_try_write(const char *path, struct error *error);

/* What can still be written in a directory; UINT64_MAX where its disk does not tell (ramfs, tmpfs without
 * a limit). STATUS_IO: it is not there. */
enum status file_room(const char *directory, uint64_t *free_bytes, struct error *error);

/* A new directory, mode 0700, named longspan-XXXXXX, in $TMPDIR or /tmp; `path` is absolute.
 * For sockets too, therefore refused when longer than 70 bytes: a socket's name is added, and
 * 107 bytes are all that the kernel takes. The caller ends it with file_remove_temporary.
 * STATUS_INVALID: too long. STATUS_IO. */
enum status file_make_temporary(char path[FILE_PATH_BYTES], struct error *error);

/* $TMPDIR, or /tmp where that is not an absolute path. */
const char *file_temporary_parent(void);

/* The same in another directory than that. */
enum status file_make_temporary_in(const char *parent, char path[FILE_PATH_BYTES],
                                   struct error *error);

/* Removes such a directory and what is in it. Links are removed, not followed; a path whose last
 * part does not begin with longspan- is refused. Already gone is fine.
 * STATUS_INVALID: not our kind of directory. STATUS_IO: something is left. */
enum status file_remove_temporary(const char *path);

#endif

/* sys/held_folder.h - temporary directories of which a killed owner leaves none for long.
 *
 * A directory as file_make_temporary makes it, which its owner keeps locked (flock(2)) for as long
 * as it lives. However it ends, the kernel lets go of the lock; and whoever makes such a directory
 * removes those beside it first that are of the same user and that nobody holds any more.
 *
 * A link in it, .held, says that it was held, and in which boot of which host: other hosts may
 * share the parent without seeing each other's locks. It is made after the lock, and so there is
 * none in a directory that cannot be locked (NFS), which nobody else removes then. */
#ifndef LONGSPAN_SYS_HELD_FOLDER_H
#define LONGSPAN_SYS_HELD_FOLDER_H

#include "sys/file.h"
#include "sys/status.h"

/* Zeroed: none. */
struct held_folder {
    char path[FILE_PATH_BYTES]; /* absolute; "": none */
    int lock;                   /* the directory, opened; children do not inherit it */
};

/* The caller ends *folder with held_folder_remove. `parent`: an absolute path, of a directory where
 * others cannot rename what is ours, like /tmp. STATUS_INVALID, STATUS_IO: as
 * file_make_temporary_in. */
enum status held_folder_make(struct held_folder *folder, const char *parent, struct error *error);

/* With all that is in it; *folder is zeroed. A zeroed one is fine. */
void held_folder_remove(struct held_folder *folder);

#endif

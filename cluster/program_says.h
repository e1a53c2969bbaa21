/* cluster/program_says.h - what another program answers to a question such as --version. */
#ifndef LONGSPAN_CLUSTER_PROGRAM_SAYS_H
#define LONGSPAN_CLUSTER_PROGRAM_SAYS_H

#include "sys/status.h"

#include <stdbool.h>

enum { PROGRAM_SAYS_BYTES = 1024, PROGRAM_SAYS_VERSION_BYTES = 64 };

/* The first line that it says, on standard error too; false: it did not start, or ended badly. */
bool program_says(char said[PROGRAM_SAYS_BYTES], const char *path, const char *option);

/* The version of the Open MPI in `prefix`, or (NULL, "") of the one on PATH, which has mpirun's
 * helper on other machines, orted; "" when it does not tell. STATUS_UNREACHABLE: there is none. */
enum status program_says_mpi(char version[PROGRAM_SAYS_VERSION_BYTES], const char *prefix,
                             struct error *error);

#endif

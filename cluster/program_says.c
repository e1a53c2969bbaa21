/* program_says.c - see program_says.h. */
#include "cluster/program_says.h"

#include "cluster/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPEN_MPI "(Open MPI) "

enum { PATH_BYTES = 4096 };

bool program_says(char said[PROGRAM_SAYS_BYTES], const char *path, const char *option)
{
    struct words words = {0};
    char *command = NULL, *line = NULL;
    words_add_list(&words, path, option, (char *)NULL);
    char *quoted = words.failed ? NULL : words_quoted(words.argv);
    words_free(&words);
    said[0] = '\0';
    if (quoted != NULL && asprintf(&command, "%s 2>&1 </dev/null", quoted) < 0)
        command = NULL;
    FILE *stream = command != NULL ? popen(command, "re") : NULL;
    size_t size = 0;
    while (stream != NULL && getline(&line, &size, stream) > 0)
        if (said[0] == '\0')
            snprintf(said, PROGRAM_SAYS_BYTES, "%.*s", (int)strcspn(line, "\n"), line);
    const bool good = stream != NULL && pclose(stream) == 0;
    free(line);
    free(command);
    free(quoted);
    return good;
}

enum status program_says_mpi(char version[PROGRAM_SAYS_VERSION_BYTES], const char *prefix,
                             struct error *error)
{
    char mpirun[PATH_BYTES] = "mpirun", orted[PATH_BYTES] = "orted", said[PROGRAM_SAYS_BYTES];
    const bool is_said = prefix != NULL && prefix[0] != '\0';
    if (is_said && strlen(prefix) < PATH_BYTES - 16) {
        snprintf(mpirun, sizeof(mpirun), "%.*s/bin/mpirun", PATH_BYTES - 16, prefix);
        snprintf(orted, sizeof(orted), "%.*s/bin/orted", PATH_BYTES - 16, prefix);
    }
    if (is_said ? access(orted, X_OK) != 0 : !words_on_path(orted))
        return error_set(error, STATUS_UNREACHABLE,
                         "%s is %s: install Open MPI (Debian: openmpi-bin), or say where it is on "
                         "other machines, programs: {mpi: FOLDER} in the cluster file",
                         orted, is_said ? "not there" : "not on the PATH");
    program_says(said, mpirun, "--version");
    const char *found = strstr(said, OPEN_MPI);
    snprintf(version, PROGRAM_SAYS_VERSION_BYTES, "%.63s",
             found != NULL ? found + strlen(OPEN_MPI) : "");
    return STATUS_OK;
}

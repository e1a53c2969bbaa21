/* tests/directory.h - a temporary directory for the tests of a program: group or test fixtures of
 * cmocka. Include it before cmocka.h. */
#ifndef LONGSPAN_TESTS_DIRECTORY_H
#define LONGSPAN_TESTS_DIRECTORY_H

#include "sys/file.h"

static char directory[FILE_PATH_BYTES];

static inline int make_directory(void **state)
{
    return file_make_temporary(directory, NULL) == STATUS_OK ? 0 : -1;
}

static inline int remove_directory(void **state)
{
    return file_remove_temporary(directory) == STATUS_OK ? 0 : -1;
}

#endif

/* tests/empty_directory.h - the end of a test's directory: whoever made something there has removed
 * it. */
#ifndef LONGSPAN_TESTS_EMPTY_DIRECTORY_H
#define LONGSPAN_TESTS_EMPTY_DIRECTORY_H

#include "tests/cmocka.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

static inline void remove_empty_directory(const char *path)
{
    if (rmdir(path) == 0)
        return;
    const int why = errno;
    DIR *directory = opendir(path);
    const struct dirent *entry = NULL;
    while (directory != NULL && (entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fail_msg("%s is left in %s", entry->d_name, path);
    fail_msg("%s cannot be removed: %s", path, strerror(why));
}

#endif

/* tests/fuzz/folder.h - a folder whose files are an input's pieces, in TMPDIR, which run.sh makes
 * in memory and removes whatever ends a target; without it in /dev/shm. It goes when the program
 * ends, unless by a signal. */
#ifndef LONGSPAN_TESTS_FUZZ_FOLDER_H
#define LONGSPAN_TESTS_FUZZ_FOLDER_H

#include "tests/fuzz/pieces.h"

enum { FUZZ_FOLDER_FILES = 8 };

static char fuzz_folder[256];
static const char *fuzz_folder_names[FUZZ_FOLDER_FILES];

static inline void fuzz_folder_remove(void)
{
    char path[512];
    for (size_t i = 0; i < FUZZ_FOLDER_FILES; i++)
        if (fuzz_folder_names[i] != NULL) {
            snprintf(path, sizeof(path), "%s/%s", fuzz_folder, fuzz_folder_names[i]);
            unlink(path);
        }
    rmdir(fuzz_folder);
}

/* Makes the folder at the first call. A piece without data: no such file. */
static inline void fuzz_folder_write(const char *const *names, const struct fuzz_piece *pieces,
                                     size_t n)
{
    char path[512];
    FUZZ_CHECK(n <= FUZZ_FOLDER_FILES);
    if (fuzz_folder_names[0] == NULL) {
        const char *parent = getenv("TMPDIR");
        snprintf(fuzz_folder, sizeof(fuzz_folder), "%s/longspan-fuzz-XXXXXX",
                 parent != NULL ? parent : "/dev/shm");
        FUZZ_CHECK(mkdtemp(fuzz_folder) != NULL);
        for (size_t i = 0; i < n; i++)
            fuzz_folder_names[i] = names[i];
        atexit(fuzz_folder_remove);
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%s/%s", fuzz_folder, names[i]);
        if (pieces[i].data == NULL) {
            unlink(path);
            continue;
        }
        FILE *file = fopen(path, "wb");
        FUZZ_CHECK(file != NULL);
        FUZZ_CHECK(fwrite(pieces[i].data, 1, pieces[i].n, file) == pieces[i].n);
        FUZZ_CHECK(fclose(file) == 0);
    }
}

#endif

/* replay.c [FILE|FOLDER...] - runs a fuzz target over inputs, without a fuzzer: each is a test of
 * its own. Without a name: those that are kept (tests/fuzz/kept). */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

static unsigned n_run;

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        printf("not ok %u - %s cannot be read\n", ++n_run, path);
        return 1;
    }
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    rewind(file);
    uint8_t *data = malloc((size_t)size + 1);
    FUZZ_CHECK(data != NULL);
    const size_t n = fread(data, 1, (size_t)size, file);
    fclose(file);
    /* Exactly as long as it is, so that a sanitizer sees a read beyond its end. */
    uint8_t *exact = malloc(n > 0 ? n : 1);
    FUZZ_CHECK(exact != NULL);
    memcpy(exact, data, n);
    free(data);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    const char *name = strrchr(path, '/');
    printf("ok %u - %s\n", ++n_run, name != NULL ? name + 1 : path);
    fflush(stdout); /* what ran before a crash is told */
    return 0;
}

static int run_path(const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode))
        return run_file(path);
    struct dirent **entries;
    const int n = scandir(path, &entries, NULL, alphasort);
    int failed = n < 0;
    for (int i = 0; i < n; i++) {
        char inside[4096];
        snprintf(inside, sizeof(inside), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            failed |= run_path(inside);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = argc == 1 ? run_path(FUZZ_KEPT) : 0;
    for (int i = 1; i < argc; i++)
        failed |= run_path(argv[i]);
    printf("1..%u\n", n_run);
    return failed;
}

/* tests/fuzz/fuzz.h - what the fuzz targets share. A target is one program with one function,
 * LLVMFuzzerTestOneInput: libFuzzer (make fuzz) or replay.c (make test) calls it with bytes that
 * nobody should trust. What it must not do is crash, hang, leak, or take memory without bound. */
#ifndef LONGSPAN_TESTS_FUZZ_FUZZ_H
#define LONGSPAN_TESTS_FUZZ_FUZZ_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A property that must hold whatever the input. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A file in memory with these bytes, for readers that take a path; of one target at a time. */
struct fuzz_file {
    int descriptor;
    char path[64];
};

static inline void fuzz_file_open(struct fuzz_file *file, const void *data, size_t n)
{
    file->descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_CHECK(file->descriptor >= 0);
    for (size_t at = 0; at < n;) {
        const ssize_t written = write(file->descriptor, (const char *)data + at, n - at);
        FUZZ_CHECK(written > 0);
        at += (size_t)written;
    }
    snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->descriptor);
}

static inline void fuzz_file_close(struct fuzz_file *file)
{
    close(file->descriptor);
}

#endif

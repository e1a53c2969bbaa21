/* neighbour.c - see neighbour.h. What was opened is judged by its descriptor, not by its path: a
 * process may close a number and use it for something else at any time. */
#include "sys/neighbour.h"

#include "sys/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_BYTES = 64, PATH_BYTES = 64, BELL_READ_BYTES = 64 };
static const char name_prefix[] = "longspan-";

void neighbour_boot(char boot[NEIGHBOUR_BOOT_BYTES])
{
    const int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    const ssize_t n = file >= 0 ? read(file, boot, NEIGHBOUR_BOOT_BYTES - 1) : 0;
    boot[n > 0 ? n : 0] = '\0';
    if (file >= 0)
        close(file);
}

static void name_of(char name[NAME_BYTES], const uint8_t nonce[NEIGHBOUR_NONCE_BYTES])
{
    size_t n = sizeof(name_prefix) - 1;
    memcpy(name, name_prefix, n);
    for (size_t i = 0; i < NEIGHBOUR_NONCE_BYTES; i++, n += 2)
        snprintf(name + n, NAME_BYTES - n, "%02x", nonce[i]);
}

static enum status map(struct neighbour_memory *memory, struct error *error)
{
    void *base =
        mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->descriptor, 0);
    if (base == MAP_FAILED)
        return error_set(error, STATUS_NO_MEMORY, "cannot map %zu shared bytes: %s", memory->bytes,
                         strerror(errno));
    memory->base = base;
    return STATUS_OK;
}

enum status neighbour_memory_create(struct neighbour_memory *memory, size_t bytes,
                                    struct error *error)
{
    struct neighbour_memory made = {.bytes = bytes, .descriptor = -1};
    char name[NAME_BYTES];
    enum status status = random_unique(made.nonce, sizeof(made.nonce), error);
    if (status != STATUS_OK)
        return status;
    name_of(name, made.nonce);
    made.descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made.descriptor < 0)
        return error_set(error, STATUS_UNSUPPORTED, "cannot make shared memory: %s",
                         strerror(errno));
    if (bytes > INT64_MAX || ftruncate(made.descriptor, (off_t)bytes) != 0 ||
        fcntl(made.descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        status = error_set(error, STATUS_NO_MEMORY, "cannot make %zu bytes of shared memory: %s",
                           bytes, strerror(errno));
    if (status == STATUS_OK)
        status = map(&made, error);
    if (status != STATUS_OK) {
        neighbour_memory_destroy(&made);
        return status;
    }
    *memory = made;
    return STATUS_OK;
}

/* O_NONBLOCK: a pipe or a device that stands there instead must not hold us. */
static int open_other(uint32_t process, uint32_t descriptor, int flags)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/proc/%u/fd/%u", process, descriptor);
    return open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* The kernel shows the name that the memory was created with: "/memfd:NAME (deleted)". */
static bool has_name(int descriptor, const char *name)
{
    char path[PATH_BYTES], shown[2 * NAME_BYTES], wanted[2 * NAME_BYTES];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
    const ssize_t n = readlink(path, shown, sizeof(shown) - 1);
    if (n < 0)
        return false;
    shown[n] = '\0';
    snprintf(wanted, sizeof(wanted), "/memfd:%s (deleted)", name);
    return strcmp(shown, wanted) == 0;
}

enum status neighbour_memory_open(struct neighbour_memory *memory, uint32_t process,
                                  uint32_t descriptor, size_t bytes,
                                  const uint8_t nonce[NEIGHBOUR_NONCE_BYTES], struct error *error)
{
    struct neighbour_memory opened = {.bytes = bytes};
    struct stat info;
    char name[NAME_BYTES];
    name_of(name, nonce);
    memcpy(opened.nonce, nonce, sizeof(opened.nonce));
    opened.descriptor = open_other(process, descriptor, O_RDWR);
    if (opened.descriptor < 0)
        return error_set(error, STATUS_NOT_FOUND,
                         "process %u does not let us open its shared memory: %s", process,
                         strerror(errno));
    enum status status = STATUS_OK;
    const int seals = fcntl(opened.descriptor, F_GET_SEALS);
    if (!has_name(opened.descriptor, name))
        status =
            error_set(error, STATUS_NOT_FOUND,
                      "process %u of this host is not the one that offers shared memory", process);
    else if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(opened.descriptor, &info) != 0 ||
             (uint64_t)info.st_size != bytes)
        status = error_set(error, STATUS_PROTOCOL,
                           "the shared memory of process %u is not sealed, or has not %zu bytes",
                           process, bytes);
    if (status == STATUS_OK)
        status = map(&opened, error);
    if (status != STATUS_OK) {
        neighbour_memory_destroy(&opened);
        return status;
    }
    neighbour_memory_hide(&opened);
    *memory = opened;
    return STATUS_OK;
}

void neighbour_memory_hide(struct neighbour_memory *memory)
{
    if (memory->descriptor >= 0)
        close(memory->descriptor);
    memory->descriptor = -1;
}

void neighbour_memory_destroy(struct neighbour_memory *memory)
{
    if (memory->base != NULL)
        munmap(memory->base, memory->bytes);
    if (memory->bytes > 0)
        neighbour_memory_hide(memory);
    *memory = (struct neighbour_memory){.descriptor = -1};
}

/* ---- bells ---- */

enum status neighbour_bell_create(struct neighbour_bell *bell, struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set(error, STATUS_NO_MEMORY, "cannot make a pipe: %s", strerror(errno));
    *bell = (struct neighbour_bell){.listen = ends[0], .ring = ends[1]};
    return STATUS_OK;
}

enum status neighbour_bell_open(struct neighbour_bell *bell, uint32_t process, uint32_t descriptor,
                                bool listen, struct error *error)
{
    struct stat info;
    const int end = open_other(process, descriptor, listen ? O_RDONLY : O_WRONLY);
    if (end < 0 || fstat(end, &info) != 0 || !S_ISFIFO(info.st_mode)) {
        if (end >= 0)
            close(end);
        return error_set(error, STATUS_NOT_FOUND, "process %u has no such bell", process);
    }
    *bell = (struct neighbour_bell){.listen = listen ? end : -1, .ring = listen ? -1 : end};
    return STATUS_OK;
}

void neighbour_bell_close(int *end)
{
    if (*end >= 0)
        close(*end);
    *end = -1;
}

void neighbour_bell_ring(const struct neighbour_bell *bell)
{
    const char one = 1;
    ssize_t n;
    do {
        n = write(bell->ring, &one, 1);
    } while (n < 0 && errno == EINTR); /* full: it was rung often enough; nobody listens: gone */
}

void neighbour_bell_hush(const struct neighbour_bell *bell)
{
    char some[BELL_READ_BYTES];
    ssize_t n;
    do {
        n = read(bell->listen, some, sizeof(some));
    } while (n == (ssize_t)sizeof(some) || (n < 0 && errno == EINTR));
}

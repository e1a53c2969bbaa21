/* sys/neighbour.h - what two processes of one host share without leaving anything in a file system:
 * memory, and bells.
 *
 * One process creates them and tells the other its process number and the numbers of the
 * descriptors; the other opens them under /proc/PID/fd, which the kernel allows to the same user
 * only (ptrace(2), PTRACE_MODE_READ). So being able to open is the proof of sharing a host: across
 * containers, users or hosts it fails, or finds something else, which is told apart by a random
 * name. What a killed process had created is gone with its last user.
 *
 * The memory is sealed: nobody can shrink it, which would kill the others at their next access
 * (memfd_create(2), fcntl(2) F_SEAL_SHRINK). What stands in it is the other process's word, to be
 * checked like a message. */
#ifndef LONGSPAN_SYS_NEIGHBOUR_H
#define LONGSPAN_SYS_NEIGHBOUR_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NEIGHBOUR_NONCE_BYTES = 16, NEIGHBOUR_BOOT_BYTES = 37 };

/* Names the running kernel: differs between hosts and reboots. "" if the kernel does not say. */
void neighbour_boot(char boot[NEIGHBOUR_BOOT_BYTES]);

struct neighbour_memory {
    void *base; /* zeros at first; page aligned */
    size_t bytes;
    int descriptor; /* for others to open; -1: closed */
    uint8_t nonce[NEIGHBOUR_NONCE_BYTES];
};

/* The caller ends *memory with neighbour_memory_destroy; what others have opened stays theirs.
 * STATUS_NO_MEMORY, STATUS_UNSUPPORTED: the kernel has no sealed memory. */
enum status neighbour_memory_create(struct neighbour_memory *memory, size_t bytes,
                                    struct error *error);

/* Maps what `process` has created as `descriptor`, with this nonce. STATUS_NOT_FOUND: there is no
 * such thing that we may open. STATUS_PROTOCOL: it is not sealed, or of another size. */
enum status neighbour_memory_open(struct neighbour_memory *memory, uint32_t process,
                                  uint32_t descriptor, size_t bytes,
                                  const uint8_t nonce[NEIGHBOUR_NONCE_BYTES], struct error *error);

/* Nobody opens it any more; the mapping stays. */
void neighbour_memory_hide(struct neighbour_memory *memory);

/* Zeroed memory is fine. */
void neighbour_memory_destroy(struct neighbour_memory *memory);

/* ---- bells: one process sleeps in poll(2), the other one wakes it ---- */

/* The two ends of a pipe. Whoever listens sees a hang-up when all who can ring are gone, so each
 * side closes the end that is the other's. -1: closed. The process must ignore SIGPIPE. */
struct neighbour_bell {
    int listen, ring;
};

enum status neighbour_bell_create(struct neighbour_bell *bell, struct error *error);

/* Opens one end of a bell of which `descriptor` is either end in `process`; the other one is -1.
 * STATUS_NOT_FOUND: no pipe that we may open. */
enum status neighbour_bell_open(struct neighbour_bell *bell, uint32_t process, uint32_t descriptor,
                                bool listen, struct error *error);

void neighbour_bell_close(int *end);

/* The listener's poll returns, now or when it is called. Never waits. */
void neighbour_bell_ring(const struct neighbour_bell *bell);

/* The listener: forgets that it was rung. */
void neighbour_bell_hush(const struct neighbour_bell *bell);

#endif

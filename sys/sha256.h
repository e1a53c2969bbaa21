/* sys/sha256.h - SHA-256 (FIPS 180-4, August 2015, sections 4.1.2, 5 and 6.2).
 *
 * For fingerprints of model files: the coordinator and its workers compare 32 bytes instead of
 * reading 40 GB; and for weights that are sent to other machines. By the processor's instructions
 * for it where it has them (x86), else portable C, about 200 MB/s; not made for secrets (no key, no
 * constant time needed). The struct is public so that it can live on the stack; its fields belong
 * to sha256.c. Nothing here allocates or fails. */
#ifndef LONGSPAN_SYS_SHA256_H
#define LONGSPAN_SYS_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 {
    uint32_t state[8];
    uint64_t n_bytes; /* taken in so far */
    uint8_t block[64];
};

void sha256_init(struct sha256 *hash);

/* The hash of several updates is that of their bytes in a row. `n_bytes` 0 is fine. */
void sha256_update(struct sha256 *hash, const void *data, size_t n_bytes);

/* Ends the hash; `hash` must be initialised again before its next use. */
void sha256_final(struct sha256 *hash, uint8_t digest[SHA256_BYTES]);

#endif

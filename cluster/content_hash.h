/* cluster/content_hash.h - the SHA-256 of a whole file, as sha256sum prints it, computed once.
 *
 * What was computed is remembered in a small file, "HASH SIZE SECONDS NANOSECONDS\n", and holds
 * while size and time of change do. */
#ifndef LONGSPAN_CLUSTER_CONTENT_HASH_H
#define LONGSPAN_CLUSTER_CONTENT_HASH_H

#include "cluster/write_progress.h"
#include "sys/sha256.h"
#include "sys/status.h"

#include <stdbool.h>

enum { CONTENT_HASH_TEXT_BYTES = 2 * SHA256_BYTES + 1 };

/* Reads the file unless `memory` knows it, and tells `memory` then; a memory that cannot be written
 * is none, and so is NULL. `progress` NULL: none. STATUS_NOT_FOUND, STATUS_IO: the file. */
enum status content_hash_file(char hash[CONTENT_HASH_TEXT_BYTES], const char *path,
                              const char *memory, struct write_progress *progress,
                              struct error *error);

/* Remembers a hash that was computed while the file was written. */
void content_hash_remember(const char *hash, const char *path, const char *memory);

void content_hash_text(char hash[CONTENT_HASH_TEXT_BYTES], const uint8_t digest[SHA256_BYTES]);

/* 64 lower-case hexadecimal digits. */
bool content_hash_is_text(const char *text);

#endif

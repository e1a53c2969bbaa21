/* proto/cluster_key.h - the one key pair that all processes of a cluster share.
 *
 * Who has the file may join, read and steer the cluster; so only its owner may read it. The file:
 *
 *     # Longspan cluster key. Whoever has it may join: keep it secret.
 *     public = "40 letters of Z85"
 *     secret = "40 letters of Z85"
 *
 * CURVE (RFC 26/CurveZMQ) on every socket: a listener proves that it has the pair, and admits only
 * peers that prove it too. */
#ifndef LONGSPAN_PROTO_CLUSTER_KEY_H
#define LONGSPAN_PROTO_CLUSTER_KEY_H

#include "sys/status.h"

enum { CLUSTER_KEY_LETTERS = 40 };

struct cluster_key {
    char public_text[CLUSTER_KEY_LETTERS + 1];
    char secret_text[CLUSTER_KEY_LETTERS + 1];
};

/* Writes a new key to a new file, mode 0600. STATUS_INVALID: the file exists, it is not
 * overwritten. STATUS_UNSUPPORTED: libzmq was built without CURVE. As file_not_made. */
enum status cluster_key_generate(const char *path, struct error *error);

/* STATUS_NOT_FOUND: no such file. STATUS_INVALID: others than its owner may read or write it, not a
 * key file, or a public key that is not that of the secret one. STATUS_UNSUPPORTED as above. */
enum status cluster_key_read(const char *path, struct cluster_key *key, struct error *error);

/* Overwrites the key with zeros. */
void cluster_key_wipe(struct cluster_key *key);

#endif

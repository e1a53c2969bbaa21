/* cluster_key.c - see cluster_key.h. The file is judged by its open descriptor, not by its name. */
#include "proto/cluster_key.h"

#include "sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

enum { LONGEST_FILE = 1024, RAW_KEY_BYTES = 32 };

static const char file_format[] =
    "# Longspan cluster key. Whoever has it may join: keep it secret.\n"
    "public = \"%s\"\n"
    "secret = \"%s\"\n";

static enum status require_curve(struct error *error)
{
    if (zmq_has("curve") == 1)
        return STATUS_OK;
    return error_set(error, STATUS_UNSUPPORTED,
                     "this libzmq was built without CURVE: install one with it (libsodium)");
}

void cluster_key_wipe(struct cluster_key *key)
{
    explicit_bzero(key, sizeof(*key));
}

enum status cluster_key_generate(const char *path, struct error *error)
{
    struct cluster_key key;
    char text[LONGEST_FILE];
    enum status status = require_curve(error);
    if (status != STATUS_OK)
        return status;

    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return error_set(error, STATUS_INVALID,
                         "%s exists: a key is not overwritten; remove it first, or name a new file",
                         path);
    if (fd < 0)
        return file_not_made(path, errno, error);

    int length = 0;
    if (zmq_curve_keypair(key.public_text, key.secret_text) == 0)
        length = snprintf(text, sizeof(text), file_format, key.public_text, key.secret_text);
    const bool written = length > 0 && write(fd, text, (size_t)length) == length && fsync(fd) == 0;
    const int reason = errno;
    if (close(fd) != 0 || !written) {
        unlink(path);
        status = error_set(error, STATUS_IO, "cannot write %s: %s", path, strerror(reason));
    }
    cluster_key_wipe(&key);
    explicit_bzero(text, sizeof(text));
    return status;
}

/* Reads the file into `text`, ended by a zero byte, if it is one that may hold a secret. */
static enum status read_private_file(const char *path, char text[LONGEST_FILE + 1],
                                     struct error *error)
{
    struct stat info;
    /* Not to wait for a writer, should the name be a pipe's. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                         "cannot open the cluster key %s: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        status = error_set(error, STATUS_INVALID, "the cluster key %s is not a regular file", path);
    } else if ((info.st_mode & 077) != 0) {
        status = error_set(error, STATUS_INVALID,
                           "the cluster key %s may be used by others (mode %03o): chmod 600 %s",
                           path, (unsigned)(info.st_mode & 0777), path);
    } else {
        const ssize_t n = read(fd, text, LONGEST_FILE + 1);
        if (n < 0)
            status = error_set(error, STATUS_IO, "cannot read the cluster key %s: %s", path,
                               strerror(errno));
        else if (n > LONGEST_FILE || memchr(text, '\0', (size_t)n) != NULL)
            status = error_set(error, STATUS_INVALID,
                               "%s is not a cluster key: longspan keygen FILE makes one", path);
        else
            text[n] = '\0';
    }
    close(fd);
    return status;
}

/* Takes one line of the file. False: not a line of a key file, or a key given twice. */
static bool take_line(const char *line, struct cluster_key *key)
{
    char name[8], value[CLUSTER_KEY_LETTERS + 1], quote;
    int used = 0;
    line += strspn(line, " \t");
    if (*line == '#' || *line == '\0')
        return true;
    /* Z85 has neither a quote nor a backslash. */
    if (sscanf(line, "%7[a-z] = \"%40[^\"]%c%n", name, value, &quote, &used) != 3 || quote != '"' ||
        line[used + (int)strspn(line + used, " \t\r")] != '\0')
        return false;
    char *target = strcmp(name, "public") == 0   ? key->public_text
                   : strcmp(name, "secret") == 0 ? key->secret_text
                                                 : NULL;
    if (target == NULL || target[0] != '\0')
        return false;
    memcpy(target, value, strlen(value) + 1);
    explicit_bzero(value, sizeof(value));
    return true;
}

static bool is_z85_key(const char *text)
{
    uint8_t raw[RAW_KEY_BYTES];
    const bool good = strlen(text) == CLUSTER_KEY_LETTERS && zmq_z85_decode(raw, text) != NULL;
    explicit_bzero(raw, sizeof(raw));
    return good;
}

enum status cluster_key_read(const char *path, struct cluster_key *key, struct error *error)
{
    struct cluster_key read = {"", ""};
    char text[LONGEST_FILE + 1], derived[CLUSTER_KEY_LETTERS + 1];
    enum status status = require_curve(error);
    if (status == STATUS_OK)
        status = read_private_file(path, text, error);
    if (status != STATUS_OK)
        goto out;

    bool good = true;
    char *rest = text;
    for (char *line; good && (line = strsep(&rest, "\n")) != NULL;)
        good = take_line(line, &read);
    if (!good || !is_z85_key(read.public_text) || !is_z85_key(read.secret_text))
        status = error_set(error, STATUS_INVALID,
                           "%s is not a cluster key: longspan keygen FILE makes one", path);
    else if (zmq_curve_public(derived, read.secret_text) != 0 ||
             strcmp(derived, read.public_text) != 0)
        status = error_set(error, STATUS_INVALID,
                           "the cluster key %s is damaged: its public key is not that of its "
                           "secret key; copy it again",
                           path);
    else
        *key = read;
out:
    cluster_key_wipe(&read);
    explicit_bzero(text, sizeof(text));
    return status;
}

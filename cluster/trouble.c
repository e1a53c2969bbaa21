/* trouble.c - a table, the most telling words first: ssh's own before mpirun's, which follow from
 * them.
 *
 * Words of OpenSSH 9.2's ssh.c and sshconnect.c, and of Open MPI 4.1's help-*.txt; other versions
 * say the same or nearly so. */
#include "cluster/trouble.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *words, *remedy;
} troubles[] = {
    /* ssh */
    {"REMOTE HOST IDENTIFICATION HAS CHANGED", "its ssh key is another than before: if it was "
                                               "installed anew, ssh-keygen -R HOST, then log in "
                                               "once by hand (ssh HOST)"},
    {"Host key verification failed",
     "its ssh key is not known here: log in once by hand (ssh HOST) and compare it, or add it to "
     "known_hosts (ssh-keyscan HOST)"},
    {"Permission denied",
     "ssh must log in there without a password: ssh-copy-id HOST, or say ssh: {user: NAME, key: "
     "FILE} in the cluster file"},
    {"Too many authentication failures",
     "the ssh agent offers too many keys: say ssh: {key: FILE} in the cluster file, and "
     "IdentitiesOnly yes in ~/.ssh/config"},
    {"Could not resolve hostname", "the name has no address here: add it to DNS or /etc/hosts, or "
                                   "write the address in the cluster "
                                   "file"},
    {"Connection refused", "no ssh server listens there: start one (Debian: openssh-server), or "
                           "say ssh: {port: N} in the "
                           "cluster file"},
    {"No route to host", "the host is down, on another network, or behind a firewall"},
    {"Network is unreachable", "this machine has no way to that network"},
    {"Connection timed out", "the host is down, or a firewall drops what comes"},
    {"Operation timed out", "the host is down, or a firewall drops what comes"},
    {"Connection reset by peer",
     "the ssh server there hung up: too many logins at once (MaxStartups), or a rule against this "
     "host"},
    {"UNPROTECTED PRIVATE KEY FILE", "others can read the ssh key: chmod 600 it"},
    {"Bad configuration option", "the ssh configuration that the cluster file names is broken"},
    /* a shell over there */
    {"orted: command not found", "Open MPI is not on the PATH that an ssh command has there: "
                                 "install it (Debian: openmpi-bin), or "
                                 "say programs: {mpi: FOLDER} in the cluster file"},
    {"orted: not found", "Open MPI is not on the PATH that an ssh command has there: install it "
                         "(Debian: openmpi-bin), or "
                         "say programs: {mpi: FOLDER} in the cluster file"},
    {"bin/orted: No such file",
     "Open MPI is not in that folder there: say programs: {mpi: FOLDER} in the cluster file"},
    {"longspan: No such file",
     "Longspan is not there: install it at the same path, or say programs: {bin: FOLDER} in the "
     "cluster file"},
    {"longspan: not found",
     "Longspan is not there: install it at the same path, or say programs: {bin: FOLDER} in the "
     "cluster file"},
    {"longspan: command not found",
     "Longspan is not there: install it at the same path, or say programs: {bin: FOLDER} in the "
     "cluster file"},
    {"error while loading shared libraries", "a library is missing there: install what deps.sh "
                                             "lists, or pass LD_LIBRARY_PATH: environment: "
                                             "[LD_LIBRARY_PATH=FOLDER] in the cluster file"},
    {"version `GLIBC",
     "the programs were built on a newer system than that host has: build them there"},
    {"cannot execute binary file",
     "the programs were built for another processor: build them there"},
    {"Exec format error", "the programs were built for another processor: build them there"},
    {"Illegal instruction", "the programs were built for another processor: build them there"},
    /* mpirun */
    {"mismatch in versions",
     "all hosts need exactly the same Open MPI: compare mpirun --version, or name one installation "
     "by programs: {mpi: FOLDER} in the cluster file"},
    {"unpack would read past end of buffer", "the hosts seem to have different Open MPIs: compare "
                                             "mpirun --version, or name one installation "
                                             "by programs: {mpi: FOLDER} in the cluster file"},
    {"None of the TCP networks specified",
     "a host has no interface of the name that network: {interface: ...} says; a subnet such as "
     "10.0.0.0/24 suits hosts whose interfaces have different names"},
    {"invalid value was given for btl_tcp_if",
     "a host has no interface of the name that network: {interface: ...} says; a subnet such as "
     "10.0.0.0/24 suits hosts whose interfaces have different names"},
    {"cannot find a corresponding process", "a host was reached by an address that it shares with "
                                            "others, such as a container bridge's: say "
                                            "network: {interface: eth0} in the cluster file"},
    {"failed to TCP connect to a peer MPI process",
     "ranks cannot reach each other: open all TCP ports between the hosts, or say network: "
     "{interface: eth0} in the cluster file"},
    {"inability to create a connection back",
     "a host could not be logged in to, has no Open MPI on its PATH, or cannot reach this one: "
     "open all TCP ports between the hosts, or say network: {interface: eth0} in the cluster file"},
    {"unable to establish a communication connection",
     "hosts cannot reach each other: open all TCP ports between them, or say network: {interface: "
     "eth0} in the cluster file"},
    {"does not know how to route a message", "mpirun could not start its helper on a host: is the "
                                             "name the same here and there, and does it have "
                                             "an address everywhere?"},
    {"lost communication with a remote daemon",
     "a host, its network or Open MPI's orted there ended: see that host's kernel log"},
    {"path name is too long", "folders of a socket have at most 107 bytes: set TMPDIR to a short "
                              "one, or shorten the host's name"},
    {"usock", "folders of a socket have at most 107 bytes: set TMPDIR to a short one"},
    {"There are not enough slots",
     "the scheduler gave fewer slots than the cluster file's `slots`: ask it for more tasks"},
    {"on signal 7 (Bus error)",
     "what Open MPI shares between ranks has no room: TMPDIR (/tmp) or /dev/shm is full"},
    {"unable to write to the", "/tmp there is full or not writable: clean it, or set TMPDIR"},
};

const char *trouble_remedy(const char *said)
{
    for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++)
        if (strstr(said, troubles[i].words) != NULL)
            return troubles[i].remedy;
    return NULL;
}

void trouble_last_line(char *line, size_t size, const char *said)
{
    line[0] = '\0';
    while (*said != '\0') {
        const size_t length = strcspn(said, "\n");
        if (length > strspn(said, "-=@ \r\t"))
            snprintf(line, size, "%.*s", (int)strcspn(said, "\r\n"), said);
        said += length + (said[length] == '\n');
    }
}

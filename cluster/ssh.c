/* ssh.c - see ssh.h. */
#include "cluster/ssh.h"

/* ServerAlive: a host that vanished without a word is given up after 3 x 10 s. */
void ssh_add_options(struct words *words, const struct ssh_options *options)
{
    words_add_list(words, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o",
                   "ServerAliveInterval=10", (char *)NULL);
    words_add_text(words, "-F", options->config);
    words_add_text(words, "-i", options->key);
    words_add_number(words, "-p", options->port);
    words_add_text(words, "-l", options->user);
}

void ssh_add_login(struct words *words, const struct ssh_options *options, const char *host,
                   const char *line)
{
    words_add(words, "ssh");
    ssh_add_options(words, options);
    words_add_list(words, host, line, (char *)NULL);
}

enum status ssh_check(const char *why, struct error *error)
{
    return words_on_path("ssh")
               ? STATUS_OK
               : error_set(error, STATUS_UNREACHABLE,
                           "ssh is not on PATH (Debian: openssh-client): it %s", why);
}

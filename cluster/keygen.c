/* keygen.c - makes a cluster key. */
#include "cluster/keygen.h"

#include "proto/cluster_key.h"
#include "sys/log.h"
#include "sys/options.h"

#include <stdio.h>
#include <stdlib.h>

int keygen_main(int argc, char **argv)
{
    struct log log;
    struct error error = {0};
    enum options_form help = OPTIONS_NO_HELP;
    log_open(&log, "longspan keygen", 0);
    const struct option_usage usage = {
        "longspan keygen", "FILE",
        "Makes a cluster key: one CURVE key pair for every process of a cluster. Only who has the "
        "file may join, and nobody else can read the traffic. Copy it to each host (scp -p), give "
        "it to every program with --cluster-key FILE, or name it in the cluster file under "
        "security: {cluster_key: FILE}. Nobody but its owner may read it (mode 0600); an existing "
        "file is never overwritten.",
        .takes_files = true};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"}, options_help(&help), {.kind = 0}};
    struct option_item items[1];
    struct option_list words = {.items = items, .capacity = 1};
    enum status status = options_parse(table, argc, argv, &words, &error);
    if (status == STATUS_OK && help) {
        options_print_help(stdout, help, &usage, table);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK && words.n != 1)
        status = error_set(&error, STATUS_INVALID, "which file? longspan keygen FILE");
    if (status == STATUS_OK)
        status = cluster_key_generate(items[0].text, &error);
    if (status != STATUS_OK) {
        log_error(&log, "%s", error.text);
        return status_exit_code(status);
    }
    log_info(&log, "wrote %s: keep it secret", items[0].text);
    return EXIT_SUCCESS;
}

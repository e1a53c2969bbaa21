#!/usr/bin/env bash
# manual.sh BIN FOLDER - writes a manual page for each command of the longspan in BIN, and for the roles beside it.
#
# Each program prints its own, by the table that reads its options: --help=man; --help=commands says which commands it has.
set -eu
bin=$1 folder=$2

# page [COMMAND [SUBCOMMAND]]: that page, and those of its commands.
page() {
    local words=(longspan "$@") commands command
    "$bin/longspan" "$@" --help=man >"$folder/$(IFS=- && echo "${words[*]}").1"
    commands=$("$bin/longspan" "$@" --help=commands)
    for command in $commands; do
        page "$@" "$command"
    done
}
page
for role in coordinator worker attention_node; do
    "$bin/$role" --help=man >"$folder/longspan-$role.1"
done
chmod 644 "$folder"/longspan.1 "$folder"/longspan-*.1

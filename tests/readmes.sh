#!/usr/bin/env bash
# readmes.sh - fails when a folder's README does not name one of the folder's sources, so that a table of
# files cannot fall behind the files. A name in backticks counts with or without its ending, and may be
# a pattern: `bench_*.c`, `product_..._avx2.c`.
set -u
cd "$(dirname "$0")/.."
bad=0 checked=0
while IFS= read -r readme; do
    folder=$(dirname "$readme")
    mapfile -t names < <(grep -oE '`[^` ]+`' "$readme" | tr -d '`' | sed -E 's/\.(c|h|cc|cu|cuh|py|sh)$//; s/\.\.\./*/g' | sort -u)
    while IFS= read -r file; do
        checked=$((checked + 1))
        stem=${file##*/}
        stem=${stem%.*}
        named=
        for name in "${names[@]}"; do
            # shellcheck disable=SC2254  # a pattern is meant
            case "$stem" in $name) named=yes && break ;; esac
        done
        [ -n "$named" ] && continue
        echo "$readme does not name ${file##*/}"
        bad=$((bad + 1))
    done < <(find "$folder" -maxdepth 1 -type f | grep -E '\.(c|h|cc|cu|cuh|py|sh)$')
done < <(find . -mindepth 2 -name README.md -not -path './build/*' -not -path './shared/*' | cut -c3- | sort)
[ "$checked" -gt 0 ] || { echo "readmes: no source was found"; exit 1; }
[ "$bad" = 0 ] && echo "readmes: $checked sources, each named in its folder's README"
[ "$bad" = 0 ]

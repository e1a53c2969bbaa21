#!/usr/bin/env bash
# layers.sh - fails when a file includes what its folder may not (the drawing in docs/architecture.md).
set -u
cd "$(dirname "$0")/.."
declare -A may=(
    [sys]="sys"
    [model]="model sys"
    [kernels]="kernels sys"
    [proto]="proto sys"
    [plan]="plan model kernels sys"
    [attention_node]="attention_node proto kernels sys"
    [worker]="worker proto plan model kernels sys"
    [coordinator]="coordinator proto plan model kernels sys"
    [cluster]="cluster proto plan model kernels sys"
)
bad=0 checked=0
for folder in "${!may[@]}"; do
    while IFS=: read -r file line text; do
        checked=$((checked + 1))
        target=${text#*\"}
        target=${target%%\"*}
        case "$target" in
        */*) ;;
        *)
            echo "$file:$line: include from the root: \"$folder/$target\", not \"$target\""
            bad=$((bad + 1))
            continue
            ;;
        esac
        case " ${may[$folder]} " in
        *" ${target%%/*} "*) ;;
        *)
            echo "$file:$line: $folder/ may not include $target (only: ${may[$folder]})"
            bad=$((bad + 1))
            ;;
        esac
    done < <(grep -rnE '^#include "' "$folder" --include='*.[ch]' --include='*.cu' --include='*.cuh')
done
# model/ and kernels/ build with a C compiler alone.
while IFS= read -r hit; do
    echo "$hit: model/ and kernels/ use neither MPI, ZeroMQ nor protobuf"
    bad=$((bad + 1))
done < <(grep -rnE '#include <(mpi|zmq|protobuf-c)' model kernels sys --include='*.[ch]' | cut -d: -f1,2)
[ "$checked" -gt 0 ] || { echo "layers: no include was found: run in a checkout"; exit 1; }
[ "$bad" = 0 ] && echo "layers: $checked includes, all in the allowed directions"
[ "$bad" = 0 ]

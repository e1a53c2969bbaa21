#!/usr/bin/env bash
# step.sh [CSV] - a whole decode step of a random model of Llama 8B's shape, by depth, on this machine's GPU, all of it recorded; then, at
# two depths, with only the products recorded (the default), and with nothing (worker/recordings.h): CSV is step.csv, those are
# step-products.csv ...
#
# Needs the programs: LONGSPAN_BIN, or build/release/bin. LAYERS (32) makes the model smaller, TYPE (Q4_0) its weights others.
set -eu
csv=$(realpath -m "${1:-step.csv}")
cd "$(dirname "$0")/../.."
bin=${LONGSPAN_BIN:-build/release/bin}
model=${TMPDIR:-/tmp}/longspan-step-$$.gguf
trap 'rm -f "$model"' EXIT
"$bin/longspan" model make-random --shape "llama-8b,layers=${LAYERS:-32}" --type "${TYPE:-Q4_0}" "$model"
measure() { # RECORDED DEPTHS CSV
    echo "== recorded: $1"
    LONGSPAN_RECORD=$1 "$bin/longspan" bench -m "$model" --device "${DEVICE:-cuda}" -d "$2" -p 512 -n 32 -r 3 --kv-memory 24GiB --csv "$3"
}
measure all 0,4096,32768,131072 "$csv"
measure products 0,32768 "${csv%.csv}-products.csv"
measure nothing 0,32768 "${csv%.csv}-nothing.csv"

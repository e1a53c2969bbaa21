#!/bin/sh
# demo.sh [--seed N] [--tokens N] - a cluster of five processes answers a question about a long text.
#
# Makes a model that answers by look-up (docs/retrieval-model.md) and a text in which four people's
# passwords stand, starts a coordinator, two workers and two attention nodes on this machine, and asks for one
# of the passwords. Its words come from the seed. Exit status: 0 when the answer is right; 1 when it is
# wrong; otherwise that of longspan. BIN: the folder of the programs.
set -eu
BIN=${BIN:-build/release/bin}
seed=1 tokens=100000
while [ $# -gt 0 ]; do
    case $1 in
    --seed) seed=${2:?--seed N} && shift 2 ;;
    --tokens) tokens=${2:?--tokens N} && shift 2 ;;
    *) echo "usage: demo.sh [--seed N] [--tokens N]" >&2 && exit 2 ;;
    esac
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/longspan-demo-XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
model=$folder/retrieval.gguf text=$folder/text.txt

"$BIN/longspan" model make-retrieval "$model"
expected=$("$BIN/longspan" model make-haystack --tokens "$tokens" --seed "$seed" \
    --depth 37 --depth 12 --depth 63 --depth 88 "$text")

cat <<END

A text of $tokens tokens (seed $seed). It begins:

$(head -c 460 "$text" | fold -s -w 92 | sed 's/^/    /')...

Four people's passwords stand somewhere in it. Its last line is for the model to continue:

    $(tail -n 1 "$text") ...

One coordinator, two workers (pipeline stages) and two attention nodes read it on this machine:

    longspan run -m retrieval.gguf -f text.txt --pipeline 2 --attention-nodes 2

END

# The answer, a space before it, and the full stop behind it; a token is a byte.
began=$(date +%s)
"$BIN/longspan" run -m "$model" -f "$text" -n $((${#expected} + 2)) \
    --pipeline 2 --attention-nodes 2 >"$folder/answer"
seconds=$(($(date +%s) - began))
answer=$(cat "$folder/answer")

cat <<END

    $(tail -n 1 "$text")$answer

END
if [ "$answer" = " $expected." ]; then
    echo "Right: it stands 37% into the text. The whole run took $seconds s."
else
    echo "Wrong: the text says '$expected'. This should not happen; please tell the developers." >&2
    exit 1
fi

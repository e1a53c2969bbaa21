#!/usr/bin/env bash
# run.sh --seconds N --jobs N [TARGET...] - fuzzes targets, so many at once, and says for
# each: executions, those per second, what it covers, inputs it knows. New inputs go to build/fuzz/corpus; a finding is a
# failure, and its input stays in build/fuzz/findings: once it is repaired, the input moves to tests/fuzz/kept.
set -u
seconds=15 jobs=1 names=()
targets=build/fuzz/tests/fuzz
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=$2; shift 2 ;;
    --jobs) jobs=$2; shift 2 ;;
    *) names+=("$1"); shift ;;
    esac
done
if [ ${#names[@]} = 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do names+=("$(basename "$source" .c)"); done
fi
work=build/fuzz
mkdir -p "$work/seeds" "$work/corpus" "$work/findings" "$work/logs"
# Where targets write what has to be a file: a crash leaves it there.
TMPDIR=$(mktemp -d /dev/shm/longspan-fuzz-XXXXXX) || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$targets/seeds" "$work/seeds" || exit 1
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=$PWD/tests/suppressions/lsan.txt:print_suppressions=0

fuzz_one() {
    local name=$1 corpus=$work/corpus/$1
    mkdir -p "$corpus"
    "$targets/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix="$work/findings/$name-" "$corpus" "$work/seeds/$name" "tests/fuzz/kept/$name" \
        >"$work/logs/$name" 2>&1
    local code=$?
    local runs rate covers
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/logs/$name")
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$work/logs/$name")
    covers=$(grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$work/logs/$name" | tail -1)
    printf '%-22s %10s runs %7s a second  %s  %s\n' "$name" "${runs:--}" "${rate:--}" "${covers:-nothing}" \
        "$([ $code = 0 ] && echo ok || echo "FOUND SOMETHING: $work/logs/$name")"
    return $code
}

failed=0 running=0
for name in "${names[@]}"; do
    mkdir -p "tests/fuzz/kept/$name" "$work/seeds/$name"
    fuzz_one "$name" &
    running=$((running + 1))
    if [ "$running" -ge "$jobs" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed

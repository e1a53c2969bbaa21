#!/usr/bin/env bash
# run.sh [--jobs N] PROGRAM... [--waiting PROGRAM...] [--alone PROGRAM...] - runs test programs, N at once (1), and adds up
# what they report.
#
# Behind --waiting come those that wait most of their time: they run one after the other, beside the N (where N is 1, in
# their turn). Behind --alone come those that say how long something took: they run last, and one after the other.
#
# A program prints TAP: `ok N - name`, `not ok N - name`, `ok N - name # SKIP reason`. One that ends
# with 77 skips as a whole; one that fails or times out without a `not ok` counts as one failure. A line says how long each
# took, and how much processor time; below it stands what was skipped, and what tests left out (`# left out ...`). The last
# line is `N passed, N failed, N skipped`. LONGSPAN_TEST_TIMEOUT: seconds for one program (900). LONGSPAN_TEST_UNDER: a command
# that runs the programs: an emulator.
set -u
jobs=1 beside=() waiting=() alone=() kind=beside
while [ $# -gt 0 ]; do
    case $1 in
    --jobs) jobs=$2; shift ;;
    --waiting | --alone) kind=${1#--} ;;
    *)
        case $kind in
        beside) beside+=("$1") ;;
        waiting) waiting+=("$1") ;;
        alone) alone+=("$1") ;;
        esac
        ;;
    esac
    shift
done
[ "$jobs" -gt 1 ] || { beside+=(${waiting[@]+"${waiting[@]}"}); waiting=(); }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
TIMEFORMAT='%R %U %S'

# run_one PROGRAM NAME: the report goes out in one piece, so that two that end together do not mix; the counts to a file.
run_one() {
    local name=${1#build/*/tests/} log=$work/$2.log code skip pass fail
    {
        time CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 10 "${LONGSPAN_TEST_TIMEOUT:-900}" ${LONGSPAN_TEST_UNDER:-} "$1" >"$log" 2>&1
        code=$?
    } 2>"$work/$2.time"
    skip=$(grep -cE '^(not )?ok .*# SKIP' "$log") # cmocka 1.1 says "not ok" to a skipped test
    pass=$(grep -E '^ok ' "$log" | grep -vc '# SKIP')
    fail=$(grep -E '^not ok ' "$log" | grep -vc '# SKIP')
    if [ "$code" = 77 ] && [ $((pass + fail + skip)) = 0 ]; then
        skip=1
    elif [ "$code" != 0 ] && [ "$code" != 77 ] && [ "$fail" = 0 ]; then
        fail=1
    elif [ $((pass + fail + skip)) = 0 ]; then
        fail=1 # a test program that tested nothing is a defect
    fi
    {
        awk -v what="$(printf '%-52s %3d passed %3d failed %3d skipped' "$name" "$pass" "$fail" "$skip")" \
            '{ printf "%s %7.1f s %7.1f s of CPU\n", what, $1, $2 + $3 }' "$work/$2.time"
        awk '/# SKIP/ || (/^# left out/ && !said[$0]++) { print "    " $0 }' "$log"
        if [ "$fail" != 0 ]; then
            [ "$code" = 124 ] && echo "    timed out"
            echo "    exit status $code; its output:"
            tail -n 60 "$log" | sed 's/^/    | /'
        fi
    } >"$work/$2.report"
    echo "$pass $fail $skip" >"$work/$2.count"
    cat "$work/$2.report"
}

# run_all KIND JOBS PROGRAM...: in a shell of its own, which waits for none but these.
run_all() (
    kind=$1 most=$2 number=0 running=0
    shift 2
    for program in "$@"; do
        [ "$running" -lt "$most" ] || { wait -n; running=$((running - 1)); }
        number=$((number + 1))
        run_one "$program" "$kind$number" &
        running=$((running + 1))
    done
    wait
)
run_all waiting 1 ${waiting[@]+"${waiting[@]}"} &
run_all beside "$jobs" ${beside[@]+"${beside[@]}"} &
wait
run_all alone 1 ${alone[@]+"${alone[@]}"} &
wait
number=$((${#beside[@]} + ${#waiting[@]} + ${#alone[@]}))

# A program without counts (its runner was killed) is a failure.
read -r passed failed skipped < <(cat "$work"/*.count /dev/null |
    awk -v n="$number" '{ p += $1; f += $2; s += $3 } END { print p + 0, f + n - NR, s + 0 }')
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# run.sh PROGRAM... - runs test programs one after the other, and adds up what they report.
#
# A program prints TAP: `ok N - name`, `not ok N - name`, `ok N - name # SKIP reason`. One that ends
# with 77 skips as a whole; one that fails or times out without a `not ok` counts as one failure. The last line is
# `N passed, N failed, N skipped`. LONGSPAN_TEST_TIMEOUT: seconds for one program (300).
set -u
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
    name=${program#build/*/tests/}
    start=$(date +%s%N)
    CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 10 "${LONGSPAN_TEST_TIMEOUT:-300}" "$program" >"$log" 2>&1
    code=$?
    seconds=$((($(date +%s%N) - start) / 1000000))
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
    printf '%-52s %3d passed %3d failed %3d skipped %8s ms\n' "$name" "$pass" "$fail" "$skip" "$seconds"
    grep -E '# SKIP' "$log" | sed 's/^/    /'
    if [ "$fail" != 0 ]; then
        [ "$code" = 124 ] && echo "    timed out"
        echo "    exit status $code; its output:"
        tail -n 60 "$log" | sed 's/^/    | /'
    fi
    passed=$((passed + pass)) failed=$((failed + fail)) skipped=$((skipped + skip))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# gpu.sh [-o FOLDER] [PART...] - builds the kernels, tests and measures them on this machine's GPU.
#
# Needs gcc and nvcc, nothing else: the tests' cmocka is tests/standalone/cmocka.h. Parts, in order,
# each with a time limit of its own; one that fails does not stop the others:
#     build       kernels, tests and measuring programs, for this GPU's architecture only
#     tests       the kernels' tests on this GPU; those of the CPU's tables are left out
#     memcheck    compute-sanitizer over the small ones, where it is installed
#     products    memory's read and copy rate, products per type
#     attention   decode attention by context (bench/gpu/attention), and PyTorch's where there is one
#     step        a whole decode step of a random model by depth, where the programs are built (make)
# Without names: all of them; under 8 minutes. Logs and CSV files go to FOLDER (gpu-results); the table comes last.
set -u
cd "$(dirname "$0")/.."
out=gpu-results
if [ "${1:-}" = -o ]; then
    out=$2
    shift 2
fi
parts=${*:-build tests memcheck products attention step}
mkdir -p "$out" && out=$(cd "$out" && pwd)
build=${GPU_BUILD:-build/gpu}
summary=$out/summary.txt
: >"$summary"

NVCC=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
arch=${CUDA_ARCH:-${arch:-90}}

say() { printf '%s\n' "$*" | tee -a "$summary"; }

# ---- build ----------------------------------------------------------------------------------------

home=$(dirname "$(dirname "$(readlink -f "$NVCC")")")
cudart=$(ls "$home"/lib64/libcudart_static.a "$home"/lib/libcudart_static.a "$home"/targets/*/lib/libcudart_static.a \
    /usr/lib/*-linux-gnu/libcudart_static.a 2>/dev/null | head -1)
cflags="-std=c11 -D_GNU_SOURCE -O3 -g -ffp-contract=off -fno-math-errno -fno-trapping-math -pthread -iquote ."

# compile FILE: one object, by the file's name as in the Makefile
compile() {
    local source=$1 object=$build/$1.o extra=
    mkdir -p "$(dirname "$object")"
    [ "$object" -nt "$source" ] && [ -z "${GPU_REBUILD:-}" ] && return 0
    case $source in
    *.cu)
        # shellcheck disable=SC2086
        "$NVCC" -std=c++17 -O3 -lineinfo -I. -fmad=false -Xcompiler -fno-exceptions,-fno-rtti,-fno-threadsafe-statics \
            -gencode "arch=compute_$arch,code=sm_$arch" -c -o "$object" "$source"
        return
        ;;
    *_bf16_avx512.c) extra="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512cd -mavx512bf16 -mfma -mf16c" ;;
    *_avx512.c) extra="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512cd -mfma -mf16c" ;;
    *_avx2.c) extra="-mavx2 -mfma -mf16c" ;;
    esac
    # shellcheck disable=SC2086
    gcc $cflags $extra -isystem "$home/include" -c -o "$object" "$source"
}

link() { # link PROGRAM SOURCE [FLAGS]
    mkdir -p "$(dirname "$1")"
    # shellcheck disable=SC2086
    gcc $cflags ${3:-} -UNDEBUG -isystem "$home/include" -o "$1" "$2" "$build/kernels.a" "$cudart" -ldl -lrt -lm
}

sources() {
    ls kernels/*.c kernels/*/*.c kernels/*/cuda/*.c kernels/cuda/*.cu kernels/*/cuda/*.cu sys/*.c 2>/dev/null |
        grep -vE '^kernels/cuda/absent.c$|^sys/binding.c$' | sort -u
}

tests_of() { # those of make test-emulated, and cuBLASLt's
    ls tests/kernels/cuda/test_*.c tests/kernels/cpu/test_{cpu,device,dense,dense_segments,groups}.c
}

part_build() {
    local failed=0
    export -f compile
    export build NVCC arch home cflags
    sources | xargs -P "$(nproc)" -I{} bash -c 'compile {} || exit 255' || return 1
    rm -f "$build/kernels.a"
    sources | sed "s|^|$build/|; s|\$|.o|" | xargs ar rcs "$build/kernels.a"
    for test in $(tests_of); do
        link "$build/${test%.c}" "$test" "-iquote . -I tests/standalone" || failed=1
    done
    for program in bench/gpu/*.c; do
        link "$build/${program%.c}" "$program" || failed=1
    done
    return $failed
}

# ---- tests ----------------------------------------------------------------------------------------

part_tests() {
    local failed=0 code
    for test in $(tests_of); do
        echo "== $test"
        timeout -k 5 100 "$build/${test%.c}" 2>&1
        code=$?
        [ $code = 0 ] || [ $code = 77 ] || failed=1 # 77: skipped, which was said
    done
    return $failed
}

part_memcheck() {
    local sanitizer failed=0
    sanitizer=$(command -v compute-sanitizer || ls "$home/bin/compute-sanitizer" 2>/dev/null) || {
        echo "compute-sanitizer is not installed"
        return 0
    }
    for test in tests/kernels/cpu/test_device tests/kernels/cpu/test_cpu; do
        for tool in memcheck racecheck; do
            echo "== $tool $test"
            timeout -k 5 60 "$sanitizer" --tool "$tool" --error-exitcode 9 "$build/$test" 2>&1 |
                grep -vE '^ok |^skipped ' | tail -20
            [ "${PIPESTATUS[0]}" = 0 ] || failed=1
        done
    done
    return $failed
}

# ---- measurements -----------------------------------------------------------------------------------

part_products() {
    "$build/bench/gpu/products" --csv "$out/products.csv" || return 1
    "$build/bench/gpu/products" --kernels cuda-blas --types Q4_0,Q8_0,F16 --shapes 14336x4096,4096x14336 \
        --rows 64,512,2048 --csv "$out/blas.csv" || [ $? = 3 ] # 3: no cuBLASLt here, which was said
}

part_attention() {
    [ -x "$build/bench/gpu/attention" ] || {
        echo "bench/gpu/attention is not built"
        return 0
    }
    "$build/bench/gpu/attention" -o "$out/attention.csv" -s 75 || return 1
    python3 -c 'import torch' 2>/dev/null || {
        echo "no PyTorch here: nothing to compare with"
        return 0
    }
    python3 bench/gpu/attention_torch.py "$out/attention.csv" 75
}

part_step() {
    local bin=build/release/bin
    [ -x "$bin/longspan" ] || {
        echo "the programs are not built (make): no decode step is measured"
        return 0
    }
    [ -x bench/gpu/step.sh ] || {
        echo "bench/gpu/step.sh is not there"
        return 0
    }
    local test=build/release/tests/worker/test_recorded_steps
    [ ! -x $test ] || $test || return 1
    bench/gpu/step.sh "$out/step.csv"
}

limit_of() {
    case $1 in
    build) echo 200 ;;
    tests) echo 120 ;;
    memcheck) echo 100 ;;
    products) echo 70 ;;
    attention) echo 200 ;;
    *) echo 120 ;;
    esac
}

say "# $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo 'no nvidia-smi'); sm_$arch; $("$NVCC" --version 2>/dev/null | grep release)"
export LONGSPAN_TEST_TABLE=cuda
export -f compile link sources tests_of say part_build part_tests part_memcheck part_products part_attention part_step
export out build summary NVCC arch home cudart cflags
failures=0
for part in $parts; do
    begin=$SECONDS
    echo "---- $part"
    timeout -k 10 "$(limit_of "$part")" bash -uc "part_$part" >"$out/$part.log" 2>&1
    code=$?
    tail -n 200 "$out/$part.log"
    case $code in
    0) result=ok ;;
    124 | 137) result="past its limit of $(limit_of "$part") s" ;;
    *) result="failed ($code)" ;;
    esac
    [ $code = 0 ] || failures=$((failures + 1))
    say "$(printf '%-10s %-28s %4d s' "$part" "$result" $((SECONDS - begin)))"
done
echo "==== $(date -u +%FT%TZ)"
cat "$summary"
grep -hE '^not ok|: [0-9]+ passed' "$out"/tests.log 2>/dev/null
grep -hE '^read |rows ' "$out"/products.log 2>/dev/null
cat "$out"/attention.log "$out"/step.log 2>/dev/null | tail -n 120
[ $failures = 0 ]

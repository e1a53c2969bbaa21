#!/usr/bin/env bash
# gpu.sh [-o FOLDER] [PART...] - builds the kernels, tests and measures them on this machine's GPU, and says which acceptance
# figures they reach.
#
# Needs gcc and nvcc, nothing else: the tests' cmocka is tests/standalone/cmocka.h. Parts, in order; one that fails does not
# stop the others:
#     build       kernels, tests and measuring programs, for this GPU's architecture only; in the same pass, by make, the
#                 programs too, where what ./deps.sh installs is there
#     tests       the kernels' tests on this GPU; those of the CPU's tables are left out
#     products    memory's read and copy rate, products per type
#     attention   decode attention by context (bench/gpu/attention)
#     torch       PyTorch's attention on the same shapes, where there is a PyTorch
#     path        the whole path: a needle in 131,072 tokens, workers and attention nodes on CPU and GPU (tests/integration/
#                 test_cuda.py), with the programs and Python: the two mixed layouts
#     step        a whole decode step of a random model by depth, with the programs
#     memcheck    compute-sanitizer over the small tests, where it is installed
# and, by name only:
#     logits      test_cuda.py's short form: all layouts, and logits of every architecture
# Without names, or for the name `all`: those of the first list. Together they take GPU_SECONDS at most (460: under 8 minutes),
# each no more than its limit, so that what comes last may be cut off or have no time. That is said: then `bench/gpu.sh path
# step memcheck` in a call of its own (path: a CPU's worker may take minutes), or more GPU_SECONDS. The programs are LONGSPAN_BIN,
# or what `build` made, or build/release/bin.
#
# Logs and CSV files go to FOLDER (gpu-results), where those of earlier calls' other parts stay; tables come last, and behind
# them, by Python, what the CSV files say of the acceptance figures (bench/gpu/verdicts.py). Exit status: 0 all ok, 1 a figure is
# short, 4 a part failed, or something was not measured.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
cd "${GPU_SOURCE:-$root}" || exit 4 # another checkout, for bench/gpu/compare.py
started=$SECONDS
seconds=${GPU_SECONDS:-460}
out='gpu-results'
if [ "${1:-}" = -o ]; then
    out=$2
    shift 2
fi
all="build tests products attention torch path step memcheck"
parts=${*:-$all}
parts=${parts/#all/$all}
for part in $parts; do
    case " $all logits " in
    *" $part "*) ;;
    *)
        echo "gpu.sh: there is no part $part: $all logits" >&2
        exit 2
        ;;
    esac
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 4
build=${GPU_BUILD:-build/gpu}
summary=$out/summary.txt
: >"$summary"

NVCC=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -1)
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
arch=${CUDA_ARCH:-${arch:-90}}

say() { printf '%s\n' "$*" | tee -a "$summary"; }

# ---- build ----------------------------------------------------------------------------------------

home=$(dirname "$(dirname "$(readlink -f "$NVCC")")")
cudart=$(ls "$home"/lib64/libcudart_static.a "$home"/lib/libcudart_static.a "$home"/targets/*/lib/libcudart_static.a \
    /usr/lib/*-linux-gnu/libcudart_static.a 2>/dev/null | head -1)
cflags="-std=c11 -D_GNU_SOURCE -O3 -g -ffp-contract=off -fno-math-errno -fno-trapping-math -pthread -iquote ."

# compile FILE: one object, by the file's name as in the Makefile; not again while no source and no header is newer
compile() {
    local source=$1 object=$build/$1.o extra=
    [ "$object" -nt "$source" ] && [ "$object" -nt "$header" ] && return 0
    mkdir -p "$(dirname "$object")"
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
    *_dotprod.c) extra="-march=armv8.2-a+dotprod" ;;
    esac
    # shellcheck disable=SC2086
    gcc $cflags $extra -isystem "$home/include" -c -o "$object" "$source"
}

link() { # link SOURCE: a test or a measuring program
    mkdir -p "$build/$(dirname "$1")"
    # shellcheck disable=SC2086
    gcc $cflags -UNDEBUG -I tests/standalone -isystem "$home/include" -o "$build/${1%.c}" "$1" $libs "$cudart" -ldl -lrt -lm
}

sources() {
    local others='_(avx2|avx512|neon|dotprod)' # what another kind of processor has
    case $(uname -m) in
    x86_64) others='_(neon|dotprod)' ;;
    aarch64) others='_avx(2|512)' ;;
    esac
    # shellcheck disable=SC2010 # no name here has a space
    ls kernels/*.c kernels/*/*.c kernels/*/cuda/*.c kernels/cuda/*.cu kernels/*/cuda/*.cu sys/*.c 2>/dev/null |
        grep -vE "^kernels/cuda/absent.c$|^sys/binding.c$|$others.c$" | sort -u
}

tests_of() { # those of make test-emulated, and cuBLASLt's
    ls tests/kernels/cuda/test_*.c tests/kernels/cpu/test_{cpu,device,dense,dense_segments,groups}.c
}

# What `make` lacks here to build the programs; nothing: it lacks nothing.
lacking() {
    local what
    for what in make mpicc protoc-c pkg-config; do
        command -v $what >/dev/null || echo "$what"
    done
    for what in libzmq libprotobuf-c hwloc libpcre2-8 jansson libmicrohttpd libcyaml libcurl; do
        pkg-config --exists $what 2>/dev/null || echo "$what"
    done
}

build_kernels() {
    header=$(find kernels sys \( -name '*.h' -o -name '*.cuh' \) -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2)
    export header # the newest
    sources | xargs -P "$(nproc)" -I{} bash -c 'compile {} || exit 255' || return 1
    rm -f "$build/kernels.a"
    sources | sed "s|^|$build/|; s|\$|.o|" | xargs ar rcs "$build/kernels.a"
}

part_build() {
    local missing="GPU_PROGRAMS=0" failed=0 made=
    [ "$(cat "$build/arch" 2>/dev/null)" = "$arch" ] || rm -rf "$build/kernels"
    mkdir -p "$build" && echo "$arch" >"$build/arch"
    [ "${GPU_PROGRAMS:-1}" = 0 ] || missing=$(lacking | tr '\n' ' ')
    if [ -n "$missing" ]; then
        echo "the programs are not built here: $missing (./deps.sh installs what is missing)"
    elif make -j"$(nproc)" BUILD="$build" CUDA_ARCHS="$arch" all; then
        made=yes
        make BUILD="$build" CUDA_ARCHS="$arch" "$build/tests/worker/test_recorded_steps" || echo "test_recorded_steps is not built"
    else
        failed=1
    fi
    export libs="$build/lib/libkernels.a $build/lib/libsys.a"
    [ -n "$made" ] || {
        libs=$build/kernels.a
        build_kernels || return 1
    }
    { tests_of; ls bench/gpu/*.c; } | xargs -P "$(nproc)" -I{} bash -c 'link {}' || failed=1
    return $failed
}

# ---- tests ----------------------------------------------------------------------------------------

# One that never ends leaves the others their time, and none outlives the part: --foreground, so that it stays in its group.
part_tests() {
    local failed=0 code most=$((limit * 6 / 10))
    for test in $(tests_of); do
        echo "== $test"
        timeout --foreground -k 5 $most "$build/${test%.c}" 2>&1
        code=$?
        case $code in
        0 | 77) ;; # 77: skipped, which was said
        124 | 137) failed=1 && echo "$test: cut off, past $most s" ;;
        *) failed=1 && echo "$test: exit status $code" ;;
        esac
    done
    [ $failed = 1 ] || ! grep -m1 '^cuda: skipped: ' "$out/tests.log" || return 77 # no GPU
    return $failed
}

part_memcheck() {
    local sanitizer failed=0
    sanitizer=$(command -v compute-sanitizer || ls "$home/bin/compute-sanitizer" 2>/dev/null) || {
        echo "compute-sanitizer is not installed"
        return 77
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

# ---- measurements: `limit` is how many seconds the part has; 77: there was nothing to measure with -------------------

part_products() {
    local code=0
    "$build/bench/gpu/products" --csv "$out/products.csv" || code=$?
    [ $code != 3 ] || return 77
    "$build/bench/gpu/products" --kernels cuda-blas --types Q4_0,Q8_0,F16 --shapes 14336x4096,4096x14336 \
        --rows 64,512,2048 --csv "$out/blas.csv" || [ $? = 3 ] || code=1 # 3: no cuBLASLt here, which was said
    return $code
}

part_attention() {
    "$build/bench/gpu/attention" -o "$out/attention.csv" -s $((limit - 10))
}

part_torch() {
    python3 -c 'import torch' 2>/dev/null || {
        echo "no PyTorch here: nothing to compare with"
        return 77
    }
    [ -s "$out/attention.csv" ] || {
        echo "attention is not measured: nothing to compare"
        return 77
    }
    python3 bench/gpu/attention_torch.py "$out/attention.csv" $((limit - 10))
}

# The folder of programs, with CUDA or not, which they say themselves.
programs() {
    [ -n "$gpu" ] || [ -e /dev/nvidia0 ] || {
        echo "there is no GPU"
        return 77
    }
    for bin in ${LONGSPAN_BIN:-"$build/bin" build/release/bin}; do
        [ ! -x "$bin/longspan" ] || return 0
    done
    echo "the programs are not built (the log of the part build says why)"
    return 77
}

whole_path() { # whole_path OPTION...
    programs || return
    command -v python3 >/dev/null || {
        echo "no Python here: test_cuda.py needs it"
        return 77
    }
    LONGSPAN_BIN=$bin python3 tests/integration/test_cuda.py "$@"
}

part_path() {
    whole_path --tokens 131009 --needles-only --mixed-only --seconds $((limit - 10)) --csv "$out/path.csv"
}

part_logits() { whole_path; }

part_step() {
    programs || return
    local test=${bin%/bin}/tests/worker/test_recorded_steps
    [ ! -x "$test" ] || "$test" || return 1
    LONGSPAN_BIN=$bin bench/gpu/step.sh "$out/step.csv"
}

# Of GPU_SECONDS=460; in proportion where there is more. Few processors need a call for the build alone.
limit_of() {
    case $1 in
    build) echo "$seconds" ;;
    tests | products) echo 100 ;;
    attention) echo 120 ;;
    torch) echo 80 ;;
    *) echo 200 ;;
    esac
}

# What a part measures: files of an earlier call are no result of this one.
files_of() {
    case $1 in
    products) echo products.csv blas.csv ;;
    attention) echo attention.csv attention.csv.torch.csv ;;
    torch) echo attention.csv.torch.csv ;;
    path) echo path.csv ;;
    step) echo step.csv step-products.csv step-nothing.csv ;;
    esac
}

say "# ${gpu:-no GPU: nvidia-smi names none}; sm_$arch; $("$NVCC" --version 2>/dev/null | grep release)"
export LONGSPAN_TEST_TABLE=cuda
export -f compile link sources tests_of lacking build_kernels programs whole_path
export -f part_build part_tests part_products part_attention part_torch part_path part_step part_memcheck part_logits
export out build root gpu NVCC arch home cudart cflags limit
failures=0
for part in $parts; do
    # shellcheck disable=SC2046 # a list of names
    (cd "$out" && rm -f "$part.log" $(files_of "$part"))
    begin=$SECONDS
    left=$((seconds - begin + started))
    limit=$(limit_of "$part")
    [ "$seconds" -le 460 ] || limit=$((limit * seconds / 460))
    [ "$limit" -le $left ] || limit=$left
    if [ "$limit" -lt 15 ]; then
        failures=$((failures + 1))
        say "$(printf '%-10s not run: no time is left of GPU_SECONDS=%s' "$part" "$seconds")"
        continue
    fi
    echo "---- $part"
    timeout -k 10 "$limit" bash -uc "part_$part" >"$out/$part.log" 2>&1
    code=$?
    tail -n 200 "$out/$part.log"
    case $code in
    0) result=ok ;;
    77) result="nothing to do: $(tail -1 "$out/$part.log")" ;;
    124 | 137) result="cut off: past $limit s" ;;
    *) result="failed ($code)" ;;
    esac
    [ $code = 0 ] || [ "$part $code" = "memcheck 77" ] || failures=$((failures + 1))
    say "$(printf '%-10s %4d s  %s' "$part" $((SECONDS - begin)) "$result")"
done

echo "==== $(date -u +%FT%TZ)"
cat "$summary"
cd "$out" || exit 4
grep -hE '^not ok|: [0-9]+ passed|^tests/.*: (cut off|exit status)' tests.log path.log logits.log 2>/dev/null
grep -hE '^read |rows ' products.log 2>/dev/null
cat attention.log torch.log step.log 2>/dev/null | grep -v 'not measured' | tail -n 200
for reason in 'no time' 'no memory' failed; do
    n=$(grep -c "not measured: $reason" attention.log 2>/dev/null)
    [ "${n:-0}" = 0 ] || echo "attention: $n rows are not measured: $reason"
done

figures=
for part in $parts; do
    case $part in
    products | attention | torch | path) figures="$figures $part" ;;
    esac
done
verdict=0
if [ -n "$figures" ] && command -v python3 >/dev/null; then
    echo "==== acceptance"
    # shellcheck disable=SC2086
    python3 "$root/bench/gpu/verdicts.py" "$out" $figures
    verdict=$?
elif [ -n "$figures" ]; then
    echo "no Python here: no verdicts (bench/gpu/verdicts.py $out, anywhere)"
fi
[ $failures = 0 ] || exit 4
exit $verdict

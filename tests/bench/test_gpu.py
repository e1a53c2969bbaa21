#!/usr/bin/env python3
"""bench/gpu.sh, verdicts.py, compare.py and attention_torch.py without a GPU: what they make of the figures that programs write,
and of programs that fail or are not there. Compilers and programs are scripts here; so is the GPU."""
import csv
import json
import os
import re
import shutil
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests/integration"), os.path.join(ROOT, "bench/gpu")]
import verdicts  # noqa: E402
from longspan_test import Tap, call, folder  # noqa: E402

ATTENTION = ("kind,type,head_dim,heads,kv_heads,batch,name,context,blocks,stages,unit,us,GB_s,share,run_us,plan_us,host_us,"
             "no_split_us,best_fixed_us,best_parts,any_order_us").split(",")
TORCH = "type head_dim heads kv_heads batch context us torch_us backend".split()
PRODUCTS = "type,outputs,columns,rows,us,gb_s,percent_of_read,tflops".split(",")
PATH = "layout,tokens,result,prefill_s,prefill_tokens_per_s,decode_tokens_per_s,command_s".split(",")


def write(path, columns, rows):
    with open(path, "w", newline="", encoding="ascii") as file:
        out = csv.DictWriter(file, columns, restval="")
        out.writeheader()
        out.writerows(rows)


def shape(key):
    heads, kv_heads = key[2].split("/")
    context = verdicts.CONTEXTS[key[4]] or 1024
    return {"type": key[0], "head_dim": key[1], "heads": heads, "kv_heads": kv_heads, "batch": key[3], "name": key[4],
            "context": context}


def decode(key, share=0.99, fixed=2.0, order=1.01, us=100.0):
    return {**shape(key), "kind": "decode", "us": us, "share": share, "best_fixed_us": fixed * us,
            "any_order_us": us / order}


def torch(key, ratio, us=100.0):
    row = {column: value for column, value in shape(key).items() if column in TORCH}
    return {**row, "us": us, "torch_us": ratio * us if ratio else "", "backend": "cudnn" if ratio else "no time"}


def compared(key):
    return key[0] != "q8_0" and verdicts.CONTEXTS[key[4]] > 16384


def product(kind, percent, outputs=14336, columns=4096):
    return {"type": kind, "outputs": outputs, "columns": columns, "rows": 1, "us": 10, "percent_of_read": percent}


def whole(path):
    """Files of a GPU that reaches everything."""
    write(f"{path}/attention.csv", ATTENTION, map(decode, verdicts.GRID))
    write(f"{path}/attention.csv.torch.csv", TORCH, [torch(key, 1.1) for key in verdicts.GRID if compared(key)])
    write(f"{path}/products.csv", PRODUCTS, [product(kind, 85) for kind in verdicts.WEIGHTS] + [product("Q4_0", 17, 1024)])
    write(f"{path}/path.csv", PATH, [{"layout": layout, "tokens": 131009, "result": "passed", "command_s": 40.5}
                                     for layout in verdicts.LAYOUTS])


def judged(path, *parts):
    """(exit status, {figure: its line})"""
    if os.path.exists(f"{path}/verdicts.json"):
        os.remove(f"{path}/verdicts.json")
    result = call(sys.executable, f"{ROOT}/bench/gpu/verdicts.py", path, *parts)
    if not os.path.exists(f"{path}/verdicts.json"):
        return result.code, {"": str(result)}
    with open(f"{path}/verdicts.json", encoding="utf-8") as file:
        return result.code, {row["name"].strip(): row for row in json.load(file)["rows"]}


def starting(lines, text):
    return [line for name, line in lines.items() if name.startswith(text)]


def check_ok_and_short(tap, path):
    whole(path)
    code, lines = judged(path)
    results = [line["result"] for line in lines.values()]
    tap.check(code == 0 and results.count("ok") == 19 and results.count("-") == 1, "all reached: 0, and ok 19 times", lines)
    slow = ("q8_0", "64", "32/8", "1", "256k")
    write(f"{path}/attention.csv", ATTENTION, [decode(key, share=0.74 if key == slow else 0.99) for key in verdicts.GRID])
    code, lines = judged(path, "attention")
    (line,) = starting(lines, "decode attention q8_0")
    tap.check(code == 1 and line["result"] == "short" and line["where"].startswith("q8_0 64, 32/8, 1 x 256k; 1 of 54 rows"),
              "one row below the target is short, and named", line)
    tap.check(len(lines) == 6, "figures of the parts that were asked for alone", lines)
    write(f"{path}/products.csv", PRODUCTS, [product(kind, 79.9 if kind == "Q4_K" else 85) for kind in verdicts.WEIGHTS])
    code, lines = judged(path, "products")
    tap.check(code == 1 and [name for name, line in lines.items() if line["result"] == "short"] ==
              ["product Q4_K, one row, 14336x4096, of the read rate"], "a type below 80% is short", lines)
    write(f"{path}/path.csv", PATH, [{"layout": verdicts.LAYOUTS[0], "tokens": 131009, "result": "failed", "command_s": 9},
                                     {"layout": verdicts.LAYOUTS[1], "tokens": 131009, "result": "no time"}])
    code, lines = judged(path, "path")
    tap.check(code == 1 and [line["result"] for line in lines.values()] == ["failed", "not measured"],
              "layouts of the whole path: failed, no time", lines)
    tap.check(judged(path, "nothing")[0] == 2 and judged(f"{path}/nowhere")[0] == 2, "no such part, no such folder: 2")


def check_missing(tap, path):
    whole(path)
    lacking = {("f16", "128", "32/32", "64", "1M"): "no memory", ("bf16", "64", "64/8", "8", "1M"): "no time"}
    rows = [{**shape(key), "kind": f"decode: {lacking[key]}"} if key in lacking else decode(key) for key in verdicts.GRID]
    write(f"{path}/attention.csv", ATTENTION, rows)
    write(f"{path}/attention.csv.torch.csv", TORCH, [torch(key, 1.1) for key in verdicts.GRID if compared(key)][:-1])
    code, lines = judged(path)
    (f16,), (bf16,) = starting(lines, "decode attention f16"), starting(lines, "decode attention bf16")
    tap.check(code == 4 and f16["result"] == "ok" and "1 rows: no memory" in f16["where"],
              "a row that the card has no memory for is said, and its figure stands", f16)
    tap.check(bf16["result"] == "not measured" and bf16["measured"] == 0.99 and "1 rows: no time" in bf16["where"],
              "one that there was no time for leaves its figure unmeasured", bf16)
    (line,) = starting(lines, "PyTorch")
    tap.check(line["result"] == "not measured" and "not compared" in line["where"], "as does one that PyTorch lacks", line)
    with open(f"{path}/attention.csv", "a", encoding="ascii") as file:
        file.write("decode,f16,128,32,8")
    tap.check(judged(path)[1] == lines, "a line that was cut off is no row")
    for name in verdicts.FILES:
        os.remove(f"{path}/{name}")
    code, lines = judged(path)
    tap.check(code == 4 and {line["result"] for line in lines.values()} == {"not measured"},
              "without files nothing is measured", lines)


def check_known(tap, path):
    """The figures of docs/measurements/gpu-attention.md, of which docs/performance.md says what falls short."""
    rows, beside = [], []
    with open(f"{ROOT}/docs/measurements/gpu-attention.md", encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) != 12 or cells[0] not in verdicts.READ_TARGETS:
                continue
            key = tuple(cells[:5])
            us, share, fixed, order = float(cells[5]), float(cells[7]), float(cells[9].split()[0]), float(cells[10])
            rows.append(decode(key, share, fixed, order, us))
            if cells[11]:
                beside.append(torch(key, float(cells[11]), us))
    write(f"{path}/attention.csv", ATTENTION, rows)
    write(f"{path}/attention.csv.torch.csv", TORCH, beside)
    code, lines = judged(path, "attention", "torch")
    worst = {kind: min(row["share"] for row in rows if row["type"] == kind and row["context"] >= 65536)
             for kind in verdicts.READ_TARGETS}
    tap.check(code == 1 and all(starting(lines, f"decode attention {kind}")[0]["measured"] == share
                                for kind, share in worst.items()), "known figures: the worst share of each type", lines)
    ragged = statistics.fmean(r["best_fixed_us"] / r["us"] for r in rows if r["name"] == "ragged")
    line = lines["of ragged sets, mean"]
    most = statistics.fmean(r["best_fixed_us"] / r["us"] / r["share"] for r in rows if r["name"] == "ragged")
    tap.check(abs(line["measured"] - ragged) < 1e-9 and line["result"] == "short" and f"itself: {most:.2f}" in line["where"],
              "known figures: the mean of ragged sets, and the most that it could be", line)
    (line,) = starting(lines, "best fixed")
    tap.check(line["result"] == "short" and line["where"].startswith("bf16 128, 32/8, 8 x 64k"),
              "known figures: lean's worst row", line)
    (line,) = starting(lines, "PyTorch")
    tap.check(line["result"] == "short" and line["where"].startswith("f16 128, 32/8, 1 x 64k"),
              "known figures: PyTorch's best", line)


TOOLS = ("bash sh dirname basename readlink ls head tail tr tee grep sort xargs sed ar rm mkdir cat date nproc timeout find cut "
         "cp chmod").split()
# The word behind -o: an object, or the program of that name, or a test.
COMPILER = """while [ $# -gt 0 ]; do
    case $1 in -o) out=$2 ;; -c) object=1 ;; esac
    shift
done
[ -z "${object:-}" ] || { echo object >"$out"; exit; }
[ "$(basename "$out")" != "$(cat "$FAKE/fails" 2>/dev/null)" ] || { echo "no such function" >&2; exit 1; }
cp "$FAKE/$(basename "$out")" "$out" 2>/dev/null || cp "$FAKE/a_test" "$out"
"""
# A measuring program: behind its option for a file goes FAKE/CHECKOUT/NAME.csv.
PROGRAM = """while [ $# -gt 0 ]; do
    case $1 in -o | --csv) out=$2 ;; esac
    shift
done
name=$(basename "$0")
cp "$FAKE/$(basename "$PWD")/$name.csv" "$out" 2>/dev/null || { echo "$name: cuda: no GPU" >&2; exit $NONE; }
"""


LONGSPAN = """case $1 in model) for model; do :; done; [ ! -e "$model" ] && echo >"$model"; exit ;; esac
while [ $# -gt 0 ]; do
    case $1 in -m) model=$2 ;; --csv) out=$2 ;; esac
    shift
done
[ -e "$model" ] && printf 'phase,depth,ms\\ndecode,0,$MS\\ndecode,4096,$MS\\n' >"$out"
"""


def script(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)


def machine(path, checkouts, gpu=True, python=True):
    """The environment of a machine that has nothing but what is wanted of one."""
    fake = f"{path}/fake"
    shutil.rmtree(fake, ignore_errors=True)
    os.makedirs(f"{fake}/bin")
    for checkout in checkouts:
        os.makedirs(f"{fake}/{checkout}")
    for tool in [*TOOLS, *(["python3"] if python else [])]:
        os.symlink(sys.executable if tool == "python3" else shutil.which(tool), f"{fake}/bin/{tool}")
    for name in ("gcc", "nvcc"):
        script(f"{fake}/bin/{name}", COMPILER)
    script(f"{fake}/a_test", 'echo "${SAID:-kernels: 2 passed, 0 failed, 0 skipped}"; exit ${TESTS:-0}')
    script(f"{fake}/attention", PROGRAM.replace("$NONE", "77"))
    script(f"{fake}/products", PROGRAM.replace("$NONE", "3"))
    if gpu:
        script(f"{fake}/bin/nvidia-smi", 'case "$*" in *compute_cap*) echo 9.0 ;; *) echo "Fake GPU, 1.0, 80 MiB" ;; esac')
    return {"PATH": f"{fake}/bin", "FAKE": fake, "GPU_BUILD": f"{path}/build", "LONGSPAN_BIN": f"{path}/no-programs"}


def gpu_sh(path, environment, *parts):
    result = call(f"{ROOT}/bench/gpu.sh", "-o", f"{path}/results", *parts, env=environment)
    said = dict(re.findall(r"^(\w+) +(?:\d+ s  )?((?:ok|nothing|cut|failed|not run).*)$", result.out, re.M))
    return result, said


def check_gpu_sh(tap, path):
    here = os.path.basename(ROOT)
    environment = machine(path, [here])
    whole(f"{environment['FAKE']}/{here}")
    result, said = gpu_sh(path, environment)
    tap.check([said.get(part) for part in ("build", "tests", "products", "attention")] == ["ok"] * 4 and
              said.get("memcheck") == "nothing to do: compute-sanitizer is not installed",
              "gpu.sh: the parts that can be run are ok", result)
    tap.check(said.get("torch", "").startswith("nothing to do: no PyTorch") and "programs" in said.get("path", "") and
              "programs" in said.get("step", "") and result.code == 4, "what is missing for others is said: 4", result)
    tap.check("Fake GPU" in result.out and re.search(r"==== acceptance[^=]* f16, 64k and more.* 0.99 .* ok ", result.out),
              "the GPU's name, and verdicts at the end", result)
    result, said = gpu_sh(path, environment, "build", "products", "attention")
    tap.check(result.code == 0 and "131,072" not in result.out,
              "parts by name, all well: 0, and their figures alone", result)
    short = [decode(key, share=0.5) for key in verdicts.GRID]
    write(f"{environment['FAKE']}/{here}/attention.csv", ATTENTION, short)
    tap.check(gpu_sh(path, environment, "attention")[0].code == 1, "a figure that is short: 1")
    result, said = gpu_sh(path, {**environment, "TESTS": "9"}, "tests", "attention")
    tap.check(result.code == 4 and said["tests"] == "failed (1)" and said["attention"] == "ok",
              "a test that fails stops nothing: 4", result)
    script(f"{path}/build/tests/kernels/cuda/test_panel", f"exec {shutil.which('sleep')} 60")
    result, said = gpu_sh(path, {**environment, "GPU_SECONDS": "25"}, "tests")
    with open(f"{path}/results/tests.log", encoding="ascii") as file:
        log = file.read()
    tap.check(result.code == 4 and said["tests"] == "failed (1)" and len(re.findall(r"test_panel\.c: cut off, past \d+ s", result.out)) == 2 and
              log.endswith("kernels: 2 passed, 0 failed, 0 skipped\n"), "nor does one that never ends", result)
    for tool in ("make", "mpicc", "protoc-c", "pkg-config"):
        script(f"{path}/fake/bin/{tool}", "exit 2" if tool == "make" else "exit 0")
    result, said = gpu_sh(path, environment, "build", "attention")
    tap.check(result.code == 4 and said == {"build": "failed (1)", "attention": "ok"},
              "programs that cannot be built: said, but the kernels are", result)
    script(f"{path}/build/bench/gpu/attention", "echo 'attention: out of memory' >&2; exit 4")
    result, said = gpu_sh(path, environment, "attention")
    tap.check(result.code == 4 and said["attention"] == "failed (4)" and "not measured" in result.out,
              "a program that fails: 4, and no figure of an earlier call", result)
    script(f"{path}/fake/bin/nvcc", "echo 'no such architecture' >&2; exit 1")
    shutil.rmtree(f"{path}/build/kernels")
    result, said = gpu_sh(path, environment, "build")
    tap.check(result.code == 4 and said["build"] == "failed (1)" and "no such architecture" in result.out,
              "a build that fails: 4", result)
    result, said = gpu_sh(path, {**environment, "GPU_SECONDS": "5"}, "build", "tests")
    tap.check(result.code == 4 and said == dict.fromkeys(("build", "tests"), "not run: no time is left of GPU_SECONDS=5"),
              "no time is said: 4", result)
    tap.check(gpu_sh(path, environment, "everything")[0].code == 2, "no such part: 2")
    environment = machine(path, [], gpu=False, python=False)
    shutil.copy(f"{path}/fake/attention", f"{path}/build/bench/gpu/attention")
    result, said = gpu_sh(path, {**environment, "SAID": "cuda: skipped: no driver"}, "tests", "products", "attention")
    tap.check(result.code == 4 and said == {"tests": "nothing to do: cuda: skipped: no driver",
                                            "products": "nothing to do: products: cuda: no GPU",
                                            "attention": "nothing to do: attention: cuda: no GPU"},
              "what there is no GPU for has nothing to do: 4", result)
    tap.check("nvidia-smi names none" in result.out and "no Python here: no verdicts" in result.out,
              "no GPU, no Python: said", result)


# PyTorch for attention_torch.py: "flash" takes no shape, "math" is asked only where no other does, and there is no memory for K of
# more than 8 M rows.
TORCH_MODULE = """
import contextlib, sys, types
__version__ = "fake"
float16 = bfloat16 = None
chosen, spent = [], [0.0]
class OutOfMemoryError(Exception): pass
class Tensor:
    def __init__(self, *shape, **_):
        self.shape = shape[0] if isinstance(shape[0], tuple) else shape
        if len(self.shape) == 4 and self.shape[0] * self.shape[1] * self.shape[2] > 8 << 20: raise OutOfMemoryError
    def uniform_(self, *_): return self
    def __getitem__(self, _): return self
randn = empty = Tensor
class Event:
    def __init__(self, **_): pass
    def record(self): self.at = spent[0]
    def synchronize(self): pass
    def elapsed_time(self, end): return end.at - self.at
class CUDAGraph:
    def __init__(self): raise RuntimeError("not captured")
cuda = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError, Event=Event, CUDAGraph=CUDAGraph, synchronize=lambda: None,
                             empty_cache=lambda: None)
def attend(*_, **__):
    if chosen[-1] == "flash": raise RuntimeError("no kernel")
    spent[0] += {"cudnn": 1.0, "efficient": 2.0, "math": 0.5}[chosen[-1]]
@contextlib.contextmanager
def sdpa_kernel(backend):
    chosen.append(backend)
    yield
    chosen.pop()
nn = types.ModuleType("torch.nn")
nn.functional = types.SimpleNamespace(scaled_dot_product_attention=attend)
nn.attention = types.ModuleType("torch.nn.attention")
nn.attention.SDPBackend = types.SimpleNamespace(FLASH_ATTENTION="flash", CUDNN_ATTENTION="cudnn", EFFICIENT_ATTENTION="efficient",
                                                MATH="math")
nn.attention.sdpa_kernel = sdpa_kernel
sys.modules.update({"torch.nn": nn, "torch.nn.attention": nn.attention})
"""


def check_torch(tap, path):
    keys = [("f16", "128", "32/8", "1", "64k"), ("bf16", "64", "32/8", "8", "256k"), ("f16", "128", "32/8", "8", "ragged"),
            ("q8_0", "128", "32/8", "1", "64k")]
    write(f"{path}/attention.csv", ATTENTION, [decode(key, us=500.0) for key in keys])
    with open(f"{path}/torch.py", "w", encoding="ascii") as file:
        file.write(TORCH_MODULE)
    for seconds, wanted in ((60, [("64k", "1000.00", "cudnn"), ("256k", "", "no memory")]),
                            (0, [("64k", "", "no time"), ("256k", "", "no time")])):
        result = call(sys.executable, f"{ROOT}/bench/gpu/attention_torch.py", f"{path}/attention.csv", seconds,
                      env={"PYTHONPATH": path})
        rows = verdicts.rows_of(path, "attention.csv.torch.csv")
        names = {str(tokens): name for name, tokens in verdicts.CONTEXTS.items()}
        tap.check(result.code == 0 and [(names[row["context"]], row["torch_us"], row["backend"]) for row in rows] == wanted,
                  f"attention_torch.py, {seconds} seconds: the best backend, or why there is none", result)
    (line,) = starting(judged(path, "torch")[1], "PyTorch")
    tap.check(line["measured"] is None and "2 rows: no time" in line["where"], "and verdicts say why", line)


def check_standalone(tap):
    """tests/standalone/cmocka.h has what the tests ask of cmocka that gpu.sh builds."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    include = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(nvcc))), "include")
    if not os.path.exists(f"{include}/cuda_runtime.h"):
        return tap.skip("the kernels' tests without cmocka", "CUDA's headers are not here")
    listed = call("bash", "-c", f"cd {ROOT}; eval \"$(sed -n '/^tests_of()/,/^}}/p' bench/gpu.sh)\"; tests_of").out.split()
    bad = [result for result in (
        call("gcc", "-std=c11", "-D_GNU_SOURCE", "-Werror=implicit-function-declaration", "-fsyntax-only", "-iquote", ROOT, "-I",
             f"{ROOT}/tests/standalone", "-isystem", include, f"{ROOT}/{test}") for test in listed) if result.code != 0]
    return tap.check(len(listed) > 10 and not bad, "the kernels' tests without cmocka", "\n".join(map(str, bad or listed)))


def check_compare(tap, path):
    environment = machine(path, ["before", "after"])
    tests = [f"tests/kernels/cpu/test_{name}.c" for name in ("cpu", "device", "dense", "dense_segments", "groups")]
    sources = ["kernels/a.c", "kernels/cuda/a.cu", "sys/a.c", "tests/kernels/cuda/test_a.c", "bench/gpu/attention.c",
               "bench/gpu/products.c", "tests/kernels/cuda/test_panel.c", *tests]
    keys = [("f16", "128", "32/8", "1", "64k"), ("q8_0", "128", "32/8", "8", "ragged")]
    for name, us in (("before", 100.0), ("after", 80.0)):
        for source in sources:
            os.makedirs(f"{path}/{name}/{os.path.dirname(source)}", exist_ok=True)
            with open(f"{path}/{name}/{source}", "w", encoding="ascii"):
                pass
        write(f"{path}/fake/{name}/attention.csv", ATTENTION, [
            decode(keys[0], us=us), decode(keys[1], us=50.0), {**shape(keys[0]), "kind": "decode: no memory"}])
        write(f"{path}/fake/{name}/products.csv", PRODUCTS, [{**product("Q4_0", 80), "us": 200.0 - us}])

    def compare(*words, **more):
        return call(sys.executable, f"{ROOT}/bench/gpu/compare.py", "-o", f"{path}/compared", *words,
                    env={**environment, **more})

    with open(f"{path}/fake/fails", "w", encoding="ascii") as file:
        file.write("test_panel")  # an old test that today's compilers refuse
    result = compare("-n", 3, f"{path}/before", f"{path}/after")
    os.remove(f"{path}/fake/fails")
    lines = {line[:44].strip(): line[44:].split() for line in result.out.splitlines()[1:]}
    tap.check(result.code == 0 and lines == {
        "decode f16 128 32/8 1 x 64k": "100.00 80.00 us 0.0 0.0 0.800 0.800 0.800 3 faster".split(),
        "decode q8_0 128 32/8 8 x ragged": "50.00 50.00 us 0.0 0.0 1.000 1.000 1.000 3".split(),
        "Q4_0 14336x4096, 1 rows": "100.00 120.00 us 0.0 0.0 1.200 1.200 1.200 3 slower".split()},
              "compare.py: two checkouts in turn", result)
    tap.check("no step is measured" in result.err and "built in" in result.err, "what is not measured is said", result)
    with open(f"{path}/compared/compare.csv", encoding="ascii") as file:
        sides = [row["side"] for row in csv.DictReader(file) if row["row"].startswith("decode f16")]
    tap.check(sides == ["old", "new"] * 3, "old, new, old, new", sides)
    again = ("--no-build", "-n", 1, f"{path}/before", f"{path}/after")
    tap.check(compare(*again, TESTS="1").code == 4 and compare(*again, SAID="cuda: skipped: no driver").code == 4 and
              compare(*again, "products").code == 0, "a test that fails, no GPU: 4")
    for name, ms in (("before", 4), ("after", 2)):
        os.makedirs(f"{path}/{name}/build/release/bin")
        script(f"{path}/{name}/build/release/bin/longspan", LONGSPAN.replace("$MS", str(ms)))
    result = compare("--no-build", "-n", 2, f"{path}/before", f"{path}/after", "step 0,4096")
    lines = [line.split()[2:] for line in result.out.splitlines()[1:]]
    tap.check(result.code == 0 and lines == [f"{depth} 4.00 2.00 ms 0.0 0.0 0.500 0.500 0.500 2".split() for depth in (0, 4096)],
              "a step, with the same model; two rounds are too few for a verdict", result)
    os.remove(f"{path}/fake/after/products.csv")
    result = compare(*again, "products --rows 1")
    tap.check(result.code == 4 and "no GPU" in result.err, "a program that fails: 4, and its words", result)
    tap.check(compare(*again, "steps").code == 2 and compare(f"{path}/before", path).code == 2, "wrong words: 2")


def main():
    tap = Tap()
    check_standalone(tap)
    for check in (check_ok_and_short, check_missing, check_known, check_torch, check_gpu_sh, check_compare):
        with folder() as path:
            check(tap, path)
    tap.finish()


if __name__ == "__main__":
    main()

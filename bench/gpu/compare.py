#!/usr/bin/env python3
"""compare.py [OPTION...] OLD NEW [WHAT...] - two checkouts on one GPU, in turn: what a change was worth.

OLD and NEW are folders of sources (git worktree add, or git archive | tar x). Each is built by bench/gpu.sh (its part build,
one nvcc pass on all processors), its small tests are run on the GPU, and then the two take turns: old, new, old, new ...
Each WHAT is measured by both in every round, as one word of the shell:

    'attention OPTION...'   bench/gpu/attention, with whatever options both checkouts' programs know
    'products OPTION...'    bench/gpu/products
    'step DEPTH,DEPTH'      a decode step of a random model of Llama 8B's shape, LAYERS layers of it (8), TYPE (Q4_0), where the
                            programs can be built; LONGSPAN_RECORD is passed on

Without WHAT: decode by f16 and q8_0 and prompts; five types of weights with 1, 8 and 64 rows; step 0,32768. A row's line has the
median of its rounds, old and new, their spread (greatest less least, of the median), and new over old, round by round: the
median, the least and the greatest; "faster" or "slower" where every round agrees, of three at least, and the median is 1% off.
FOLDER/compare.csv has every value. Standard error tells how long each thing took.

Exit status: 0, 2 wrong words, 4 a build, a test or a program failed. Standard library only.
"""
import argparse
import collections
import csv
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import figures  # noqa: E402  (bench/figures.py)

USUAL = ["attention -k decode,prefill -q -m 20 -t f16,q8_0 -d 128 -H 32/8 -c 16384,65536,262144,ragged",
         "products --types Q4_0,Q8_0,Q4_K,Q6_K,F16 --shapes 14336x4096,4096x14336 --rows 1,8,64",
         "step 0,32768"]
CHECKS = ("tests/kernels/cpu/test_device", "tests/kernels/cpu/test_cpu")  # those that memcheck takes too: short
COLUMNS = [("row", 44, None), ("old", 10, 2), ("new", 10, 2), ("unit", 4, None), ("old_%", 5, 1), ("new_%", 5, 1),
           ("new/old", 7, 3), ("least", 6, 3), ("most", 6, 3), ("rounds", 6, 0), ("", 6, None)]
SIDES = ("old", "new")
LEAST_ROUNDS = 3  # that must agree before a row is called faster or slower


def tell(*words):
    print("#", *words, file=sys.stderr, flush=True)


def run(command, folder, seconds, **environment):
    """Its output; figures.Failed with its last words."""
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=seconds, env={**os.environ, **environment})
    except subprocess.TimeoutExpired as late:
        raise figures.Failed(f"{folder}: {shlex.join(command)}: not done after {seconds} s") from late
    if done.returncode != 0:
        raise figures.Failed(f"{folder}: {shlex.join(command)}\nexit status {done.returncode}: {done.stdout.strip()[-3000:]}")
    return done.stdout


def build(side, folder, work, programs):
    """By this file's gpu.sh: an older one builds no programs. A test that an old checkout cannot build is none of ours."""
    began = time.time()
    script = os.path.join(figures.ROOT, "bench/gpu.sh")
    needed = [f"{folder}/build/gpu/{name}" for name in (*CHECKS, "bench/gpu/attention", "bench/gpu/products")]
    try:
        run([script, "-o", f"{work}/{side}", "build"], folder, 310, GPU_SOURCE=folder, GPU_BUILD="build/gpu",
            GPU_PROGRAMS="1" if programs else "0", GPU_SECONDS="300")
    except figures.Failed as failure:
        if not all(os.path.exists(path) and os.path.getmtime(path) >= began for path in needed):
            raise
        tell(f"{side}: {str(failure).strip().splitlines()[-1]}")
    tell(f"{side}: {folder}: built in {time.time() - began:.0f} s")


def check(side, folder):
    began = time.monotonic()
    for test in CHECKS:
        said = run([f"build/gpu/{test}"], folder, 100, LONGSPAN_TEST_TABLE="cuda")
        if "cuda: skipped: " in said:
            raise figures.Failed(f"{folder}: {test}: {said[said.index('cuda: skipped: '):].splitlines()[0]}")
    tell(f"{side}: small tests pass, {time.monotonic() - began:.0f} s")


def read_csv(path):
    with open(path, newline="", encoding="ascii") as file:
        return list(csv.DictReader(file))


def attention(folder, options, path):
    run(["build/gpu/bench/gpu/attention", "-o", path, *options], folder, 300)
    for row in read_csv(path):
        if row["kind"] not in ("decode", "prefill"):
            continue  # left out: "decode: no memory"
        tuned = "".join(f" {letter}{row[name]}" for letter, name in zip("BSU", ("blocks", "stages", "unit"))
                        if row[name] not in ("", "0"))
        of = "x" if row["kind"] == "decode" else "of"
        yield (f"{row['kind']} {row['type']} {row['head_dim']} {row['heads']}/{row['kv_heads']} {row['batch']} {of} "
               f"{row['name']}{tuned}", "us", float(row["us"]))


def products(folder, options, path):
    run(["build/gpu/bench/gpu/products", "--csv", path, *options], folder, 300)
    for row in read_csv(path):
        yield f"{row['type']} {row['outputs']}x{row['columns']}, {row['rows']} rows", "us", float(row["us"])


def programs_of(folder):
    """The folder of its programs, or None."""
    for place in ("build/gpu/bin", "build/release/bin"):
        if os.access(f"{folder}/{place}/longspan", os.X_OK):
            return f"{folder}/{place}"
    return None


def make_model(folder, work):
    """The one that both have."""
    began = time.monotonic()
    run([f"{programs_of(folder)}/longspan", "model", "make-random", "--shape", f"llama-8b,layers={os.environ.get('LAYERS', '8')}",
         "--type", os.environ.get("TYPE", "Q4_0"), f"{work}/step.gguf"], folder, 200)
    tell(f"a model for the step: {time.monotonic() - began:.0f} s")


def step(folder, options, path):
    model = os.path.join(os.path.dirname(path), "step.gguf")
    device = os.environ.get("DEVICE", "cuda")
    run([f"{programs_of(folder)}/longspan", "bench", "-q", "-m", model, "--device", device, "-d", *options, "-p", "0",
         "-n", "32", "-r", "3", "--kv-memory", "4GiB", "--csv", path], folder, 300)
    for row in read_csv(path):
        yield f"step, depth {row['depth']}", "ms", float(row["ms"])


WAYS = {"attention": attention, "products": products, "step": step}


class Rounds:
    """Every value: {(row, unit): {side: [value, one for each round]}}."""

    def __init__(self, path):
        self.of = collections.defaultdict(lambda: {side: [] for side in SIDES})
        self.file = open(path, "w", newline="", encoding="ascii", buffering=1)
        self.out = csv.writer(self.file)
        self.out.writerow(("row", "unit", "round", "side", "value"))

    def add(self, number, side, told):
        for row, unit, value in told:
            if not value > 0:
                raise figures.Failed(f"{side}: {row}: {value} {unit} is no time")
            self.of[row, unit][side].append(value)
            self.out.writerow((row, unit, number, side, value))

    def print(self):
        table = figures.Table("compare", COLUMNS)
        for (row, unit), values in self.of.items():
            old, new = (values[side] for side in SIDES)
            line = {"row": row, "unit": unit, "rounds": min(len(old), len(new)), "": ""}
            for side, taken in zip(SIDES, (old, new)):
                if taken:
                    line[side] = statistics.median(taken)
                    line[f"{side}_%"] = 100 * (max(taken) - min(taken)) / line[side]
            if len(old) == len(new):
                ratios = [b / a for a, b in zip(old, new)]
                ratio = line["new/old"] = statistics.median(ratios)
                line["least"], line["most"] = min(ratios), max(ratios)
                if len(ratios) >= LEAST_ROUNDS and max(ratios) < 1 and ratio <= 0.99:
                    line[""] = "faster"
                elif len(ratios) >= LEAST_ROUNDS and min(ratios) > 1 and ratio >= 1.01:
                    line[""] = "slower"
            else:
                line[""] = "not in every round of both"
            table.add(line)


def take_turns(folders, wanted, rounds, options, work):
    end, longest = time.monotonic() + options.seconds, 0
    for number in range(1, options.rounds + 1):
        began = time.monotonic()
        if began + longest > end:
            tell(f"{number - 1} of {options.rounds} rounds: --seconds {options.seconds:g} are over")
            return
        for what in wanted:
            way, *words = shlex.split(what)
            for side, folder in zip(SIDES, folders):
                rounds.add(number, side, WAYS[way](folder, words, f"{work}/{side}-{way}.csv"))
        longest = max(longest, time.monotonic() - began)
        tell(f"round {number}: {time.monotonic() - began:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("what", metavar="WHAT", nargs="*")
    parser.add_argument("-n", "--rounds", type=int, default=5)
    parser.add_argument("-s", "--seconds", type=float, default=240,
                        help="for all rounds, builds and tests not counted: none begins that would end later (240)")
    parser.add_argument("-o", "--out", metavar="FOLDER", default="gpu-results")
    parser.add_argument("--no-build", action="store_true", help="as they were built by a call before")
    parser.add_argument("--no-check", action="store_true", help="without the small tests")
    options = parser.parse_args()
    folders, wanted = [os.path.abspath(options.old), os.path.abspath(options.new)], options.what or USUAL
    for what in wanted:
        if not what.split() or what.split()[0] not in WAYS or (what.split()[0] == "step" and len(what.split()) != 2):
            parser.error(f"'{what}': it begins with one of {', '.join(WAYS)}; 'step' has depths")
    for folder in folders:
        if not os.path.exists(f"{folder}/bench/gpu/attention.c"):
            parser.error(f"{folder} is no checkout that has bench/gpu/attention.c")
    if options.rounds < 1 or folders[0] == folders[1]:
        parser.error("there are two checkouts, and a round at least")
    os.makedirs(options.out, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="compare-") as work:
        wants_step = any(what.startswith("step") for what in wanted)
        for side, folder in zip(SIDES, folders):
            if not options.no_build:
                build(side, folder, work, wants_step)
            if not options.no_check:
                check(side, folder)
        lacking = [folder for folder in folders if programs_of(folder) is None]
        if wants_step and lacking:
            tell(f"no step is measured: {' and '.join(lacking)} has no programs (./deps.sh, make)")
            wanted = [what for what in wanted if not what.startswith("step")]
        elif wants_step:
            make_model(folders[1], work)
        rounds = Rounds(os.path.join(options.out, "compare.csv"))
        try:
            take_turns(folders, wanted, rounds, options, work)
        finally:
            rounds.print()


if __name__ == "__main__":
    figures.end(main)

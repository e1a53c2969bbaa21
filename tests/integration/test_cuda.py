#!/usr/bin/env python3
"""test_cuda.py [--tokens 3001] [--device cuda] - the whole path with GPUs: the answers of the CPU, whoever computes.

Workers and attention nodes on CPU and GPU in every mixture find the needle in a text of so many tokens (131009: five
questions take some 131,072 of context), and logits of random models are those of the CPU up to rounding. Prints what
each layout took; --csv FILE has it too, a layout that --seconds left no time for among them. Skips where
`worker --device cuda` says that there is no GPU.
"""
import argparse
import csv
import math
import os
import time

import retrieval
from longspan_test import Tap, call, folder, longspan, make_random, make_retrieval, program, read_logits, write_text

# (name, device of the worker, of the attention nodes). The first is what the logits of the others are compared with.
LAYOUTS = [
    ("CPU worker", "cpu", []),
    ("GPU worker", "GPU", []),
    ("GPU worker, CPU and GPU node", "GPU", ["cpu", "GPU"]),
    ("CPU worker, GPU and CPU node", "cpu", ["GPU", "cpu"]),
]
LONG = 1 << 14  # tokens, from which on a CPU node is what all wait for


def why_not(path, device):
    """None, or what the worker says."""
    result = call(program("worker"), "--coordinator", f"ipc://{path}/nobody", "--device", device, "--join-timeout", 1)
    lines = [line for line in result.err.splitlines() if "device cuda" in line or "cuda:" in line]
    return lines[0] if lines else None


def cluster_file(path, name, worker, nodes, gpu, memory, tokens=0):
    """A GPU's tokens for each on a CPU, and stripes, of which each is a partial of every row, by the text's length."""
    weight, stripe = (31, 4096) if tokens >= LONG else (7, 256)
    n_cpus = os.cpu_count() or 1
    lanes = {"cpu": max(1, n_cpus - 4), "GPU": min(4, n_cpus)}  # a GPU's worker merges partials on the host

    def on(device):
        return f"device: '{gpu if device == 'GPU' else 'cpu'}', threads: {lanes[device]}"

    with open(f"{path}/{name}.yaml", "w", encoding="ascii") as file:
        file.write(f"workers: [{{host: localhost, {on(worker)}}}]\nparallel: {{pipeline: 1, tensor: 1}}\n")
        if nodes:
            file.write("attention_nodes:\n")
        for i, node in enumerate(nodes):
            share = weight if node == "GPU" else 1
            file.write(f"  - {{host: localhost, {on(node)}, memory: {memory}, name: node{i}, weight: {share}}}\n")
        file.write(f"kv: {{memory: {memory}, stripe: {stripe}}}\n")
    return f"{path}/{name}.yaml"


def distance(path_a, path_b):
    """Of two files of logits, relative to the root mean square of the second; NaN is infinite."""
    a, b = read_logits(path_a), read_logits(path_b)
    if len(a) != len(b) or not a:
        return math.inf
    square = sum(y * y for y in b)
    difference = sum((x - y) * (x - y) for x, y in zip(a, b))
    return math.sqrt(difference / square) if difference == difference else math.inf


COLUMNS = ("layout", "tokens", "result", "prefill_s", "prefill_tokens_per_s", "decode_tokens_per_s", "command_s")


def find(tap, path, options, layout, answer, seconds):
    """One layout's row."""
    (name, worker, nodes), row = layout, {"layout": layout[0], "tokens": options.tokens}
    if seconds <= 0:
        tap.skip(f"{options.tokens} tokens: {name}", f"no time is left of --seconds {options.seconds}")
        return {**row, "result": "no time"}
    where = cluster_file(path, "layout", worker, nodes, options.device, "4GiB", options.tokens)
    result = longspan("run", "-m", f"{path}/retrieval.gguf", "--cluster", where, "-f", f"{path}/prompt", "-n", 8,
                      "--ignore-eos", "--json", "-q", "--ctx", options.tokens + 256, timeout=min(300, seconds))
    row["command_s"] = f"{result.seconds:.1f}"
    if result.code == "hang" and seconds < 300:
        tap.skip(f"{options.tokens} tokens: {name}", f"cut off after {result.seconds:.0f} s, by --seconds {options.seconds}")
        return {**row, "result": "no time"}
    right = result.code == 0 and result.json()["text"] == answer
    tap.check(right, f"{options.tokens} tokens, the needle is found: {name}", result)
    timings = result.json()["timings"] if result.code == 0 else {}
    return {**row, "result": "passed" if right else "failed",
            **{key: round(timings[key], 2) for key in COLUMNS if key in timings}}


def needles(tap, path, options):
    """Layouts with attention nodes first: they are the whole path."""
    make_retrieval(f"{path}/retrieval.gguf")
    text, answers = retrieval.build(options.tokens, 3)
    name, end = "cedar", time.monotonic() + options.seconds
    with open(f"{path}/prompt", "w", encoding="ascii") as file:
        file.write(f"{text} The code of {name} is ")
    rows = []
    print(f"# {'layout':32} {'prefill s':>10} {'tokens/s':>10} {'decode/s':>10} {'command s':>10}")
    for layout in sorted(LAYOUTS, key=lambda layout: not layout[2]):
        if (options.gpu_workers_only and layout[1] != "GPU") or (options.mixed_only and not layout[2]):
            continue
        row = find(tap, path, options, layout, answers[name], end - time.monotonic())
        print(f"# {row['layout']:32}" + "".join(f" {row.get(key, '-'):>10}" for key in COLUMNS[3:]), flush=True)
        rows.append(row)
        if options.csv:
            with open(options.csv, "w", newline="", encoding="ascii") as file:
                out = csv.DictWriter(file, COLUMNS)
                out.writeheader()
                out.writerows(rows)


# 8-bit activations round apart where sums differ in their last bits, and tensor cores take bf16 or f16.
LIMITS = {"F32": 2e-2, "F16": 2e-2, "Q8_0": 6e-2, "Q4_K": 6e-2}
MODELS = [
    ("F32", "tiny"), ("F16", "tiny"), ("Q8_0", "tiny"),
    ("Q4_K", "tiny,hidden=512,ffn=768,heads=8,kv-heads=4,head-dim=64"),  # super-blocks of 256
    ("F16", "tiny,arch=qwen2,rope-scaling=yarn,rope-factor=4,rope-context=256"), ("F32", "tiny,arch=qwen3"),
    ("Q8_0", "tiny,arch=gemma2,window=200"),
    ("F32", "tiny,arch=gemma3,layers=7,window=200,rope-base=1000000,rope-scaling=linear,rope-factor=8"),
]


def logits(tap, path, options):
    prompt = write_text(f"{path}/text", 700, 9)
    for kind, shape in MODELS:
        limit, kind = LIMITS[kind], f"{kind} {shape}"
        try:
            model = make_random(f"{path}/{kind}.gguf", shape, kind.split()[0])
        except RuntimeError as error:
            tap.skip(f"logits of {kind}", str(error).splitlines()[-1])
            continue
        for i, (layout, worker, nodes) in enumerate(LAYOUTS[:3]):
            where = cluster_file(path, f"logits{i}", worker, nodes, options.device, "1GiB")
            result = longspan("run", "-m", model, "--cluster", where, "-f", prompt, "-n", 1, "--ignore-eos", "-q",
                              "--dump-logits", f"{path}/logits{i}")
            if not tap.check(result.code == 0, f"logits of {kind}: {layout}", result) or i == 0:
                continue
            off = distance(f"{path}/logits{i}", f"{path}/logits0")
            tap.check(off < limit, f"{kind}: {layout} is off by {off:.2e}, less than {limit:g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=3001)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--needles-only", action="store_true", help="no logits")
    parser.add_argument("--gpu-workers-only", action="store_true", help="needles: leave out what a CPU takes minutes for")
    parser.add_argument("--mixed-only", action="store_true", help="needles: only layouts with attention nodes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for the needles, all layouts together")
    parser.add_argument("--csv", metavar="FILE", help="needles: a row for each layout")
    parser.add_argument("--force", action="store_true", help="go on without a GPU (with --device cpu: the test itself)")
    options = parser.parse_args()
    tap = Tap()
    with folder() as path:
        missing = why_not(path, options.device)
        if missing is not None and not options.force:
            tap.skip("GPUs", missing)
        else:
            needles(tap, path, options)
            if not options.needles_only:
                logits(tap, path, options)
    tap.finish()


if __name__ == "__main__":
    main()

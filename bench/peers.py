#!/usr/bin/env python3
"""peers.py - other engines beside Longspan: the same GGUF file, the same KV type, the same number of threads, in turn.

    bench/peers.py --models DIR --ik-depth PATH [--ik-bench PATH] [--llama-depth PATH] [--llama-bench PATH]

A peer is known by programs that its user has built:
    --NAME-bench   its own benchmark: -m FILE -t N -p N -n N -r 1 -o json, for prompts and decode at depth 0; of
                   ik_llama.cpp also with -rtr 1, which repacks F16 to BF16
    --NAME-depth   a driver that measures behind a filled KV cache: -m FILE -t N -ctk T -d DEPTH | -s D+D+... -n STEPS
                   -r 1 [-p PROMPT], which prints "ms/step med X" and "ppN Y tok/s"; used for everything that the
                   first cannot do, and for all of it where the first is not given

Each row is measured in rounds: ours, then each peer, then ours again and so on, so that a machine whose bandwidth moves
moves for all. A round gives one ratio (above 1: Longspan is faster); told are the median, least and largest of them,
beside the bandwidth that was probed and how near Longspan came to the lower limit of that moment. --json FILE is written
after every round; rows of other calls stay in it, so that the table can be made in several goes (--only), also the rounds
of one row (--add).
"""
import argparse
import json
import os
import re
import sys

import figures

NAMES = ("ik", "llama")
RAGGED = "256+512+1024+2048+4096+8192+16384+32768"
# What was wanted (docs/performance.md): a ratio over a peer, or being that near (percent) to the lower limit instead.
ROWS = {}


def row(name, kind, kv="f16", depth="0", prompt=0, steps=16, batch=1, bf16=False, **targets):
    ROWS[name] = {"kind": kind, "kv": kv, "depth": depth, "prompt": prompt, "steps": steps, "batch": batch,
                  "bf16": bf16, "targets": targets}


for _kind in ("F16", "Q8_0", "Q4_0", "Q4_K"):
    row(f"decode-0-{_kind}", _kind, best=0.97)
    row(f"prompt-512-{_kind}", _kind, prompt=512, steps=0, ik=1.05 if _kind == "F16" else 0.95)
row("prompt-512-F16-bf16", "F16", prompt=512, steps=0, bf16=True)  # both round products to bf16; ik_llama.cpp when it repacks
for _kv in ("f16", "bf16"):
    row(f"prompt-512-at-16k-{_kv}", "Q4_0", _kv, "16384", prompt=512, steps=0, ik=1.2)
row("decode-32k-f16", "Q4_0", "f16", "32768", steps=8, ik=3.5, llama=12, limit=85)
row("decode-131k-f16", "Q4_0", "f16", "131072", steps=4, ik=3.5, llama=12, limit=85)
row("decode-65k-q8_0", "Q4_0", "q8_0", "65536", steps=8, ik=2)
row("ragged-8-f16", "Q4_0", "f16", RAGGED, steps=4, ik=10)
row("ragged-8-q8_0", "Q4_0", "q8_0", RAGGED, steps=4, ik=4)
row("uniform-16x2048-f16", "Q4_0", "f16", "2048", steps=4, batch=16, ik=5)

COLUMNS = [("row", 22, None), ("ours", 9, 2), ("ik", 9, 2), ("llama", 9, 2), ("unit", 8, None),
           ("x_ik", 6, 2), ("x_ik_min", 8, 2), ("x_ik_max", 8, 2),
           ("x_llama", 7, 2), ("x_llama_min", 11, 2), ("x_llama_max", 11, 2),
           ("read_GB_s", 9, 1), ("limit_percent", 13, 0), ("target", 0, None), ("result", 0, None)]


def sequences(spec):
    return "+".join([spec["depth"]] * spec["batch"])


def ours(spec, model, threads):
    """(milliseconds of a step or of the prompt, GB/s probed, percent of the limit)"""
    options = ["-r", 1, "-t", threads, "--kv-type", spec["kv"], *(["--kernels", "bf16"] if spec["bf16"] else [])]
    if spec["prompt"]:
        options += ["-d", spec["depth"], "-p", spec["prompt"], "-n", 0]
    elif "+" in sequences(spec):
        options += ["-d", "", "-n", spec["steps"], "--ragged", sequences(spec)]
    else:
        options += ["-d", spec["depth"], "-p", 0, "-n", spec["steps"]]
    told = figures.longspan_bench(model, *options)["speed"]["rows"][0]
    return told["ms"], told["read_GB_s"], told["limit_percent"]


def number(path, pattern, text):
    found = re.search(pattern, text)
    if found is None:
        raise figures.Failed(f"{path} printed no time: {text[-500:]}")
    return float(found[1])


def peer_bench(path, spec, model, threads):
    text = figures.run([path, "-m", model, "-t", threads, "-p", spec["prompt"], "-n", spec["steps"], "-r", 1, "-fa", 1,
                        *(["-rtr", 1] if spec["bf16"] else []), "-o", "json"])
    return (spec["prompt"] or 1) / number(path, r'"avg_ts": ([0-9.]+)', text) * 1e3


def peer_depth(path, spec, model, threads):
    several = "+" in sequences(spec)
    text = figures.run([path, "-m", model, "-t", threads, "-ctk", spec["kv"], "-ctv", spec["kv"], "-r", 1,
                        "-n", spec["steps"] or 1, "-p", spec["prompt"], *(["-s", sequences(spec)] if several else
                                                                          ["-d", spec["depth"]])])
    if spec["prompt"]:
        return spec["prompt"] / number(path, r" pp\d+ ([0-9.]+) tok/s", text) * 1e3
    return number(path, r"ms/step med ([0-9.]+)", text)


def peer(options, name, spec, model):
    """A function that measures the peer once, or None."""
    bench, depth = (getattr(options, f"{name}_{kind}") for kind in ("bench", "depth"))
    if spec["bf16"] and name != "ik":
        return None
    if bench and spec["depth"] == "0" and spec["batch"] == 1:
        return lambda: peer_bench(bench, spec, model, options.threads)
    return (lambda: peer_depth(depth, spec, model, options.threads)) if depth else None


def judge(told, targets):
    """The target in words, and whether it is met; None where a peer that it needs was not measured."""
    said, checks = [], []
    ratios = {name: told.get(f"x_{name}") for name in NAMES}
    near = "limit" in targets and told["limit_percent"] >= targets["limit"]
    for name in NAMES:
        if name in targets:
            said.append(f"{targets[name]:g} x {name}")
            instead = name == "ik" and near  # whichever is less
            checks.append(None if ratios[name] is None else ratios[name] >= targets[name] or instead)
    if "limit" in targets:
        said.append(f"(or {targets['limit']}% of the limit instead of x ik)")
    if "best" in targets:
        said.append(f"{targets['best']:g} x the better one")
        known = [ratio for ratio in ratios.values() if ratio is not None]
        checks.append(min(known) >= targets["best"] if known else None)
    result = "short" if False in checks else "-" if None in checks or not checks else "ok"
    return ", ".join(said).replace(", (", " ("), result


def summary(name, taken, threads):
    """A row of the table, of the rounds that were taken: {"ours", "read_GB_s", "limit_percent", peers...: a value each}."""
    spec = ROWS[name]
    show = (lambda ms: spec["prompt"] * 1e3 / ms) if spec["prompt"] else (lambda ms: ms)
    middle = lambda what: figures.spread([one[what] for one in taken])[0]
    told = {"row": name, "ours": show(middle("ours")), "unit": "tokens/s" if spec["prompt"] else "ms/step",
            "read_GB_s": middle("read_GB_s"), "limit_percent": middle("limit_percent"), "rounds": len(taken),
            "kv": spec["kv"], "kind": spec["kind"], "threads": threads, "taken": taken}
    for who in NAMES:
        both = [one for one in taken if who in one]
        if both:
            told[who] = show(figures.spread([one[who] for one in both])[0])
            told[f"x_{who}"], told[f"x_{who}_min"], told[f"x_{who}_max"] = figures.spread(
                [one[who] / one["ours"] for one in both])
    told["target"], told["result"] = judge(told, spec["targets"])
    return told


def measure(options, name, table):
    spec = ROWS[name]
    model = figures.model(options.models, spec["kind"])
    peers = {who: run for who in NAMES if (run := peer(options, who, spec, model)) is not None}
    old = table.before({"row": name}) if options.add else None
    taken = old.get("taken", []) if old else []
    for round_number in range(options.rounds):
        print(f"{name}: round {round_number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        ms, read, limit = ours(spec, model, options.threads)
        taken.append({"ours": ms, "read_GB_s": read, "limit_percent": limit, **{who: run() for who, run in peers.items()}})
        table.keep(summary(name, taken, options.threads))
    return summary(name, taken, options.threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="DIR", help="bench-1b-TYPE.gguf files; made when missing")
    for name in NAMES:
        parser.add_argument(f"--{name}-bench", metavar="PATH", help="the peer's own benchmark")
        parser.add_argument(f"--{name}-depth", metavar="PATH", help="a driver that measures at any depth")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every engine (all processors)")
    parser.add_argument("--rounds", type=int, default=5, help="of each row (5)")
    parser.add_argument("--only", action="append", metavar="ROW", help="measure these rows (may be repeated)")
    parser.add_argument("--list", action="store_true", help="print the names of all rows")
    parser.add_argument("--add", action="store_true", help="to the rounds that --json FILE has of a row, not in their place")
    parser.add_argument("--json", metavar="FILE", help="write the table here, keeping rows that it has already")
    options = parser.parse_args()
    if options.list:
        print("\n".join(ROWS))
        return 0
    unknown = sorted(set(options.only or []) - set(ROWS))
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; --list names them")
    if not any(getattr(options, f"{name}_{kind}") for name in NAMES for kind in ("bench", "depth")):
        parser.error("no peer: name at least one program of one")
    table = figures.Table("peers", COLUMNS, options.json, ("row",))
    for name in ROWS:
        if not options.only or name in options.only:
            table.add(measure(options, name, table))
    return 1 if any(told["result"] == "short" for told in table.shown) else 0


if __name__ == "__main__":
    figures.end(main)

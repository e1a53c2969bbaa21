#!/usr/bin/env python3
"""check.py - the acceptance figures that need no other engine, one line each: name, value, target, ok or
short, and for the worst of several what it was.

    bench/check.py --models DIR [--json FILE] [--only GROUP]   (make bench-check; under 4 minutes once the model is there)

Standard error tells what each group took. --json FILE is written with every line and keeps those of other calls, so that
the groups can be measured one by one. Exit status: 0 all ok, 1 one is short, 4 a program failed. Have nothing else running.
"""
import argparse
import statistics
import sys
import tempfile
import time

import cluster
import figures
import step

COLUMNS = [("name", 52, None), ("value", 8, 3), ("target", 10, None), ("result", 6, None), ("where", 0, None)]

class Checks:
    def __init__(self, path):
        self.table = figures.Table("bench-check", COLUMNS, path, ("name",))

    def at_least(self, name, value, target, where=""):
        self.add(name, value, f">= {target:g}", value >= target, where)

    def at_most(self, name, value, target):
        self.add(name, value, f"<= {target:g}", value <= target)

    def add(self, name, value, target, met, where=""):
        self.table.add({"name": name, "value": value, "target": target, "result": "ok" if met else "short", "where": where})


def attention(checks, _):
    """The share of the lower limit, the least of all contexts from 16k and of all batches; and how even it is from 4k."""
    for kv, target in (("f16", 0.85), ("q8_0", 0.70)):
        # The least of many rows counts, and rows are compared: each is measured in three passes, some seconds apart.
        passes = [figures.program("attention", "--kv-type", kv, "--runs", 7)["rows"] for _ in range(3)]
        told = {}
        for row in (row for rows in passes for row in rows):
            told.setdefault((row["lanes"], row["dim"]), {}).setdefault(row["batch"], []).append(row["of_limit"])
        for lanes in sorted({lanes for lanes, _ in told}):
            for dim in (64, 128):
                shares = {batch: statistics.median(of_limit) for batch, of_limit in told[lanes, dim].items()}
                worst = min((batch for batch in shares if batch != "4k"), key=shares.get)
                checks.at_least(f"attention {kv}, head_dim {dim}, {lanes:g} lanes, worst batch", shares[worst], target, worst)
                single = [share for batch, share in shares.items() if "+" not in batch and "x" not in batch]
                checks.at_least(f"  {kv}, {dim}, {lanes:g} lanes: least over greatest, 4k to 128k", min(single) / max(single), 0.85)


def schedule(checks, _):
    told = {row["batch"]: row["speed_up"] for row in figures.program("attention_splits")["rows"]}
    checks.at_least("lean over the best fixed split, worst set", told["worst"], 0.98)


def exchange(checks, _):
    rows = {row["way"]: row for row in figures.program("exchange", "--quick")["rows"] if row["KiB"] == 16}
    checks.at_most("exchange 16 KiB by the ring, us", rows["ring"]["median_us"], 20)
    for way in ("ipc", "tcp"):
        checks.at_most(f"exchange 16 KiB over {way}, of a plain pair", rows[way]["to_plain"], 0.7)
    for way in ("ring", "ipc", "tcp"):
        checks.at_most(f"exchange idle, percent of a core, {way}", rows[way]["idle_percent"], 1)


def layouts(checks, options):
    """Each layout is measured where it is asked about only: filling 32k tokens for two sequences takes seconds each time."""
    with tempfile.TemporaryDirectory() as folder:
        ways = cluster.layouts(folder, 5698)
        only = {cluster.ONE: ["-b", 1], "tensor 2": ["-b", 1], "pipeline 2": ["-b", 2],
                "worker and node, ring": ["-b", 1, "-d", 32768]}
        ways = {name: ways[name] + cases for name, cases in only.items()}
        rows = cluster.compare(figures.model(options.models, "Q4_0"), ways, [0, 32768], [1, 2], 3, 8, 2)
        told = {(row["layout"], row["depth"], row["sequences"]): row for row in rows}
    for depth in ("0", "32768"):
        checks.at_least(f"tensor 2 over one process, depth {depth}", told["tensor 2", depth, 1]["ratio"], 0.9)
        checks.at_least(f"pipeline 2, 2 requests, over one process, 1, depth {depth}",
                        told["pipeline 2", depth, 2]["tokens_ratio"], 0.9)
    checks.at_most("worker and node over one process, time", 1 / told["worker and node, ring", "32768", 1]["ratio"], 1.15)


def batches(checks, options):
    """A ragged batch beside a uniform one of the same total length, and the memory that both took."""
    told = figures.longspan_bench(figures.model(options.models, "Q4_0"), "-d", "", "-n", 4, "-r", 5, "--ragged", step.RAGGED,
                                  "--ragged", step.UNIFORM)
    ragged, uniform = (row["ms"] for row in told["speed"]["rows"])
    checks.at_most("ragged over uniform batch, time", max(ragged / uniform, uniform / ragged), 1.10)
    checks.at_most("peak memory over weights + KV, 65,280 tokens", told["memory"]["rows"][-1]["peak_ratio"], 1.10)


def memory(checks, options):
    """Where the cache is least: one prompt of a chunk."""
    told = figures.longspan_bench(figures.model(options.models, "Q4_0"), "-d", 0, "-p", 512, "-n", 4, "-r", 1)
    checks.at_most("peak memory over weights + KV, 512 tokens", told["memory"]["rows"][-1]["peak_ratio"], 1.10)


GROUPS = {"attention": attention, "schedule": schedule, "exchange": exchange, "batches": batches, "memory": memory,
          "layouts": layouts}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="DIR", help="bench-1b-TYPE.gguf files; made when missing")
    parser.add_argument("--only", action="append", choices=sorted(GROUPS), help="these figures (may be repeated)")
    parser.add_argument("--json", metavar="FILE", help="write the lines here, keeping those that it has already")
    options = parser.parse_args()
    checks = Checks(options.json)
    try:
        for name, check in GROUPS.items():
            if options.only and name not in options.only:
                continue
            began = time.monotonic()
            check(checks, options)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    except figures.Failed as failure:
        print(f"check.py: {failure}", file=sys.stderr)
        return 4
    return 1 if any(row["result"] == "short" for row in checks.table.shown) else 0


if __name__ == "__main__":
    sys.exit(main())

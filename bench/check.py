#!/usr/bin/env python3
"""check.py - the acceptance figures that need no other engine, one line each: name, value, target, ok or short, and for the
worst of several what it was.

    bench/check.py --models DIR [--json FILE] [--only GROUP]   (make bench-check; under 4 minutes once the model is there)

A value is the median of `takes` takes, of which `least` and `most` are the smallest and the largest; where these are not
given, it is one that a program made of many. On a shared machine a bad second disturbs some takes and not the others. So
what is compared takes turns: the batches of attention piece by piece (bench/attention), the ragged and the uniform batch
in one process, each beside the two of the other kind before and after it. Attention and the exchange are taken three times,
batches six, layouts four times at depth 0 and twice at 32k; and what is unsettled then again, together with what it took
turns with (but the exchange): where the middle half of its takes is wider than 3% of their median, up to nine takes, as long
as the group has time left (standard error says what stayed unsettled). Whether something is taken again depends on that width
alone, not on the value or its target, and every take counts.

Standard error tells what each group took, and what went on beside it: have nothing else running. --json FILE is written
with every line and keeps those of other calls, so that the groups can be measured one by one. Exit status: 0 all ok, 1 one
is short, 4 a program failed.
"""
import argparse
import statistics
import sys
import tempfile
import time

import cluster
import figures
import step

COLUMNS = [("name", 52, None), ("value", 8, 3), ("least", 8, 3), ("most", 8, 3), ("takes", 5, 0), ("target", 10, None),
           ("result", 6, None), ("where", 0, None)]

MOST_TAKES = 9
SETTLED = 0.03  # the middle half of the takes, of their median


class Checks:
    def __init__(self, path):
        self.table = figures.Table("bench-check", COLUMNS, path, ("name",))

    def at_least(self, name, value, target, takes=(), where=""):
        self.add(name, value, f">= {target:g}", value >= target, takes, where)

    def at_most(self, name, value, target, takes=()):
        self.add(name, value, f"<= {target:g}", value <= target, takes)

    def between(self, name, value, least, most, takes):
        self.add(name, value, f"{least:g} to {most:g}", least <= value <= most, takes)

    def add(self, name, value, target, met, takes, where=""):
        least, most = (min(takes), max(takes)) if takes else (None, None)
        self.table.add({"name": name, "value": value, "least": least, "most": most, "takes": len(takes) or 1,
                        "target": target, "result": "ok" if met else "short", "where": where})


class Takes:
    """Values by what they are of. `seconds`: how long from its beginning on a group has time to take."""

    def __init__(self, seconds):
        self.of, self.end = {}, time.monotonic() + seconds

    def add(self, key, value):
        self.of.setdefault(key, []).append(value)

    def median(self, key):
        return statistics.median(self.of[key])

    def width(self, key):
        lower, middle, upper = statistics.quantiles(self.of[key], n=4, method="inclusive")
        return (upper - lower) / middle

    def unsettled(self, cost):
        """What to take again, the widest first. cost: the seconds that a take of this key would need. What stays
        unsettled is said once there is nothing more."""
        wide = sorted((key for key in self.of if self.width(key) > SETTLED), key=self.width, reverse=True)
        left = self.end - time.monotonic()
        again = [key for key in wide if len(self.of[key]) < MOST_TAKES and cost(key) <= left]
        if wide and not again:
            print("unsettled:", "; ".join(" ".join(map(str, key)) for key in wide), file=sys.stderr)
        return again


ATTENTION_TARGETS = {"f16": 0.85, "q8_0": 0.70}
DIMS = (64, 128)
DEEP = 32768


def attention_pass(takes, kv, dim):
    """All batches, which take turns in it: what is compared is of the same seconds."""
    for row in figures.program("attention", "--kv-type", kv, "--head-dim", dim, "--runs", 15)["rows"]:
        takes.add((kv, dim, row["lanes"], row["batch"]), row["of_limit"])


def attention(checks, _):
    """The share of the lower limit, the least of all contexts from 16k and of all batches; and how even it is from 4k."""
    takes = Takes(52)
    for _ in range(3):
        for kv in ATTENTION_TARGETS:
            for dim in DIMS:
                attention_pass(takes, kv, dim)
    while again := takes.unsettled(lambda _: 4):
        attention_pass(takes, *again[0][:2])
    for kv, target in ATTENTION_TARGETS.items():
        for lanes in sorted({key[2] for key in takes.of}):
            for dim in DIMS:
                rows = {key[3]: key for key in takes.of if key[:3] == (kv, dim, lanes)}
                worst = min((key for batch, key in rows.items() if batch != "4k"), key=takes.median)
                checks.at_least(f"attention {kv}, head_dim {dim}, {lanes:g} lanes, worst batch", takes.median(worst), target,
                                takes.of[worst], worst[3])
                single = [key for batch, key in rows.items() if "+" not in batch and "x" not in batch]
                medians = [takes.median(key) for key in single]
                passes = [min(values) / max(values) for values in zip(*(takes.of[key] for key in single))]
                checks.at_least(f"  {kv}, {dim}, {lanes:g} lanes: least over greatest, 4k to 128k",
                                min(medians) / max(medians), 0.85, passes)


def schedule(checks, _):
    told = {row["batch"]: row["speed_up"] for row in figures.program("attention_splits", "--runs", 4)["rows"]}
    checks.at_least("lean over the best fixed split, worst set", told["worst"], 0.98)


def exchange(checks, _):
    takes = Takes(0)
    for _ in range(3):
        for row in figures.program("exchange", "--quick", "--runs", 3)["rows"]:
            for what in ("median_us", "to_plain", "idle_percent"):
                takes.add((row["way"], what), row[what])

    def at_most(name, way, what, target):
        checks.at_most(name, takes.median((way, what)), target, takes.of[way, what])

    at_most("exchange 16 KiB by the ring, us", "ring", "median_us", 20)
    for way in ("ipc", "tcp"):
        at_most(f"exchange 16 KiB over {way}, of a plain pair", way, "to_plain", 0.7)
    for way in ("ring", "ipc", "tcp"):
        at_most(f"exchange idle, percent of a core, {way}", way, "idle_percent", 1)


def step_ms(options, layout, depths, sequences):
    """By depth."""
    told = figures.longspan_bench(figures.model(options.models, "Q4_0"), "-p", 0, "-d", ",".join(map(str, depths)), "-b",
                                  sequences, "-n", 2, "-r", 16, *layout)
    return {int(row["depth"]): row["ms"] for row in told["speed"]["rows"]}


def layouts(checks, options):
    """Beside one process in the same take. At depth 32k most of a take is the filling of caches."""
    takes, took = Takes(75), {}
    with tempfile.TemporaryDirectory() as folder:
        ways = cluster.layouts(folder, 5698)

        def take(depths):
            began = time.monotonic()
            one = step_ms(options, ways[cluster.ONE], depths, 1)
            tensor = step_ms(options, ways["tensor 2"], depths, 1)
            pipeline = step_ms(options, ways["pipeline 2"], depths, 2)
            for depth in depths:
                takes.add((depth, "tensor 2"), one[depth] / tensor[depth])
                takes.add((depth, "pipeline 2"), 2 * one[depth] / pipeline[depth])
            if DEEP in depths:
                node = step_ms(options, ways["worker and node, ring"], [DEEP], 1)
                takes.add((DEEP, "node"), node[DEEP] / one[DEEP])
            took[depths[-1]] = time.monotonic() - began

        for depths in ([0, DEEP], [0], [0, DEEP], [0]):
            take(depths)
        while again := takes.unsettled(lambda key: took[key[0]]):
            take(sorted({0, *(depth for depth, _ in again)}))
    for depth in (0, DEEP):
        for way, name in (("tensor 2", "tensor 2 over one process"),
                          ("pipeline 2", "pipeline 2, 2 requests, over one process, 1")):
            checks.at_least(f"{name}, depth {depth}", takes.median((depth, way)), 0.9, takes.of[depth, way])
    checks.at_most("worker and node over one process, time", takes.median((DEEP, "node")), 1.15, takes.of[DEEP, "node"])


def batches(checks, options):
    """A ragged batch and a uniform one of the same total length in turns, each beside the mean of its two neighbours, and
    the memory that they took."""
    takes, peaks, took = Takes(45), [], 0
    key, order = ("ragged over uniform",), [step.RAGGED, step.UNIFORM]
    while len(peaks) < 2 or takes.unsettled(lambda _: took):
        began, turns = time.monotonic(), [order[i % 2] for i in range(5)]
        told = figures.longspan_bench(figures.model(options.models, "Q4_0"), "-d", "", "-n", 2, "-r", 5,
                                      *(word for batch in turns for word in ("--ragged", batch)))
        ms = [row["ms"] for row in told["speed"]["rows"]]
        for i in range(1, len(turns) - 1):
            ratio = 2 * ms[i] / (ms[i - 1] + ms[i + 1])
            takes.add(key, ratio if turns[i] == step.RAGGED else 1 / ratio)
        peaks.append(told["memory"]["rows"][-1]["peak_ratio"])
        order.reverse()
        took = time.monotonic() - began
    checks.between("ragged over uniform batch, time", takes.median(key), 0.9, 1.1, takes.of[key])
    checks.at_most("peak memory over weights + KV, 65,280 tokens", max(peaks), 1.10, peaks)


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
    for name, check in GROUPS.items():
        if options.only and name not in options.only:
            continue
        began, beside = time.monotonic(), figures.Beside()
        check(checks, options)
        print(f"{name}: {time.monotonic() - began:.0f} s; {beside}", file=sys.stderr, flush=True)
    return 1 if any(row["result"] == "short" for row in checks.table.shown) else 0


if __name__ == "__main__":
    figures.end(main)

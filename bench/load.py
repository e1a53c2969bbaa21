#!/usr/bin/env python3
"""load.py - how long a model takes to load, beside how long its file takes to read.

    bench/load.py --models DIR [--kinds Q8_0,F16] [--rounds 3] [--layouts '--tensor 2']

In each round by turns: the file is read from a cold page cache in blocks of 4 MiB (what dd does); `longspan run` with a cold
cache; with a warm one. "load" is from the coordinator's start until all ranks are ready: processes, tokenizer, and weights that
are read, cut, and packed for the kernels. Pages of the file are dropped with posix_fadvise, which needs no rights; a disk that is
itself cached elsewhere (a virtual machine's) is not colder for that, so the plain read stands beside.
"""
import argparse
import json
import os
import shlex
import time

import figures

COLUMNS = [("weights", 7, None), ("layout", 16, None), ("GB", 6, 2), ("read_s", 7, 2), ("cold_s", 7, 2), ("warm_s", 7, 2),
           ("read_GB_s", 9, 2), ("cold_GB_s", 9, 2), ("cold_to_read", 12, 2)]
BLOCK = 4 << 20


def drop(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())  # only clean pages go
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_s(path):
    began = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        while file.read(BLOCK):
            pass
    return time.monotonic() - began


def load_s(path, options):
    told = figures.run([os.path.join(figures.BIN, "longspan"), "run", "-m", path, "-p", "a", "-n", 1, "-q", "--json",
                        *options])
    return json.loads(told)["timings"]["load_s"]


def measure(path, rounds, options):
    times = {"read_s": [], "cold_s": [], "warm_s": []}
    for _ in range(rounds):
        drop(path)
        times["read_s"].append(read_s(path))
        drop(path)
        times["cold_s"].append(load_s(path, options))
        times["warm_s"].append(load_s(path, options))
    return {name: figures.spread(values)[0] for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="DIR", help="bench-1b-TYPE.gguf files; made when missing")
    parser.add_argument("--kinds", default="Q8_0,F16", help="weight types (Q8_0,F16)")
    parser.add_argument("--layouts", default=",--tensor 2", help="options of longspan run, by commas (none, --tensor 2)")
    parser.add_argument("--rounds", type=int, default=3, help="medians are of so many (3)")
    parser.add_argument("--json", metavar="FILE", help="the table, too")
    options = parser.parse_args()
    table = figures.Table("Loading, medians", COLUMNS, options.json, ("weights", "layout"))
    for kind in options.kinds.split(","):
        path = figures.model(options.models, kind)
        n = os.path.getsize(path) / 1e9
        for layout in options.layouts.split(","):
            row = measure(path, options.rounds, shlex.split(layout))
            table.add({"weights": kind, "layout": layout or "one process", "GB": n, **row, "read_GB_s": n / row["read_s"],
                       "cold_GB_s": n / row["cold_s"], "cold_to_read": row["cold_s"] / row["read_s"]})


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""step.py - `longspan bench` over weight types and KV types: tokens/s by depth, ragged beside uniform batches of the
same total length, and peak memory beside weights and KV.

    bench/step.py --models DIR [--kinds F16,Q4_0] [--kvs f16,q8_0] [--depths 0,4096,32768] [--only prefill]

What is measured is the product itself, one process with all lanes, through the path that a user's request takes.
Every (weight type, KV type) takes minutes; --only, --kinds, --kvs and --depths cut it in pieces, whose rows come together in
--json FILE: a row takes the place of the same row of a call before. peak_ratio is of the process that measured the row.
"""
import argparse
import sys

import figures

RAGGED = "256+512+1024+2048+4096+8192+16384+32768"  # 65,280 tokens
UNIFORM = "+".join(["8160"] * 8)

COLUMNS = [("weights", 7, None), ("kv", 5, None), ("phase", 7, None), ("sequences", 9, 0), ("depth", 18, None),
           ("ms", 9, 2), ("min_ms", 9, 2), ("max_ms", 9, 2), ("tokens_s", 8, 1), ("GB_s", 6, 1), ("read_GB_s", 9, 1),
           ("limit_percent", 13, 0), ("limit_by", 10, None), ("peak_ratio", 10, 3)]


KEY = ("weights", "kv", "phase", "sequences", "depth")


def cases(options):
    """Options of longspan bench for each kind of row."""
    return {"prefill": ["-d", options.depths, "-p", options.prompt, "-n", 0],
            "decode": ["-d", options.depths, "-p", 0, "-n", options.tokens],
            "batches": ["-d", "", "-n", options.tokens, "--ragged", RAGGED, "--ragged", UNIFORM]}


def bench(options, table, kind, kv, case):
    print(f"{kind}, {kv} KV: {case}", file=sys.stderr, flush=True)
    told = figures.longspan_bench(figures.model(options.models, kind), "-r", options.runs, "--kv-type", kv,
                                  *(["-t", options.threads] if options.threads else []), *cases(options)[case])
    if not table.shown:
        for name in ("machine", "lanes", "f32_GFLOP_s", "int8_Gop_s"):
            table.note(name, told["speed"]["notes"].get(name))
    for row in told["speed"]["rows"]:
        table.add({**row, "weights": kind, "kv": kv, "peak_ratio": told["memory"]["rows"][-1]["peak_ratio"]})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="DIR", help="bench-1b-TYPE.gguf files; made when missing")
    parser.add_argument("--kinds", default="F16,Q8_0,Q4_0,Q4_K", help="weight types (F16,Q8_0,Q4_0,Q4_K)")
    parser.add_argument("--kvs", default="f16,q8_0", help="KV types (f16,q8_0)")
    parser.add_argument("--depths", default="0,4096,32768", help="as of longspan bench (0,4096,32768)")
    parser.add_argument("--only", action="append", choices=("prefill", "decode", "batches"), help="these rows (may be repeated)")
    parser.add_argument("--prompt", default=512, type=int, help="prefill: of so many tokens (512)")
    parser.add_argument("--tokens", default=16, type=int, help="decode steps of a run (16)")
    parser.add_argument("--runs", default=5, type=int, help="of each row (5)")
    parser.add_argument("--threads", type=int, help="lanes (all processors)")
    parser.add_argument("--json", metavar="FILE", help="write the table here, keeping rows that it has already")
    options = parser.parse_args()
    table = figures.Table("step", COLUMNS, options.json, KEY)
    for kind in options.kinds.split(","):
        for kv in options.kvs.split(","):
            for case in options.only or cases(options):
                bench(options, table, kind, kv, case)


if __name__ == "__main__":
    figures.end(main)

#!/usr/bin/env python3
"""plan.py - what `longspan plan` expected beside what `longspan bench` then measured, in turn.

    bench/plan.py --models DIR [--kind Q4_0] [--depth 32768] [--rounds 4] [--json FILE]

One process with all lanes, f16 KV. A round is a plan, which probes the machine (--probe), and a bench right behind it; every
round has its rows, and the last ones are the medians of `ratio`, each row's expectation over what was measured. The read
rates that both have probed stand beside: where they differ, the machine was another one a moment later. --json FILE is
written after every round; --add puts the rounds of this call behind those that it has.
"""
import argparse
import json
import os

import figures

COLUMNS = [("round", 6, None), ("what", 15, None), ("depth", 6, 0), ("at_best", 8, 1), ("expected", 8, 1), ("bench", 8, 1),
           ("unit", 8, None), ("ratio", 6, 2), ("plan_GB_s", 9, 1), ("bench_GB_s", 10, 1)]
PROMPT = 512


def take(model, depth):
    """Rows of a round, without its number."""
    plan = json.loads(figures.run([os.path.join(figures.BIN, "longspan"), "plan", "-q", "--json", "--probe", "-m", model,
                                   "--ctx", depth]))
    told = figures.longspan_bench(model, "-d", f"0,{depth}", "-p", PROMPT, "-n", 12, "-r", 2)["speed"]["rows"]
    bench = {(row["phase"], int(row["depth"])): row for row in told}
    read = max(device["read_bytes_per_s"] for device in plan["devices"]) / 1e9
    for token in plan["decode"]:
        measured = bench["decode", token["depth"]]
        yield {"what": "a token", "depth": token["depth"], "at_best": token["at_best_ms"], "expected": token["expected_ms"],
               "bench": measured["ms"], "unit": "ms", "ratio": token["expected_ms"] / measured["ms"], "plan_GB_s": read,
               "bench_GB_s": measured["read_GB_s"]}
    for prompt in plan["prefill"]:
        measured = bench["prefill", prompt["depth"]]
        yield {"what": f"a prompt of {PROMPT}", "depth": prompt["depth"], "at_best": None, "expected": prompt["tokens_s"],
               "bench": measured["tokens_s"], "unit": "tokens/s", "ratio": prompt["tokens_s"] / measured["tokens_s"],
               "plan_GB_s": read, "bench_GB_s": measured["read_GB_s"]}


def medians(rows):
    for what, depth in dict.fromkeys((row["what"], row["depth"]) for row in rows):
        ratios = [row["ratio"] for row in rows if (row["what"], row["depth"]) == (what, depth)]
        yield {"round": "median", "what": what, "depth": depth, "ratio": figures.spread(ratios)[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="DIR", help="bench-1b-TYPE.gguf files; made when missing")
    parser.add_argument("--kind", default="Q4_0", help="weight type (Q4_0)")
    parser.add_argument("--depth", type=int, default=32768, help="tokens before, beside none (32768)")
    parser.add_argument("--rounds", type=int, default=4, help="(4)")
    parser.add_argument("--add", action="store_true", help="to the rounds that --json FILE has")
    parser.add_argument("--json", metavar="FILE", help="write the table here")
    options = parser.parse_args()
    table = figures.Table("plan", COLUMNS, options.json, ("round", "what", "depth"))
    table.rows = [row for row in table.rows if options.add and row["round"] != "median"]
    before = len({row["round"] for row in table.rows})
    for number in range(before + 1, before + options.rounds + 1):
        for row in take(figures.model(options.models, options.kind), options.depth):
            table.add({"round": str(number), **row})
    for row in list(medians(table.rows)):
        table.add(row)


if __name__ == "__main__":
    figures.end(main)

#!/usr/bin/env python3
"""cluster.py - one step on several processes beside the same threads in one, and where an exchange's time goes.

    bench/cluster.py --models DIR [--kind Q4_0] [--depths 0,32768]

Layouts take turns, round by round, so that a machine whose bandwidth moves moves for all; a round gives each layout
two ratios to one process (1: as fast): of a step's time with as many sequences, and of tokens/s, those of one process
taken with one sequence (two requests in two stages read all weights twice, as one request's two tokens do).

With two sequences in two stages each is a micro-batch of its own: its next step leaves as soon as its token is sampled,
and a step's time is what passes from one token of both to the next token of both, while the pipeline stays full. A
round's value is the median of many short runs of steps, begun once the pipeline has filled: a virtual machine whose host
takes back freed memory (of the layout that ended before) stands still for tens of milliseconds, several times in a
second, and a mean over few steps would tell of that instead.

Then, for a worker with an attention node, what a layer of a decode step has spent on the exchange, from the trace of every
process:
    query    the worker packs and sends its query
    wait     the worker has nothing left to do but wait for the answer
    node     the node reads, attends, answers
    wire     from sending the query to having the answer, less the node's part
    merge    the worker folds the partials
"""
import argparse
import json
import os
import tempfile

import figures

COLUMNS = [("layout", 26, None), ("depth", 6, None), ("sequences", 9, 0), ("ms", 8, 2), ("min_ms", 8, 2), ("max_ms", 8, 2),
           ("ratio", 6, 3), ("ratio_min", 9, 3), ("ratio_max", 9, 3), ("tokens_ratio", 12, 3)]
EXCHANGE = [("layout", 26, None), ("layers", 6, 0), ("query_us", 9, 1), ("wait_us", 9, 1), ("node_us", 9, 1),
            ("wire_us", 9, 1), ("merge_us", 9, 1)]

CLUSTER = """name: here
coordinator: {{host: localhost, listen: "tcp://127.0.0.1:{port}"}}
workers:
  - {{host: localhost, slots: 1, threads: {threads}}}
attention_nodes:
  - {{host: localhost, memory: 6GiB, threads: {threads}}}
"""


ONE = "one process, 2 lanes"


def layouts(folder, port):
    """Options by name. Worker and node work in turn: with two lanes each they keep two processors busy, as one process
    does; with one lane each, one processor waits."""
    path = os.path.join(folder, "tcp.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(CLUSTER.format(port=port, threads=2))
    return {
        ONE: ["-t", 2],
        "tensor 2": ["--tensor", 2, "-t", 1],
        "pipeline 2": ["--pipeline", 2, "-t", 1],
        "worker and node, ring": ["--attention-nodes", 1, "-t", 2],
        "worker and node, tcp": ["--cluster", path],
        "the same, a lane each": ["--attention-nodes", 1, "-t", 1],
    }


def compare(model, ways, depths, batches, rounds, runs, steps):
    """Rounds over the ways (options by name), the first of which the others are compared with. Rows: times of a step are
    the medians of a round's runs, ratios those of a round's medians. tokens_ratio: tokens/s over those of the first way
    with the smallest batch."""
    times, first, least = {}, next(iter(ways)), min(batches)
    for _ in range(rounds):
        for name, layout in ways.items():
            told = figures.longspan_bench(model, "-r", runs, "-p", 0, "-d", ",".join(map(str, depths)), "-b",
                                          ",".join(map(str, batches)), "-n", steps, *layout)
            for row in told["speed"]["rows"]:
                times.setdefault((row["depth"], row["sequences"]), {}).setdefault(name, []).append(row["ms"])
    for (depth, sequences), of in times.items():
        for name, values in of.items():
            row = {"layout": name, "depth": depth, "sequences": sequences}
            row["ms"], row["min_ms"], row["max_ms"] = figures.spread(values)
            row["ratio"], row["ratio_min"], row["ratio_max"] = figures.spread(
                [base / value for base, value in zip(of[first], values)])
            row["tokens_ratio"] = figures.spread(
                [sequences / value * base / least for base, value in zip(times[depth, least][first], values)])[0]
            yield row


def spans(trace, process, name):
    """Spans of decode steps of a process, whose name begins so, by (step, layer)."""
    pids = {e["pid"] for e in trace if e["name"] == "process_name" and e["args"]["name"].startswith(process)}
    return [e for e in trace if e.get("ph") == "X" and e["pid"] in pids and e["name"] == name and e.get("cat") == "decode"]


def exchange(model, layout, name, depth):
    """Medians over all layers of all decode steps, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        figures.run([os.path.join(figures.BIN, "longspan"), "run", "-q", "-m", model, "-p", "x", "-n", 12, "--ignore-eos",
                     "--ctx", depth + 64, "--fill", depth, "--trace", path, *layout])
        with open(path, encoding="utf-8") as file:
            trace = json.load(file)
    return {"layout": name, **exchange_of(trace)}


def exchange_of(trace):
    """The same of a trace that is there."""
    trace = trace["traceEvents"] if isinstance(trace, dict) else trace
    key = lambda e: (e["args"]["step"], e["args"].get("layer"))
    worker = {part: {key(e): e for e in spans(trace, "worker", part)} for part in ("query", "wait for holders", "merge")}
    asked = [k for k in worker["query"] if all(k in worker[part] for part in worker)]
    node = {k: 0 for k in asked}
    for part in ("take query", "find pages", "attend", "answer"):
        for e in spans(trace, "node", part):
            if key(e) in node:
                node[key(e)] += e["dur"]
    median = lambda values: figures.spread(values)[0]
    went = {k: worker["wait for holders"][k]["ts"] + worker["wait for holders"][k]["dur"] - worker["query"][k]["ts"]
            for k in asked}
    return {"layers": len({k[1] for k in asked}), "node_us": median(list(node.values())),
            "wire_us": median([went[k] - node[k] for k in asked]),
            "query_us": median([worker["query"][k]["dur"] for k in asked]),
            "wait_us": median([worker["wait for holders"][k]["dur"] for k in asked]),
            "merge_us": median([worker["merge"][k]["dur"] for k in asked])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="DIR", help="bench-1b-TYPE.gguf files; made when missing")
    parser.add_argument("--kind", default="Q4_0", help="weight type (Q4_0)")
    parser.add_argument("--depths", default="0,32768", help="tokens before the first one (0,32768)")
    parser.add_argument("--tokens", default=2, type=int, help="decode steps of a run (2)")
    parser.add_argument("--runs", default=12, type=int, help="of a layout in a round; their median counts (12)")
    parser.add_argument("--rounds", default=5, type=int, help="(5)")
    parser.add_argument("--port", default=5699, type=int, help="of loopback, for the layout over tcp (5699)")
    parser.add_argument("--json", metavar="FILE", help="write both tables here")
    options = parser.parse_args()
    table, split = figures.Table("cluster", COLUMNS), figures.Table("exchange", EXCHANGE)
    with tempfile.TemporaryDirectory() as folder:
        model, ways = figures.model(options.models, options.kind), layouts(folder, options.port)
        for row in compare(model, ways, [int(word) for word in options.depths.split(",")], [1, 2], options.rounds,
                           options.runs, options.tokens):
            table.add(row)
        print()
        for name in ways:
            if "node" in name or "each" in name:
                split.add(exchange(model, ways[name], name, int(options.depths.split(",")[-1])))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"cluster": {"rows": table.rows}, "exchange": {"rows": split.rows}}, file, indent=1)


if __name__ == "__main__":
    figures.end(main)

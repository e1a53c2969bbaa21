#!/usr/bin/env python3
"""links.py - a decode step over links of a given delay and rate: what it takes, what was to be expected, where it goes.

    sudo bench/links.py --models DIR [--kind Q4_0] [--depth 2048] [--links none,wan,lan] [--json FILE]

Two hosts, made of namespaces (cluster/testbed/hosts.py), each with one of this machine's processors, so that a step computes
as fast on any link. `wan` is 1 ms and 100 Mbit/s, `lan` 0.1 ms and 10 Gbit/s, each way: the rate by a token bucket on each
host's interface, the delay by a relay between them (cluster/testbed/delay.c), which adds what its wake-ups take: rtt_us is a
byte there and back by TCP, measured. `none` is a bridge. Layouts:

    attention node    a worker on one host, KV cache and attention on the other: a query and an answer in each layer
    pipeline 2        half of the layers on each: rows cross once in a token, its result comes back
    tensor 2          half of each layer on each: two sums in a layer cross both ways

A row is a median over the steps of one run; all of it comes from the trace of every process. `added_ms` is what a token takes
more than without a link, `predicted_ms` what should be added: for each message that is waited for, half of what rtt_us has
more than without a link, and its bytes at the link's rate. Where the time goes, in ms of a token, on the worker that waits
most: `wire_ms` from sending a query to having its answer, less the node's part; `wait_ms` of that with nothing left to do
meanwhile; `merge_ms` folding what came; `mpi_ms` in sums and rows between ranks.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import cluster
import figures

sys.path.insert(0, os.path.join(figures.ROOT, "cluster/testbed"))
import hosts  # noqa: E402  (the folder is named above)

COLUMNS = [("layout", 14, None), ("link", 22, None), ("rtt_us", 6, 0), ("ms_token", 8, 2), ("added_ms", 8, 2),
           ("predicted_ms", 12, 2), ("wire_ms", 7, 2), ("wait_ms", 7, 2), ("node_ms", 7, 2), ("merge_ms", 8, 2), ("mpi_ms", 6, 2)]
LINKS = {"none": ("none", 0, None, 0), "wan": ("1 ms, 100 Mbit/s", 1000, "100mbit", 100e6),
         "lan": ("0.1 ms, 10 Gbit/s", 100, "10gbit", 10e9)}
HEAD, OTHER = "head", "other"
DELAY = os.path.join(os.path.dirname(figures.BIN), "testbed/delay")

CLUSTER = """name: links
coordinator: {{host: head, listen: "tcp://0.0.0.0:5600"}}
security: {{cluster_key: {folder}/key}}
ssh: {{config: {bed.ssh_config}}}
network: {{interface: eth0}}
workers:
{workers}parallel: {{pipeline: {pipeline}, tensor: {tensor}}}
{nodes}"""
WORKER = "  - {host: %s, threads: 1}\n"
NODE = "attention_nodes:\n  - {host: other, memory: 2GiB, threads: 1}\n"
LAYOUTS = {"attention node": ([HEAD], 1, 1, NODE), "pipeline 2": ([HEAD, OTHER], 2, 1, ""), "tensor 2": ([HEAD, OTHER], 1, 2, "")}

# A byte there and back, many times: the median in microseconds.
ANSWER = """import socket
with socket.create_server(("", 7000)) as server:
    peer = server.accept()[0]
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while peer.recv(1):
        peer.sendall(b"x")
"""
ASK = """import socket, sys, time
for attempt in range(100):
    try:
        peer = socket.create_connection((sys.argv[1], 7000))
        break
    except OSError:
        time.sleep(0.05)
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []
for _ in range(300):
    begun = time.perf_counter()
    peer.sendall(b"x")
    peer.recv(1)
    times.append(time.perf_counter() - begun)
print(sorted(times)[150] * 1e6)
"""


def round_trip_us(bed):
    server = subprocess.Popen(bed.words(OTHER, sys.executable, "-c", ANSWER))
    try:
        return float(figures.run(bed.words(HEAD, sys.executable, "-c", ASK, OTHER)))
    finally:
        server.wait(10)


def trace_of(bed, folder, model, name, options):
    """The events of every process, from one run on the bed; and what `longspan run --json` told."""
    workers, pipeline, tensor, nodes = LAYOUTS[name]
    path, trace = f"{folder}/cluster.yaml", f"{folder}/trace.json"
    with open(path, "w", encoding="utf-8") as file:
        file.write(CLUSTER.format(folder=folder, bed=bed, workers="".join(WORKER % host for host in workers),
                                  pipeline=pipeline, tensor=tensor, nodes=nodes))
    told = json.loads(figures.run(bed.words(
        HEAD, os.path.join(figures.BIN, "longspan"), "run", "-q", "--json", "-m", model, "--cluster", path, "-p", "x", "-n",
        options.steps, "--ignore-eos", "--ctx", options.depth + 256, "--fill", options.depth, "--trace", trace)))
    with open(trace, encoding="utf-8") as file:
        return json.load(file), told


def step_times(trace, steps):
    """From one decode step's leaving to the next one's, in ms; steps before read the prompt, and fill."""
    pids = {e["pid"] for e in trace if e["name"] == "process_name" and e["args"]["name"] == "coordinator"}
    left = sorted(e["ts"] for e in trace if e["name"] == "send step" and e["pid"] in pids)[1 - steps:]
    return [(b - a) / 1000 for a, b in zip(left, left[1:])]


def mpi_ms(trace):
    """Of a token, in sums and rows, on the rank that spends most there."""
    most = 0.0
    for process in ("worker 0", "worker 1"):
        of_step = {}
        for part in ("exchange sums", "wait for rows"):
            for e in cluster.spans(trace, process, part):
                of_step[e["args"]["step"]] = of_step.get(e["args"]["step"], 0) + e["dur"] / 1000
        most = max(most, figures.spread(list(of_step.values()))[0] if of_step else 0.0)
    return most


def exchange_bytes(told, layers, steps):
    """Of a query with its answer, on average; keys and values, which nobody waits for, are not among them."""
    held = [h for h in told["holders"] if h["name"] != "local"]
    return sum(h["sent_bytes"] - h["kv_bytes"] + h["received_bytes"] for h in held) / (layers * steps)


def predicted_ms(name, shape, rate, one_way_ms, asked_bytes):
    """What a link adds to a token, with nothing hidden behind computing."""
    bytes_ms = 8000 / rate if rate else 0
    row_ms = shape["hidden"] * 4 * bytes_ms
    if name == "attention node":
        return shape["layers"] * (2 * one_way_ms + asked_bytes * bytes_ms)
    if name == "pipeline 2":
        return 2 * one_way_ms + row_ms
    return 2 * shape["layers"] * (one_way_ms + row_ms)


def measure(table, bed, folder, model, shape, link, name, rtt_us, options):
    text, _, _, rate = LINKS[link]
    trace, told = trace_of(bed, folder, model, name, options)
    times = figures.spread(step_times(trace, options.steps))
    row = {"layout": name, "link": text, "rtt_us": rtt_us, "ms_token": times[0], "min_ms": times[1], "max_ms": times[2],
           "mpi_ms": mpi_ms(trace)}
    base = table.before({"layout": name, "link": LINKS["none"][0]})
    if link != "none" and base is not None:
        row["added_ms"] = row["ms_token"] - base["ms_token"]
        row["predicted_ms"] = predicted_ms(name, shape, rate, (rtt_us - base["rtt_us"]) / 2000,
                                           exchange_bytes(told, shape["layers"], options.steps))
    if name == "attention node":
        split = cluster.exchange_of(trace)
        for part in ("wire", "wait", "node", "merge"):
            row[f"{part}_ms"] = split[f"{part}_us"] * shape["layers"] / 1000
    table.add(row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="DIR", help="bench-1b-TYPE.gguf files; made when missing")
    parser.add_argument("--kind", default="Q4_0", help="weight type (Q4_0)")
    parser.add_argument("--depth", default=2048, type=int, help="tokens before the first one (2048)")
    parser.add_argument("--steps", default=24, type=int, help="decode steps of a run (24)")
    parser.add_argument("--links", default="none,wan,lan", help="which of them; `none` first, which the others need")
    parser.add_argument("--layouts", default=",".join(LAYOUTS), help="which of them")
    parser.add_argument("--json", metavar="FILE", help="rows are added to this file, or take their old ones' place")
    options = parser.parse_args()
    try:
        hosts.check()
        table = figures.Table("links", COLUMNS, options.json, key=("layout", "link"))
        model = figures.model(os.path.abspath(options.models), options.kind)
        keys = json.loads(figures.run([os.path.join(figures.BIN, "longspan"), "model", "inspect", "--json", model]))
        shape = keys["hparams"]
        for link in options.links.split(","):
            _, delay_us, rate, _ = LINKS[link]
            with tempfile.TemporaryDirectory() as folder, \
                    hosts.Bed([HEAD, OTHER], delay_us=delay_us, rate=rate, relay=DELAY, cpus={HEAD: "0", OTHER: "1"},
                              keep=[folder, os.path.dirname(model), figures.ROOT, figures.BIN]) as bed:
                figures.run([os.path.join(figures.BIN, "longspan"), "keygen", f"{folder}/key"])
                rtt_us = round_trip_us(bed)
                for name in options.layouts.split(","):
                    measure(table, bed, folder, model, shape, link, name, rtt_us, options)
    except (figures.Failed, hosts.Missing, RuntimeError) as failure:
        print(f"links.py: {failure}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())

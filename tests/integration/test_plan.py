#!/usr/bin/env python3
"""longspan plan: what it prints of a cluster file is what the cluster that is started from it reports; and what it prints of
models and machines that are not here, errors among them, is kept in golden/plan/ (`test_plan.py --write` writes it anew)."""
import json
import os
import re
import sys

import sparse_model
from longspan_test import Tap, call, folder, longspan, make_random, program
from serving import Server

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden/plan")

LAB = """name: lab
coordinator: {host: head, listen: "tcp://0.0.0.0:5600"}
security: {cluster_key: /etc/longspan/cluster.key}
workers:
  - {host: gpu01, device: cuda}
  - {host: gpu02, device: cuda}
  - {host: cpu07, threads: 48}
parallel: {pipeline: 3, tensor: 1}
attention_nodes:
  - {host: mem01, memory: 512GiB, threads: 64}
  - {host: mem02, memory: 256GiB, threads: 32}
"""
HOSTS = """hosts:
  - {host: head, link_Gbit_s: 25, rtt_us: 40}
  - {host: gpu01, device: cuda, memory: 80GiB, read_GB_s: 2800, f32_GFLOP_s: 50000, int8_Gop_s: 200000, link_Gbit_s: 100, rtt_us: 20}
  - {host: gpu02, device: cuda, memory: 24GiB, read_GB_s: 900, f32_GFLOP_s: 30000, int8_Gop_s: 100000, link_Gbit_s: 25, rtt_us: 40}
  - {host: cpu07, memory: 256GiB, processors: 48, read_GB_s: 180, f32_GFLOP_s: 3000, int8_Gop_s: 9000, link_Gbit_s: 25, rtt_us: 40}
  - {host: mem01, memory: 768GiB, processors: 64, read_GB_s: 350, f32_GFLOP_s: 4000, int8_Gop_s: 9000, link_Gbit_s: 100, rtt_us: 20}
  - {host: mem02, memory: 384GiB, processors: 32, read_GB_s: 180, f32_GFLOP_s: 2000, int8_Gop_s: 5000, link_Gbit_s: 25, rtt_us: 40}
"""
PAIR = """coordinator: {host: gpu01}
workers:
  - {host: gpu01, device: cuda, slots: 2}
parallel: {pipeline: 1, tensor: 2}
kv: {type: q8_0}
hosts:
  - {host: gpu01, device: cuda, devices: 2, memory: 80GiB, read_GB_s: 2800}
"""

# name: cluster file, options, exit status
CASES = {
    "lab": (LAB + HOSTS, [], 0),
    "lab-long": (LAB + HOSTS, ["--ctx", 1000000, "--kv-type", "q8_0"], 0),
    "pair": (PAIR, ["--ctx", 32768], 0),
    "uneven": (PAIR.replace("coordinator: {host: gpu01}\n", "").replace("slots: 2", "slots: 3").replace("tensor: 2", "tensor: 3"), ["--ctx", 32768], 0),
    "nothing-known": (LAB, ["--ctx", 8192], 0),
    "context-too-long": (LAB + HOSTS, ["--ctx", 3000000], 2),
    "model-too-large": (LAB + HOSTS.replace("memory: 24GiB", "memory: 8GiB"), [], 2),
    "host-too-small": (LAB + HOSTS.replace("memory: 384GiB", "memory: 192GiB"), [], 2),
}
# What is said on standard error, exit status 2, nothing on standard output.
REFUSED = {
    "tensor 16 of 8 KV heads": (PAIR.replace("slots: 2", "slots: 16").replace("tensor: 2", "tensor: 16"), [],
                          "tensor 16: the model has 8 KV heads; possible: 1 to 8"),
    "more stages than layers": (PAIR.replace("slots: 2", "slots: 81").replace("pipeline: 1, tensor: 2", "pipeline: 81"), [],
                                "pipeline 81: the model has 80 layers; possible: 1 to 80"),
    "a host that nobody is on": (LAB + HOSTS.replace("host: mem02", "host: mem20"), [],
                                 r"hosts entry 6: no worker, no attention node and no coordinator is on mem20"),
    "a misspelt rate": (LAB + HOSTS.replace("read_GB_s: 180", "read_GBs: 180", 1), [], r"did you mean 'read_GB_s'"),
    "a rate of nothing": (LAB + HOSTS.replace("read_GB_s: 180", "read_GB_s: 0", 1), [],
                          r"hosts entry 4: read_GB_s: 0 is not in 1e-6 to 1e9"),
    "a cluster that runs": (None, ["--coordinator", "tcp://head:5600"], "longspan status --coordinator tcp://head:5600"),
    "a head dimension that q8_0 cannot have": (None, ["--kv-type", "q8_0"], "q8_0"),
}


def check_golden(tap, where, write):
    model = f"{where}/llama-70b.gguf"
    size = sparse_model.write(model, sparse_model.Q4_K, "Llama 70B", **sparse_model.LLAMA_70B)
    tap.check(size > 39e9, "a model of 40 GB that takes no room")
    for name, (text, options, code) in CASES.items():
        path, golden = f"{where}/{name}.yaml", os.path.join(GOLDEN, f"{name}.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        result = longspan("plan", "-m", model, "--cluster", path, *options)
        told = result.out + result.err
        tap.check(result.code == code and result.seconds < 10, f"{name}: exit status {code}", result)
        if write:
            with open(golden, "w", encoding="utf-8") as file:
                file.write(told)
        with open(golden, encoding="utf-8") as file:
            expected = file.read()
        tap.check(told == expected, f"{name}: the tables are as kept", told)
        as_json = longspan("plan", "--json", "-m", model, "--cluster", path, *options)
        plan = as_json.json()
        tap.check(as_json.code == code and plan["fits"] is {0: True, 2: False}[code] and (plan["why_not"] is None) == (code == 0),
                  f"{name}: the same as JSON", as_json)
    return model


def check_refusals(tap, where, model):
    small = make_random(f"{where}/odd.gguf", "layers=1,hidden=48,heads=2,kv-heads=1,head-dim=24,ffn=64")
    for name, (text, options, pattern) in REFUSED.items():
        words = ["-m", small if text is None else model]
        if text is not None:
            path = f"{where}/refused.yaml"
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            words += ["--cluster", path]
        result = longspan("plan", *words, *options)
        tap.check(result.code == 2 and re.search(pattern, result.err) and not result.out, f"refused: {name}", result)


# ---- beside a cluster that runs -----------------------------------------------------------------

RUNS = {
    "one worker": ("tiny,vocab=8192", "workers:\n  - {host: localhost, threads: 1}\nkv: {memory: 24MiB}\n", []),
    "two nodes": ("tiny,layers=3,vocab=8192", "workers:\n  - {host: localhost, threads: 1}\nattention_nodes:\n"
                  "  - {host: localhost, memory: 20MiB, threads: 1, weight: 2}\n"
                  "  - {host: localhost, memory: 33MiB, threads: 1, weight: 1, name: second}\n", ["--kv-type", "q8_0"]),
    "tensor 2": ("tiny,vocab=8192,hidden=512,ffn=1024", "workers:\n  - {host: localhost, slots: 2, threads: 1}\nparallel: {pipeline: 1, tensor: 2}\n"
                 "kv: {memory: 16MiB}\n", ["--ctx", 5000]),
    "pipeline 2": ("tiny-96,vocab=8192", "workers:\n  - {host: localhost, slots: 2, threads: 1}\nparallel: auto\n"
                   "kv: {memory: 16MiB}\n", []),
    "experts, tensor 2": ("layers=3,hidden=128,heads=4,kv-heads=2,head-dim=32,ffn=64,arch=qwen3moe,experts=9,experts-used=2",
                          "workers:\n  - {host: localhost, slots: 2, threads: 1}\nparallel: {tensor: 2}\nattention_nodes:\n"
                          "  - {host: localhost, memory: 16MiB, threads: 1}\n", []),
    "sliding windows": ("tiny,layers=4,arch=gemma2,window=512", "workers:\n  - {host: localhost, slots: 2, threads: 1}\n"
                        "parallel: {pipeline: 2}\nattention_nodes:\n  - {host: localhost, memory: 16MiB, threads: 1, weight: 1}\n"
                        "  - {host: localhost, memory: 8MiB, threads: 1, weight: 1}\n", []),
    "windows, in the workers": ("tiny,layers=4,arch=gemma2,window=512",
                                "workers:\n  - {host: localhost, slots: 2, threads: 1}\nparallel: {pipeline: 2}\n"
                                "kv: {memory: 8MiB}\n", []),
}


def parts(answer):
    """What both tell, from either; pages as far as a holder has them."""
    return {
        "ranks": [{key: rank[key] for key in ("rank", "host", "device", "lanes", "stage", "shard", "first_layer", "n_layers",
                                              "kv_heads")} for rank in answer["ranks"]],
        "nodes": [{key: node[key] for key in ("name", "device", "lanes", "memory_bytes")} for node in answer["nodes"]],
        "holders": [{key: holder[key] for key in ("name", "pages_total")} for holder in answer["holders"]],
        "page_bytes": answer["page_bytes"],
        "model": {key: answer["model"][key] for key in ("name", "n_layers", "n_heads", "n_kv_heads", "head_dim", "kv_type")},
    }


def check_runs(tap, where):
    for number, (name, (shape, text, options)) in enumerate(RUNS.items()):
        path, cluster = f"{where}/{number}.gguf", f"{where}/{number}.yaml"
        make_random(path, shape, "Q8_0")
        with open(cluster, "w", encoding="utf-8") as file:
            file.write(text)
        words = ["-m", path, "--cluster", cluster, *options]
        plan = longspan("plan", "--json", *words).json()
        with Server(where, path, "--cluster", cluster, *map(str, options), name=f"serve{number}") as server:
            runs = json.loads(server.get("/cluster").body)
        for rank in runs["ranks"]:  # its own name here, as the file calls it there
            rank["host"] = "localhost"
        planned, told = parts(plan), parts(runs)
        for key in planned:
            tap.check(planned[key] == told[key], f"{name}: {key} as planned", f"planned {planned[key]}\nruns    {told[key]}")
        pairs = [(a["weight_bytes"], b["weight_bytes"]) for a, b in zip(plan["ranks"], runs["ranks"])]
        most = 1 if "vocab=8192" in shape and "96" not in shape else 1.04  # rows are padded to 16, which these need not be
        tap.check(all(a <= b <= most * a for a, b in pairs), f"{name}: weights as planned", pairs)
        tap.check(plan["context"] == runs["model"]["context"], f"{name}: the context as planned",
                  f"{plan['context']} {runs['model']['context']}")
        if text.count("weight:") == len(plan["nodes"]):  # otherwise by rates, which the plan does not know
            shares = [(a["share"], b["share"]) for a, b in zip(plan["nodes"], runs["nodes"])]
            tap.check(all(abs(a - b) < 1e-9 for a, b in shares), f"{name}: shares of nodes as planned", shares)
        working = [[rank["working_bytes"] for rank in told["ranks"]] for told in (plan, runs)]
        tap.check(working[0] == working[1], f"{name}: what the workers compute in as planned", working)
        local = [rank["local_kv_bytes"] for rank in plan["ranks"]]
        tap.check(local == [rank["local_kv_bytes"] for rank in runs["ranks"]], f"{name}: the workers' KV cache as planned",
                  f"{local} {[rank['local_kv_bytes'] for rank in runs['ranks']]}")


def check_links(tap, where):
    """Bytes of a token over each link, beside what crosses it: queries and partials, the headers come on top."""
    model = make_random(f"{where}/wide.gguf", "layers=2,hidden=256,heads=32,kv-heads=8,head-dim=64,ffn=256", "Q8_0")
    n_tokens, depth = 33, 32768
    words = ["-m", model, "--attention-nodes", 2, "--memory", "128MiB"]
    plan = longspan("plan", "--json", *words, "--ctx", depth).json()
    run = longspan("run", "-q", "--json", *words, "--ctx", depth + 64, "-p", "x", "-n", n_tokens, "--ignore-eos", "--fill", depth)
    for planned, holder in zip(plan["links"], run.json()["holders"]):
        filled = holder["kv_bytes"]  # before, and what is appended
        told = (holder["sent_bytes"] - filled + holder["received_bytes"]) / n_tokens
        tap.check(0.85 < planned["bytes"] / told < 1.05, f"bytes of a token to {planned['to']}", f"{planned} {told}")


def check_probe(tap, where):
    model = make_random(f"{where}/probed.gguf", "tiny")
    plan = longspan("plan", "--json", "--probe", "-m", model, "--ctx", 4096).json()
    shares = longspan("plan", "--json", "-m", model, "--attention-nodes", 2, "--memory", "64MiB", "--shares", "1,3")
    tap.check([node["share"] for node in shares.json()["nodes"]] == [0.25, 0.75], "--shares count", shares)
    shares = longspan("plan", "-m", model, "--attention-nodes", 2, "--memory", "64MiB", "--shares", "1,2,3")
    tap.check(shares.code == 2 and "--shares has 3 numbers" in shares.err, "too many of them are refused", shares)
    device = plan["devices"][0]
    tap.check(device["rate_source"] == "probed" and device["read_bytes_per_s"] > 1e8 and device["f32_per_s"] > 1e8,
              "--probe measures this machine", device)
    tap.check(all(row["expected_ms"] > 0 for row in plan["decode"]) and plan["prompt_s"] > 0, "and nothing is unknown then", plan)
    request = json.dumps({"do": "measure", "devices": ["cpu"]})
    result = call(program("longspan"), "agent", stdin=request + "\n")
    answer = json.loads(result.out.splitlines()[1])
    tap.check(answer["devices"][0]["read"] > 1e8 and answer["devices"][0]["processors"] > 0, "an agent measures likewise", result)
    for bad in ({}, {"devices": "cpu"}, {"devices": [7]}, {"devices": ["tpu"]}):
        result = call(program("longspan"), "agent", stdin=json.dumps({"do": "measure", **bad}) + "\n")
        tap.check(result.code == 2 and "measure" in result.out, f"an agent refuses to measure {bad}", result)


def main():
    tap = Tap()
    with folder() as where:
        model = check_golden(tap, where, "--write" in sys.argv)
        check_refusals(tap, where, model)
        check_probe(tap, where)
        check_runs(tap, where)
        check_links(tap, where)
    tap.finish()


if __name__ == "__main__":
    main()

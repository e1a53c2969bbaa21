#!/usr/bin/env python3
"""What docs/operations.md promises of a running server: /metrics in Prometheus' format, the dashboard's names, `longspan status` by both
ways, `longspan bench serve` with its tables, and figures that add up."""
import json
import os
import re
import shutil
import socket
import sys

from longspan_test import ROOT, SLOW, Tap, call, folder, longspan, make_retrieval, program, wait_until
from serving import Server

SAMPLE = re.compile(r'^(longspan_[a-z0-9_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)+\})? (\S+)$')


def read_metrics(text):
    """{name: {labels: value}} of the text format; raises ValueError where it is none."""
    types, samples = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name in types:
                raise ValueError(f"{name} comes twice")
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.match(line)
            if not match:
                raise ValueError(f"no sample: {line}")
            name, labels, value = match.groups()
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            if name not in types and types.get(family) != "histogram":
                raise ValueError(f"a sample without a type: {line}")
            samples.setdefault(name, {})[labels or ""] = float(value)
    return types, samples


def nodes_have_told(server):
    """Nodes tell their figures once a second."""
    _, samples = read_metrics(server.get("/metrics").body.decode())
    return sum(samples["longspan_node_queries_total"].values()) > 0


def check_metrics(tap, server):
    tap.check(wait_until(lambda: nodes_have_told(server), 10 * SLOW), "attention nodes tell their work")
    reply = server.get("/metrics")
    tap.check(reply.status == 200 and reply.headers["content-type"].startswith("text/plain; version=0.0.4"), "/metrics answers", reply)
    text = reply.body.decode()
    types, samples = read_metrics(text)
    if shutil.which("promtool"):
        result = call("promtool", "check", "metrics", stdin=text)
        tap.check(result.code == 0 and not result.out and not result.err, "promtool has nothing to say", result)
    else:
        tap.skip("promtool check metrics", "there is no promtool (Debian: prometheus)")
    one = {name: sum(values.values()) for name, values in samples.items()}
    tap.check(one["longspan_decode_tokens_total"] == 24 and one["longspan_time_to_first_token_seconds_count"] == 3,
              "tokens and first tokens are counted", one)
    tap.check(one["longspan_prefill_tokens_total"] + one["longspan_cached_tokens_total"] >= 6000, "and prompt tokens")
    tap.check(samples["longspan_process_ready"].keys() >= {'{process="coordinator"}', '{process="worker0"}', '{process="node1"}'}
              and set(samples["longspan_process_ready"].values()) == {1.0}, "every process is ready", samples["longspan_process_ready"])
    asked = samples["longspan_http_requests_total"]
    tap.check(asked['{path="/v1/completions",code="200"}'] == 3 and asked['{path="/v1/completions",code="429"}'] == 0 and
              one["longspan_http_connections"] >= 1 and one["longspan_http_streams"] == 0, "and HTTP answers", asked)
    tap.check(one["longspan_kv_pages_used"] >= one["longspan_kv_pages_kept"] > 0, "and pages that are kept", one)
    tap.check(any('process="node0"' in labels and 'device="cpu"' in labels for labels in samples["longspan_process_info"]),
              "devices are told", samples["longspan_process_info"])
    tap.check(one["longspan_link_round_trips_total"] > 0 and one["longspan_attention_wait_seconds_total"] > 0,
              "workers tell their work", one)
    return types


def check_dashboard(tap, types):
    with open(os.path.join(ROOT, "cluster/grafana.json"), encoding="utf-8") as file:
        dashboard = json.load(file)
    expressions = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", []))
    used = set(re.findall(r"longspan_[a-z0-9_]+", expressions))
    known = set(types) | {name + end for name, kind in types.items() if kind == "histogram" for end in ("_bucket", "_sum", "_count")}
    tap.check(len(used) > 20 and used <= known, "the dashboard uses metrics that there are", used - known)
    ids = [panel["id"] for panel in dashboard["panels"]]
    tap.check(len(ids) == len(set(ids)), "its panels have ids of their own")


def check_status(tap, server, model):
    text = longspan("status", "--url", server.url())
    tap.check(text.code == 0 and all(word in text.out for word in ("worker 0", "worker 1", "node0", "node1", "ready")),
              "longspan status shows every process", text)
    by_url = longspan("status", "--url", server.url(), "--json").json()
    own = longspan("status", "--coordinator", by_url["coordinator"]["listen"], "--json").json()
    tap.check(by_url.pop("server") == {"model": "model", "chat": True}, "over HTTP it says how clients call the model")
    tap.check(own.keys() == by_url.keys() and [r["pid"] for r in own["ranks"]] == [r["pid"] for r in by_url["ranks"]] and
              own["counters"] == by_url["counters"], "the coordinator's own socket says the same", own)
    alone = longspan("status", "--url", "http://127.0.0.1:1")
    tap.check(alone.code == 3 and "running" in alone.err, "nobody there: exit code 3", alone)
    wrong = longspan("status", "--url", server.url(), "--coordinator", "tcp://127.0.0.1:1")
    tap.check(wrong.code == 2, "two addresses: exit code 2", wrong)
    absent = longspan("status", "--coordinator", "tcp://127.0.0.1:1", "--timeout", "600")
    tap.check(absent.code == 3 and "listens" in absent.err, "no coordinator there: exit code 3, at once", absent)
    with socket.create_server(("127.0.0.1", 0)) as other:
        silent = longspan("status", "--coordinator", f"tcp://127.0.0.1:{other.getsockname()[1]}", "--timeout", "1")
    tap.check(silent.code == 3 and "did not answer" in silent.err, "somebody else there: exit code 3", silent)
    own_network = ["unshare", "--map-root-user", "--net", "sh", "-c"]  # where nobody has the usual ports
    if call(*own_network, "ip link set lo up").code != 0:
        tap.skip("longspan status without an address", "no network of its own here")
        return
    usual = call(*own_network, 'ip link set lo up && "$0" status', program("longspan"))
    tap.check(usual.code == 3 and "127.0.0.1:8080" in usual.err and "127.0.0.1:5600" in usual.err,
              "without an address, the usual ones are tried", usual)
    code = """import http.server, socket, subprocess, sys, threading
if sys.argv[2] == "http":  # with no /cluster
    server = http.server.HTTPServer(("127.0.0.1", 8080), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 5600)):
    sys.exit(subprocess.run([sys.argv[1], "status", "--timeout", "1"]).returncode)"""
    own_python = [*own_network, 'ip link set lo up && exec "$0" -c "$@"', sys.executable, code, program("longspan")]
    silent = call(*own_python, "alone")
    tap.check(silent.code == 3 and "127.0.0.1:5600 did not answer" in silent.err, "why a coordinator there does not answer is told", silent)
    both = call(*own_python, "http")
    tap.check(both.code == 4 and "8080/cluster answers 501" in both.err and "127.0.0.1:5600 did not answer" in both.err,
              "beside what an HTTP server answers", both)
    silent = call(*own_network, """ip link set lo up && exec "$0" -c "
import socket, subprocess, sys
with socket.create_server((\'127.0.0.1\', 8080)):
    sys.exit(subprocess.run([sys.argv[1], \'status\', \'--timeout\', \'1\']).returncode)" "$1\"""", sys.executable, program("longspan"))
    tap.check(silent.code == 3 and "8080/cluster: Timeout" in silent.err, "that an HTTP server there does not answer is told", silent)
    server_there = f"""ip link set lo up
        "$0" serve -q -m {model} --threads 1 --kv-memory 16MiB & for i in $(seq 300); do "$0" status && break; sleep 0.1; done
        kill $!; wait $!"""
    usual = call(*own_network, server_there, program("longspan"))
    tap.check(usual.code == 0 and "worker 0" in usual.out, "and that of longspan serve is found", usual)


def check_bench(tap, server, path):
    result = longspan("bench", "serve", "--url", server.url(), "--rate", "20,0", "--prompts", "100:10", "--lengths", "fixed",
                      "-n", "12", "--seed", "3", "--json", f"{path}/out.json", "--csv", f"{path}/out.csv")
    tap.check(result.code == 0 and result.out.count("12 requests, 0 errors") == 2 and "time to first token" in result.out,
              "bench serve: one report for each rate", result)
    with open(f"{path}/out.json", encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    tap.check([row["requests_per_s"] for row in rows] == [20, 0] and all(
        row["errors"] == 0 and 0 < row["ttft_p50_ms"] <= row["ttft_p90_ms"] <= row["ttft_p99_ms"] and
        0 < row["tbt_p50_ms"] <= row["tbt_p99_ms"] for row in rows), "its quantiles rise", rows)
    tap.check(all(abs(row["output_tokens_per_s"] * row["seconds"] - 120) < 0.5 and
                  abs(row["prompt_tokens_per_s"] * row["seconds"] - 1200) < 0.5 for row in rows),
              "lengths are what was asked for", rows)
    with open(f"{path}/out.csv", encoding="utf-8") as file:
        lines = file.read().splitlines()
    tap.check(len(lines) == 3 and lines[0].startswith("requests_per_s,requests,errors"), "and as CSV", lines)
    with open(f"{path}/lines.txt", "w", encoding="ascii") as file:
        file.write("hello there\n\nwhat is the time\n")
    result = longspan("bench", "serve", "--url", server.url(), "--rate", "0", "--prompts", f"{path}/lines.txt", "--output", "5", "-n", "4")
    tap.check(result.code == 0 and "4 requests, 0 errors" in result.out, "prompts from a file", result)
    result = longspan("bench", "serve", "--url", server.url(), "--rate", "0", "--prompts", "5:5", "--model", "another", "-n", "3")
    tap.check(result.code == 4 and "3 x 404" in result.out, "errors are told by their words", result)
    result = longspan("bench", "serve", "--url", server.url(), "--prompts", "no-such-trace")
    tap.check(result.code == 2 and "no-such-trace" in result.err, "an unknown trace: exit code 2", result)


def main():
    tap = Tap()
    with folder() as path:
        model = make_retrieval(f"{path}/model.gguf")
        with Server(path, model, "--pipeline", "2", "--attention-nodes", "2", "--threads", "1", "--memory", "64MiB") as server:
            for i in range(3):
                reply = server.post("/v1/completions", {"prompt": f"{i} " + "abc " * 600, "max_tokens": 8, "ignore_eos": True})
                if reply.status != 200:
                    raise RuntimeError(str(reply))
            tap.check(f"http: ready: {server.url()} has the page, {server.url('/v1')} the API" in server.log(),
                      "when it is ready, the log says where", server.log())
            types = check_metrics(tap, server)
            check_dashboard(tap, types)
            check_status(tap, server, model)
            check_bench(tap, server, path)
            tap.check(server.stop() == 0, "and the server stops in peace", server.log())
    tap.finish()


if __name__ == "__main__":
    sys.exit(main())

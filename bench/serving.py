#!/usr/bin/env python3
"""serving.py - what a long prompt does to those beside it, and what a prefix that is known saves.

    bench/serving.py beside [--tokens 100000] [--target-ms 30] [--unshared RATE]
    bench/serving.py prefix [--tokens 50000] [--nodes 2]

beside: a request decodes; then a prompt of --tokens is read beside it, by a cluster with --step-target-ms; when that is
half read a prompt of 20 tokens comes. Printed are the times between the tokens of the first one, alone and while the
prompt is read, the rate at which the prompt is read beside it and without anybody, on a cluster without a target, and
when the short one has its first token. With --unshared that rate is not measured but given, as an earlier
`unshared` printed it. A time between two tokens is taken where `longspan run` writes them to a pipe.

prefix: the same prompt of --tokens twice, and once more after all processes were started again, with the attention nodes'
--kv-store: time to the first token, cached tokens, the answer.

The model is the retrieval model (`longspan model make-retrieval`), made in a temporary folder. Exit status 1: an
acceptance figure is not reached. Run it with nothing else running.
"""
import argparse
import json
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests/integration"))
import retrieval
from longspan_test import Roles, folder, longspan, make_retrieval, program

N_ANSWER = 8


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


def ask(roles, path, n=N_ANSWER):
    """One prompt's JSON; its cluster's logs, if that fails."""
    result = longspan("run", "--coordinator", roles.address, "-f", path, "-n", n, "--ignore-eos", "--json", "-q", timeout=900)
    if result.code != 0:
        sys.exit(str(result) + roles.logs())
    return result.json()


class Stream(threading.Thread):
    """A request whose tokens are taken down as they come: (time, bytes)."""

    def __init__(self, roles, path, n):
        super().__init__()
        self.times = []
        self.process = subprocess.Popen([program("longspan"), "run", "--coordinator", roles.address, "-f", path, "-n", str(n),
                                         "--ignore-eos", "-q"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.start()

    def run(self):
        while True:
            text = os.read(self.process.stdout.fileno(), 1 << 16)
            if not text:
                return
            self.times += [time.monotonic()] * len(text)  # a byte is a token in this model

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.join()


def between(times, begin, end):
    """Times between tokens in [begin, end], sorted, in ms."""
    inside = [t for t in times if begin <= t <= end]
    return sorted((b - a) * 1e3 for a, b in zip(inside, inside[1:]))


def percentile(values, p):
    return values[min(len(values) - 1, int(p / 100 * len(values)))] if values else float("nan")


def judge(name, ok):
    print(f"{'ok   ' if ok else 'SHORT'} {name}")
    return ok


def unshared(options, path, model):
    """Prompt tokens per second without anybody beside."""
    text, _ = retrieval.build(options.tokens, 5)
    first, long_prompt = write(f"{path}/first", text[-1000:]), write(f"{path}/long", text)
    with Roles(path, model, threads=options.threads, coordinator=["--prefix-cache", "off"]) as roles:
        ask(roles, first)
        rate = ask(roles, long_prompt)["timings"]["prefill_tokens_per_s"]
    print(f"unshared {rate:.0f} prompt tokens/s")
    return rate


def beside(options, path, model):
    text, _ = retrieval.build(options.tokens, 5)
    long_prompt = write(f"{path}/long", text)
    first = write(f"{path}/first", text[-1000:])
    short = write(f"{path}/short", text[1000:1019])
    alone = options.unshared or unshared(options, path, model)
    os.makedirs(f"{path}/target")
    with Roles(f"{path}/target", model, threads=options.threads,
               coordinator=["--prefix-cache", "off", "--step-target-ms", options.target_ms]) as roles:
        ask(roles, first)
        stream = Stream(roles, first, 1 << 20)
        time.sleep(2)
        begin = time.monotonic()
        out, ended = {}, {}

        def run(name, file):
            out[name] = ask(roles, file)
            ended[name] = time.monotonic()
        threads = [threading.Thread(target=run, args=("long", long_prompt))]
        threads[0].start()
        time.sleep(0.5 * options.tokens / alone)
        asked = time.monotonic()
        threads.append(threading.Thread(target=run, args=("short", short)))
        threads[1].start()
        for thread in threads:
            thread.join()
        lone = between(stream.times, begin - 1.5, begin)
        shared = between(stream.times, begin, ended["long"])
        stream.stop()
    rate = out["long"]["timings"]["prefill_tokens_per_s"]
    print(f"{options.tokens} tokens beside a decode, --step-target-ms {options.target_ms}")
    print(f"{'':28} {'n':>6} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for name, values in (("between tokens, alone", lone), ("between tokens, beside", shared)):
        print(f"{name:28} {len(values):6} " + " ".join(f"{percentile(values, p):8.2f}" for p in (50, 90, 99, 100)))
    print(f"{'prompt tokens/s, alone':28} {alone:8.0f}\n{'prompt tokens/s, beside':28} {rate:8.0f}   {rate / alone:.2f} of it")
    first_ms = out["short"]["timings"]["prefill_s"] * 1e3
    print(f"{'20 tokens: first token':28} {first_ms:8.1f} ms, {ended['long'] - asked:.1f} s before the long prompt's end")
    return all([judge("the target is three times the lone decode or more", options.target_ms >= 3 * percentile(lone, 50)),
                judge("p99 beside is below 1.5 targets", percentile(shared, 99) < 1.5 * options.target_ms),
                judge("the long prompt keeps half of its rate", rate >= 0.5 * alone),
                judge("the short prompt's first token comes before the long prompt's end", ended["short"] < ended["long"])])


def prefix(options, path, model):
    text, answers = retrieval.build(options.tokens, 5)
    file = write(f"{path}/prompt", text + " The code of cedar is ")
    warm = write(f"{path}/warm", text[:500])
    store = [["--kv-store", f"{path}/store{i}"] for i in range(options.nodes)] if options.nodes > 0 else None
    rows = []
    os.makedirs(f"{path}/again")
    for at, names in ((path, ["first", "again"]), (f"{path}/again", ["restarted"])):
        with Roles(at, model, nodes=options.nodes, threads=options.threads, each_node=store) as roles:
            ask(roles, warm)
            for name in names:
                if options.nodes > 0 or name != "restarted":
                    rows.append((name, ask(roles, file)))
    print(f"a prompt of {options.tokens} tokens, {options.nodes} attention nodes")
    print(f"{'':12} {'cached':>8} {'first token':>12} {'ratio':>8}  answer")
    seconds = {}
    for name, out in rows:
        seconds[name] = out["timings"]["prefill_s"]
        print(f"{name:12} {out['cached_tokens']:8} {seconds[name]:10.3f} s {seconds['first'] / seconds[name]:8.1f}  {out['text']}")
    texts = {name: out["text"] for name, out in rows}
    good = [judge("the answer is right, and the same each time", set(texts.values()) == {answers["cedar"]}),
            judge("again: cached tokens, the first token 20 times earlier",
                  rows[1][1]["cached_tokens"] > 0 and seconds["first"] >= 20 * seconds["again"])]
    if options.nodes > 0:
        good.append(judge("restarted with --kv-store: cached tokens, 5 times earlier",
                          rows[2][1]["cached_tokens"] > 0 and seconds["first"] >= 5 * seconds["restarted"]))
    return all(good)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["beside", "unshared", "prefix"])
    parser.add_argument("--tokens", type=int, default=0, help="of the prompt; 100000 beside, 50000 prefix")
    parser.add_argument("--target-ms", type=int, default=30)
    parser.add_argument("--unshared", type=float, default=0.0, help="prompt tokens/s, as measured by an earlier run")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.tokens = options.tokens or (50000 if options.what == "prefix" else 100000)
    with folder() as path:
        model = make_retrieval(f"{path}/retrieval.gguf")
        return 0 if {"beside": beside, "unshared": unshared, "prefix": prefix}[options.what](options, path, model) else 1


if __name__ == "__main__":
    sys.exit(main())

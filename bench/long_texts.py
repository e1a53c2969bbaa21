#!/usr/bin/env python3
"""long_texts.py - what a very long text does to those beside it while it comes, before its first token is computed.

    bench/long_texts.py [--mib 4] [--requests 2] [--kinds text,chat,ids,messages,tokenize,run] [--json FILE]

A server of a tiny random model decodes eight streams; beside them /health, /metrics and a completion of two tokens are
asked for, over connections that come and go, so that all threads of the server have some. After --quiet seconds of that,
--requests requests of --mib MiB come at once:

    text       POST /v1/completions, one text
    chat       POST /v1/chat/completions, one message (--chat-template chatml)
    messages   the same text in 10,000 messages
    ids        POST /v1/completions, a token id for each byte
    tokenize   POST /tokenize
    run        longspan run -f FILE, through the coordinator's own socket

None of them fits into the context, so that all is read, parsed and tokenized, and nothing computed but what stands beside
it. Printed are the longest times between two tokens of a stream, and of the answers, alone and beside; what the requests
themselves took; and the coordinator's peak memory. A byte is a token of this model. Run it with nothing else running.
"""
import argparse
import http.client
import json
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests/integration"))
from longspan_test import SHARED, descendants, folder, longspan, make_random, write_text
from serving import Server

N_STREAMS = 8


class Beside:
    """Streams and short questions; what each of them waited for, with the time when it ended."""

    def __init__(self, server):
        self.server, self.waits, self.going, self.lock = server, [], True, threading.Lock()
        self.threads = [threading.Thread(target=self.stream) for _ in range(N_STREAMS)]
        self.threads += [threading.Thread(target=self.ask, args=(name, method, path, body)) for name, method, path, body in (
            ("/health", "GET", "/health", None), ("/metrics", "GET", "/metrics", None),
            ("2 tokens", "POST", "/v1/completions", json.dumps({"prompt": "ab", "max_tokens": 2, "temperature": 0})))]
        for thread in self.threads:
            thread.start()

    def note(self, name, begin):
        now = time.monotonic()
        with self.lock:
            self.waits.append((name, now, now - begin))
        return now

    def stream(self):
        body = json.dumps({"prompt": "a", "max_tokens": 120000, "ignore_eos": True, "stream": True}).encode()
        with self.server.connect(60) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            last = None
            while self.going and connection.recv(1 << 16):
                last = time.monotonic() if last is None else self.note("between tokens", last)

    def ask(self, name, method, path, body):
        while self.going:
            begin = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
            connection.request(method, path, body)
            connection.getresponse().read()
            connection.close()
            self.note(name, begin)
            time.sleep(0.01)

    def longest(self, begin, end):
        """By name, in ms."""
        with self.lock:
            found = {}
            for name, at, seconds in self.waits:
                if begin <= at and at - seconds <= end:
                    found[name] = max(found.get(name, 0), seconds * 1e3)
        return found

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()


def text_of(n_bytes):
    """Prose where it is at hand."""
    path = os.path.join(SHARED, "data/texts/war-and-peace.txt")
    if not os.path.exists(path):
        with folder() as there:
            path = write_text(f"{there}/text", 1 << 16, 1)
            with open(path, encoding="ascii") as file:
                prose = file.read()
    else:
        with open(path, encoding="utf-8") as file:
            prose = file.read().encode("ascii", "replace").decode()
    return (prose * (n_bytes // len(prose) + 1))[:n_bytes]


def request_of(kind, text):
    """Path and body."""
    if kind == "text":
        return "/v1/completions", {"prompt": text}
    if kind == "chat":
        return "/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}
    if kind == "messages":
        n = max(1, len(text) // 10000)
        parts = [text[i:i + n] for i in range(0, len(text), n)]
        return "/v1/chat/completions", {"messages": [{"role": ("user", "assistant")[i % 2], "content": p} for i, p in enumerate(parts)]}
    if kind == "ids":
        return "/v1/completions", {"prompt": [3 + b for b in text.encode()]}
    return "/tokenize", {"prompt": text}


def measure(kind, options, server, path, text):
    beside = Beside(server)
    file = f"{path}/text"
    with open(file, "w", encoding="ascii") as out:
        out.write(text)
    where, body = request_of(kind, text)
    body = json.dumps(body).encode()
    address = re.search(r"listening at (ipc:\S+)", server.log()).group(1)
    took = []

    def send():
        begin = time.monotonic()
        if kind == "run":
            longspan("run", "--coordinator", address, "-f", file, "-n", 1, "-q", timeout=300)
        else:
            server.post(where, body, timeout=300)
        took.append(time.monotonic() - begin)
    time.sleep(1)
    begin = time.monotonic()
    time.sleep(options.quiet)
    middle = time.monotonic()
    senders = [threading.Thread(target=send) for _ in range(options.requests)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    end = time.monotonic()
    alone, with_it = beside.longest(begin, middle), beside.longest(middle, end)
    beside.stop()
    return {"kind": kind, "bytes": len(body) if kind != "run" else len(text), "seconds": sorted(took), "alone_ms": alone, "beside_ms": with_it}


def peak_mib(server):
    coordinator = next(pid for pid, name in descendants(server.process.pid).items() if name == "coordinator")
    with open(f"/proc/{coordinator}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1)) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=float, default=4)
    parser.add_argument("--requests", type=int, default=2, help="at once")
    parser.add_argument("--kinds", default="text,chat,messages,ids,tokenize,run")
    parser.add_argument("--quiet", type=float, default=3, help="seconds without them, before")
    parser.add_argument("--json", help="write the results there")
    options = parser.parse_args()
    text, results = text_of(int(options.mib * (1 << 20))), []
    print(f"{options.requests} requests of {options.mib:g} MiB at once; longest times in ms, alone > beside; {os.cpu_count()} processors")
    print(f"{'kind':9} {'MB':>6} {'seconds':>13} {'between tokens':>17} {'/health':>17} {'/metrics':>17} {'2 tokens':>17} {'peak MiB':>9}")
    with folder() as path:
        model = make_random(f"{path}/random.gguf", "tiny")
        for kind in options.kinds.split(","):
            with Server(path, model, "--ctx", 1 << 17, "--chat-template", "chatml", "--threads", 1, "--max-batch", 16, name=kind) as server:
                row = measure(kind, options, server, path, text)
                row["peak_mib"] = peak_mib(server)
            results.append(row)
            times = "".join(f" {row['alone_ms'].get(n, 0):8.1f} >{row['beside_ms'].get(n, 0):7.1f}" for n in
                            ("between tokens", "/health", "/metrics", "2 tokens"))
            print(f"{kind:9} {row['bytes'] / 1e6:6.1f} {row['seconds'][0]:6.2f} {row['seconds'][-1]:6.2f}{times} {row['peak_mib']:9.0f}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="ascii") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()

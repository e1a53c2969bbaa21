#!/usr/bin/env python3
"""The shell's limits (`ulimit`): what is too little is refused at start, by its name; what is enough by our own word is enough."""
import os
import re
import socket

from longspan_test import ROOT, SLOW, Tap, call, descendants, folder, make_random, program, wait_until
from serving import Server

GOOD = {"prompt": "ab", "max_tokens": 2, "temperature": 0}
PART = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"


def limited(limit, n, *words, **options):
    return call("prlimit", f"--{limit}={n}:{n}", *words, **options)


def expect(tap, name, result, code, *words):
    tap.check(result.code == code and all(word in result.err for word in words), name, result)


def constant(path, name):
    """Of a header, as bytes."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        value, shift = re.search(name + r" = (\d+) << (\d+)", file.read()).groups()
    return int(value) << int(shift)


def stacks(tap, path, model):
    least = constant("sys/stack.h", "STACK_LEAST")
    for name in ("longspan", "coordinator", "worker", "attention_node"):
        expect(tap, f"{name}: a stack that is too small", limited("stack", 65536, program(name), "--help", timeout=20), 2, "64 KiB", "ulimit -s",
               f"{least // 1024} are needed")
    if SLOW != 1:
        tap.skip("the least stack is enough", "sanitizers take more of it")
        return
    before = ["prlimit", f"--stack={least}:{least}"]
    with Server(path, model, "--pipeline", 2, "--attention-nodes", 1, "--threads", 1, "--chat-template", "chatml", before=before, name="stack") as server:
        deep = [b"[" * n + b"]" * n for n in (2000, 2048, 100000)] + [b'{"a":' * n + b"1" + b"}" * n for n in (2000, 2048, 100000)]
        said = [server.post(url, body).status for url in ("/v1/completions", "/v1/chat/completions") for body in deep]
        schema = {"type": "object"}
        for _ in range(60):
            schema = {"type": "array", "items": {"anyOf": [schema, {"type": "object", "properties": {"a": schema}}]}} if _ < 6 else {"type": "array", "items": schema}
        told = [server.post("/v1/completions", {**GOOD, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
                server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a" * 500}], "max_tokens": 2}),
                server.post("/v1/completions", GOOD)]
        tap.check(set(said) == {400} and told[0].status in (200, 400) and [t.status for t in told[1:]] == [200, 200] and server.process.poll() is None,
                  "the least stack is enough for the deepest requests", f"{set(said)} {[str(t) for t in told]}\n{server.log()[-2000:]}")
        code = server.stop()
        tap.check(code == 0, "and to end", f"{code}\n{server.log()[-2000:]}")


def file_sizes(tap, model):
    def run(n, *words):
        return limited("fsize", n, program("longspan"), "run", "-m", model, "-p", "ab", "-n", 1, "--threads", 1, *words, timeout=60)
    expect(tap, "several ranks need files of some size", run(0, "--pipeline", 2), 2, "0 B (ulimit -f)", "5.00 MiB", "raise")
    expect(tap, "and no more than is asked for", run(5 << 20, "--pipeline", 2), 0)
    expect(tap, "one rank needs none", run(0, "--attention-nodes", 1), 0)


def n_open(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def descriptors(tap, path, model):
    result = limited("nofile", 64, program("coordinator"), "--listen", f"ipc://{path}/c", "-m", model, "--workers", 2, "--attention-nodes", 60, timeout=20)
    expect(tap, "a coordinator of more processes than it may have files open", result, 2, "ulimit -n", "2 workers", "60 attention nodes")
    with Server(path, model, "--threads", 1, "--http-idle", 5, before=["prlimit", "--nofile=128:128"], name="few") as server:
        tap.check(re.search(r"warning: http: \d+ connections at once, not \d+.*ulimit -n", server.log()), "fewer connections than places are told", server.log())
        coordinator = next(pid for pid, name in descendants(server.process.pid).items() if name == "coordinator")
        where = re.search(r"listening at (ipc:\S+)", server.log()).group(1)
        crowd = []
        for _ in range(200):
            guest = socket.socket()
            guest.setblocking(False)
            guest.connect_ex(("127.0.0.1", server.port))
            crowd.append(guest)

        def is_full():
            for guest in crowd:
                try:
                    guest.send(PART)
                except OSError:
                    pass
            return n_open(coordinator) >= 128 - 20
        tap.check(wait_until(is_full, 20 * SLOW), "a crowd takes all places", n_open(coordinator))
        done = call(program("longspan"), "run", "--coordinator", where, "-p", "ab", "-n", 1, timeout=30)
        tap.check(done.code == 0 and n_open(coordinator) < 128, "who comes by the other way is served beside it", f"{n_open(coordinator)} open\n{done}\n{server.log()[-2000:]}")
        for guest in crowd:
            guest.close()
        reply = server.post("/v1/completions", GOOD)
        tap.check(reply.status == 200, "and after it the next one", f"{reply}\n{server.log()[-2000:]}")
        code = server.stop()
        tap.check(code == 0, "it ends with 0", f"{code}\n{server.log()[-2000:]}")
    with Server(path, model, "--threads", 1, before=["prlimit", "--nofile=64:64"], name="least") as server:
        where = re.search(r"listening at ipc://(\S+)", server.log()).group(1)
        coordinator = next(pid for pid, name in descendants(server.process.pid).items() if name == "coordinator")
        guests = []
        for _ in range(64):  # more than have room: the last ones wait
            guests.append(socket.socket(socket.AF_UNIX))
            guests[-1].connect(where)
        tap.check(wait_until(lambda: n_open(coordinator) >= 64 and "warning: nearly all files are open" in server.log(), 20 * SLOW), "clients that fill it are told of",
                  f"{n_open(coordinator)} open\n{server.log()}")
        for guest in guests:
            guest.close()
        reply = server.post("/v1/completions", GOOD)
        tap.check(reply.status == 200, "and the next one is served", f"{reply}\n{server.log()[-2000:]}")


def main():
    tap = Tap()
    with folder() as path:
        model = make_random(f"{path}/random.gguf", "tiny")
        stacks(tap, path, model)
        file_sizes(tap, model)
        descriptors(tap, path, model)
    tap.finish()


main()

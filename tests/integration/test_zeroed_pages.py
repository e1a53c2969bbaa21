#!/usr/bin/env python3
"""The answer comes out of the pages that hold it: zero them at one node, and the answer is wrong.

A relay before node1 wipes the K and V of the needle's tokens on their way. With the relay wiping tokens that do
not matter, the answer is right: so it is the pages, not the relay."""
import os
import signal
import subprocess

import retrieval
from longspan_test import BIN, Roles, Tap, folder, longspan, make_retrieval, wait_until

RELAY = os.path.join(os.path.dirname(BIN), "tests/integration/relay")


def ask(tap, path, model, prompt, wiped):
    """(answer, rows wiped, spans of node1)"""
    name = f"{path}/{wiped[0]}"
    os.mkdir(name)
    front, back = f"ipc://{name}/front.sock", f"ipc://{name}/node1.sock"
    relay = subprocess.Popen([RELAY, front, back, str(wiped[0]), str(wiped[1])], stdout=subprocess.PIPE)
    try:
        with Roles(name, model, workers=2, nodes=2, coordinator=["--pipeline", 2, "--stripe", 256],
                   worker_options=["--exchange", "zeromq"],  # shared memory would go past the relay
                   advertise=[None, front]) as roles:
            wait_until(lambda: os.path.exists(front[6:]), 5)
            result = longspan("run", "--coordinator", roles.address, "-f", prompt, "-n", 8, "--ignore-eos", "--json",
                              timeout=120)
            if not tap.check(result.code == 0, f"tokens {wiped[0]} to {wiped[1]} wiped: the run ends without an error",
                             f"{result}\n{roles.logs()}"):
                return None, 0, []
            out = result.json()
    finally:
        relay.send_signal(signal.SIGTERM)
        rows = int(relay.communicate(timeout=10)[0] or 0)
    return out["text"], rows, next(h["spans"] for h in out["holders"] if h["name"] == "node1")


def main():
    tap = Tap()
    with folder() as path:
        model = make_retrieval(f"{path}/retrieval.gguf")
        text, answers = retrieval.build(6001, 4)
        prompt = f"{path}/prompt"
        with open(prompt, "w", encoding="ascii") as file:
            file.write(text + " The code of amber is ")  # asked first: depth 0
        needle = text.index(answers["amber"]) + 1  # BOS is token 0
        harmless, _, spans = ask(tap, path, model, prompt, (5800, 5900))
        tap.check(harmless == answers["amber"], f"wiping what does not matter: {harmless!r} is right", answers["amber"])
        for name in retrieval.NAMES:  # a needle that node1 holds
            needle = text.index(answers[name]) + 1
            if any(s[0] <= needle and needle + 8 < s[1] for s in spans):
                with open(prompt, "w", encoding="ascii") as file:
                    file.write(f"{text} The code of {name} is ")
                answer, rows, _ = ask(tap, path, model, prompt, (needle - 4, needle + 12))
                tap.check(rows > 0 and answer is not None and answer != answers[name],
                          f"{rows} rows of {name}'s pages wiped at node1: the answer is {answer!r}, not {answers[name]!r}",
                          f"{rows} rows")
                break
        else:
            tap.check(False, "node1 holds one of the needles", spans)
    tap.finish()


main()

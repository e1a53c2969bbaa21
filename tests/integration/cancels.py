#!/usr/bin/env python3
"""cancels.py [--requests 1000] [--nodes 0] [--cache on] - requests come and are cancelled at random; then nothing is left of them.

Prompts of all lengths, many with a beginning in common, on a KV cache that holds a few of them: some wait, some are
preempted, some are answered, and half of the clients are ended by SIGTERM (they say so) or SIGKILL (they do not) at a random
moment. With the prefix cache on and off. In the end, when nothing runs: without the cache no page is in use, at the
coordinator's account and at the nodes'; with it all pages can be had again, by one prompt that needs them all.
"""
import argparse
import random
import signal
import subprocess
import sys
import threading
import time

from longspan_test import Roles, folder, longspan, make_random, program, wait_until, write_text

PAGES = 24
PAGE = 256
TOKEN_BYTES = 4 * 2 * 2 * 32 * 2  # of KV: the tiny model's layers, K and V, KV heads, head_dim, f16
AT_ONCE = 16


def status(roles):
    result = longspan("status", "--coordinator", roles.address, "--json")
    if result.code != 0:
        sys.exit(str(result) + roles.logs())
    return result.json()


class Clients:
    def __init__(self, roles, files, n, seed):
        self.roles, self.files, self.left, self.random = roles, files, n, random.Random(seed)
        self.lock = threading.Lock()
        self.answered = self.cancelled = 0
        self.failures = []

    def take(self):
        with self.lock:
            self.left -= 1
            if self.left < 0:
                return None
            end = self.random.choice([None, None, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL])
            return self.random.choice(self.files), self.random.randint(1, 200), end, self.random.random()

    def run(self):
        while (one := self.take()) is not None:
            file, n, end, after = one
            process = subprocess.Popen([program("longspan"), "run", "--coordinator", self.roles.address, "-f", file, "-n", str(n),
                                        "--ignore-eos", "-q"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if end is not None:
                time.sleep(after * 0.5)
                process.send_signal(end)
            _, text = process.communicate()
            with self.lock:
                if process.returncode == 0:
                    self.answered += 1
                elif end is not None:
                    self.cancelled += 1
                else:
                    self.failures.append(text.decode("utf-8", "replace"))


def check(options, path, model, files, cache):
    memory = PAGES * PAGE * TOKEN_BYTES
    coordinator = ["-v", "--ctx", PAGES * PAGE, "--prefix-cache", cache]
    nodes = []
    if options.nodes == 0:
        coordinator += ["--kv-memory", memory]
    else:
        nodes = ["--memory", memory // options.nodes]
    with folder() as at, Roles(at, model, nodes=options.nodes, coordinator=coordinator, node_options=nodes) as roles:
        clients = Clients(roles, files, options.requests, options.seed)
        threads = [threading.Thread(target=clients.run) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        idle = wait_until(lambda: (s := status(roles))["waiting"] + s["running"] == 0 and
                          (cache == "on" or all(h["pages_used"] == 0 for h in s["holders"])), 30)
        now = status(roles)
        used = sum(h["pages_used"] for h in now["holders"])
        counters = now["counters"]
        print(f"{options.requests} requests, {options.nodes} attention nodes, prefix cache {cache}: {clients.answered} answered, "
              f"{clients.cancelled} cancelled, {counters['preemptions_total']} preemptions, "
              f"{counters['cached_tokens_total']} tokens found; {used} pages in use")
        good = idle and not clients.failures
        if cache == "on": # one prompt that needs all pages, with one token less than they have
            everything = longspan("run", "--coordinator", roles.address, "-f",
                                  write_text(f"{path}/all", PAGES * PAGE - 2, 1234), "-n", 1, "-q", "--no-prefix-sharing", timeout=120)
            good = good and everything.code == 0
            clients.failures += [str(everything)] if everything.code != 0 else []
            wait_until(lambda: status(roles)["running"] == 0, 10)
            used = sum(h["pages_used"] for h in status(roles)["holders"])
            print(f"after a prompt of all {PAGES} pages: {used} in use, all of them kept")
            good = good and used <= PAGES

        def at_the_nodes():
            return sum(n["pages_reserved"] for n in status(roles)["nodes"]) == used * 8  # layers and KV heads
        good = good and (options.nodes == 0 or wait_until(at_the_nodes, 10))
        if not good:
            print("\n".join(clients.failures[:5]), status(roles), roles.logs(), sep="\n")
        print("nothing is left of them" if good else "FAILED")
        return good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--cache", choices=["on", "off"], help="both without")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with folder() as path:
        model = make_random(f"{path}/tiny.gguf", "tiny", "F32", 3)
        files = []
        for i in range(20):
            write_text(f"{path}/{i}", 1 + (i * 397) % 2500, i % 5)  # one of five texts, cut somewhere
            files.append(f"{path}/{i}")
        return 0 if all([check(options, path, model, files, cache) for cache in ([options.cache] if options.cache else ["off", "on"])]) else 1


if __name__ == "__main__":
    sys.exit(main())

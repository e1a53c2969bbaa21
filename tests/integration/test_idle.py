#!/usr/bin/env python3
"""An idle cluster, its roles started by hand, uses under 2% of one core in total; and it still answers."""
import time

from longspan_test import Roles, Tap, cpu_seconds, descendants, folder, longspan, make_random, wait_until

SECONDS = 30


def main():
    tap = Tap()
    with folder() as path:
        model = make_random(f"{path}/model.gguf", "tiny")
        with Roles(path, model, workers=2, nodes=2, coordinator=["--pipeline", 2, "--stripe", 256]) as roles:
            def ask():
                return longspan("run", "--coordinator", roles.address, "-p", "hello " * 150, "-n", 3, "--temp", 0, "--json")
            first = ask()
            tap.check(first.code == 0, "a cluster started by hand answers", f"{first}\n{roles.logs()}")
            pids = {}
            for name, child in roles.children.items():
                pids[child.pid] = name
                pids.update({p: f"{name}/{n}" for p, n in descendants(child.pid).items()})
            wait_until(lambda: False, 3)  # the last request's spinning and yielding is over by then
            begin, at = {p: cpu_seconds(p) for p in pids}, time.monotonic()
            time.sleep(SECONDS)  # the measurement itself
            elapsed = time.monotonic() - at
            used = {pids[p]: (cpu_seconds(p) - begin[p]) / elapsed * 100 for p in pids}
            table = "\n".join(f"{percent:6.2f}%  {name}" for name, percent in used.items())
            tap.check(len(pids) >= 6 and sum(used.values()) < 2.0,
                      f"{len(pids)} idle processes use {sum(used.values()):.2f}% of one core over {elapsed:.0f} s", table)
            second = ask()
            tap.check(second.code == 0 and second.json()["ids"] == first.json()["ids"], "and it answers the same again",
                      f"{second}\n{roles.logs()}")
    tap.finish()


main()

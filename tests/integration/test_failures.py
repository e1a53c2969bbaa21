#!/usr/bin/env python3
"""Whatever dies, everything that `longspan run` started ends within 3 seconds, and the message names who."""
import os
import re
import signal
import subprocess
import time

from longspan_test import OWN_GROUP, Tap, alive, descendants, folder, make_retrieval, program, wait_until, write_text

LAYOUT = ["--pipeline", "2", "--attention-nodes", "2", "--stripe", "256", "--chunk", "64"]


def start(path, model):
    """A run that is in the middle of a prompt long enough to outlast the test."""
    log = open(f"{path}/stderr", "wb")
    process = subprocess.Popen([program("longspan"), "run", "-m", model, "-f", f"{path}/long", "-n", "4", "-v",
                                *LAYOUT], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                               **OWN_GROUP, env={**os.environ, "TMPDIR": path})
    log.close()

    def busy():
        names = list(descendants(process.pid).values())
        return names.count("worker") == 2 and names.count("attention_node") == 2 and "coordinator" in names and \
            b"request 1: " in open(f"{path}/stderr", "rb").read()
    if not wait_until(busy, 60):
        process.kill()
        raise RuntimeError(f"no cluster: {descendants(process.pid)}\n" + open(f"{path}/stderr").read()[-2000:])
    return process, descendants(process.pid)


def memory_folders(processes):
    """What they have in /dev/shm, where tests that run beside this one have folders too."""
    found = set()
    for process in processes:
        try:
            with open(f"/proc/{process}/environ", "rb") as file:
                found |= {name.decode() for name in re.findall(rb"/dev/shm/longspan-\w+", file.read())}
        except OSError:  # it has ended
            pass
    return found


def stop_of(tap, path, model, who, how):
    """Returns the temporary folders that stay."""
    before = set(os.listdir(path))
    process, below = start(path, model)
    in_memory = memory_folders(below)
    target = process.pid if who == "longspan" else next(p for p, n in below.items() if n == who)
    begun = time.monotonic()
    os.kill(target, how)
    gone = wait_until(lambda: process.poll() is not None and not any(map(alive, below)), 3)
    seconds = time.monotonic() - begun
    err = open(f"{path}/stderr", encoding="utf-8", errors="replace").read()
    left = [f"{n} {p}" for p, n in below.items() if alive(p)]
    name = f"{signal.Signals(how).name} to {who}"
    tap.check(gone, f"{name}: all {len(below) + 1} processes gone after {seconds:.1f} s", f"left: {left}\n{err[-2500:]}")
    for p in [process.pid, *below]:
        if alive(p):
            os.kill(p, signal.SIGKILL)
    process.wait()
    if who != "longspan":
        tap.check(process.returncode == 4, f"{name}: exit status 4", f"{process.returncode}\n{err[-1500:]}")
        tap.check(who.replace("_", " ") in err.replace("_", " "), f"{name}: the message names it", err[-1500:])
    elif how != signal.SIGKILL:
        tap.check(process.returncode not in (0, 2, 3), f"{name}: exit status {process.returncode}", err[-1500:])
    left = [f"{path}/{e}" for e in set(os.listdir(path)) - before if e.startswith(("longspan-", "ompi.", "vader_"))]
    left += filter(os.path.exists, in_memory)
    if (who, how) != ("longspan", signal.SIGKILL):
        tap.check(in_memory and not left, f"{name}: no temporary folder stays, nor what Open MPI kept", left)
    return left


def main():
    tap = Tap()
    with folder() as path:
        model = make_retrieval(f"{path}/retrieval.gguf")
        write_text(f"{path}/long", 400000, 9)
        killed = []
        for who, how in (("longspan", signal.SIGINT), ("longspan", signal.SIGTERM), ("longspan", signal.SIGKILL),
                         ("worker", signal.SIGKILL), ("attention_node", signal.SIGKILL),
                         ("coordinator", signal.SIGKILL), ("mpirun", signal.SIGKILL)):
            try:
                left = stop_of(tap, path, model, who, how)
                if (who, how) == ("longspan", signal.SIGKILL):
                    killed = left
            except (RuntimeError, StopIteration) as failure:
                tap.check(False, f"{how} to {who}", failure)
        tap.check(killed and not any(map(os.path.exists, killed)),
                  f"what a killed longspan left, the next one removed: {len(killed)} folders", killed)
    tap.finish()


main()

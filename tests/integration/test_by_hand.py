#!/usr/bin/env python3
"""`longspan run --dry-run` prints every command line, and the same roles started by hand answer too."""
import shlex
import subprocess

from longspan_test import OWN_GROUP, Tap, folder, longspan, make_retrieval

import retrieval


def main():
    tap = Tap()
    with folder() as path:
        model = make_retrieval(f"{path}/retrieval.gguf")
        text, answers = retrieval.build(2000, 8)
        with open(f"{path}/prompt", "w", encoding="ascii") as file:
            file.write(text + " The code of birch is ")
        dry = longspan("run", "-m", model, "-f", f"{path}/prompt", "-n", 8, "--ignore-eos", "--pipeline", 2,
                       "--attention-nodes", 2, "--stripe", 256, "--dry-run")
        lines = [shlex.split(line) for line in dry.out.splitlines() if line.strip() and not line.startswith("#")]
        wanted = ["coordinator", "attention_node", "attention_node", "mpirun"]
        found = [next((w for w in ("mpirun", "coordinator", "attention_node") if line[0].endswith(w)), "") for line in lines]
        tap.check(dry.code == 0 and sorted(f for f in found if f) == sorted(wanted), "dry-run prints every command line", dry)
        if [f for f in found if f]:
            children = [subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL, **OWN_GROUP)
                        for line, name in zip(lines, found) if name]
            coordinator = next(line for line, name in zip(lines, found) if name == "coordinator")
            address = coordinator[coordinator.index("--listen") + 1]
            result = longspan("run", "--coordinator", address, "-f", f"{path}/prompt", "-n", 8, "--ignore-eos", "-q",
                              timeout=60)
            tap.check(result.code == 0 and result.out.rstrip("\n") == answers["birch"],
                      f"the printed lines, started by hand, answer at {address}", result)
            children[[f for f in found if f].index("coordinator")].terminate()
            for child, line in zip(children, [line for line, name in zip(lines, found) if name]):
                if "attention_node" in line[0]:
                    child.terminate()  # a node outlives its coordinator and waits for another
                try:
                    code = child.wait(8)
                except subprocess.TimeoutExpired:
                    child.kill()
                    code = "still there"
                tap.check(code == 0, f"{line[0].rsplit('/', 1)[-1]} ends with 0 after SIGTERM or its coordinator's end", code)
    tap.finish()


main()

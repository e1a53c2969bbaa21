#!/usr/bin/env python3
"""cuda_report.py FILE... - registers, shared memory, stack frame and spills of every CUDA kernel.

FILE is what the compiler said about one source (nvcc -Xptxas -v; the Makefile keeps it beside the object).
Fails when a kernel that runs in every step spills or has a stack frame, for any GPU. Those that run once, at loading, are
marked "cold" and may.
"""
import re
import shutil
import subprocess
import sys

COLD = ("make_panels", "embed_rows")


def demangled(names):
    if not names or shutil.which("c++filt") is None:
        return names
    text = subprocess.run(["c++filt"], input="\n".join(names), text=True, capture_output=True, check=True).stdout
    names = [re.sub(r"\(anonymous namespace\)::|_GLOBAL__N__\w+::|^void ", "", line) for line in text.splitlines()]
    return [name.rsplit("(", 1)[0] for name in names]


def kernels(path):
    """(mangled name, architecture, registers, shared, stack, spilled bytes) of each kernel."""
    with open(path, encoding="utf-8") as file:
        parts = re.split(r"Compiling entry function '(\S+)' for '(\S+)'", file.read())
    for name, arch, text in zip(parts[1::3], parts[2::3], parts[3::3]):
        stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text)
        used = re.search(r"Used (\d+) registers", text)
        shared = re.search(r"(\d+) bytes smem", text)
        if stack is None or used is None:
            continue
        yield (name, arch, int(used.group(1)), int(shared.group(1)) if shared else 0, int(stack.group(1)),
               int(stack.group(2)) + int(stack.group(3)))


def main():
    bad, found = 0, 0
    print(f"{'kernel':64} {'for':8} {'registers':>9} {'shared':>7} {'stack':>6} {'spilled':>7}")
    for path in sys.argv[1:]:
        rows = list(kernels(path))
        for (_, arch, registers, shared, stack, spilled), name in zip(rows, demangled([row[0] for row in rows])):
            found += 1
            cold = name.startswith(COLD)
            wrong = (stack > 0 or spilled > 0) and not cold
            bad += wrong
            mark = "  cold" if cold else "  SPILLS" if wrong else ""
            print(f"{name[:64]:64} {arch:8} {registers:9} {shared:7} {stack:6} {spilled:7}{mark}")
    print(f"{found} kernels, {bad} that run in every step spill or have a stack frame")
    return 1 if bad or not found else 0


if __name__ == "__main__":
    sys.exit(main())

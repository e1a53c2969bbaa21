#!/usr/bin/env python3
"""longspan bench: rows for what was asked, on each kind of cluster; what cannot be is refused and leaves nothing."""
import json

from longspan_test import Roles, Tap, folder, longspan, make_random, processes_of


def bench(path, *options, code=0):
    result = longspan("bench", "-m", f"{path}/tiny.gguf", "-n", 2, "--runs", 2, "--json", f"{path}/out.json", *options)
    if result.code != code:
        raise RuntimeError(str(result))
    if code:
        return result
    with open(f"{path}/out.json", encoding="utf-8") as file:
        return json.load(file)


def check_rows(tap, path):
    told = bench(path, "-d", "0,700", "-p", 20, "-b", "1,2", "--ragged", "5+300", "--csv", f"{path}/out.csv")
    rows = told["speed"]["rows"]
    seen = [(r["phase"], r["sequences"], r["depth"]) for r in rows]
    wanted = [(p, n, d) for d in ("0", "700") for p, n in (("prefill", 1), ("decode", 1), ("decode", 2))]
    tap.check(seen == [*wanted, ("decode", 2, "5+300")], "a row for each case, in order", seen)
    tap.check(all(r["min_ms"] <= r["ms"] <= r["max_ms"] and r["ms"] > 0 for r in rows), "medians within their spread", rows)
    tap.check(all(r["limit_ms"] > 0 and r["read_GB_s"] > 0 for r in rows), "a limit beside each row", rows)
    with open(f"{path}/out.csv", encoding="utf-8") as file:
        tap.check(len(file.read().splitlines()) == len(rows) + 1, "the same rows as CSV")
    memory = told["memory"]["rows"]
    tap.check(len(memory) == 2 and memory[0]["weights_MiB"] > 5 and memory[0]["peak_MiB"] > memory[0]["weights_MiB"],
              "peak memory of the worker, beside its weights", memory)


def check_clusters(tap, path):
    for options, n in ((["--pipeline", 2, "-t", 1], 2), (["--tensor", 2, "-t", 1], 2),
                       (["--attention-nodes", 1, "-t", 1], 2)):
        told = bench(path, "-d", "600", "-p", 0, *options)
        tap.check(len(told["speed"]["rows"]) == 1 and len(told["memory"]["rows"]) == n + 1,
                  f"longspan bench {' '.join(str(o) for o in options)}", told)


def check_running(tap, path):
    with Roles(path, f"{path}/tiny.gguf", coordinator=("--ctx", 512)) as roles:
        words = ("bench", "--coordinator", roles.address, "-p", 0, "-n", 8, "--runs", 2)
        result = longspan(*words, "-d", 400)
        tap.check(result.code == 0 and "decode" in result.out, "longspan bench of a cluster that runs", result)
        result = longspan(*words, "-d", 500)
        tap.check(result.code == 2 and "context is too short" in result.err and "decode" not in result.out,
                  "one whose context ends before the last run is told, not measured", result)


def check_refusals(tap, path):
    for options, said in ((["--depths", "1,x"], "--depths"), (["-p", 0, "-n", 0], "nothing to measure"),
                          (["-d", "100000", "-p", 0, "--kv-memory", "1MiB"], "KV")):
        result = bench(path, *options, code=2)
        tap.check(said in result.err and result.err.count("error") == 1, f"{options} is refused", result)
    result = bench(path, "-d", "5000", "-b", "16", "-p", 0, "--kv-memory", "8MiB", code=2)
    tap.check("room for all 16 sequences" in result.err, "a batch that does not fit at once is told", result)
    tap.check(not processes_of(path), "nothing is left running")


def main():
    tap = Tap()
    with folder() as path:
        make_random(f"{path}/tiny.gguf", "tiny", "F32", 3)
        for check in (check_rows, check_clusters, check_running, check_refusals):
            try:
                check(tap, path)
            except RuntimeError as failure:
                tap.check(False, check.__name__, failure)
    tap.finish()


if __name__ == "__main__":
    main()

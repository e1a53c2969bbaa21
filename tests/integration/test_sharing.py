#!/usr/bin/env python3
"""Many prompts at once: each gets the tokens that it gets alone, whoever is preempted, and whoever has its beginning.

32 ragged prompts on a KV cache that holds a few of them at a time, with the workers' own memory and with two attention
nodes: some are preempted. Then prompts that begin alike, one after the other: the later ones have
cached tokens, and the same answers, also after a restart with --kv-store. In the end the pools are empty, or all pages are those that are kept.
"""
import os
import threading

from longspan_test import Roles, Tap, folder, longspan, make_random, wait_until, write_text

N = 32
LONG = 6  # of them come first, in one request, and have long answers: of three pages in the end
N_LONG, N_SHORT = 290, 16  # tokens
LAYOUTS = [("no attention nodes", 0), ("2 attention nodes", 2)]
PAGE = 256
TOKEN_BYTES = 4 * 2 * 2 * 32 * 2  # of KV: the tiny model's layers, K and V, KV heads, head_dim, f16
SAMPLED = ["--temp", 0.9, "--top-k", 50, "--seed", 7]


def prompts(path):
    lengths = [250 - i if i < LONG else 1 + (i * 97) % 700 for i in range(N)]
    return [write_text(f"{path}/{i}", n, i) for i, n in enumerate(lengths)]


def run(*arguments, n):
    return longspan("run", *arguments, "-n", n, "--ignore-eos", "--json", timeout=120)


def status(roles):
    result = longspan("status", "--coordinator", roles.address, "--json")
    if result.code != 0:
        raise RuntimeError(str(result) + roles.logs())
    return result.json()


def alone(model, files, sampling):
    """Each prompt's ids, in a batch of one: nobody is there to disturb it."""
    with folder() as path, Roles(path, model, coordinator=["--max-batch", 1, "--prefix-cache", "off"]) as roles:
        out = []
        for some, n in ((files[:LONG], N_LONG), (files[LONG:], N_SHORT)):
            if not some:
                continue
            result = run("--coordinator", roles.address, *[a for f in some for a in ("-f", f)], *sampling, n=n)
            if result.code != 0:
                raise RuntimeError(str(result) + roles.logs())
            out += ids(result)
        return out


def together(roles, files, sampling):
    """All at once: the long ones in one request, so that they begin together, each other one, once that is there, as a
    client of its own."""
    groups = [files[:LONG]] + [[f] for f in files[LONG:]]
    out = [None] * len(groups)

    def ask(i):
        arguments = [a for f in groups[i] for a in ("-f", f)]
        out[i] = run("--coordinator", roles.address, *arguments, *sampling, n=N_LONG if i == 0 else N_SHORT)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(groups))]
    for thread in threads:
        thread.start()
        wait_until(lambda: f"{len(groups[0])} prompts" in roles.log("coordinator"), 60)
    for thread in threads:
        thread.join()
    return out


def ids(result):
    out = result.json()
    return [o["ids"] for o in (out if isinstance(out, list) else [out])]


def check_preempted(tap, model, files, expected, sampling, name, n_nodes):
    pages = 8  # of all holders: three answers in the end, and four begin
    memory = pages * PAGE * TOKEN_BYTES
    coordinator = ["-v", "--ctx", 1024, "--prefix-cache", "off"]
    nodes = []
    if n_nodes == 0:
        coordinator += ["--kv-memory", memory]
    else:
        nodes = ["--memory", memory // n_nodes]
    with folder() as path, Roles(path, model, nodes=n_nodes, coordinator=coordinator, node_options=nodes) as roles:
        results = together(roles, files, sampling)
        ok = all(r.code == 0 for r in results)
        tap.check(ok, f"{name}: {len(files)} prompts at once are answered", "\n".join(str(r) for r in results if r.code != 0))
        same = ok and [i for r in results for i in ids(r)] == expected
        tap.check(same, f"{name}: each has the tokens that it has alone")
        preempted = status(roles)["counters"]["preemptions_total"]
        tap.check(preempted > 0, f"{name}: some were preempted", roles.log("coordinator"))
        print(f"# {name}: {preempted} preemptions")
        tap.check(all(h["pages_used"] == 0 for h in status(roles)["holders"]), f"{name}: no page is left", status(roles))
        if n_nodes > 0:
            def empty():
                return all(n["pages_reserved"] == 0 for n in status(roles)["nodes"])
            tap.check(wait_until(empty, 10), f"{name}: no page is left at the nodes", status(roles))


def check_cached(tap, model, path, name, n_nodes):
    text = open(write_text(f"{path}/long", 3000, 99), encoding="ascii").read()
    files = []
    for i, tail in enumerate(["", " and on", "", " another end"]):
        files.append(f"{path}/cached{i}")
        with open(files[-1], "w", encoding="ascii") as file:
            file.write(text + tail)
    with folder() as at, Roles(at, model, nodes=n_nodes, coordinator=["-v"]) as roles:
        cold = [run("--coordinator", roles.address, "-f", f, "--no-prefix-sharing", n=20) for f in files[:1]]
        results = [run("--coordinator", roles.address, "-f", f, n=20) for f in files]
        if not tap.check(all(r.code == 0 for r in cold + results), f"{name}: prompts that begin alike are answered",
                         "\n".join(map(str, cold + results)) + roles.logs()):
            return
        out = [r.json() for r in results]
        whole = len(out[0]["prompt_ids"]) // PAGE * PAGE
        tap.check(cold[0].json()["cached_tokens"] == 0, f"{name}: who shares nothing has no cached tokens", cold[0])
        tap.check([o["cached_tokens"] for o in out] == [whole] * 4, f"{name}: {whole} tokens are cached",
                  [o["cached_tokens"] for o in out])
        tap.check(out[0]["ids"] == out[2]["ids"] == cold[0].json()["ids"], f"{name}: the same answer")
        other = [run("--coordinator", roles.address, "-f", f, "--no-prefix-sharing", n=20).json() for f in files]
        tap.check([o["ids"] for o in other] == [o["ids"] for o in out], f"{name}: as without sharing, token for token")


def check_stored(tap, model, path):
    """A cluster that stores what it keeps, and another one after it, which finds it; then with a file that was changed."""
    file = write_text(f"{path}/stored", 3000, 98)
    stores = [f"{path}/store{i}" for i in range(2)]
    whole = 3001 // PAGE * PAGE
    out = []
    for i in range(3):
        if i == 2:
            for store in stores:
                for name in os.listdir(store):
                    with open(f"{store}/{name}", "r+b") as page:
                        page.seek(5000)
                        page.write(b"other")
        with folder() as at, Roles(at, model, nodes=2, coordinator=["--stripe", PAGE],
                                   each_node=[["--kv-store", store] for store in stores]) as roles:
            result = run("--coordinator", roles.address, "-f", file, n=20)
            if not tap.check(result.code == 0, f"a cluster with stores answers ({i + 1})", str(result) + roles.logs()):
                return
            out.append(result.json())
            if i == 0:
                tap.check(wait_until(lambda: sum(n.endswith(".kv") for s in stores for n in os.listdir(s)) == whole // PAGE, 10),
                          "whole pages are written, to each node's own directory", [os.listdir(s) for s in stores])
    tap.check(out[0]["cached_tokens"] == 0 and out[1]["cached_tokens"] == whole, "the next cluster finds them",
              [o["cached_tokens"] for o in out])
    tap.check(out[2]["cached_tokens"] == 0, "pages that were changed are not used", out[2]["cached_tokens"])
    tap.check(out[0]["ids"] == out[1]["ids"] == out[2]["ids"], "the same answer each time")


def main():
    tap = Tap()
    with folder() as path:
        model = make_random(f"{path}/tiny.gguf", "tiny", "F32", 3)
        files = prompts(path)
        greedy, sampled = alone(model, files, []), alone(model, files[:LONG], SAMPLED)
        for name, n_nodes in LAYOUTS:
            check_preempted(tap, model, files, greedy, [], name, n_nodes)
        check_preempted(tap, model, files[:LONG], sampled, SAMPLED, "sampled", 0)
        for name, n_nodes in LAYOUTS:
            check_cached(tap, model, path, name, n_nodes)
        check_stored(tap, model, path)
    tap.finish()


if __name__ == "__main__":
    main()

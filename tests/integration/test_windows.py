#!/usr/bin/env python3
"""Models with sliding windows: the memory of a window, not of the text, and the answers of those who have memory for all.

10,000 tokens through two attention nodes that have room for a window; the same in the workers' own memory, in other chunks.
Then conversations that go on where their window is whole, prompts that only begin alike, sequences that are preempted, and
nodes that would store what is released.
"""
import threading

from longspan_test import Roles, Tap, folder, longspan, make_random, read_logits, wait_until, write_text

PAGE = 256
LONG = 10000
LAYER_PAGE = PAGE * 2 * 2 * 32 * 2  # bytes: K and V, KV heads, head_dim, f16
N_PREDICT = 12


def run(roles, *arguments, n=N_PREDICT):
    return longspan("run", "--coordinator", roles.address, "-n", n, "--ignore-eos", "--json", *arguments, timeout=120)


def status(roles):
    return longspan("status", "--coordinator", roles.address, "--json").json()


def ask(tap, path, model, name, file, **layout):
    """Answer, logits, and the most pages that a node had; None: it failed."""
    with folder() as at, Roles(at, model, **layout) as roles:
        result = run(roles, "-f", file, "--dump-logits", f"{path}/logits.f32")
        if not tap.check(result.code == 0, f"{name}: is answered", str(result) + roles.logs()):
            return None
        usage = [(n["pages_taken"], n["pages_reserved"], n["pages_total"]) for n in status(roles)["nodes"]]
        return result.json(), read_logits(f"{path}/logits.f32").tobytes(), usage


def check_long(tap, path, model, name, file, n_layers, units):
    """`units`: pages of one layer that each of two nodes has; without windows it would be half of all pages."""
    small = ["--memory", units * LAYER_PAGE]
    context = ["--ctx", LONG + 512, "--stripe", PAGE]
    reference = ask(tap, path, model, f"{name}, local", file, coordinator=["--ctx", LONG + 512, "--chunk", 200])
    nodes = ask(tap, path, model, f"{name}, two small nodes", file, nodes=2, node_options=small,
                coordinator=[*context, "--chunk", 256])
    if reference is None or nodes is None:
        return
    tap.check(nodes[0]["ids"] == reference[0]["ids"] and nodes[1] == reference[1], f"{name}: the same bits")
    whole = LONG // PAGE * n_layers
    taken = sum(n[0] for n in nodes[2]) // 2  # of one layer and KV head; there are two
    tap.check(taken <= 2 * units < whole / 2, f"{name}: {taken} pages instead of {whole}", nodes[2])


def check_refused(tap, model, units):
    """The same memory does not do without windows."""
    result = longspan("run", "-m", model, "-p", "x", "-n", 1, "--attention-nodes", 2, "--memory", units * LAYER_PAGE, "--ctx",
                      LONG + 512)
    tap.check(result.code != 0 and "would fit" in result.err, "without windows this memory is too little", result)


def check_conversation(tap, path, model, name, nodes):
    """The second turn goes on where the first one ended; a prompt that only begins alike is computed."""
    text = open(write_text(f"{path}/turn", 3000, 99), encoding="ascii").read()
    files = []
    for i, some in enumerate([text, text + " and on", text[:1100] + " another end", text]):
        files.append(f"{path}/turn{i}")
        with open(files[-1], "w", encoding="ascii") as file:
            file.write(some)
    with folder() as at, Roles(at, model, nodes=nodes, coordinator=["-v", "--stripe", PAGE]) as roles:
        shared = [run(roles, "-f", f) for f in files]
        alone = [run(roles, "-f", f, "--no-prefix-sharing") for f in files]
        if not tap.check(all(r.code == 0 for r in shared + alone), f"{name}: turns are answered",
                         "\n".join(map(str, shared + alone)) + roles.logs()):
            return
        whole = (3001 + N_PREDICT - 1) // PAGE * PAGE
        cached = [r.json()["cached_tokens"] for r in shared]
        tap.check(cached == [0, whole, 0, whole], f"{name}: cached where windows are whole", cached)
        tap.check([r.json()["ids"] for r in shared] == [r.json()["ids"] for r in alone], f"{name}: the same answers")


def check_preempted(tap, path, model, name, n_nodes):
    """Answers of four pages on memory for a few windows: the last ones wait, or go and come again."""
    n, n_predict, n_layers = 5, 700, 4
    files = [write_text(f"{path}/preempted{i}", 300 + i, 50 + i) for i in range(n)]
    units = 7 * n_layers + n_layers // 2
    coordinator = ["-v", "--ctx", 1280, "--prefix-cache", "off", "--chunk", 64, "--stripe", PAGE]
    alone, out = [], [None] * n
    with folder() as at, Roles(at, model, coordinator=coordinator) as roles:
        alone = [run(roles, "-f", f, n=n_predict) for f in files]
    options = ["--memory", units * LAYER_PAGE // max(n_nodes, 1)]
    if n_nodes == 0:
        coordinator += ["--kv-memory", units * LAYER_PAGE]
    with folder() as at, Roles(at, model, nodes=n_nodes, coordinator=coordinator, node_options=options) as roles:
        def one(i):
            out[i] = run(roles, "-f", files[i], n=n_predict)
        threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not tap.check(all(r.code == 0 for r in out + alone), f"{name}: are answered", "\n".join(map(str, out)) + roles.logs()):
            return
        tap.check([r.json()["ids"] for r in out] == [r.json()["ids"] for r in alone], f"{name}: as each alone")
        tap.check(status(roles)["counters"]["preemptions_total"] > 0, f"{name}: some were preempted")
        tap.check(all(h["pages_used"] == 0 for h in status(roles)["holders"]), f"{name}: no page is left", status(roles))


def check_store(tap, path, model):
    with folder() as at, Roles(at, model, nodes=1, each_node=[["--kv-store", f"{path}/store"]]) as roles:
        tap.check(wait_until(lambda: roles.children["coordinator"].poll() is not None, 20),
                  "a cluster whose node stores pages does not begin", roles.logs())
        tap.check("sliding window" in roles.log("coordinator") and "--kv-store" in roles.log("coordinator"), "and says why",
                  roles.log("coordinator"))


def main():
    tap = Tap()
    with folder() as path:
        windowed = make_random(f"{path}/windowed.gguf", "tiny,layers=4,window=300", "F32", 3)
        mixed = make_random(f"{path}/mixed.gguf", "tiny,layers=6,window=150,window-period=6", "F32", 3)
        plain = make_random(f"{path}/plain.gguf", "tiny,layers=4", "F32", 3)
        file = write_text(f"{path}/long", LONG, 77)
        check_long(tap, path, windowed, "every layer", file, 4, 4 * 4)
        check_long(tap, path, mixed, "five of six layers", file, 6, 21 + 5 * 4)
        check_refused(tap, plain, 4 * 4)
        for name, nodes in (("local", 0), ("2 attention nodes", 2)):
            check_conversation(tap, path, windowed, name, nodes)
            check_preempted(tap, path, windowed, f"preempted, {name}", nodes)
        check_store(tap, path, windowed)
    tap.finish()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Bad input: each case has its exit status and a message with the file, the value and the remedy; no hang, no crash."""
import os
import struct

from longspan_test import Roles, Tap, folder, longspan, make_random, make_retrieval, program, call, wait_until, write_text


def expect(tap, name, result, code, *words):
    text = result.err + result.out
    missing = [w for w in words if w not in text]
    tap.check(result.code == code and not missing and "Sanitizer" not in text, f"{name}: exit status {code}",
              f"missing in the message: {missing}\n{result}")


def files(tap, path, good):
    data = open(good, "rb").read()

    def made(name, content):
        file = f"{path}/{name}"
        with open(file, "wb") as out:
            out.write(content)
        return file

    def run(file, *more):
        return longspan("run", "-m", file, "-p", "hello", "-n", 1, *more, timeout=30)

    expect(tap, "missing model", run(f"{path}/absent.gguf"), 2, "absent.gguf: cannot open: No such file")
    for name in ("Qwen/Qwen3-8B", "https://example.com/model.gguf"):
        expect(tap, f"a model elsewhere: {name}", run(name), 2, f"{name}: no such file", "not fetched")
    expect(tap, "empty model", run(made("empty.gguf", b"")), 2, "empty.gguf")
    expect(tap, "a model that is a text", run(made("text.gguf", b"Once upon a time\n" * 99)), 2, "text.gguf", "GGUF")
    expect(tap, "a model that is a directory", run(path), 2, path)
    for part in (4, 20, 100, len(data) // 2, len(data) - 1):
        expect(tap, f"model cut after {part} bytes", run(made("cut.gguf", data[:part])), 2, "cut.gguf")
    expect(tap, "GGUF version 9", run(made("v9.gguf", data[:4] + struct.pack("<I", 9) + data[8:])), 2, "v9.gguf", "9")
    expect(tap, "2^60 tensors", run(made("many.gguf", data[:8] + struct.pack("<Q", 1 << 60) + data[16:])), 2, "many.gguf")
    name = b"output_norm.weight"
    at = data.index(name) + len(name)  # then u32 n_dims, u64 dim, u32 type, u64 offset
    huge = data[:at + 16] + struct.pack("<Q", 1 << 62) + data[at + 24:]
    expect(tap, "a tensor's offset beyond the file", run(made("offset.gguf", huge)), 2, "offset.gguf", "output_norm.weight")
    sized = data[:at + 4] + struct.pack("<Q", 1 << 61) + data[at + 12:]
    expect(tap, "a tensor larger than the file", run(made("size.gguf", sized)), 2, "size.gguf", "output_norm.weight")
    typed = data[:at + 12] + struct.pack("<I", 77) + data[at + 16:]
    expect(tap, "an unknown tensor type", run(made("type.gguf", typed)), 2, "type.gguf", "77")
    shape = data[:at + 4] + struct.pack("<Q", 32) + data[at + 12:]
    expect(tap, "a tensor of a wrong shape", run(made("shape.gguf", shape)), 2, "output_norm.weight", "32")

    def replaced(name, old, new):
        assert len(old) == len(new) and old in data
        return made(name, data.replace(old, new))
    expect(tap, "an unknown architecture", run(replaced("arch.gguf", b"llama", b"lhama")), 2, "lhama", "llama")
    expect(tap, "an unknown pre-tokenizer", run(replaced("pre.gguf", b"gpt-2", b"gpt-7")), 2, "gpt-7", "gpt-2")
    expect(tap, "an unknown tokenizer", run(replaced("tok.gguf", b"gpt2", b"gpt9")), 2, "gpt9", "gpt2")


def several_files(tap, path, good):
    """Models in several files, of both kinds."""
    def run(model):
        return longspan("run", "-m", model, "-p", "hello", "-n", 1, "--temp", 0, timeout=30)

    part = lambda i, n: f"{path}/part-{i:05}-of-{n:05}.gguf"
    n = 3
    done = longspan("model", "split", "--max-bytes", os.path.getsize(good) * 9 // 20, good, f"{path}/part")
    if tap.check(done.code == 0 and os.path.exists(part(n, n)), "a model is split in three", f"{done}\n{os.listdir(path)}"):
        tap.check(run(part(2, n)).out == run(good).out, "any part names the model")
        os.rename(part(2, n), f"{path}/elsewhere.gguf")
        expect(tap, "a missing part", run(part(1, n)), 2, "part-00002-of-00003.gguf", "part 2 of 3 is missing")
        expect(tap, "a part under another name", run(f"{path}/elsewhere.gguf"), 2, "elsewhere.gguf", "-00001-of-00003.gguf")
    expect(tap, "split into no folder", longspan("model", "split", good, f"{path}/absent/part"), 2, "absent/part", "its folder does not exist")

    directory = f"{path}/directory"
    os.mkdir(directory)
    expect(tap, "a directory without config.json", run(directory), 2, "config.json is missing")
    with open(f"{directory}/config.json", "w", encoding="ascii") as file:
        file.write('{"model_type": "llama", "hidden_size": 64,\n "residual_multiplier": 0.5}')
    expect(tap, "a config.json with an entry that is not known", run(directory), 2, "config.json", "residual_multiplier")
    expect(tap, "a config.json as the model", run(f"{directory}/config.json"), 2, "config.json", "directory")
    with open(f"{directory}/config.json", "w", encoding="ascii") as file:
        file.write('{"model_type": "llama",\n "hidden_size": 64,,')
    expect(tap, "a config.json that is no JSON", run(directory), 2, "config.json, line 2")


def options(tap, path, good):
    text = write_text(f"{path}/long", 3000, 1)

    def run(*more, prompt=("-p", "hello"), **kw):
        return longspan("run", "-m", good, *prompt, "-n", 2, *more, timeout=60, **kw)
    expect(tap, "a prompt longer than --ctx", run("--ctx", 1024, prompt=("-f", text)), 2, "3001", "1024")
    for option in ("--dump-logits", "--trace"):
        expect(tap, f"{option} in no folder", run(option, f"{path}/absent/out"), 2, "absent/out", "its folder does not exist")
    expect(tap, "a missing prompt file", run(prompt=("-f", f"{path}/nothing")), 2, f"{path}/nothing")
    expect(tap, "no prompt", run(prompt=()), 2, "-p")
    expect(tap, "an empty prompt", run(prompt=("-p", "")), 2, "-p is empty: there is nothing to continue")
    expect(tap, "an unknown option", run("--pipelin", 2), 2, "--pipelin", "--pipeline")
    expect(tap, "a number that is none", run("--chunk", "many"), 2, "--chunk", "many")
    expect(tap, "a negative number", run("--top-k", "-3"), 2, "--top-k", "-3")
    expect(tap, "an unknown KV type", run("--kv-type", "f8"), 2, "f8", "f16")
    expect(tap, "tensor 3 on two KV heads", run("--tensor", 3), 2, "3", "possible")
    expect(tap, "more stages than layers", run("--pipeline", 99), 2, "99")
    expect(tap, "KV that does not fit in the nodes",
           run("--attention-nodes", 1, "--memory", "64KiB", "--ctx", 4096), 2, "KiB")
    expect(tap, "KV that does not fit in the worker", run("--kv-memory", "1MiB", "--ctx", 100000, prompt=("-f", text)),
           2, "--kv-memory")
    expect(tap, "more memory than the machine has", run("--attention-nodes", 2, "--memory", "512TiB"), 2,
           "--memory 512 TiB for each of 2", "this machine has", "or less")
    expect(tap, "more memory than the machine has, in workers", run("--pipeline", 2, "--kv-memory", "512TiB"), 2,
           "--kv-memory 512 TiB for each of 2", "this machine has", "or less")
    expect(tap, "a node of more memory than the machine has",
           call(program("attention_node"), "--coordinator", f"ipc://{path}/nobody.sock", "--memory", "1PiB", timeout=20), 2,
           "--memory 1.00 PiB", "this machine has", "or less")
    expect(tap, "too few descriptors", call("prlimit", "--nofile=40:40", program("longspan"), "run", "-m", good, "-p", "x", timeout=20),
           2, "40 files", "ulimit -n")
    expect(tap, "a stripe that is no power of two", run("--stripe", 700), 2, "--stripe", "700")
    expect(tap, "an unreachable coordinator",
           longspan("run", "--coordinator", f"ipc://{path}/nobody.sock", "-p", "x", "--join-timeout", 2, timeout=20),
           3, "nobody.sock")
    expect(tap, "an unreachable coordinator over tcp",
           longspan("run", "--coordinator", "tcp://127.0.0.1:1", "-p", "x", "--join-timeout", 2, timeout=20),
           3, "127.0.0.1:1")
    expect(tap, "a network address without a key",
           longspan("run", "--coordinator", "tcp://192.0.2.1:5600", "-p", "x", timeout=20), 2, "--cluster-key",
           "--insecure-network")
    for role, more in (("coordinator", ["--listen", "tcp://0.0.0.0:5999", "-m", good]),
                       ("attention_node", ["--coordinator", "tcp://192.0.2.1:5600"]),
                       ("worker", ["--coordinator", "tcp://192.0.2.1:5600"])):
        expect(tap, f"{role}: a network address without a key", call(program(role), *more, timeout=20), 2,
               "--insecure-network")
    expect(tap, "a malformed address", longspan("run", "--coordinator", "head:5600", "-p", "x", timeout=20), 2, "head:5600")
    expect(tap, "an unknown command", longspan("rum"), 2, "rum", "run")


def clusters(tap, path, good):
    def cluster(text):
        with open(f"{path}/cluster.yaml", "w", encoding="ascii") as file:
            file.write(text)
        return longspan("run", "--cluster", f"{path}/cluster.yaml", "-m", good, "-p", "x", "-n", 1, timeout=30)
    expect(tap, "a missing cluster file", longspan("run", "--cluster", f"{path}/no.yaml", "-m", good, "-p", "x"), 2, "no.yaml")
    expect(tap, "a cluster file that is no YAML", cluster("workers: [\n"), 2, "cluster.yaml")
    expect(tap, "an unknown key in a cluster file", cluster("name: a\nworkerz: []\n"), 2, "workerz")
    expect(tap, "nodes of more memory than the machine has, together",
           cluster("workers: [{host: localhost}]\nattention_nodes:\n"
                   "  - {host: localhost, memory: 300TiB}\n  - {host: localhost, memory: 212TiB}\n"),
           2, "cluster.yaml", "512 TiB", "this machine has")
    expect(tap, "a cluster file without workers", cluster("name: a\n"), 2, "workers")


def keys(tap, path, good):
    def run(key):
        return longspan("run", "-m", good, "-p", "x", "-n", 1, "--cluster-key", key, timeout=30)
    wrong = f"{path}/wrong.key"
    with open(wrong, "w", encoding="ascii") as file:
        file.write("ssh-rsa AAAA\n")
    os.chmod(wrong, 0o600)
    expect(tap, "a key file of the wrong kind", run(wrong), 2, "wrong.key", "keygen")
    expect(tap, "a missing key file", run(f"{path}/no.key"), 2, "no.key")
    open_key = f"{path}/open.key"
    longspan("keygen", open_key)
    expect(tap, "keygen does not overwrite", longspan("keygen", open_key), 2, "open.key")
    os.chmod(open_key, 0o644)
    expect(tap, "a key that others may read", run(open_key), 2, "open.key", "chmod 600")

    right, other = f"{path}/right.key", f"{path}/other.key"
    longspan("keygen", right)
    longspan("keygen", other)
    with Roles(path, good, coordinator=["--cluster-key", right], worker_options=["--cluster-key", right]) as roles:
        ask = longspan("run", "--coordinator", roles.address, "-p", "abc", "-n", 2, "--cluster-key", right, timeout=60)
        tap.check(ask.code == 0, "the right key is let in", f"{ask}\n{roles.logs()}")
        for name, more in (("another key", ["--cluster-key", other]), ("no key", [])):
            expect(tap, name, longspan("run", "--coordinator", roles.address, "-p", "abc", "-n", 2, "--join-timeout", 3,
                                       *more, timeout=20), 3, "key")


def missing_peers(tap, path, good):
    address = f"ipc://{path}/lonely.sock"
    result = call(program("coordinator"), "--listen", address, "-m", good, "--workers", 2, "--pipeline", 2,
                  "--attention-nodes", 1, "--join-timeout", 2, timeout=30)
    expect(tap, "nobody joins", result, 3, "worker", "attention node")
    result = call(program("worker"), "--coordinator", f"ipc://{path}/nobody.sock", "--join-timeout", 2, timeout=30)
    expect(tap, "a worker without a coordinator", result, 3, "nobody.sock")


def too_much_memory(tap, path, good):
    """What `longspan` cannot know of another machine is refused by its worker, before it loads."""
    with Roles(path, good, coordinator=["--kv-memory", "512TiB"]) as roles:
        ended = wait_until(lambda: roles.children["coordinator"].poll() is not None, 30)
        tap.check(ended and roles.children["coordinator"].returncode == 2 and "--kv-memory 512 TiB" in roles.log("coordinator"),
                  "KV memory that a worker's machine lacks is refused by the worker", roles.logs())


def wrong_model_file(tap, path, good):
    """A worker whose file differs from the coordinator's: refused, not served."""
    other = make_random(f"{path}/other.gguf", "tiny", "F32", 99)
    with Roles(path, good, worker_options=["--model", other]) as roles:
        ended = wait_until(lambda: roles.children["coordinator"].poll() is not None, 30)
        tap.check(ended and roles.children["coordinator"].returncode == 2 and "other.gguf" in roles.log("coordinator"),
                  "another model file at a worker is refused by name", roles.logs())


def main():
    tap = Tap()
    with folder() as path:
        good = make_random(f"{path}/good.gguf", "tiny")
        make_retrieval(f"{path}/retrieval.gguf")
        for part in (files, several_files, options, clusters, keys, missing_peers, too_much_memory, wrong_model_file):
            try:
                part(tap, path, good)
            except (RuntimeError, OSError, AssertionError, ValueError) as failure:
                tap.check(False, part.__name__, repr(failure))
    tap.finish()


main()

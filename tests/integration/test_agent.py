#!/usr/bin/env python3
"""`longspan agent`, the far end of an ssh connection: what it answers, and that it believes nothing that comes."""
import hashlib
import json
import os
import subprocess

from longspan_test import Tap, alive, call, folder, make_random, program, wait_until

GREETING = "longspan-agent "


class Agent:
    def __init__(self, home):
        self.process = subprocess.Popen([program("longspan"), "agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env={"PATH": os.environ["PATH"], "HOME": home})
        self.greeting = self.process.stdout.readline().decode()

    def say(self, data):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def ask(self, request, payload=b""):
        self.say(json.dumps(request).encode() + b"\n" + payload)
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def end(self):
        """Its exit status once its input has ended."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.stdout.read()
        return self.process.wait(10)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def one_file(name, data, **changes):
    return {"id": sha(data), "open": name, "files": [{"name": name, "bytes": len(data), "hash": sha(data), **changes}]}


def test_answers(tap, path, model):
    agent = Agent(path)
    hello = json.loads(agent.greeting.removeprefix(GREETING)) if agent.greeting.startswith(GREETING) else {}
    tap.check(hello.get("protocol") == 1 and hello.get("host"), "a greeting with protocol, version and host", agent.greeting)
    programs = agent.ask({"do": "programs", "workers": True, "nodes": True, "mpi": ""})
    tap.check(programs.get("worker") == program("worker") and programs.get("node") == program("attention_node") and
              programs.get("mpi", "")[:1].isdigit(), "programs, and Open MPI's version", programs)
    key = agent.ask({"do": "key", "bytes": 9}, b"a secret\n")
    kept = key.get("path", "")
    tap.check(os.path.isfile(kept) and os.stat(kept).st_mode & 0o777 == 0o600 and open(kept, "rb").read() == b"a secret\n",
              "a key, for its user alone", key)
    inspect = json.loads(call(program("longspan"), "model", "inspect", "--json", model).out)
    found = agent.ask({"do": "model", "path": model})
    tap.check(found == {"fingerprint": inspect["fingerprint"]}, "a model's fingerprint", found)
    there = agent.ask({"do": "listen", "interface": "lo"})
    tap.check(there.get("host") == "127.0.0.1" and agent.ask({"do": "reach", "host": "127.0.0.1", "port": there["port"]}) == {},
              "a port that can be reached", there)
    data = os.urandom(3 << 20)
    ask = {"set": one_file("weights.gguf", data), "dir": f"{path}/kept"}
    tap.check(agent.ask({"do": "find", **ask}) == {"missing": True}, "weights that are not there")
    taken = agent.ask({"do": "take", **ask}, data)
    again = agent.ask({"do": "find", **ask})
    tap.check(taken == again == {"path": f"{path}/kept/{sha(data)}/weights.gguf"} and
              open(taken["path"], "rb").read() == data, "weights that are taken, and found", f"{taken} {again}")
    default = agent.ask({"do": "find", "set": ask["set"], "dir": ""})
    tap.check(default == {"missing": True} and os.path.isdir(f"{path}/.cache/longspan/weights"), "a folder of the user's own", default)
    code = agent.end()
    tap.check(code == 0 and not os.path.exists(os.path.dirname(kept)), "the key goes with the connection", code)


def test_ends(tap, path):
    for how in ("terminate", "stdin"):
        agent = Agent(path)
        kept = agent.ask({"do": "key", "bytes": 3}, b"abc")["path"]
        if how == "terminate":
            agent.process.terminate()
        else:
            agent.process.stdin.close()
        gone = wait_until(lambda: not alive(agent.process.pid), 5)
        tap.check(gone and not os.path.exists(os.path.dirname(kept)), f"ended by {how}: the key is gone", kept)
        agent.end()


def test_killed(tap, path):
    agent = Agent(path)
    kept = agent.ask({"do": "key", "bytes": 3}, b"abc")["path"]
    agent.process.kill()
    agent.end()
    there = os.path.exists(kept)
    other = Agent(path)
    key = other.ask({"do": "key", "bytes": 3}, b"def")
    tap.check(there and not os.path.exists(os.path.dirname(kept)) and os.path.exists(key["path"]),
              "a key that a killed agent left is removed by the next", f"{there} {key}")
    other.end()


def test_hostile(tap, path):
    data = b"some weights"
    good = {"do": "take", "dir": f"{path}/hostile", "set": one_file("w", data)}
    cases = {
        "not JSON": b"hello\n",
        "an array": b"[1, 2]\n",
        "nothing": b"{}\n",
        "a key twice": b'{"do": "listen", "do": "listen"}\n',
        "an unknown request": b'{"do": "run", "path": "/bin/sh"}\n',
        "a do that is no text": b'{"do": 7}\n',
        "a deep one": b"[" * 100000 + b"\n",
        "a NUL": b'{"do": "model", "path": "\\u0000"}\n',
        "a huge key": b'{"do": "key", "bytes": 1000000000000}\n',
        "a negative key": b'{"do": "key", "bytes": -1}\n',
        "half a key": b'{"do": "key", "bytes": 100}\nabc',
        "a port too high": b'{"do": "reach", "host": "127.0.0.1", "port": 70000}\n',
        "a long host": b'{"do": "reach", "host": "' + b"a" * 5000 + b'", "port": 1}\n',
        "an interface of a shell": b'{"do": "listen", "interface": "$(id)"}\n',
        "a model that is a folder": b'{"do": "model", "path": "/etc"}\n',
        "no model": b'{"do": "model"}\n',
        "a set of nothing": json.dumps({**good, "set": {}}).encode() + b"\n",
        "a name that goes up": json.dumps({**good, "set": one_file("../w", data)}).encode() + b"\n" + data,
        "a size of another": json.dumps({**good, "set": one_file("w", data, bytes=1 << 62)}).encode() + b"\n" + data,
        "other bytes": json.dumps(good).encode() + b"\n" + data[::-1],
        "half of the bytes": json.dumps(good).encode() + b"\n" + data[:5],
    }
    for name, words in cases.items():
        agent = Agent(path)
        agent.say(words)
        agent.process.stdin.close()
        said = agent.process.stdout.read().decode("utf-8", "replace")
        code = agent.process.wait(20)
        err = agent.process.stderr.read().decode("utf-8", "replace")
        tap.check(code in (2, 3) and '"error":' in said and "Sanitizer" not in err, f"refused: {name}", f"{code} {said} {err}")
    left = os.listdir(f"{path}/hostile") if os.path.isdir(f"{path}/hostile") else []
    tap.check(not left, "nothing of it is kept", left)


def main():
    tap = Tap()
    with folder() as path:
        model = make_random(f"{path}/m.gguf", "tiny")
        test_answers(tap, path, model)
        test_ends(tap, path)
        test_killed(tap, path)
        test_hostile(tap, path)
    tap.finish()


main()

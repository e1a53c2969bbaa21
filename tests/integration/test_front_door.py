#!/usr/bin/env python3
"""test_front_door.py - the `longspan` program as a user meets it: what it prints, what it refuses, and
that it never leaves a process behind. Prints TAP. LONGSPAN_BIN: the folder of the programs."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(os.environ.get("LONGSPAN_BIN", os.path.join(ROOT, "build/release/bin")))
LONGSPAN = os.path.join(BIN, "longspan")
ENDED_WITHIN_S = 3.0  # the promise; a loaded machine gets some more below
SLACK_S = 2.0
UNREAD = 128 + signal.SIGPIPE


class Failure(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


class Place:
    """A folder, and a mark in the environment by which every descendant is found in /proc."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="longspan-front-door-")
        self.mark = "LONGSPAN_TEST_MARK=" + uuid.uuid4().hex
        name, value = self.mark.split("=")
        self.environment = dict(os.environ, TMPDIR=self.folder, **{name: value})

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *words, input=b"", timeout=60):
        return subprocess.run([LONGSPAN, *map(str, words)], input=input, capture_output=True,
                              env=self.environment, timeout=timeout, cwd=self.folder)

    def start(self, *words):
        return subprocess.Popen([LONGSPAN, *map(str, words)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=self.environment, cwd=self.folder)

    def processes(self):
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if self.mark.encode() not in file.read():
                        continue
                with open(f"/proc/{pid}/stat") as file:
                    if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                        continue
                found[int(pid)] = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
            except OSError:
                continue
        return found

    def leftovers(self):
        return [name for name in os.listdir(self.folder) if re.match(r"longspan-......$", name)]

    def close(self):
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


place = None


def prepare():
    done = place.run("model", "make-retrieval", "retrieval.gguf")
    check(done.returncode == 0, done.stderr)
    done = place.run("model", "make-random", "--shape", "tiny,layers=3", "random.gguf")
    check(done.returncode == 0, done.stderr)
    answer = place.run("model", "make-haystack", "--tokens", 3000, "text.txt")
    check(answer.returncode == 0, answer.stderr)
    place.answer = answer.stdout.decode().strip()
    done = place.run("model", "make-haystack", "--tokens", 300000, "long.txt")
    check(done.returncode == 0, done.stderr)


# ---- commands without a cluster ------------------------------------------------------------------

def test_help_lists_what_exists():
    done = place.run("help")
    check(done.returncode == 0 and done.stderr == b"", done)
    for word in (b"run", b"chat", b"serve", b"status", b"plan", b"bench", b"model", b"keygen"):
        check(b"\n  " + word + b" " in done.stdout, "help lacks", word)
    check(b"\n  worker" not in done.stdout, "help lists what mpirun starts")
    for words in (("help", "model", "inspect"), ("help", "bench", "serve"), ("help", "chat")):
        done = place.run(*words)
        check(done.returncode == 0 and done.stdout.startswith(f"usage: longspan {' '.join(words[1:])} ".encode()), words, done)
    for words in (("run", "--help"), ("plan", "--help"), ("bench", "--help"), ("keygen", "--help"), ("model", "make-random", "--help"),
                  ("help", "run")):
        done = place.run(*words)
        check(done.returncode == 0 and b"usage: longspan" in done.stdout, words, done)


def test_the_version_says_what_computes():
    done = place.run("--version")
    first, cpu, gpus = done.stdout.decode().splitlines()
    version = re.fullmatch(r"longspan (\S+, protocol \d+)", first)
    check(done.returncode == 0 and version is not None, done)
    check(re.fullmatch(r"CPU kernels: scalar.*; in use: \w+", cpu) and gpus.startswith("GPUs: "), done)
    for name in ("coordinator", "worker", "attention_node"):
        said = subprocess.run([os.path.join(BIN, name), "--version"], capture_output=True, timeout=60).stdout.decode()
        check(said == f"{name} (Longspan) {version[1]}\n", said)


def test_wrong_words_are_told_apart():
    for words, said in ((("rum",), b"did you mean 'run'?"), (("model", "inspekt"), b"'inspect'"),
                        (("run", "--promt", "x"), b"--prompt"), ((), b"usage:"),
                        (("run", "-m", "m", "--ctx-size", "9"), b"did you mean --ctx?"),
                        (("serve", "model.gguf"), b"did you mean --model model.gguf?"),
                        (("serve", "-m", "m", "word"), b'"word" is no option ('),
                        (("model", "inspect"), b"which file? longspan model inspect"),
                        (("run", "-m", "retrieval.gguf"), b"no prompt"),
                        (("run", "-p", "x"), b"which model?"),
                        (("serve", "-m", "retrieval.gguf", "--port", "0", "--cors", "https://host/"), b"has no path"),
                        (("bench", "serve", "--url", "http://127.0.0.1:1", "--json", "."), b"cannot write .: it is a directory"),
                        (("bench", "-m", "retrieval.gguf", "--csv", "."), b"cannot write .: it is a directory"),
                        (("run", "-m", "m", "-p", "x", "--top-p", "2"), b"--top-p"),
                        (("run", "-m", "m", "-p", "x", "--logprobs", "2"), b"--json"),
                        (("run", "-m", "m", "-p", "x", "--memory", "1G"), b"--kv-memory"),
                        (("run", "-m", "m", "-p", "x", "--kernels", "cuda-blas"), b"--device cpu"),
                        (("run", "--coordinator", "tcp://127.0.0.1:9", "-p", "x", "--ctx", "9"),
                         b"--ctx has no effect"),
                        (("run", "--coordinator", "tcp://10.9.8.7:9", "-p", "x"),
                         b"--cluster-key")):
        done = place.run(*words)
        check(done.returncode == 2, words, done)
        check(said in done.stderr, words, "lacks", said, "in", done.stderr)
        check(done.stdout == b"", words, "printed", done.stdout)


def test_keygen_makes_a_key_for_its_owner_alone():
    done = place.run("keygen", "some.key")
    check(done.returncode == 0 and done.stdout == b"", done)
    check(stat.S_IMODE(os.stat(place.path("some.key")).st_mode) == 0o600, "mode")
    before = open(place.path("some.key")).read()
    done = place.run("keygen", "some.key")
    check(done.returncode == 2 and b"some.key" in done.stderr, done)
    check(open(place.path("some.key")).read() == before, "the key was overwritten")
    os.chmod(place.path("some.key"), 0o640)
    done = place.run("run", "-m", "retrieval.gguf", "-p", "x", "--cluster-key", "some.key")
    check(done.returncode == 2 and b"some.key" in done.stderr, done)


def test_inspect_and_tokenize():
    done = place.run("model", "inspect", "--json", "retrieval.gguf")
    shape = json.loads(done.stdout)
    check(shape["supported"] is True and shape["kv_bytes_per_token"]["f16"] == 1024, shape)
    done = place.run("model", "tokenize", "--json", "retrieval.gguf", input="né".encode())
    check(json.loads(done.stdout) == {"ids": [256, 110, 195, 169]}, done)
    done = place.run("model", "tokenize", "--no-special", "retrieval.gguf", input=b"ab")
    check(done.stdout == b"97 98\n", done)


def test_models_are_the_same_each_time():
    for words in (("make-retrieval",), ("make-random", "--type", "Q8_0", "--seed", 3)):
        files = []
        for name in ("a.gguf", "b.gguf"):
            check(place.run("model", *words, name).returncode == 0, words)
            files.append(open(place.path(name), "rb").read())
        check(files[0] == files[1], words)


def test_bad_files_are_refused_before_anything_starts():
    open(place.path("empty"), "wb").close()
    with open(place.path("half.gguf"), "wb") as file:
        file.write(open(place.path("retrieval.gguf"), "rb").read()[:50000])
    for words in (("-m", "nowhere.gguf", "-p", "x"), ("-m", "empty", "-p", "x"),
                  ("-m", "text.txt", "-p", "x"), ("-m", "half.gguf", "-p", "x"),
                  ("-m", place.folder, "-p", "x"), ("-m", "retrieval.gguf", "-f", "nowhere.txt"),
                  ("-m", "retrieval.gguf", "-f", "empty"),
                  ("-m", "retrieval.gguf", "-p", "x", "--cluster", "nowhere.yaml"),
                  ("-m", "retrieval.gguf", "-p", "x", "--cluster", "text.txt"),
                  ("-m", "retrieval.gguf", "-p", "x", "--trace", "nowhere/trace"),
                  ("-m", "retrieval.gguf", "-p", "x", "--dump-logits", "nowhere/logits"),
                  ("-m", "retrieval.gguf", "-p", "x", "--cluster-key", "text.txt")):
        done = place.run("run", *words)
        check(done.returncode == 2, words, done)
        check(done.stderr.count(b"\n") == 1, words, "is not one line:", done.stderr)
        check(done.stderr.startswith(b"longspan run: error: "), words, "was seen by what was started:", done.stderr)
    check(place.leftovers() == [], place.leftovers())


# ---- command lines ---------------------------------------------------------------------------------

def dry_run(*words):
    done = place.run("run", "--dry-run", "-m", "retrieval.gguf", *words)
    check(done.returncode == 0, done)
    text = done.stdout.decode().replace(os.path.realpath(place.folder), "HERE")
    text = text.replace(os.path.realpath(BIN), "BIN").replace("--allow-run-as-root ", "")
    return text.replace("--mca btl_vader_single_copy_mechanism none ", "").splitlines()


def test_dry_run_of_one_worker():
    lines = dry_run("-p", "it's", "-n", 5, "--threads", 2, "--ctx", 512)
    check(lines == [
        "BIN/coordinator --listen tcp://127.0.0.1:5600 -m HERE/retrieval.gguf --workers 1 "
        "--pipeline 1 --tensor 1 --ctx 512 --join-timeout 60",
        "BIN/worker --coordinator tcp://127.0.0.1:5600 --threads 2",
        "longspan run --coordinator tcp://127.0.0.1:5600 -p 'it'\\''s' -n 5",
    ], "\n".join(lines))


def test_dry_run_of_a_local_cluster():
    lines = dry_run("-f", "text.txt", "-n", 9, "--threads", 1, "--pipeline", 2, "--tensor", 2,
                    "--attention-nodes", 2, "--memory", "1536M", "--stripe",
                    512, "--kv-type", "f32", "--chunk", 64, "--kernels", "scalar", "--strict-bits",
                    "--temp", "0.5", "--seed", 7, "--json")
    check(lines == [
        "BIN/coordinator --listen tcp://127.0.0.1:5600 -m HERE/retrieval.gguf --workers 4 "
        "--attention-nodes 2 --pipeline 2 --tensor 2 --chunk 64 --kv-type f32 --stripe 512 "
        "--strict-bits --kernels scalar --join-timeout 60",
        "mpirun --bind-to none --oversubscribe --mca mpi_yield_when_idle 1 --mca pml ob1 --mca btl "
        "self,vader -n 4 BIN/worker --coordinator tcp://127.0.0.1:5600 --threads 1 --kernels "
        "scalar",
        "BIN/attention_node --coordinator tcp://127.0.0.1:5600 --name node0 --memory 1536MiB "
        "--threads 1 --kernels scalar",
        "BIN/attention_node --coordinator tcp://127.0.0.1:5600 --name node1 --memory 1536MiB "
        "--threads 1 --kernels scalar",
        "longspan run --coordinator tcp://127.0.0.1:5600 -f text.txt -n 9 --temp 0.5 --top-k 40 "
        "--top-p 0.949999988 --min-p 0.0500000007 --seed 7 --json",
    ], "\n".join(lines))


def test_dry_run_of_a_cluster_file():
    check(place.run("keygen", "lab.key").returncode == 0, "keygen")
    with open(place.path("lab.yaml"), "w") as file:
        file.write("""
name: lab
coordinator: {host: localhost, listen: "tcp://10.1.2.3:5600"}
security: {cluster_key: %s}
workers:
  - {host: gpu01, slots: 2, threads: 8}
  - {host: localhost, threads: 4}
parallel: {pipeline: 3, tensor: 1}
attention_nodes:
  - {host: mem01, memory: 512GiB, threads: 64, weight: 0.5}
kv: {type: f16}
""" % place.path("lab.key"))
    lines = dry_run("-p", "x", "--cluster", "lab.yaml")
    check(lines[0].startswith("BIN/coordinator --listen tcp://10.1.2.3:5600 -m HERE/retrieval.gguf "
                              "--workers 3 --attention-nodes 1 --pipeline 3 --tensor 1 --kv-type "
                              "f16 --join-timeout 60 --cluster-key HERE/lab.key"), lines[0])
    check("-n 2 --host gpu01:2 BIN/worker --coordinator tcp://10.1.2.3:5600 --threads 8 "
          "--cluster-key HERE/lab.key : -n 1 --host localhost:1 BIN/worker --coordinator "
          "tcp://10.1.2.3:5600 --threads 4" in lines[1], lines[1])
    check("--mca btl self" not in lines[1], lines[1])
    check(lines[2].startswith("ssh -o BatchMode=yes") and " mem01 'exec sh -c " in lines[2], lines[2])
    check("--memory 512GiB --threads 64 --weight 0.5" in lines[2], lines[2])
    with open(place.path("lab.yaml")) as file:
        text = file.read()
    for old, new, said in (("security: {", "#", "--insecure-network"),
                           ("host: localhost, listen", "host: elsewhere, listen",
                            "not this machine"),
                           ("tcp://10.1.2.3:5600", "ipc:///tmp/x", "cannot reach"),
                           ("pipeline: 3", "pipeline: 2", "needs 2 ranks"),
                           ("weight", "wieght", "lab.yaml:10: "),
                           ("slots: 2", "slots: many", "lab.yaml:6: ")):
        with open(place.path("lab.yaml"), "w") as file:
            file.write(text.replace(old, new))
        done = place.run("run", "-m", "retrieval.gguf", "-p", "x", "--cluster", "lab.yaml")
        check(done.returncode == 2 and said in done.stderr.decode(), old, new, done)


# ---- answers ---------------------------------------------------------------------------------------

def nothing_is_left():
    check(place.processes() == {}, "left behind:", place.processes())
    check(place.leftovers() == [], "left behind:", place.leftovers())


def answer_of(*words):
    done = place.run("run", "-m", "retrieval.gguf", "-f", "text.txt", "-n",
                     len(place.answer) + 2, *words)
    check(done.returncode == 0, words, done)
    check(done.stdout.decode() == f" {place.answer}.\n", words, done)
    nothing_is_left()
    return done.stderr.decode()


def test_one_worker_answers():
    said = answer_of()
    check("tokens/s" in said and "KV holder" not in said, said)
    check(answer_of("--quiet") == "", "quiet is not")


def test_a_local_cluster_answers():
    said = answer_of("--pipeline", 2, "--attention-nodes", 2, "--stripe", 256, "--threads", 1)
    check(re.search(r"node0 .*KiB|node0 .*MiB", said) and "node1" in said, said)


def test_the_shipped_cluster_file_works():
    done = place.run("run", "-m", "retrieval.gguf", "--cluster",
                     os.path.join(ROOT, "cluster/local.yaml"), "-f", "text.txt", "-n", 5)
    check(done.returncode == 0 and done.stdout.decode() == f" {place.answer}"[:5] + "\n", done)
    nothing_is_left()
    done = place.run("run", "--dry-run", "-m", "retrieval.gguf", "--cluster",
                     os.path.join(ROOT, "cluster/example.yaml"), "-p", "x")
    check(b"example.yaml: coordinator: head is not this machine" in done.stderr, done)


def test_an_attention_node_elsewhere_comes_and_goes_with_its_connection():
    """ssh is played by a script that gives the command to a shell, as sshd does, and which leaves it
    running when it is itself killed, as sshd does too."""
    host = socket.gethostname()
    try:
        socket.gethostbyname(host)
    except OSError:
        return "this host's own name cannot be resolved"
    os.makedirs(place.path("bin"), exist_ok=True)
    with open(place.path("bin/ssh"), "w") as file:
        file.write("#!/bin/sh\necho \"$*\" | cut -c1-60 >>ssh.log\nwhile [ $# -gt 1 ]; do shift; done\n"
                   "setsid sh -c \"$1\"\n")
    os.chmod(place.path("bin/ssh"), 0o755)
    check(place.run("keygen", "far.key").returncode == 0, "keygen")
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    with open(place.path("far.yaml"), "w") as file:
        file.write(f"""
coordinator: {{host: {host}, listen: "tcp://0.0.0.0:{port}"}}
security: {{cluster_key: far.key}}
workers: [{{host: localhost, threads: 1}}]
attention_nodes: [{{host: far.example, memory: 64MiB, threads: 1}}]
""")
    path = place.environment["PATH"]
    place.environment["PATH"] = place.path("bin") + ":" + path
    try:
        said = answer_of("--cluster", "far.yaml")
        check("node0" in said, said)
        check("BatchMode=yes" in open(place.path("ssh.log")).read(), "ssh.log")
        process = place.start("run", "-m", "retrieval.gguf", "-f", "long.txt", "--cluster", "far.yaml")
        deadline = time.monotonic() + 30
        while "attention_node" not in place.processes().values():
            check(time.monotonic() < deadline and process.poll() is None, place.processes())
            time.sleep(0.05)
        began = time.monotonic()
        process.kill()
        ended(process, began)
        for name in place.leftovers():
            shutil.rmtree(place.path(name))
        done = place.run("run", "-m", "retrieval.gguf", "-p", "x", "--cluster", "far.yaml",
                         "--kernels", "scalar", "--strict-bits", "-n", 1)
        check(done.returncode == 0, done)
        with open(place.path("far.yaml"), "a") as file:
            file.write("kv: {memory: 1MiB}\n")
        os.rename(place.path("far.key"), place.path("moved.key"))
        done = place.run("run", "-m", "retrieval.gguf", "-p", "x", "--cluster", "far.yaml")
        check(done.returncode == 2 and b"far.key" in done.stderr, done)
    finally:
        place.environment["PATH"] = path
    nothing_is_left()


def test_several_prompts_each_get_their_text():
    done = place.run("run", "-m", "retrieval.gguf", "-p", "one two three one two ", "-f", "-", "-n",
                     4, input=b"abcabcabcab")
    check(done.returncode == 0, done)
    check(done.stdout == b"==> 1: one two three one two  <==\nthre\n\n==> 2: standard input <==\n"
          b"cabc\n", done)


def test_json_says_everything():
    words = ("-m", "random.gguf", "-n", 6, "--ignore-eos", "--json", "--logprobs", 3)
    one = place.run("run", *words, "-p", "Hello")
    check(one.returncode == 0, one)
    answer = json.loads(one.stdout)
    check(answer["prompt_ids"] == [256] + list(b"Hello"), answer)
    check(len(answer["ids"]) == 6 and answer["finish_reason"] == "length", answer)
    check(isinstance(answer["text"], str), answer)
    for id, token in zip(answer["ids"], answer["logprobs"]):
        check(token["id"] == id and len(token["top"]) == 3, token)
        check(token["top"][0] == {"id": id, "logprob": token["logprob"]}, "greedy is the best")
        check(token["top"][0]["logprob"] >= token["top"][1]["logprob"], token)
    check(set(answer["timings"]) == {"load_s", "prefill_s", "decode_s", "prefill_tokens_per_s",
                                     "decode_tokens_per_s"}, answer["timings"])
    for holder in answer["holders"]:
        check({"name", "kv_bytes", "sent_bytes", "received_bytes"} <= set(holder), holder)
    two = json.loads(place.run("run", *words, "-p", "Hello", "-p", "Other").stdout)
    check(len(two) == 2 and two[0]["ids"] == answer["ids"], "a batch mate changes nothing")
    check(two[0]["logprobs"] == answer["logprobs"], "not even a bit")


def test_dumped_logits_are_in_order():
    words = ("-m", "random.gguf", "-n", 5, "--ignore-eos", "-q")
    rows = []
    for prompts in (("-p", "first"), ("-p", "another, longer prompt"),
                    ("-p", "first", "-p", "another, longer prompt")):
        done = place.run("run", *words, *prompts, "--dump-logits", "logits")
        check(done.returncode == 0, done)
        rows.append(open(place.path("logits"), "rb").read())
    check(len(rows[0]) == 5 * 258 * 4, len(rows[0]))
    check(rows[2] == rows[0] + rows[1], "prompt by prompt, step by step")
    values = struct.unpack(f"{5 * 258}f", rows[0])
    check(max(values) > 3 and min(values) < -3, "logits are lively:", max(values), min(values))
    done = place.run("run", *words, "-p", "x", "--dump-logits", "/dev/null")
    check(done.returncode == 2 and stat.S_ISCHR(os.stat("/dev/null").st_mode), done)


# ---- failures --------------------------------------------------------------------------------------

CLUSTER = ("-m", "retrieval.gguf", "-f", "long.txt", "-n", 5, "--pipeline", 2, "--attention-nodes",
           2, "--threads", 1)


def start_and_wait(count=7):
    """A run that is busy: every process is there, and the request has begun."""
    process = place.start("run", *CLUSTER, "-v")
    deadline = threading.Timer(60, process.kill)  # ends the wait for a line, too
    deadline.start()
    said = b""
    for line in process.stderr:
        said += line
        if b"request 1: " in line:
            break
    deadline.cancel()
    check(process.poll() is None and len(place.processes()) >= count, "ended early, or never began:", process.poll(),
          place.processes(), said.decode()[-2000:])
    return process


def ended(process, began):
    """Its output, once it and all others have ended, in time."""
    output, said = process.communicate(timeout=30)
    while place.processes():
        check(time.monotonic() - began < 30, "left behind:", place.processes())
        time.sleep(0.02)
    seconds = time.monotonic() - began
    check(seconds < ENDED_WITHIN_S + SLACK_S, f"took {seconds:.1f} s")
    return process.returncode, output, said.decode()


def test_a_closed_terminal_ends_everything():
    """Other signals, and deaths of processes: test_failures.py."""
    process = start_and_wait()
    began = time.monotonic()
    process.send_signal(signal.SIGHUP)
    code, output, said = ended(process, began)
    check(code == 128 + signal.SIGHUP, code, said)
    check("signal 1" in said and output == b"", said, output)
    nothing_is_left()


def test_a_closed_output_ends_it():
    process = place.start("run", "-m", "random.gguf", "-p", "x", "-n", 5000, "--ignore-eos",
                          "--ctx", 6000)
    process.stdout.read(1)
    began = time.monotonic()
    process.stdout.close()
    said = process.stderr.read().decode()
    check(process.wait(timeout=30) == UNREAD and "error" not in said, process.returncode, said)
    check(time.monotonic() - began < ENDED_WITHIN_S + SLACK_S, "too late")
    nothing_is_left()


def test_last_words_begin_a_line():
    """Of a process that dies while an answer is shown on the same terminal."""
    process = subprocess.Popen([LONGSPAN, "run", "-m", "random.gguf", "-p", "x", "-n", "5000", "--ignore-eos", "--ctx", "6000"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=place.environment, cwd=place.folder)
    shown = process.stdout.read(30)
    os.kill(next(pid for pid, name in place.processes().items() if name == "coordinator"), signal.SIGKILL)
    shown += process.communicate(timeout=30)[0]
    check(process.returncode == 4 and b"\ncoordinator: " in shown, shown[-1000:])
    check(re.search(rb"[^\n](coordinator|longspan run): ", shown.replace(b"error: coordinator: ", b"")) is None, shown[-1000:])
    nothing_is_left()


def test_a_reader_who_has_seen_enough_is_no_failure():
    """As `| head`: no word about it, and the exit code that SIGPIPE gives."""
    for words in (("help",), ("model", "inspect", "random.gguf"), ("model", "inspect", "--json", "random.gguf"),
                  ("plan", "-m", "random.gguf"), ("plan", "-m", "random.gguf", "--json"),
                  ("serve", "-m", "random.gguf", "--dry-run"), ("run", "-m", "random.gguf", "-p", "x", "-q", "--json"),
                  ("run", "-m", "random.gguf", "-p", "x", "-p", "y", "-q"),
                  ("bench", "-m", "random.gguf", "-d", "0", "-p", 9, "-n", 2, "-r", 1)):
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.Popen([LONGSPAN, *map(str, words)], stdin=subprocess.DEVNULL, stdout=writer,
                                   stderr=subprocess.PIPE, env=place.environment, cwd=place.folder)
        os.close(writer)
        said = process.communicate(timeout=60)[1].decode()
        check(process.returncode == UNREAD and said == "", words, process.returncode, said)
    nothing_is_left()


def test_an_output_that_is_full_is_a_failure():
    with open("/dev/full", "w") as full:
        done = subprocess.run([LONGSPAN, "model", "inspect", "random.gguf"], stdout=full, stderr=subprocess.PIPE,
                              env=place.environment, cwd=place.folder, timeout=60)
    check(done.returncode == 4 and b"No space left" in done.stderr, done)


def test_what_the_coordinator_refuses_is_told():
    for words, said, code in ((("-f", "text.txt", "--ctx", 100), "2999", 2),
                              (("-p", "x", "--tensor", 3, "--threads", 1), "3", 2),
                              (("-p", "x", "--ctx", 300, "--fill", 299), "299", 2),
                              (("-f", "text.txt", "--kv-memory", "4K"), "KV", 2),
                              (("-p", "x", "--stripe", 300), "300", 2)):
        done = place.run("run", "-m", "retrieval.gguf", *words)
        check(done.returncode == code and done.stdout == b"", words, done)
        check(said in done.stderr.decode() or "3000" in done.stderr.decode(), words, done)
        nothing_is_left()


def test_a_pipe_that_says_nothing_can_be_left():
    """As a cluster file, or keys, that a program was to write: longspan reads the one, its coordinator the other."""
    os.mkfifo(place.path("pipe"))
    for code, *words in ((-signal.SIGTERM, "run", "-p", "x", "--cluster", "pipe"),
                         (0, "serve", "--port", 0, "--api-key-file", "pipe")):
        process = place.start(*words, "-m", "retrieval.gguf")
        deadline = time.monotonic() + 30
        while True:
            try:
                writer = os.open(place.path("pipe"), os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # it is not being read yet
                check(time.monotonic() < deadline and process.poll() is None, "nobody reads", process.poll())
                time.sleep(0.02)
        began = time.monotonic()
        process.terminate()
        got, output, said = ended(process, began)
        os.close(writer)
        check(got == code and output == b"", got, output, said)
        nothing_is_left()


def test_a_reader_that_waits_keeps_nobody_alive():
    """As `longspan run ... | less` with the first page on the screen: text as it comes, and JSON."""
    for words in (("-n", 1, "--json"), ("-n", 6000, "--ignore-eos")):
        process = place.start("run", "-m", "retrieval.gguf", "-f", "text.txt", "-q", *words)
        size = fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        deadline = time.monotonic() + 30
        while True:
            waiting = struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)))[0]
            if waiting == size or (waiting > 0 and "--json" not in words):
                break
            check(time.monotonic() < deadline and process.poll() is None, words, waiting)
            time.sleep(0.02)
        while "--json" in words and set(place.processes()) != {process.pid}:
            check(time.monotonic() < deadline, "left behind:", place.processes())
            time.sleep(0.02)
        check("--json" not in words or place.leftovers() == [], "left behind:", place.leftovers())
        began = time.monotonic()
        process.terminate()
        while process.poll() is None:  # without reading
            check(time.monotonic() - began < ENDED_WITHIN_S + SLACK_S, words, "still there")
            time.sleep(0.02)
        check(process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM), process.returncode)
        process.communicate()
        nothing_is_left()


def signal_workers(number):
    for pid, name in place.processes().items():
        if name == "worker":
            os.kill(pid, number)


def test_a_pause_ends_in_an_answer_or_a_failure():
    """For longer than the coordinator lets a client be silent: a reader that waits loses nothing, and who was stopped is told.
    Workers are stopped too, so that nobody is done meanwhile."""
    words = ("run", "-m", "random.gguf", "-p", "x", "-n", 1000, "--ignore-eos", "--threads", 1)
    whole = place.run(*words)
    check(whole.returncode == 0, whole)
    running = []
    for name in "waits", "stopped":
        process = place.start(*words)
        running.append(process)
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        deadline = time.monotonic() + 30
        while struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)))[0] == 0:
            check(time.monotonic() < deadline and process.poll() is None, "no text", process.poll())
            time.sleep(0.01)
        if name == "stopped":
            process.send_signal(signal.SIGSTOP)
        signal_workers(signal.SIGSTOP)
    time.sleep(11)
    signal_workers(signal.SIGCONT)
    waits, stopped = running
    output, said = waits.communicate(timeout=30)
    check(waits.returncode == 0 and output == whole.stdout, waits.returncode, len(output), len(whole.stdout), said.decode())
    began = time.monotonic()
    stopped.send_signal(signal.SIGCONT)
    code, output, said = ended(stopped, began)
    check(code == 4 and "nothing was heard of its client for 10 s" in said, code, said)
    check(whole.stdout.startswith(output.rstrip()), len(output))
    nothing_is_left()


def test_a_host_without_ssh_is_unreachable():
    """What ssh and the shell behind it say of a login and of a program that cannot be."""
    host = socket.gethostname()
    try:
        socket.gethostbyname(host)
    except OSError:
        return "this host's own name cannot be resolved"
    os.makedirs(place.path("no-ssh"), exist_ok=True)
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    with open(place.path("no-ssh.yaml"), "w") as file:
        file.write(f"""
coordinator: {{host: {host}, listen: "tcp://0.0.0.0:{port}"}}
workers: [{{host: localhost, threads: 1}}]
attention_nodes: [{{host: far.example, memory: 64MiB, threads: 1}}]
""")
    path = place.environment["PATH"]
    place.environment["PATH"] = place.path("no-ssh") + ":" + path
    try:
        for code, words in ((255, "could not be reached"), (127, "could not be started")):
            with open(place.path("no-ssh/ssh"), "w") as file:
                file.write(f"#!/bin/sh\necho no such thing >&2; exit {code}\n")
            os.chmod(place.path("no-ssh/ssh"), 0o755)
            done = place.run("run", "-m", "retrieval.gguf", "-p", "x", "--cluster", "no-ssh.yaml",
                             "--insecure-network")
            said = done.stderr.decode()
            check(done.returncode == 3, code, done)
            check(words in said and "far.example" in said and "no such thing" in said, said)
            check("signal" not in said, said)
    finally:
        place.environment["PATH"] = path
    nothing_is_left()


def test_an_unreachable_coordinator_is_named():
    began = time.monotonic()
    done = place.run("run", "--coordinator", "tcp://127.0.0.1:9", "-p", "x", "--join-timeout", 1)
    check(done.returncode == 3 and b"tcp://127.0.0.1:9" in done.stderr, done)
    check(time.monotonic() - began < 4, "too late")


def main():
    global place
    if not os.access(LONGSPAN, os.X_OK):
        print(f"1..0 # SKIP {LONGSPAN} is not built")
        return 77
    tests = [(name, function) for name, function in globals().items() if name.startswith("test_")]
    wanted = sys.argv[1:]
    failed = 0
    place = Place()
    try:
        prepare()
        tests = [t for t in tests if not wanted or any(word in t[0] for word in wanted)]
        print(f"1..{len(tests)}")
        for number, (name, function) in enumerate(tests, 1):
            began = time.monotonic()
            try:
                skipped = function()
                print(f"ok {number} - {name}" + (f" # SKIP {skipped}" if skipped else ""), flush=True)
                print(f"# {time.monotonic() - began:.1f} s", flush=True)
            except (Failure, subprocess.TimeoutExpired, ValueError, KeyError, OSError) as failure:
                failed += 1
                print(f"not ok {number} - {name}", flush=True)
                print("\n".join("# " + line for line in
                                f"{type(failure).__name__}: {failure}".splitlines()), flush=True)
                for pid in place.processes():
                    os.kill(pid, signal.SIGKILL)
                for left in place.leftovers():
                    shutil.rmtree(place.path(left), ignore_errors=True)
    finally:
        place.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""longspan_test.py - what the integration tests share: TAP, temporary folders, models, processes, /proc.

Standard library only. LONGSPAN_BIN names the folder of the programs (set by the Makefile). A test program
prints one TAP line for each check; a failed check says what was expected and what was there.
"""
import array
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(os.environ.get("LONGSPAN_BIN", os.path.join(ROOT, "build/release/bin")))
SLOW = 6 if os.environ.get("LONGSPAN_SANITIZED") else 1  # sanitizers: deadlines stretch
SHARED = os.path.join(os.path.dirname(ROOT), "shared")
# What decides how programs behave, and is a matter of who runs the tests.
os.environ.pop("LONGSPAN_API_KEY", None)
# For Popen: a signal reaches a program with all that it starts. Not a session for each: where sched_autogroup is on (sched(7)), each
# is scheduled as a whole, and Linux 6.18 was seen to let one wait for seconds, ready to run, while another was busy.
OWN_GROUP = {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}


def program(name):
    return os.path.join(BIN, name)


class Tap:
    """Counts checks and prints them; `finish` gives the exit status."""

    def __init__(self):
        # A time limit's SIGTERM unwinds, so that whoever was started is ended.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.n = self.failed = 0

    def check(self, ok, name, detail=""):
        self.n += 1
        print(f"{'ok' if ok else 'not ok'} {self.n} - {name}", flush=True)
        if not ok:
            self.failed += 1
            for line in str(detail).splitlines()[-40:]:
                print(f"#   {line}", flush=True)
        return ok

    def skip(self, name, why):
        self.n += 1
        print(f"ok {self.n} - {name} # SKIP {why}", flush=True)

    def finish(self):
        print(f"1..{self.n}", flush=True)
        sys.exit(1 if self.failed or self.n == 0 else 0)


@contextlib.contextmanager
def folder():
    # Short: ipc endpoints live below it, and a socket's path has 107 bytes.
    path = tempfile.mkdtemp(prefix="lst-", dir="/tmp")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Result:
    def __init__(self, code, out, err, seconds, command):
        self.code, self.out, self.err, self.seconds, self.command = code, out, err, seconds, command

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return (f"{' '.join(self.command)}\nexit status {self.code} after {self.seconds:.1f} s\n"
                f"stdout: {self.out[-600:]!r}\nstderr: {self.err[-3000:]}")


def call(*arguments, stdin=None, timeout=120, env=None, text=True):
    """Runs a program to its end; a hang is an exit status of 'hang', never a hang of the test."""
    command = [str(a) for a in arguments]
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, **OWN_GROUP,
                               env={**os.environ, **(env or {})})
    try:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = process.communicate(data, timeout=timeout * SLOW)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = "hang"
    return Result(code, out.decode("utf-8", "replace") if text else out, err.decode("utf-8", "replace"),
                  time.monotonic() - start, command)


def longspan(*arguments, **options):
    return call(program("longspan"), *arguments, **options)


def make_random(path, shape, kind="F32", seed=1, *more):
    result = longspan("model", "make-random", path, "--shape", shape, "--type", kind, "--seed", seed, *more)
    if result.code != 0:
        raise RuntimeError(str(result))
    return path


def make_retrieval(path, *more):
    result = longspan("model", "make-retrieval", path, *more)
    if result.code != 0:
        raise RuntimeError(str(result))
    return path


def write_text(path, n_bytes, seed):
    """Lower-case letters and spaces; one byte is one token in the models made here (plus BOS)."""
    generator = random.Random(seed)
    with open(path, "w", encoding="ascii") as file:
        file.write("".join(generator.choice("abcdefghijklmnopqrstuvwxyz     ") for _ in range(n_bytes)))
    return path


def read_logits(path):
    values = array.array("f")
    with open(path, "rb") as file:
        values.frombytes(file.read())
    return values


def processes_of(marker):
    """Pids of processes whose command line contains `marker` (a temporary folder's name, say)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if marker.encode() in file.read():
                        found.append(int(entry))
            except OSError:
                pass
    return found


def descendants(pid):
    """All processes below `pid`, as {pid: command name}."""
    parents = {}
    names = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    text = file.read()
            except OSError:
                continue
            rest = text[text.rindex(")") + 2:].split()
            parents[int(entry)] = int(rest[1])
            names[int(entry)] = text[text.index("(") + 1:text.rindex(")")]
    below, frontier = {}, {pid}
    while frontier:
        frontier = {p for p, parent in parents.items() if parent in frontier and p not in below}
        below.update({p: names[p] for p in frontier})
    return below


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(condition, seconds):
    """True as soon as condition() is; False after that many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def mpirun(ranks):
    command = ["mpirun", "-n", str(ranks), "--bind-to", "none", "--oversubscribe",
               "--mca", "mpi_yield_when_idle", "1"]
    if os.geteuid() == 0:
        command.append("--allow-run-as-root")
    return command


class Roles:
    """The roles of a cluster started by hand, as README shows, over ipc in `path`."""

    def __init__(self, path, model, workers=1, nodes=0, coordinator=(), node_options=(), worker_options=(),
                 advertise=None, address=None, threads=1, each_node=None):
        self.path = path
        self.address = address or f"ipc://{path}/coordinator.sock"
        self.children = {}
        self.start("coordinator", program("coordinator"), "--listen", self.address, "-m", model, "--workers", workers,
                   "--attention-nodes", nodes, *coordinator)
        for i in range(nodes):
            extra = ["--advertise", advertise[i]] if advertise and advertise[i] else []
            bind = ["--bind", f"ipc://{path}/node{i}.sock"] if self.address.startswith("ipc") else []
            # With a weight none of them measures the machine: 256 MiB, touched and read for 150 ms.
            self.start(f"node{i}", program("attention_node"), "--coordinator", self.address, "--name", f"node{i}",
                       "--memory", "1GiB", "--weight", 1, "--threads", threads, *bind, *extra, *node_options,
                       *(each_node[i] if each_node else []))
        self.start("workers", *mpirun(workers), program("worker"), "--coordinator", self.address, "--threads", threads,
                   *worker_options)

    def start(self, name, *command):
        with open(f"{self.path}/{name}.log", "ab") as log:
            self.children[name] = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log,
                                                   stderr=log, **OWN_GROUP)

    def log(self, name):
        with open(f"{self.path}/{name}.log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def logs(self):
        return "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in self.children)

    def stop(self):
        for child in self.children.values():
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)
        for child in self.children.values():
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

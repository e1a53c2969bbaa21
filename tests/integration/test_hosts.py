#!/usr/bin/env python3
"""Several hosts: head, two workers and an attention host, made of namespaces (cluster/testbed), through ssh and mpirun.

    tests/integration/test_hosts.py [--tokens 3000]

Skips where namespaces cannot be made. What each host has of its own (/tmp, network, processes) is what is looked at.
"""
import argparse
import os
import signal
import subprocess
import sys
import time

import retrieval
from longspan_test import BIN, ROOT, Tap, call, folder, program, wait_until

sys.path.insert(0, os.path.join(ROOT, "cluster/testbed"))
import hosts  # noqa: E402  (the folder is named above)

LONGSPAN = program("longspan")
HEAD, REMOTE = "head", ["cpu1", "cpu2", "mem1"]
NEEDLE = "cedar"
SECONDS_TO_NOTICE = 8  # that the head is gone, on hosts that share two cores with this test

CLUSTER = """name: lab
coordinator: {{host: head, listen: "tcp://0.0.0.0:5600"}}
security: {{cluster_key: {path}/cluster.key}}
ssh: {{{ssh}}}
network: {{interface: {interface}}}
weights: {{dir: {weights}}}
workers:
  - {{host: {first}, threads: 1}}
  - {{host: {second}, threads: 1{more}}}
parallel: {{pipeline: 2, tensor: 1}}
attention_nodes:
  - {{host: {third}, memory: 256MiB, threads: 1}}
kv: {{stripe: 256}}
{lines}"""


class Test:
    def __init__(self, tap, bed, path, tokens):
        self.tap, self.bed, self.path = tap, bed, path
        text, self.answers = retrieval.build(tokens, 3)
        self.prompt = self.write("prompt", f"{text} The code of {NEEDLE} is ")
        self.model = f"{path}/model.gguf"
        self.mine = "/tmp/model.gguf"  # on the head alone
        made = call(LONGSPAN, "model", "make-retrieval", self.model)
        made = made if made.code else call(LONGSPAN, "keygen", f"{path}/cluster.key")
        if made.code:
            raise RuntimeError(str(made))
        bed.run(HEAD, "cp", self.model, self.mine)
        self.n = 0

    def write(self, name, text):
        with open(f"{self.path}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        return f"{self.path}/{name}"

    def cluster(self, **changes):
        """A cluster file that differs from the usual one in these fields."""
        fields = {"path": self.path, "ssh": f"config: {self.bed.ssh_config}", "interface": "eth0", "weights": "/tmp/weights",
                  "first": "cpu1", "second": "cpu2", "third": "mem1", "more": "", "lines": ""}
        self.n += 1
        return self.write(f"c{self.n}.yaml", CLUSTER.format(**{**fields, **changes}))

    def run(self, *arguments, model=None, timeout=60, env=None):
        variables = [f"{k}={v}" for k, v in (env or {}).items()]
        return call(*self.bed.words(HEAD, "env", *variables, LONGSPAN, "run", "-m", model or self.model, *arguments),
                    timeout=timeout)

    def answers_well(self, result, name):
        """The needle was found, and nothing was said beside it."""
        return self.tap.check(result.code == 0 and result.out.rstrip("\n") == self.answers[NEEDLE],
                              f"{name} ({result.seconds:.1f} s)", result)

    def ask(self, cluster, *more, **options):
        return self.run("--cluster", cluster, "-f", self.prompt, "-n", 8, "--ignore-eos", "-q", *more, **options)

    def refused(self, name, cluster, words, *more, code=3, **options):
        result = self.run("--cluster", cluster, "-p", "x", "-n", 1, *more, **options)
        self.tap.check(result.code == code and all(word in result.err for word in words) and result.seconds < 30,
                       f"{name}: said with its remedy ({result.seconds:.1f} s)", result)

    def left(self):
        """What still runs anywhere."""
        return {host: found for host in [HEAD, *REMOTE] if (found := self.bed.processes(host))}

    def nothing_left(self, name):
        wait_until(lambda: not self.left(), SECONDS_TO_NOTICE)
        keys = [host for host in REMOTE if self.bed.run(host, "ls", "/dev/shm").strip()]
        self.tap.check(not self.left() and not keys, f"{name}: no process and no key stays on any host", f"{self.left()} {keys}")


def test_bed(tap):
    """A bed whose maker is killed leaves nothing behind."""
    name = f"killed-{os.getpid()}"
    holder = subprocess.Popen([sys.executable, hosts.__file__, "hold", name, "a", "b"], stdin=subprocess.DEVNULL)
    up = wait_until(lambda: hosts.state_of(name) is not None, 20)
    pids = list(hosts.state_of(name)["hosts"].values()) if up else []
    holder.kill()
    holder.wait()
    gone = wait_until(lambda: all(hosts.started(pid) is None for pid in pids), SECONDS_TO_NOTICE)
    hosts.remove_stale()
    tap.check(up and gone and not os.path.exists(f"{hosts.BEDS}/{name}"), "a killed bed leaves neither processes nor files", pids)


def test_answers(test):
    """The question of the acceptance, and the bits."""
    tap, path = test.tap, test.path
    cluster = test.cluster()
    there, here = f"{path}/there.f32", f"{path}/here.f32"
    result = test.ask(cluster, "--dump-logits", there)
    test.answers_well(result, "a head, two workers and an attention host answer")
    test.nothing_left("after an answer")
    one = test.run("--pipeline", 2, "--attention-nodes", 1, "--stripe", 256, "-t", 1, "-f", test.prompt, "-n", 8, "--ignore-eos",
                   "-q", "--dump-logits", here)
    test.answers_well(one, "the same layout on one host answers")
    bits = [open(file, "rb").read() for file in (there, here) if os.path.exists(file)]
    tap.check(len(bits) == 2 and bits[0] == bits[1] and len(bits[0]) > 0, "logits have the same bits on four hosts and on one")


def test_push(test):
    tap, bed = test.tap, test.bed
    cluster = test.cluster()
    hidden = test.ask(cluster, model=test.mine)
    tap.check(hidden.code == 2 and "--weights push" in hidden.err, "a model that is missing elsewhere: pushing is named", hidden)
    test.answers_well(test.ask(cluster, "--weights", "push", model=test.mine), "the model is on the head alone: it is pushed")

    def kept(host):
        return bed.run(host, "sh", "-c", "cd /tmp/weights 2>/dev/null && stat -c '%n %i %s %y' */model.gguf; "
                       "ls -A | grep -c new- ; true")
    known = [kept(host) for host in REMOTE]
    name = bed.run(HEAD, "sha256sum", test.mine).split()[0]
    tap.check(all(name in known[i] for i in (0, 1)) and "model.gguf" not in known[2],
              "it is kept under its SHA-256 by hosts with workers, by no other", known)
    both = test.cluster(second="cpu1")
    test.answers_well(test.ask(both, "--weights", "push", model=test.mine), "two ranks of one host share it")
    tap.check([kept(host) for host in REMOTE] == known, "what is there is not sent again")

    bed.run("cpu2", "sh", "-c", "printf X | dd of=$(echo /tmp/weights/*/model.gguf) bs=1 seek=100000 conv=notrunc status=none")
    test.answers_well(test.ask(cluster, "--weights", "push", model=test.mine), "a kept file that has changed is found out and sent again")
    right = bed.run("cpu2", "sh", "-c", "sha256sum /tmp/weights/*/model.gguf").split()[0]
    tap.check(right == name and kept("cpu2") != known[1], "and is right then")

    for host in REMOTE[:2]:
        bed.run(host, "mkdir", "-p", "/tmp/small")
        bed.run(host, "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", "/tmp/small")
    test.refused("a full disk", test.cluster(weights="/tmp/small"), ["cpu", "/tmp/small", "needs", "the disk has"],
                 "--weights", "push", model=test.mine)
    test.refused("a folder that cannot be made", test.cluster(weights="/proc/weights"), ["/proc/weights", "No such file"],
                 "--weights", "push", model=test.mine)


def test_ends(test):
    """The head dies without a word, in the middle of a long prompt."""
    bed, tap = test.bed, test.tap
    text = test.write("long", "a few words " * 40000)
    process = subprocess.Popen(bed.words(HEAD, LONGSPAN, "run", "-m", test.model, "--cluster", test.cluster(), "-f", text, "-v"),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def all_run():
        return all(any(what in line for line in bed.processes(host).values())
                   for host, what in (("cpu1", "/worker "), ("cpu2", "/worker "), ("mem1", "/attention_node ")))
    tap.check(wait_until(all_run, 30), "workers and the node run on their hosts", test.left())
    lines = [line for host in [HEAD, *REMOTE] for line in bed.processes(host).values()]
    with open(f"{test.path}/cluster.key", encoding="ascii") as file:
        secret = file.read().split('"')[3]
    modes = bed.run("cpu1", "sh", "-c", "stat -c %a /dev/shm/longspan-*/cluster.key").split()
    tap.check(modes == ["600"] and not any(secret in line for line in lines),
              "the key is for its user alone, and on no command line", modes)
    for pid, line in bed.processes(HEAD).items():
        if line.startswith(LONGSPAN):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    test.nothing_left("after SIGKILL of longspan")


def test_troubles(test):
    """What is usually wrong with hosts, and what is said of it."""
    bed, path = test.bed, test.path

    def ssh(**options):
        """The bed's ssh_config with other values."""
        with open(bed.ssh_config, encoding="ascii") as file:
            lines = [line for line in file.read().splitlines() if line.split()[0] not in options]
        lines += [f"    {key} {value}" for key, value in options.items()]
        return f"config: {test.write(f'ssh{test.n}', chr(10).join(lines) + chr(10))}"

    test.refused("a host key that is not known", test.cluster(ssh=ssh(UserKnownHostsFile="/dev/null")),
                 ["cpu1: could not be reached by ssh", "Host key verification failed", "ssh-keyscan", "and 2 more"])
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{path}/other")
    test.refused("a login that is not allowed", test.cluster(ssh=ssh(IdentityFile=f"{path}/other")),
                 ["Permission denied", "ssh-copy-id"])
    test.refused("no ssh server", test.cluster(ssh=f"config: {bed.ssh_config}, port: 2222"),
                 ["Connection refused", "ssh: {port: N}"])
    test.refused("a name without an address", test.cluster(second="nowhere"), ["nowhere: ", "/etc/hosts"])
    test.refused("Longspan is elsewhere", test.cluster(lines="programs: {bin: /opt/none}\n"), ["/opt/none", "programs: {bin: FOLDER}"])
    test.refused("no such interface", test.cluster(interface="ib7"), ["cpu1: ", "no interface 'ib7'", "eth0 10.99.0."], code=2)

    old = f"{path}/old/bin"
    os.makedirs(old)
    for name, text in (("mpirun", "echo 'mpirun (Open MPI) 3.1.2'"), ("orted", "exit 1")):
        with open(f"{old}/{name}", "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(f"{old}/{name}", 0o755)
    test.refused("another Open MPI", test.cluster(lines=f"programs: {{mpi: {path}/old}}\n"),
                 ["has Open MPI 3.1.2", "programs: {mpi: FOLDER}"])
    test.refused("no Open MPI", test.cluster(lines=f"programs: {{mpi: {path}/none}}\n"), ["bin/orted is not there", "openmpi-bin"])

    copy = f"{path}/copy"
    os.makedirs(copy)
    for name in ("longspan", "coordinator", "attention_node"):
        os.symlink(program(name), f"{copy}/{name}") if name != "longspan" else call("cp", LONGSPAN, copy)
    with open(f"{copy}/worker", "w", encoding="ascii") as file:
        file.write("#!/bin/sh\necho 'worker: error while loading shared libraries: libzmq.so.5: cannot open' >&2\nexit 127\n")
    os.chmod(f"{copy}/worker", 0o755)
    test.refused("a library is missing", test.cluster(more=f", bin: {copy}"), ["cpu2: ", "does not start", "libzmq.so.5"])

    rule = ["ipproto", "tcp", "dport", "5600", "unreachable"]
    bed.run("mem1", "ip", "rule", "add", "to", bed.addresses[HEAD], *rule)
    test.refused("a firewall before the coordinator", test.cluster(), ["mem1: ", "5600", "no route", "firewall", "the coordinator"])
    bed.run("mem1", "ip", "rule", "del", "to", bed.addresses[HEAD], *rule)
    between = ["to", bed.addresses["cpu2"], "unreachable"]
    bed.run("cpu1", "ip", "rule", "add", *between)
    test.refused("a firewall between hosts", test.cluster(), ["cpu1: ", bed.addresses["cpu2"], "firewall", "another host"])
    bed.run("cpu1", "ip", "rule", "del", *between)

    other = f"{path}/other.gguf"
    call(LONGSPAN, "model", "make-random", other, "--shape", "tiny")
    bed.run("cpu2", "mount", "--bind", other, test.model)
    test.refused("another model there", test.cluster(), ["cpu2: has another", "--weights push"], code=2)
    bed.run("cpu2", "umount", test.model)
    test.nothing_left("after all that")


def test_names(test):
    """Names with dots, addresses instead of names, and no interface named although docker0 is the same everywhere."""
    cluster = test.cluster(first=test.bed.addresses["cpu1"], lines="environment: [LONGSPAN_TEST=a b, HOME]\n")
    with open(cluster, encoding="utf-8") as file:
        text = file.read()
    with open(cluster, "w", encoding="utf-8") as file:
        file.write(text.replace("network: {interface: eth0}\n", "").replace("host: mem1", "host: root@mem1"))
    test.answers_well(test.ask(cluster), "by address, and with networks that all hosts have alike")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=3000, help="of the text with the needles (3000)")
    options = parser.parse_args()
    tap = Tap()
    try:
        hosts.check()
    except hosts.Missing as why:
        tap.skip("several hosts", why)
        tap.finish()
    test_bed(tap)
    with folder() as path, hosts.Bed([HEAD, *REMOTE], keep=[path, ROOT, BIN]) as bed:
        test = Test(tap, bed, path, options.tokens)
        for part in (test_answers, test_push, test_names, test_ends, test_troubles):
            part(test)
    tap.finish()


main()

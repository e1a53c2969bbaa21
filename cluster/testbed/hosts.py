#!/usr/bin/env python3
"""hosts.py - a few hosts on one machine, made of Linux namespaces: for tests, and to try a cluster by hand.

    sudo cluster/testbed/hosts.py up lab head cpu1 cpu2 mem1      # a bed called lab, of four hosts
    sudo cluster/testbed/hosts.py exec lab head ssh cpu1 hostname
    sudo cluster/testbed/hosts.py up far head mem1 --delay-us 1000 --rate 100mbit
    sudo cluster/testbed/hosts.py list
    sudo cluster/testbed/hosts.py down lab

A host has its own network (eth0, 10.99.0.1 and up), host name, process ids, System V and POSIX shared memory, /tmp, and
an ssh server; all know each other by name, and root may log in from any to any. Its docker0 has the same addresses on
every host, as on real ones. All else, file systems and users, is the machine's: what is installed here is installed there.

Nothing of a bed is outside its namespaces but a folder in /run/longspan-beds (keys, names): the kernel removes interfaces,
mounts and processes with the last process that has them, and every process of a bed is killed when the one dies that
made it, by SIGKILL too. A folder that stays behind is removed by the next bed. So names never clash; several beds may
be up at once.

Hosts are joined by a bridge. With --delay-us they are joined by `delay` (delay.c) instead, which holds each frame for that
long, because not every kernel has netem; --rate is a token bucket (tbf) on each host's eth0.
"""
import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

BEDS = "/run/longspan-beds"
NETWORK = "10.99.0"
PATIENCE_S = 10
NEEDED = ["ip", "unshare", "nsenter", "setpriv", "ssh", "ssh-keygen", "/usr/sbin/sshd"]
NAMESPACES = ["--net", "--uts", "--mount", "--ipc", "--pid"]

# The first process of a host. "$@": what shall be seen although it is below /tmp.
FIRST = """set -e
hostname "$NAME"
for path in "$@"; do mkdir -p "$BED/kept$path"; mount --rbind "$path" "$BED/kept$path"; done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
for path in "$@"; do mkdir -p "$path"; mount --move "$BED/kept$path" "$path"; done
mount --bind "$BED/etc-hosts" /etc/hosts
mkdir -p /run/sshd
ip link set lo up
exec /usr/sbin/sshd -D -e -f "$BED/$NAME.sshd" 2>"$BED/$NAME.log"
"""
SSHD = """Port 22
HostKey {bed}/{name}.key
AuthorizedKeysFile {bed}/id.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
LoginGraceTime 20
"""
SSH = """Host *
    User root
    IdentityFile {bed}/id
    IdentitiesOnly yes
    GlobalKnownHostsFile /dev/null
    UserKnownHostsFile {bed}/known_hosts
    StrictHostKeyChecking yes
"""


class Missing(Exception):
    """This machine cannot make beds; the text says what it lacks."""


def check():
    """Raises Missing unless beds can be made here."""
    if os.geteuid() != 0:
        raise Missing("network namespaces need root")
    for program in NEEDED:
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed (Debian: iproute2, openssh-client, openssh-server, util-linux)")
    probe = subprocess.run(["unshare", *NAMESPACES, "--fork", "--mount-proc", "ip", "link", "add", "probe", "type", "bridge"],
                           capture_output=True, text=True)
    if probe.returncode != 0:
        raise Missing(f"no namespaces, or no bridges in them: {probe.stderr.strip()}")


def started(pid):
    """When a process started, which tells it from a later one with its number; None: it does not live."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def state_of(name):
    try:
        with open(f"{BEDS}/{name}/bed.json", encoding="utf-8") as file:
            state = json.load(file)
        return state if started(state["pid"]) == state["started"] else None
    except (OSError, ValueError, KeyError):
        return None


def remove_stale():
    """Folders of beds whose maker is gone."""
    for name in os.listdir(BEDS) if os.path.isdir(BEDS) else []:
        with contextlib.suppress(OSError):
            maker = int(open(f"{BEDS}/{name}/maker", encoding="ascii").read().split()[0])
            if started(maker) is None:
                shutil.rmtree(f"{BEDS}/{name}", ignore_errors=True)


def burst_of(rate):
    """Bytes of a token bucket that lets a message through no faster than the rate: 10 us of it, but a whole frame."""
    for unit, factor in (("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3)):
        if rate.endswith(unit):
            return max(1600, int(float(rate[:-len(unit)]) * factor / 8 * 10e-6))
    raise RuntimeError(f"a rate is written like 100mbit or 10gbit, not {rate}")


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def enter(pid, words, cpus=None):
    inside = ["nsenter", "-t", str(pid), "-n", "-u", "-m", "-i", "-p", "--wdns=/", "--"]
    return inside + (["taskset", "-c", cpus] if cpus else []) + [str(w) for w in words]


class Bed:
    """Hosts by name; `with Bed([...]) as bed` ends them. `keep`: folders below /tmp that all hosts shall see.
    `cpus`: {host: "0-3"}, processors that it may use. `rate`: as tc writes it, such as "100mbit"."""

    def __init__(self, names, name=None, delay_us=0, rate=None, relay=None, keep=(), cpus=None):
        self.name = name or f"bed-{os.getpid()}"
        self.path = f"{BEDS}/{self.name}"
        self.ssh_config = f"{self.path}/ssh_config"
        self.cpus = cpus or {}
        self.pids, self.children, self.link = {}, [], (delay_us, rate, relay)
        self.addresses = {host: f"{NETWORK}.{i + 1}" for i, host in enumerate(names)}
        kept = {os.path.realpath(path) for path in keep if os.path.realpath(path).startswith("/tmp/")}
        self.keep = sorted(path for path in kept if not any(path.startswith(other + "/") for other in kept))

    # ---- up ---------------------------------------------------------------------------------------

    def __enter__(self):
        check()
        remove_stale()
        os.makedirs(BEDS, exist_ok=True)
        os.mkdir(self.path)
        try:
            self.write("maker", f"{os.getpid()}\n")
            self.make_keys()
            self.make_hosts()
            self.make_links()
            self.write("bed.json", json.dumps({"pid": os.getpid(), "started": started(os.getpid()), "hosts": self.pids,
                                               "cpus": self.cpus, "addresses": self.addresses}))
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_):
        self.down()

    def write(self, name, text):
        with open(f"{self.path}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        return f"{self.path}/{name}"

    def make_keys(self):
        known = []
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.path}/id")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.path}/host.key")
        with open(f"{self.path}/host.key.pub", encoding="ascii") as file:
            key = " ".join(file.read().split()[:2])
        for host, address in self.addresses.items():
            shutil.copy(f"{self.path}/host.key", f"{self.path}/{host}.key")
            self.write(f"{host}.sshd", SSHD.format(bed=self.path, name=host))
            known.append(f"{host},{address} {key}\n")
        self.write("known_hosts", "".join(known))
        self.write("ssh_config", SSH.format(bed=self.path))
        self.write("etc-hosts", "127.0.0.1 localhost\n" + "".join(f"{a} {h}\n" for h, a in self.addresses.items()))

    def start(self, words, environment=None):
        """A process that is killed when this one dies."""
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL,
                                 start_new_session=True, env={**os.environ, **(environment or {})})
        self.children.append(child)
        return child

    def make_space(self, namespaces, words, environment=None):
        """Starts `words` in new namespaces; the process id of their first process, once it has them."""
        child = self.start(["unshare", *namespaces, "--fork", "--kill-child=KILL", *words], environment)
        end = time.monotonic() + PATIENCE_S
        own = os.readlink("/proc/self/ns/net")
        while time.monotonic() < end and child.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{child.pid}/task/{child.pid}/children", encoding="ascii") as file:
                    pid = int(file.read().split()[0])
                if os.readlink(f"/proc/{pid}/ns/net") != own:
                    return pid
            time.sleep(0.005)
        raise RuntimeError("a namespace was not made")

    def make_hosts(self):
        for host in self.addresses:
            self.pids[host] = self.make_space([*NAMESPACES, "--mount-proc"], [
                *(["taskset", "-c", self.cpus[host]] if host in self.cpus else []), "sh", "-c", FIRST, "sh", *self.keep],
                {"BED": self.path, "NAME": host})

    def make_links(self):
        delay_us, rate, relay = self.link
        switch = self.make_space(["--net"], ["sleep", "infinity"])
        inside = ["nsenter", "-t", switch, "-n"]
        ports = [f"port{i}" for i in range(len(self.pids))]
        if not delay_us:
            run(*inside, "ip", "link", "add", "bridge0", "type", "bridge")
            run(*inside, "ip", "link", "set", "bridge0", "up")
        for port, (host, pid) in zip(ports, self.pids.items()):
            run(*inside, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", pid)
            run(*inside, "ip", "link", "set", port, *([] if delay_us else ["master", "bridge0"]), "up")
            at = ["nsenter", "-t", pid, "-n"]
            run(*at, "ip", "link", "set", "eth0", "up")
            run(*at, "ip", "address", "add", f"{self.addresses[host]}/24", "dev", "eth0")
            run(*at, "ip", "link", "add", "docker0", "type", "bridge")
            run(*at, "ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
            run(*at, "ip", "address", "add", "2001:db8::1/64", "dev", "docker0")
            run(*at, "ip", "link", "set", "docker0", "up")
            if rate:
                run(*at, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst",
                    burst_of(rate), "latency", "1s")
        if delay_us:
            self.start([*map(str, inside), relay, str(delay_us), *ports])
        end = time.monotonic() + PATIENCE_S
        for host in self.pids:
            while not self.listens(host):
                if time.monotonic() > end:
                    raise RuntimeError(f"{host}: no ssh server:\n{self.log(host)}")
                time.sleep(0.01)

    def listens(self, host):
        with open(f"/proc/{self.pids[host]}/net/tcp", encoding="ascii") as file:
            return any(line.split()[1].endswith(":0016") and line.split()[3] == "0A" for line in file.readlines()[1:])

    # ---- use --------------------------------------------------------------------------------------

    def log(self, host):
        """What its ssh server said."""
        try:
            with open(f"{self.path}/{host}.log", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def words(self, host, *words):
        """The command line that runs `words` on the host."""
        return enter(self.pids[host], words, self.cpus.get(host))

    def run(self, host, *words):
        """Its standard output; RuntimeError when it fails."""
        return run(*self.words(host, *words))

    def processes(self, host):
        """{process id there: command line} of what runs there, but for the ssh server and its sessions."""
        found = {}
        space = os.readlink(f"/proc/{self.pids[host]}/ns/pid")
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/ns/pid") == space and started(int(entry)) is not None:
                    with open(f"/proc/{entry}/cmdline", encoding="utf-8", errors="replace") as file:
                        line = file.read().replace("\0", " ").strip()
                    if not line.startswith(("sshd:", "/usr/sbin/sshd")) and int(entry) != self.pids[host]:
                        found[int(entry)] = line
        return found

    def down(self):
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in self.children:
            child.wait()
        end = time.monotonic() + PATIENCE_S
        while any(started(pid) is not None for pid in self.pids.values()) and time.monotonic() < end:
            time.sleep(0.005)
        shutil.rmtree(self.path, ignore_errors=True)


# ---- the command line ------------------------------------------------------------------------------


def hold(options):
    """Keeps a bed until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    with Bed(options.hosts, options.bed, options.delay_us, options.rate, options.relay, options.keep):
        while True:
            signal.pause()


def up(options):
    check()
    remove_stale()
    if state_of(options.bed) is not None:
        raise RuntimeError(f"{options.bed} is up already; hosts.py down {options.bed} ends it")
    holder = subprocess.Popen([sys.executable, os.path.abspath(__file__), "hold", *sys.argv[2:]], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, start_new_session=True)
    while state_of(options.bed) is None:
        if holder.poll() is not None:
            raise RuntimeError("it did not come up")
        time.sleep(0.02)
    print(f"{options.bed} is up: {', '.join(options.hosts)}\n"
          f"ssh from inside: ssh -F {BEDS}/{options.bed}/ssh_config HOST")


def need(name):
    state = state_of(name)
    if state is None:
        raise RuntimeError(f"there is no bed called {name}; hosts.py list shows those that are up")
    return state


def execute(options):
    state = need(options.bed)
    if options.host not in state["hosts"]:
        raise RuntimeError(f"{options.bed} has no host {options.host}: {', '.join(state['hosts'])}")
    words = enter(state["hosts"][options.host], options.command, state["cpus"].get(options.host))
    os.execvp(words[0], words)


def down(options):
    state = need(options.bed)
    os.kill(state["pid"], signal.SIGTERM)
    end = time.monotonic() + 2 * PATIENCE_S
    while os.path.isdir(f"{BEDS}/{options.bed}"):
        if time.monotonic() > end:
            raise RuntimeError(f"process {state['pid']} does not end")
        time.sleep(0.02)


def show(_):
    remove_stale()
    for name in sorted(os.listdir(BEDS)) if os.path.isdir(BEDS) else []:
        state = state_of(name)
        if state is not None:
            print(f"{name}: " + ", ".join(f"{host} {address}" for host, address in state["addresses"].items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, about, work in (("up", "make hosts", up), ("hold", None, hold)):
        one = commands.add_parser(name, help=about) if about else commands.add_parser(name)
        one.add_argument("bed")
        one.add_argument("hosts", nargs="+")
        one.add_argument("--delay-us", type=int, default=0, help="each frame's, one way")
        one.add_argument("--rate", help="of each host's link, one way, as tc writes it: 100mbit")
        one.add_argument("--relay", default="build/release/testbed/delay", help="the program of delay.c")
        one.add_argument("--keep", action="append", default=[], help="a folder below /tmp that all hosts shall see")
        one.set_defaults(work=work)
    one = commands.add_parser("exec", help="run a command on a host")
    one.add_argument("bed")
    one.add_argument("host")
    one.add_argument("command", nargs=argparse.REMAINDER)
    one.set_defaults(work=execute)
    one = commands.add_parser("down", help="end all that runs there, and the hosts")
    one.add_argument("bed")
    one.set_defaults(work=down)
    commands.add_parser("list", help="beds that are up").set_defaults(work=show)
    options = parser.parse_args()
    try:
        options.work(options)
    except (Missing, RuntimeError, OSError) as failure:
        print(f"hosts.py: error: {failure}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""What cluster/deploy/ holds starts what it says: Slurm's batch file on a Slurm of its own, mpirun's hostfile, systemd's unit.

Hosts are namespaces (cluster/testbed). Skips where these, or Slurm (Debian: slurmctld, slurmd, slurm-client, munge), are missing.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys

from longspan_test import BIN, ROOT, Tap, call, folder, make_retrieval, program, wait_until

sys.path.insert(0, os.path.join(ROOT, "cluster/testbed"))
import hosts  # noqa: E402  (the folder is named above)

DEPLOY = os.path.join(ROOT, "cluster/deploy")
SLURM = ["slurmctld", "slurmd", "sbatch", "srun", "munged"]
SLURM_CONF = """ClusterName=bed
SlurmctldHost=head
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={path}/munge/socket
StateSaveLocation={path}/state
SlurmdSpoolDir={path}/spool.%n
SlurmctldPidFile={path}/ctld.pid
SlurmdPidFile={path}/slurmd.%n.pid
SlurmctldLogFile={path}/ctld.log
SlurmdLogFile={path}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
MpiDefault=none
ReturnToService=2
NodeName={nodes} CPUs=2 RealMemory=512 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""
ASK = """import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], sys.argv[2].encode() if len(sys.argv) > 2 else None, 20) as answer:
    print(answer.read().decode())
"""


def start(bed, path, host, *words, env=None):
    with open(f"{path}/{host}.{os.path.basename(words[0])}.out", "ab") as log:
        return subprocess.Popen(bed.words(host, "env", *[f"{k}={v}" for k, v in (env or {}).items()], *words),
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def start_slurm(bed, path):
    """A Slurm whose hosts are the bed's; its files are in `path`."""
    os.makedirs(f"{path}/munge", mode=0o755)
    with open(f"{path}/munge/key", "wb") as file:
        file.write(os.urandom(128))
    os.chmod(f"{path}/munge/key", 0o600)
    with open(f"{path}/slurm.conf", "w", encoding="ascii") as file:
        file.write(SLURM_CONF.format(path=path, nodes=",".join(bed.pids)))
    os.makedirs(f"{path}/state")
    children = [start(bed, path, "head", "munged", "--foreground", "--force", f"--key-file={path}/munge/key",
                      f"--socket={path}/munge/socket", f"--pid-file={path}/munge/pid", f"--seed-file={path}/munge/seed",
                      f"--log-file={path}/munge/log")]
    wait_until(lambda: os.path.exists(f"{path}/munge/socket"), 10)
    children.append(start(bed, path, "head", "slurmctld", "-D", "-f", f"{path}/slurm.conf"))
    children += [start(bed, path, host, "slurmd", "-D", "-N", host, "-f", f"{path}/slurm.conf") for host in bed.pids]
    return children


def on_head(bed, path, *words):
    return call(*bed.words("head", "env", f"SLURM_CONF={path}/slurm.conf", *words), timeout=30)


def test_slurm(tap, bed, path, model):
    missing = [name for name in SLURM if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None]
    if missing:
        tap.skip("the batch file on Slurm", f"{', '.join(missing)} not installed")
        return
    children = start_slurm(bed, path)
    try:
        ready = wait_until(lambda: on_head(bed, path, "sinfo", "-h", "-o", "%D %t").out.split() == [str(len(bed.pids)), "idle"], 30)
        if not tap.check(ready, "a Slurm of these hosts", on_head(bed, path, "sinfo")):
            return
        done = on_head(bed, path, f"MODEL={model}", "WORKERS=2", "NETWORK=eth0", "OMPI_ALLOW_RUN_AS_ROOT=1",
                       "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", f"LONGSPAN_BIN={BIN}", f"LONGSPAN_ROLES={BIN}",
                       "NODE_OPTIONS=--memory 64MiB --threads 1", "sbatch", "--nodes=3", "--cpus-per-task=1", f"--chdir={path}",
                       f"--output={path}/job.out", f"{DEPLOY}/longspan.slurm")
        job = re.findall(r"\d+", done.out)
        output = lambda: open(f"{path}/job.out", encoding="utf-8", errors="replace").read() if os.path.exists(f"{path}/job.out") else ""
        if not tap.check(done.code == 0 and job, "sbatch takes it", done):
            return
        wait_until(lambda: "http://" in output(), 20)
        address, host = (re.findall(r"(http://\S+) on (\w+):", output()) or [("http://none", "head")])[0]

        def ask(*words):
            return call(*bed.words(host, sys.executable, "-c", ASK, *words), timeout=30)
        ready = wait_until(lambda: ask(f"{address}/health").code == 0, 60)
        tap.check(ready, "the job's server is ready", output())
        answer = ask(f"{address}/v1/completions", '{"model": "model", "prompt": "The code of x is 7. The code of x is ", "max_tokens": 1}')
        tap.check(answer.code == 0 and '"choices"' in answer.out, "and answers", f"{answer}\n{output()}")
        on_head(bed, path, "scancel", "--signal=USR1", "--batch", job[0])
        gone = wait_until(lambda: job[0] not in on_head(bed, path, "squeue", "-h").out, 30)
        left = {host: line for host in bed.pids for line in bed.processes(host).values() if BIN in line}
        keys = [name for name in os.listdir(os.path.expanduser("~")) if name.startswith(f".longspan-{job[0]}.")]
        tap.check(gone and not left and not keys and "JOB" not in output(), "it ends in order: no process and no key stays", f"{left} {keys}\n{output()}")
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def test_hostfile(tap, bed, path, model):
    """The lines of the hostfile's head, with this bed's hosts."""
    key, port = f"{path}/cluster.key", 5700
    call(program("longspan"), "keygen", key)
    with open(f"{DEPLOY}/hostfile", encoding="ascii") as file:
        text = file.read()
    with open(f"{path}/hostfile", "w", encoding="ascii") as file:
        file.write(text.replace("cpu07 slots=2", "cpu1 slots=2"))
    coordinator = start(bed, path, "head", program("coordinator"), "--listen", f"tcp://0.0.0.0:{port}", "-m", model, "--workers", "3",
                        "--cluster-key", key)
    workers = start(bed, path, "head", "mpirun", "--hostfile", f"{path}/hostfile", "-n", "3", "--bind-to", "none", "--mca",
                    "mpi_yield_when_idle", "1", "--mca", "btl_tcp_if_include", "eth0", "--mca", "oob_tcp_if_include", "eth0", "--mca",
                    "plm_rsh_args", f"-F {bed.ssh_config}", "--allow-run-as-root", program("worker"), "--coordinator",
                    f"tcp://head:{port}", "--cluster-key", key, "--threads", "1")
    try:
        done = call(*bed.words("head", program("longspan"), "run", "--coordinator", f"tcp://head:{port}", "--cluster-key", key,
                               "--join-timeout", 40, "-p", "x", "-n", 1, "-q"), timeout=60)
        tap.check(done.code == 0, "mpirun with the hostfile: three ranks on two hosts answer", done)
    finally:
        for pid, line in bed.processes("head").items():
            if "mpirun" in line or "/coordinator " in line:
                os.kill(pid, signal.SIGTERM)
        for child in (coordinator, workers):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()
            child.wait()
    left = [line for host in bed.pids for line in bed.processes(host).values() if BIN in line]
    tap.check(wait_until(lambda: not any(BIN in line for host in bed.pids for line in bed.processes(host).values()), 5),
              "mpirun's end is everybody's", left)


def test_systemd(tap, path):
    unit = "longspan-attention-node.service"
    if shutil.which("systemd-analyze") is None:
        tap.skip("the unit", "systemd-analyze is not installed")
        return
    with open(f"{DEPLOY}/{unit}", encoding="utf-8") as file:
        text = file.read()
    with open(f"{path}/{unit}", "w", encoding="utf-8") as file:
        file.write(text.replace("/usr/local/libexec/longspan", BIN))
    done = call("systemd-analyze", "verify", f"{path}/{unit}")
    tap.check(done.code == 0 and unit not in done.err, "systemd understands the unit", done)
    done = call("systemd-analyze", "security", "--offline=true", "--threshold=30", f"{path}/{unit}")
    tap.check(done.code == 0, "and rates its exposure at 3 of 10 at most", done.out[-400:] + done.err)
    variables = dict(line.split("=", 1) for line in open(f"{DEPLOY}/longspan-attention-node.env", encoding="ascii")
                     if re.match(r"[A-Z_]+=", line))
    command = re.search(r"ExecStart=(.*)", text)[1].replace("/usr/local/libexec/longspan", BIN)
    for name, value in variables.items():
        command = command.replace("${" + name + "}", value.strip()).replace("$" + name, value.strip())
    done = call(*command.split(), "--interface", "lo", "--cluster-key", "/nowhere")
    tap.check(done.code == 2 and "/nowhere" in done.err, "its command line is one", done)


def main():
    tap = Tap()
    with folder() as path:
        test_systemd(tap, path)
        try:
            hosts.check()
        except hosts.Missing as why:
            tap.skip("the hostfile, the batch file", why)
            tap.finish()
        model = make_retrieval(f"{path}/model.gguf")
        with hosts.Bed(["head", "cpu1", "mem1"], keep=[path, ROOT, BIN]) as bed:
            test_hostfile(tap, bed, path, model)
            test_slurm(tap, bed, path, model)
    tap.finish()


main()

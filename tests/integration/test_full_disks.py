#!/usr/bin/env python3
"""Disks without room: what is written appears whole or not at all, and what cannot work is refused before it starts.

The disks are small ones in memory, in a mount namespace of each command's own; without the right to make one, this skips.
"""
import os
import subprocess
import sys

from longspan_test import Tap, call, folder, make_random, make_retrieval, program, write_text

UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
SCRIPT = """
mount -t tmpfs -o size="$1",mode=1777 tmpfs "$2" || exit 77
disk=$2
shift 2
"$@"
code=$?
echo "left: $(find "$disk" -mindepth 1 -printf '%P ')" >&2
exit $code
"""


def with_disk(size, where, *words, **options):
    """Runs `longspan` with an empty disk at `where`. The last line of standard error tells what lies on it then."""
    return call(*UNSHARE, "sh", "-c", SCRIPT, "sh", size, where, program("longspan"), *words, **options)


def left(result):
    return result.err.rpartition("left: ")[2].split()


def expect(tap, name, result, code, stays, *words):
    tap.check(result.code == code and all(word in result.err for word in words) and left(result) == stays, name, result)


def files(tap, path, model):
    disk = f"{path}/disk"
    for name, words in {"quantize": ("quantize", model, f"{disk}/q.gguf", "Q8_0"), "split": ("split", "--max-bytes", "30KiB", model, f"{disk}/s"),
                        "make-random": ("make-random", f"{disk}/r.gguf", "--shape", "tiny"),
                        "make-haystack": ("make-haystack", f"{disk}/h")}.items():
        expect(tap, f"model {name} leaves nothing on a full disk", with_disk("64k", disk, "model", *words), 4, [], "No space left", disk)
    expect(tap, "--dump-logits leaves nothing on a full disk",
           with_disk("64k", disk, "run", "-m", model, "-p", "ab", "-n", 100, "--ignore-eos", "--dump-logits", f"{disk}/l"), 4, [],
           "No space left", f"{disk}/l")


def limits(tap, path, model):
    """`ulimit -f`, in blocks of 512 bytes."""
    out = f"{path}/limited"
    done = call("sh", "-c", 'ulimit -f 64; exec "$@"', "sh", program("longspan"), "model", "quantize", model, out, "Q8_0")
    tap.check(done.code == 4 and "File too large" in done.err and not [f for f in os.listdir(path) if f.startswith("limited")],
              "a limit of file sizes is told", done)


def ranks(tap, path, model):
    def run(size, where, *words):
        return with_disk(size, where, "run", "-m", model, "-p", "ab", "-n", 1, "--threads", 1, *words, env={"TMPDIR": f"{path}/disk"})
    claims = ["longspan-processors.0"]  # of processors: it stays where it is
    expect(tap, "several ranks need room in TMPDIR", run("8m", f"{path}/disk", "--pipeline", 2), 2, [], f"{path}/disk", "8.00 MiB", "set TMPDIR")
    expect(tap, "and in /dev/shm", run("4m", "/dev/shm", "--pipeline", 2), 2, [], "/dev/shm", "4.00 MiB", "--shm-size")
    expect(tap, "what is asked for is enough of TMPDIR", run("9m", f"{path}/disk", "--pipeline", 2), 0, claims)
    expect(tap, "and of /dev/shm", run("5m", "/dev/shm", "--pipeline", 2), 0, [])
    expect(tap, "a disk that tells no size is not refused", run("0", f"{path}/disk", "--pipeline", 2), 0, claims)
    expect(tap, "one rank needs none", run("16k", f"{path}/disk"), 0, claims)


def kept_pages(tap, path, model):
    text = write_text(f"{path}/text", 5000, 1)
    expect(tap, "a KV store without room costs the store, not the answer",
           with_disk("64k", f"{path}/disk", "run", "-m", model, "-f", text, "-n", 1, "-v", "--attention-nodes", 1, "--stripe", 1024, "--threads", 1,
                     "--kv-store", f"{path}/disk"), 0, ["node0"], "warning: --kv-store", "No space left")


def output(tap):
    for words in (("--help",), ("--version",), ("run", "--help"), ("help", "model")):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([program("longspan"), *words], stdout=full, stderr=subprocess.PIPE)
        tap.check(done.returncode == 4 and b"standard output" in done.stderr, f"{' '.join(words)} on a full disk says so", done)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([program("longspan"), "run", "--help"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    tap.check(done.returncode == 141 and done.stderr == b"", "a reader that has seen enough of a help text is no error", done)


def main():
    if call(*UNSHARE, "true").code != 0:
        print("1..0 # SKIP no mount namespaces here")
        sys.exit(77)
    tap = Tap()
    with folder() as path:
        os.mkdir(f"{path}/disk")
        random = make_random(f"{path}/random.gguf", "tiny")
        files(tap, path, random)
        limits(tap, path, random)
        retrieval = make_retrieval(f"{path}/retrieval.gguf")
        ranks(tap, path, retrieval)
        kept_pages(tap, path, retrieval)
        output(tap)
    tap.finish()


main()

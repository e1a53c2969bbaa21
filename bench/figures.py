"""figures.py - what the measuring programs in Python share: running others' measurements, tables, models.

Standard library only. Everything that is measured here is another program's --json: `longspan bench` and the
programs beside this file. LONGSPAN_BIN names the folder of the product's programs (default: build/release/bin);
measuring programs are in ../bench of it.
"""
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.abspath(os.environ.get("LONGSPAN_BIN", os.path.join(ROOT, "build/release/bin")))
BENCH = os.path.join(os.path.dirname(BIN), "bench")


class Failed(Exception):
    """A program that measures ended with an error."""


def end(main):
    """Ends this program with what main() returns; where a program that measures failed, with 4 and its words."""
    try:
        sys.exit(main())
    except Failed as failure:
        print(f"{os.path.basename(sys.argv[0])}: {failure}", file=sys.stderr)
        sys.exit(4)


def run(command, timeout=3600):
    """Standard output of a program; Failed with its last words."""
    command = [str(word) for word in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}\nexit status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def run_json(command, timeout=3600):
    """What a program of ours writes with --json."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        run([*command, "--json", file.name], timeout)
        with open(file.name, encoding="utf-8") as written:
            return json.load(written)


def longspan_bench(model, *options):
    """{"speed": {"notes", "rows"}, "memory": {...}} of `longspan bench`."""
    return run_json([os.path.join(BIN, "longspan"), "bench", "-q", "-m", model, *options])


def program(name, *options):
    """{"notes", "rows"} of a program beside this file."""
    return run_json([os.path.join(BENCH, name), *options])


def model(folder, kind):
    """The bench-1b model of that weight type, made when it is not there: random F16, then quantized from it."""
    path = os.path.join(folder, f"bench-1b-{kind}.gguf")
    if os.path.exists(path):
        return path
    os.makedirs(folder, exist_ok=True)
    longspan = os.path.join(BIN, "longspan")
    print(f"making {path}", file=sys.stderr)
    if kind == "F16":
        run([longspan, "model", "make-random", path + ".part", "--shape", "bench-1b", "--type", "F16"])
    else:
        run([longspan, "model", "quantize", model(folder, "F16"), path + ".part", kind])
    os.rename(path + ".part", path)
    os.sync()  # else the kernel writes gigabytes beside what is measured next
    return path


def spread(values):
    """median, smallest, largest"""
    return statistics.median(values), min(values), max(values)


class Beside:
    """What went on beside a measurement, from its making on: shares of all processors' time."""

    def __init__(self):
        self.began = self.times()

    @staticmethod
    def times():
        """Seconds of all processors: all of it, used by programs, taken by the host, used by our own ended programs."""
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, idle, wait, irq, soft, stolen = (int(word) for word in file.readline().split()[1:9])
        tick = os.sysconf("SC_CLK_TCK")
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return ((user + nice + system + idle + wait + irq + soft + stolen) / tick, (user + nice + system) / tick,
                stolen / tick, sum(usage.ru_utime + usage.ru_stime for usage in ours))

    def __str__(self):
        whole, used, stolen, ours = (now - then for now, then in zip(self.times(), self.began))
        return f"other programs used {max(used - ours, 0) / whole:.0%} of the processors, the host took {stolen / whole:.0%}"


class Table:
    """Rows with the columns (name, width, decimals or None for text), printed as they come. With a path, its rows from
    before are read, and the file is written anew with every row: a row takes the place of one that has the same values
    of `key`, so that a table can be made in several goes, and a call that is ended loses nothing."""

    def __init__(self, title, columns, path=None, key=(), out=sys.stdout):
        self.title, self.columns, self.path, self.key, self.out = title, columns, path, key, out
        self.notes, self.rows, self.shown = {}, [], []  # shown: the rows of this call
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                told = json.load(file)
            self.notes, self.rows = told.get("notes", {}), told["rows"]

    def note(self, name, value):
        self.notes[name] = value
        print(f"# {name} {value}", file=self.out, flush=True)

    def header(self):
        self.line({name: name for name, _, _ in self.columns})

    def line(self, row):
        words = []
        for name, width, decimals in self.columns:
            value = row.get(name)
            if decimals is None or isinstance(value, str):
                text = "-" if value is None else str(value)
            else:
                text = "-" if value is None or math.isnan(value) else f"{value:.{decimals}f}"
            width = max(width, len(name))
            words.append(text.ljust(width) if decimals is None else text.rjust(width))
        print("  ".join(words).rstrip(), file=self.out, flush=True)

    def before(self, row):
        """The row that this one takes the place of, or None."""
        same = [old for old in self.rows if all(old.get(name) == row.get(name) for name in self.key)]
        return same[0] if self.key and same else None

    def keep(self, row):
        """Into the file, without a line: more of it will come."""
        old = self.before(row)
        if old is None:
            self.rows.append(row)
        else:
            self.rows[self.rows.index(old)] = row
        if self.path:
            self.save(self.path)

    def add(self, row):
        if not self.shown:
            self.header()
        self.shown.append(row)
        self.line(row)
        self.keep(row)

    def save(self, path):
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump({"title": self.title, "notes": self.notes, "rows": self.rows}, file, indent=1)
            file.write("\n")
        os.replace(path + ".part", path)

#!/usr/bin/env python3
"""verdicts.py FOLDER [PART...] - the acceptance figures of a GPU, of the CSV files that bench/gpu.sh left in FOLDER.

One line each: name, measured, target, result (ok, short, not measured; failed: the whole path), and which row it was. PART:
products, attention, torch, path (all). A figure of many rows is the worst of them. Rows that a card has no memory for are
counted and said; a row of the grid that is not there for any other reason leaves its figure "not measured", unless one
that is there is short already. FOLDER/verdicts.json has the same lines.

Exit status: 0 all ok, 1 one is short, 4 none is, but one was not measured.
"""
import collections
import csv
import itertools
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import figures  # noqa: E402  (bench/figures.py)

COLUMNS = [("name", 56, None), ("measured", 8, 2), ("target", 7, None), ("result", 12, None), ("where", 0, None)]

READ_TARGETS = {"f16": 0.85, "bf16": 0.85, "q8_0": 0.75}  # KV types of 64k tokens and more, of the read rate
CONTEXTS = {"64k": 65536, "256k": 262144, "1M": 1 << 20, "16k": 16384, "4k": 4096, "1k": 1024, "ragged": 0}
# What bench/gpu/attention measures when nobody chooses: (type, head_dim, heads, batch, context's name).
GRID = [row for row in itertools.product(READ_TARGETS, ("128", "64"), ("32/8", "64/8", "32/32"), ("1", "8", "64"), CONTEXTS)
        if row[3:] != ("1", "ragged")]
WEIGHTS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16", "F32")
PRODUCT = ("14336", "4096")  # outputs and columns: the greatest matrix of a layer
LAYOUTS = ("GPU worker, CPU and GPU node", "CPU worker, GPU and CPU node")  # tests/integration/test_cuda.py
TOKENS = 131009
NO_MEMORY = "no memory"


def rows_of(folder, name):
    """Of a CSV file; none where there is no file. A line that was cut off when its program was ended is no row."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return []
    with open(path, newline="", encoding="ascii", errors="replace") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and None not in row]


def label(key):
    return "{} {}, {}, {} x {}".format(*key)


def key_of(row, name):
    return (row["type"], row["head_dim"], f"{row['heads']}/{row['kv_heads']}", row["batch"], name)


class Verdicts:
    def __init__(self, folder):
        self.table = figures.Table("bench-gpu", COLUMNS, os.path.join(folder, "verdicts.json"), ("name",))

    def add(self, name, measured, target, result, where=""):
        self.table.add({"name": name, "measured": measured, "target": target, "result": result, "where": where})

    def figure(self, name, target, values, missing, value=min, note=""):
        """values: {row: what was measured of it}; missing: {row that is not there: why}; value: makes one of all."""
        why = collections.Counter(missing.values())
        below = sum(measured < target for measured in values.values()) if target else 0
        where = [f"{n} rows: {reason}" for reason, n in why.items()]
        if not values:
            return self.add(name, None, f">= {target:g}" if target else "-", "not measured", "; ".join(where))
        measured = value(values.values())
        whole = not set(why) - {NO_MEMORY}
        if value is min:
            worst = min(values, key=values.get)
            where.insert(0, f"{label(worst)}; {below} of {len(values)} rows below")
        else:
            where.insert(0, f"{min(values.values()):.2f} to {max(values.values()):.2f}, {len(values)} rows{note}")
        if target is None:
            return self.add(name, measured, "-", "-" if whole else "not measured", "; ".join(where))
        result = "short" if measured < target else "ok" if whole else "not measured"
        return self.add(name, measured, f">= {target:g}", result, "; ".join(where))


class Attention:
    """The grid's rows: measured, and left out, why."""

    def __init__(self, folder):
        self.rows, self.left_out = {}, {}
        for row in rows_of(folder, "attention.csv"):
            kind, _, why = row["kind"].partition(": ")
            if kind == "decode":
                (self.left_out if why else self.rows)[key_of(row, row["name"])] = why or row

    def of(self, chosen, value):
        """({row: value} of the chosen ones, {row: why} of those that are not there)"""
        values, missing = {}, {}
        for key in filter(chosen, GRID):
            row = self.rows.get(key)
            measured = value(row) if row else None
            if measured is None:
                missing[key] = self.left_out.get(key, "no row")
            else:
                values[key] = measured
        return values, missing


def ratio(above, below):
    """What a row says of two columns; None where one of them was not measured."""

    def value(row):
        a, b = (float(row[column] or 0) for column in (above, below))
        return a / b if a > 0 and b > 0 else None

    return value


def is_long(key):
    return CONTEXTS[key[4]] >= 65536


def attention(verdicts, folder):
    grid = Attention(folder)
    for kind, target in READ_TARGETS.items():
        verdicts.figure(f"decode attention {kind}, 64k and more, of the read rate", target,
                        *grid.of(lambda key, kind=kind: key[0] == kind and is_long(key), lambda row: float(row["share"])))
    verdicts.figure("time of the canonical order, of a free one, median", None,
                    *grid.of(lambda _: True, ratio("us", "any_order_us")), statistics.median)
    verdicts.figure("best fixed split's time, of lean's", 0.98, *grid.of(lambda _: True, ratio("best_fixed_us", "us")))
    ragged, missing = grid.of(lambda key: key[4] == "ragged", ratio("best_fixed_us", "us"))
    most = [measured / float(grid.rows[key]["share"]) for key, measured in ragged.items()]
    note = f"; a lean schedule at the read rate itself: {statistics.fmean(most):.2f}" if most else ""
    verdicts.figure("  of ragged sets, mean", 1.5, ragged, missing, statistics.fmean, note)


def torch(verdicts, folder):
    """Of the rows that are ours: what no memory was there for is no row of PyTorch's either."""
    ours, names = Attention(folder), {tokens: name for name, tokens in CONTEXTS.items()}
    wanted = [key for key in GRID if key[0] != "q8_0" and CONTEXTS[key[4]] > 16384]
    missing = {key: ours.left_out.get(key, "not compared") for key in wanted}
    values = {}
    for row in rows_of(folder, "attention.csv.torch.csv"):
        key = key_of(row, names.get(int(row["context"])))
        if key not in missing:
            continue
        if row["torch_us"]:
            values[key] = float(row["torch_us"]) / float(row["us"])
            del missing[key]
        else:
            missing[key] = row["backend"]  # why there is none
    verdicts.figure("PyTorch's best time, of ours, above 16k tokens", 1.0, values, missing)


def products(verdicts, folder):
    rows = {}
    for row in rows_of(folder, "products.csv"):
        if row["rows"] == "1":
            rows.setdefault(row["type"], {})[row["outputs"], row["columns"]] = float(row["percent_of_read"]) / 100
    for kind in WEIGHTS:
        shapes = rows.get(kind, {})
        others = sorted((share, "x".join(shape)) for shape, share in shapes.items() if shape != PRODUCT)
        share = shapes.get(PRODUCT)
        result = "not measured" if share is None else "ok" if share >= 0.8 else "short"
        verdicts.add(f"product {kind}, one row, {'x'.join(PRODUCT)}, of the read rate", share, ">= 0.8", result,
                     "others: " + ", ".join(f"{other:.2f} ({shape})" for other, shape in others) if others else "")


def path(verdicts, folder):
    told = {row["layout"]: row for row in rows_of(folder, "path.csv") if int(row["tokens"]) >= TOKENS}
    for layout in [*LAYOUTS, *(layout for layout in told if layout not in LAYOUTS)]:
        row = told.get(layout, {"result": "no such row", "command_s": ""})
        result = {"passed": "ok", "failed": "failed"}.get(row["result"], "not measured")
        verdicts.add(f"131,072 tokens: {layout}", None, "passes", result,
                     f"{float(row['command_s']):.0f} s" if row["command_s"] else row["result"])


PARTS = {"attention": attention, "torch": torch, "products": products, "path": path}
FILES = ("attention.csv", "attention.csv.torch.csv", "products.csv", "path.csv")


def main():
    folder, *chosen = sys.argv[1:] or [""]
    if not os.path.isdir(folder) or set(chosen) - set(PARTS):
        print(__doc__, file=sys.stderr)
        return 2
    verdicts = Verdicts(folder)
    for name in FILES:
        where = os.path.join(folder, name)
        written = time.strftime("%FT%TZ", time.gmtime(os.path.getmtime(where))) if os.path.exists(where) else "not there"
        verdicts.table.note(name, written)
    for name, part in PARTS.items():
        if not chosen or name in chosen:
            part(verdicts, folder)
    results = {row["result"] for row in verdicts.table.shown}
    return 1 if results & {"short", "failed"} else 4 if results - {"ok", "-"} else 0


if __name__ == "__main__":
    sys.exit(main())

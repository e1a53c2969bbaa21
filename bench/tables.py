#!/usr/bin/env python3
"""tables.py - puts measured numbers into documents, so that none is typed by hand.

    bench/tables.py --figures DIR docs/performance.md docs/measurements/*.md

In a document, what stands between "<!-- NAME: column, column... -->" and "<!-- end -->" is replaced by a table of
DIR/NAME.json, a file that a measuring program has written with --json; with "<!-- NAME.KEY: ... -->" of its object
KEY. "<!-- NAME: column, column... where column=value|value column=value -->" takes those rows alone that have one of
the values in each of the columns named, and leaves the notes (machine, runs) to the whole table. A file that is not
there leaves its table as it is.
"""
import argparse
import json
import os
import re
import sys

BLOCK = re.compile(r"<!-- ([\w-]+)(?:\.(\w+))?: ([^>]*?) -->\n.*?<!-- end -->", re.S)


def text(value):
    if value is None:
        return "-"
    if isinstance(value, str):
        return value.replace("|", "\\|")
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def chosen(rows, where):
    """The rows that "column=value|value column=value" names."""
    wanted = [condition.split("=", 1) for condition in re.split(r"\s+(?=\w+=)", where.strip()) if condition]
    return [row for row in rows if all(text(row.get(column)) in values.split("|") for column, values in wanted)]


def table(told, columns, where):
    rows, notes = chosen(told["rows"], where), {} if where else told.get("notes", {})
    lines = [f"{name}: {value if isinstance(value, str) else text(value)}" for name, value in notes.items()]
    numeric = {c: all(not isinstance(row.get(c), str) for row in rows) for c in columns}
    out = ["; ".join(lines), ""] if lines else []
    out.append("| " + " | ".join(columns) + " |")
    out.append("| " + " | ".join("---:" if numeric[c] else "---" for c in columns) + " |")
    out += ["| " + " | ".join(text(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", required=True, metavar="DIR", help="folder of the JSON files")
    parser.add_argument("documents", metavar="FILE.md", nargs="+")
    options = parser.parse_args()
    missing = set()

    def replace(found):
        name, key, columns = found.groups()
        path = os.path.join(options.figures, f"{name}.json")
        if not os.path.exists(path):
            missing.add(name)
            return found[0]
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        columns, _, where = columns.partition(" where ")
        body = table(told[key] if key else told, [column.strip() for column in columns.split(",")], where)
        return f"{found[0].splitlines()[0]}\n{body}\n<!-- end -->"

    for path in options.documents:
        with open(path, encoding="utf-8") as file:
            before = file.read()
        after = BLOCK.sub(replace, before)
        with open(path, "w", encoding="utf-8") as file:
            file.write(after)
    if missing:
        print(f"tables.py: left as they were: {', '.join(sorted(missing))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

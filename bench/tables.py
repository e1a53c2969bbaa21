#!/usr/bin/env python3
"""tables.py - puts measured numbers into a document, so that none is typed by hand.

    bench/tables.py --figures DIR docs/performance.md

In the document, what stands between "<!-- NAME: column, column... -->" and "<!-- end -->" is replaced by a table of
DIR/NAME.json, a file that a measuring program has written with --json; with "<!-- NAME.KEY: ... -->" of its object
KEY. A file that is not there leaves its table as it is.
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


def table(told, columns):
    lines = [f"{name}: {value if isinstance(value, str) else text(value)}" for name, value in told.get("notes", {}).items()]
    rows = told["rows"]
    numeric = {c: all(not isinstance(row.get(c), str) for row in rows) for c in columns}
    out = ["; ".join(lines), ""] if lines else []
    out.append("| " + " | ".join(columns) + " |")
    out.append("| " + " | ".join("---:" if numeric[c] else "---" for c in columns) + " |")
    out += ["| " + " | ".join(text(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", required=True, metavar="DIR", help="folder of the JSON files")
    parser.add_argument("document", metavar="FILE.md")
    options = parser.parse_args()
    with open(options.document, encoding="utf-8") as file:
        before = file.read()
    missing = []

    def replace(found):
        name, key, columns = found.groups()
        path = os.path.join(options.figures, f"{name}.json")
        if not os.path.exists(path):
            missing.append(name)
            return found[0]
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        body = table(told[key] if key else told, [column.strip() for column in columns.split(",")])
        return f"{found[0].splitlines()[0]}\n{body}\n<!-- end -->"

    after = BLOCK.sub(replace, before)
    with open(options.document, "w", encoding="utf-8") as file:
        file.write(after)
    if missing:
        print(f"tables.py: left as they were: {', '.join(missing)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""plot.py - a roofline of what was measured: docs/roofline.svg from the JSON of the measuring programs.

    bench/plot.py --stream FILE [--matmul FILE] [--attention FILE] [--step FILE]... OUT.svg

Across: operations for each byte that is read from memory. Up: operations per second. The lines are the limits that
`stream` measured with as many lanes: the read bandwidth (rising), and arithmetic in f32 and in 8-bit integers (level).
A point on a line is at a limit; on a shared machine a point may lie above, when its minute was a better one. The products
of one weight type are joined, from few rows to many; the first and the last have their names beside them, every point has
its name where the pointer rests on it. Of whole steps those with f16 KV and one sequence are shown.
"""
import argparse
import json
import math
import statistics
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 920, 600
LEFT, RIGHT, TOP, BOTTOM = 78, 28, 92, 66
GROUP = 4  # query heads of a KV head, as bench/attention measures unless told otherwise
KV_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32}  # of one value

FAMILIES = [  # name, class, shape
    ("products, 1 to 16 rows (decode)", "few", "circle"),
    ("products, 128 and 512 rows (prefill)", "many", "square"),
    ("decode attention", "kv", "diamond"),
    ("whole steps", "step", "triangle"),
]

LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "muted": "#59636e", "grid": "#d8dee4",
         "few": "#0969da", "many": "#bc4c00", "kv": "#1a7f37", "step": "#8250df"}
DARK = {"paper": "#0d1117", "ink": "#f0f6fc", "muted": "#9198a1", "grid": "#2a313c",
        "few": "#58a6ff", "many": "#f0883e", "kv": "#3fb950", "step": "#be8fff"}


def colours(of):
    marks = " ".join(f".{css} {{ fill: {of[css]}; }}" for _, css, _ in FAMILIES)
    return (f".paper {{ fill: {of['paper']}; }} text {{ fill: {of['ink']}; }} text.muted {{ fill: {of['muted']}; }} "
            f".grid {{ stroke: {of['grid']}; }} .roof {{ stroke: {of['ink']}; }} .leader, .line {{ stroke: {of['muted']}; }} "
            f".mark {{ stroke: {of['paper']}; }} {marks}")


STYLE = f"""
text {{ font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }}
.title {{ font-size: 17px; font-weight: 600; }} .label {{ font-size: 11px; }}
.grid {{ stroke-width: 1; }} .roof {{ stroke-width: 1.8; fill: none; }} .faint {{ stroke-dasharray: 5 4; stroke-width: 1.3; }}
.leader {{ stroke-width: 0.7; opacity: 0.7; }} .line {{ stroke-width: 0.8; fill: none; opacity: 0.35; }} .mark {{ stroke-width: 1.2; }}
{colours(LIGHT)}
@media (prefers-color-scheme: dark) {{ {colours(DARK)} }}
"""


def read(path, key=None):
    with open(path, encoding="utf-8") as file:
        told = json.load(file)
    return told[key] if key and key in told else told


class Point:
    """`line`: of what it is a point, and where along that; None: it stands alone."""
    def __init__(self, family, name, intensity, rate, line=None):
        self.family, self.name, self.intensity, self.rate, self.line = family, name, intensity, rate, line
        self.named = True


def merged(points):
    """Points of one name become one: the medians."""
    names = {}
    for point in points:
        names.setdefault((point.family, point.name), []).append(point)
    middle = lambda values: statistics.median(values)
    return [Point(family, name, middle([p.intensity for p in some]), middle([p.rate for p in some]), some[0].line)
            for (family, name), some in names.items()]


def lines_of(points):
    """The points of each line in order; the inner ones lose their names."""
    lines = {}
    for point in points:
        if point.line:
            lines.setdefault(point.line[0], []).append(point)
    for line in lines.values():
        line.sort(key=lambda point: point.line[1])
        for point in line[1:-1]:
            point.named = False
    return list(lines.values())


def collect(options):
    points = []
    if options.matmul:
        for row in read(options.matmul)["rows"]:
            family = 1 if row["rows"] > 16 else 0
            points.append(Point(family, f"{row['type']} x {row['rows']:g}", row["Gop_s"] / row["GB_s"], row["Gop_s"] * 1e9,
                                (row["type"], row["rows"])))
    if options.attention:
        rows = read(options.attention)["rows"]
        lanes = max(row["lanes"] for row in rows)
        for row in rows:
            if row["lanes"] == lanes:
                per_byte = 2 * GROUP / KV_BYTES[row["kv"]]
                points.append(Point(2, f"{row['kv']} dim {row['dim']:g}", per_byte, row["GB_s"] * per_byte * 1e9))
    for path in options.step or []:
        for row in read(path, "speed")["rows"]:
            if row.get("Gop_s") and row["GB_s"] and row["sequences"] == 1 and row.get("kv", "f16") == "f16":
                name = f"{row.get('weights', '')} {row['phase']} at {row['depth']}".strip()
                points.append(Point(3, name, row["Gop_s"] / row["GB_s"], row["Gop_s"] * 1e9))
    return merged(points)


class Axes:
    def __init__(self, xs, ys):
        self.x0, self.x1 = math.log10(min(xs) / 1.6), math.log10(max(xs) * 1.6)
        self.y0, self.y1 = math.log10(min(ys) / 1.6), math.log10(max(ys) * 1.5)

    def x(self, value):
        return LEFT + (math.log10(value) - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return HEIGHT - BOTTOM - (math.log10(value) - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)

    @staticmethod
    def ticks(low, high):
        for power in range(math.floor(low), math.ceil(high) + 1):
            for digit in (1, 2, 5):
                if low <= math.log10(digit) + power <= high:
                    yield digit * 10.0 ** power


def short(value):
    return f"{value:g}" if value >= 1 else f"{value:.1g}"


def mark(shape, css, x, y, r=5):
    corners = {"square": [(-1, -1), (1, -1), (1, 1), (-1, 1)], "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
               "triangle": [(0, -1.25), (1.2, 1), (-1.2, 1)]}
    if shape == "circle":
        return f'<circle class="{css} mark" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    where = " ".join(f"{x + a * r:.1f},{y + b * r:.1f}" for a, b in corners[shape])
    return f'<polygon class="{css} mark" points="{where}"/>'


def draw_axes(axes, out):
    for value in Axes.ticks(axes.x0, axes.x1):
        x = axes.x(value)
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        out.append(f'<text class="muted" text-anchor="middle" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{short(value)}</text>')
    for value in Axes.ticks(axes.y0, axes.y1):
        y = axes.y(value)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="muted" text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{short(value / 1e9)}</text>')
    out.append(f'<text text-anchor="middle" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 20}">'
               'operations for each byte read (a multiplication and an addition are two)</text>')
    out.append(f'<text text-anchor="middle" transform="translate(22 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">'
               'G operations / s</text>')


def draw_roofs(axes, bandwidth, peaks, out):
    """The bandwidth's line ends at the highest peak; each peak begins where the bandwidth reaches it. Returns the boxes
    that they and their names take."""
    taken = []
    left, right = 10 ** axes.x0, 10 ** axes.x1
    top = max(peaks.values())
    start = max(left, 10 ** axes.y0 / bandwidth)
    end = min(right, top / bandwidth)
    x0, y0, x1, y1 = axes.x(start), axes.y(start * bandwidth), axes.x(end), axes.y(end * bandwidth)
    out.append(f'<line class="roof" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')
    taken += [(x0 + i / 60 * (x1 - x0) - 3, y0 + i / 60 * (y1 - y0) - 3, x0 + i / 60 * (x1 - x0) + 3,
               y0 + i / 60 * (y1 - y0) + 3) for i in range(61)]
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    at, length = 0.12, math.hypot(x1 - x0, y1 - y0)
    for along in range(0, 180, 15):
        x, y = x0 + (at + along / length) * (x1 - x0), y0 + (at + along / length) * (y1 - y0) - 9
        taken.append((x - 9, y - 12, x + 9, y + 6))
    out.append(f'<text transform="translate({x0 + at * (x1 - x0):.1f} {y0 + at * (y1 - y0) - 9:.1f}) rotate({angle:.1f})">'
               f'read bandwidth {bandwidth / 1e9:.1f} GB/s</text>')
    for name, peak in peaks.items():
        begin, y = axes.x(max(left, peak / bandwidth)), axes.y(peak)
        css = "roof" if peak == top else "roof faint"
        out.append(f'<line class="{css}" x1="{begin:.1f}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text text-anchor="end" x="{WIDTH - RIGHT - 4}" y="{y - 7:.1f}">{name} {peak / 1e9:.0f} G/s</text>')
        taken += [(begin, y - 1, WIDTH - RIGHT, y + 1), (WIDTH - RIGHT - 90, y - 20, WIDTH - RIGHT, y + 3)]
    return taken


def covers(box, others):
    return any(box[2] >= o[0] and box[0] <= o[2] and box[3] >= o[1] and box[1] <= o[3] for o in others)


def place(x, y, width, taken):
    """The nearest free place for a name of that width: its side and its box; None: there is none."""
    ways = sorted(((dx, dy) for dx in range(10, 180, 10) for dy in range(-234, 235, 13)), key=lambda way: math.hypot(*way))
    for dx, dy in ways:
        for side, x0 in (("start", x + dx), ("end", x - dx - width)):
            box = (x0, y + dy - 7, x0 + width, y + dy + 7)
            inside = LEFT < box[0] and box[2] < WIDTH - RIGHT and TOP < box[1] and box[3] < HEIGHT - BOTTOM
            if inside and not covers(box, taken):
                return side, box
    return None


def draw_names(axes, points, taken, out):
    """A name that would cover something moves away until it does not; one without a place is left out."""
    for point in points:
        x, y = axes.x(point.intensity), axes.y(point.rate)
        found = place(x, y, 6.1 * len(point.name) + 4, taken)
        if found is None:
            continue
        side, box = found
        taken.append(box)
        edge, middle = box[0] if side == "start" else box[2], (box[1] + box[3]) / 2
        if math.hypot(edge - x, middle - y) > 15:
            out.append(f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{edge:.1f}" y2="{middle:.1f}"/>')
        out.append(f'<text class="label" text-anchor="{side}" x="{edge:.1f}" y="{middle + 4:.1f}">{escape(point.name)}</text>')


def draw_points(axes, points, taken, out):
    at = lambda point: (axes.x(point.intensity), axes.y(point.rate))
    for line in lines_of(points):
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, line))
        out.append(f'<polyline class="line" points="{where}"/>')
    taken += [(x - 6, y - 6, x + 6, y + 6) for x, y in map(at, points)]
    draw_names(axes, sorted((p for p in points if p.named), key=at), taken, out)
    for point in points:
        _, css, shape = FAMILIES[point.family]
        out.append(f'<g><title>{escape(point.name)}: {point.rate / 1e9:.1f} G operations/s, {point.intensity:.2f} for each '
                   f'byte</title>{mark(shape, css, *at(point), 5 if point.named else 3.5)}</g>')


def draw(stream, points):
    roofs = max(stream["rows"], key=lambda row: row["lanes"])
    bandwidth = roofs["read_GB_s"] * 1e9
    peaks = {name: roofs[column] * 1e9 for name, column in (("f32", "f32_GFLOP_s"), ("8-bit", "int8_Gop_s"))
             if roofs.get(column)}
    axes = Axes([p.intensity for p in points] + [peak / bandwidth for peak in peaks.values()],
                [p.rate for p in points] + list(peaks.values()))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
           f'aria-label="Roofline of measured products, attention and steps">', f"<style>{STYLE}</style>",
           f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" class="paper"/>',
           f'<text class="title" x="{LEFT}" y="32">What was measured, under the limits of the same machine</text>',
           f'<text class="muted label" x="{LEFT}" y="50">{escape(stream["notes"]["machine"])}; '
           f'{roofs["lanes"]:g} lanes</text>']
    x = LEFT
    for index, (name, css, shape) in enumerate(FAMILIES):
        if any(point.family == index for point in points):
            out += [mark(shape, css, x + 6, 70), f'<text class="label" x="{x + 17}" y="74">{name}</text>']
            x += 34 + 6.0 * len(name)
    draw_axes(axes, out)
    draw_points(axes, points, draw_roofs(axes, bandwidth, peaks, out), out)
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", required=True, metavar="FILE", help="of bench/stream --json")
    parser.add_argument("--matmul", metavar="FILE", help="of bench/matmul --json")
    parser.add_argument("--attention", metavar="FILE", help="of bench/attention --json")
    parser.add_argument("--step", metavar="FILE", action="append", help="of bench/step.py or longspan bench --json")
    parser.add_argument("out", metavar="OUT.svg")
    options = parser.parse_args()
    points = collect(options)
    if not points:
        parser.error("nothing to show: name at least one of --matmul, --attention and --step")
    with open(options.out, "w", encoding="utf-8") as file:
        file.write(draw(read(options.stream), points))
    return 0


if __name__ == "__main__":
    sys.exit(main())

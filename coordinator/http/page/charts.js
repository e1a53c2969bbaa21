// charts.js - the last three minutes as curves. A chart keeps its own points; SVG is made anew with each one.
import { duration, element, svg } from "./format.js";

const MOST_SECONDS = 180, LEAST_SECONDS = 30; // of the axis of time
const HEIGHT = 118;
const LEFT = 0, RIGHT = 34, TOP = 8, BOTTOM = 18;

/** 1, 2 or 5 times a power of ten, not below `most`. */
function niceTop(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= most * 0.999);
}

export class Chart {
  /** `series`: [{name, className, area}]; `format` a value of the axis; `top`: of the axis, or 0: what the points need. */
  constructor(holder, title, { format, top = 0, least = 1 }) {
    this.format = format;
    this.top = top;
    this.least = least;
    this.series = [];
    this.points = []; // {time, values}
    this.values = element("p", "values");
    this.note = element("span", "note");
    this.drawing = svg("svg", { role: "img", "aria-label": `${title}, the last three minutes` });
    holder.append(element("h3", "", title, {}, this.note), this.values, this.drawing);
    new ResizeObserver(() => this.draw()).observe(holder);
  }

  /** `shown`: what stands above the curves: [{text, unit}]; `note`: beside the title. A value that is null is a gap. */
  add(time, series, values, shown, note = "") {
    this.series = series;
    this.note.textContent = note;
    if (this.points.length > 0 && time <= this.points.at(-1).time) this.points = []; // another coordinator
    this.points.push({ time, values });
    while (this.points[0].time < time - MOST_SECONDS) this.points.shift();
    this.values.replaceChildren(
      ...shown.map(({ text, unit }) => element("span", "value", text, {}, element("span", "unit", unit))),
    );
    this.draw();
  }

  draw() {
    const width = this.drawing.clientWidth;
    if (width < 40) return;
    const seen = this.points.flatMap((p) => p.values).filter((v) => v !== null);
    const top = this.top || niceTop(Math.max(this.least, ...seen));
    const now = this.points.length > 0 ? this.points.at(-1).time : 0;
    const seconds = Math.max(LEAST_SECONDS, this.points.length > 0 ? now - this.points[0].time : 0);
    const x = (time) => LEFT + ((width - LEFT - RIGHT) * (time - now + seconds)) / seconds;
    const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * Math.min(value, top)) / top;
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      parts.push(
        svg("line", { class: share === 0 ? "base" : "grid", x1: LEFT, x2: width - RIGHT, y1: y(share * top), y2: y(share * top) }),
        svg("text", { x: width - RIGHT + 6, y: y(share * top) + 4 }, this.format(share * top)),
      );
    }
    parts.push(
      svg("text", { x: LEFT, y: HEIGHT - 3 }, `${duration(seconds)} ago`),
      svg("text", { x: width - RIGHT, y: HEIGHT - 3, "text-anchor": "end" }, "now"),
    );
    this.series.forEach(({ className, area }, i) => parts.push(...this.curve(i, className, area, x, y)));
    this.drawing.replaceChildren(...parts);
  }

  /** One path, broken where values are missing; a lone point is a dot. */
  curve(index, className, area, x, y) {
    const runs = [];
    let run = null;
    for (const { time, values } of this.points) {
      const value = values[index] ?? null;
      if (value === null) run = null;
      else if (run === null) runs.push((run = [[x(time), y(value)]]));
      else run.push([x(time), y(value)]);
    }
    const path = runs.map((r) => `M${r.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L")}`).join("");
    const made = [svg("path", { class: `curve ${className}`, d: path })];
    for (const [[a, b]] of runs.filter((r) => r.length === 1)) made.push(svg("circle", { class: `lone ${className}`, cx: a, cy: b, r: 1.8 }));
    if (area) {
      const closed = runs.filter((r) => r.length > 1)
        .map((r) => `M${r[0][0].toFixed(1)} ${y(0)}L${r.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L")}L${r.at(-1)[0].toFixed(1)} ${y(0)}Z`);
      made.unshift(svg("path", { class: `area ${className}`, d: closed.join("") }));
    }
    return made;
  }
}

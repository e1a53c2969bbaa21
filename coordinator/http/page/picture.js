// picture.js - the cluster as a drawing: who is there, who holds what, what moves between them.
//
// The drawing is built when the cluster's shape or the width changes; every second its states, fillings and links are
// brought up to date in place, so that focus stays where it is. Of many processes each one is a tile, and the links are one.
import { byteRate, bytes, count, duration, element, figure, percent, plural, range, svg } from "./format.js";

const PAD = 12; // inside a frame
const TITLE = 30; // of a frame
const SIDE = 176; // the coordinator's column, where there is room for one
const MOST_BOXES = 24; // processes; more are tiles
// gap: between the ranks of a stage; apart: between stages, and between nodes; stage: of a frame's inside, at least
const BOXES = { rank: { width: 148, most: 320, height: 74 }, node: { width: 148, most: 320 + 2 * PAD, height: 90 }, gap: 14, apart: 26, nodesApart: 26, stage: 148 };
const TILES = { rank: { width: 44, most: 72, height: 28 }, node: { width: 72, most: 120, height: 32 }, gap: 6, apart: 14, nodesApart: 6, stage: 132 };
const LABELLED_LINKS = 8; // more would cover each other
const QUIET = 1000; // bytes per second
const CLEAR_LINKS = 24; // more are faint, but for those of the chosen process

const pen = document.createElement("canvas").getContext("2d");

/** The text, or as much of it as fits, with an ellipsis. */
function fit(text, width, size = 12.5, weight = 400) {
  pen.font = `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  if (pen.measureText(text).width <= width) return text;
  let n = text.length;
  while (n > 1 && pen.measureText(`${text.slice(0, n)}…`).width > width) n--;
  return `${text.slice(0, n).trimEnd()}…`;
}

/** Puts n boxes of at least `least` into rows of `width`: {width, height, places: [{x, y, w}]}. */
function rows(n, least, most, height, width, gap) {
  const perRow = Math.max(1, Math.min(n, Math.floor((width + gap) / (least + gap))));
  const nRows = Math.ceil(n / perRow);
  const across = Math.ceil(n / nRows); // as even as possible
  const w = Math.min(most, (width - gap * (across - 1)) / across);
  const places = [];
  for (let i = 0; i < n; i++) {
    const row = Math.floor(i / across);
    const inRow = Math.min(across, n - row * across);
    const used = inRow * w + (inRow - 1) * gap;
    places.push({ x: (width - used) / 2 + (i % across) * (w + gap), y: row * (height + gap), w });
  }
  return { across, w, height: nRows * height + (nRows - 1) * gap, places };
}

/** Where a link from (x1, y1) to (x2, y2) is at height y. */
function onCurve(x1, y1, x2, y2, y) {
  const bend = (y2 - y1) * 0.5;
  const at = (t, p, q, r, s) => (1 - t) ** 3 * p + 3 * (1 - t) ** 2 * t * q + 3 * (1 - t) * t * t * r + t ** 3 * s;
  let low = 0, high = 1;
  for (let i = 0; i < 24; i++) {
    const t = (low + high) / 2;
    if (at(t, y1, y1 + bend, y2 - bend, y2) < y) low = t;
    else high = t;
  }
  return at(low, x1, x1, x2, x2);
}

/** "62 ready, 2 lost" */
function states(processes) {
  const n = new Map();
  for (const { state } of processes) n.set(state, (n.get(state) ?? 0) + 1);
  return [...n].map(([state, times]) => `${count(times)} ${state}`).join(", ");
}

const nodeName = (node, i) => node.name || `attention node ${i}`;

export class Picture {
  constructor(holder, details) {
    this.holder = holder;
    this.details = details;
    this.shape = "";
    this.chosen = "coordinator";
    this.prompt = null; // that is pointed at
    new ResizeObserver(() => this.status && this.update(this.status, this.rates)).observe(holder);
  }

  /** `rates`: bytes per second of each link, in the order of status.links. */
  update(status, rates) {
    this.status = status;
    this.rates = rates;
    const width = Math.floor(this.holder.clientWidth);
    if (width < 100) return;
    const shape = JSON.stringify([width, status.stages, status.ranks.map((r) => [r.stage, r.host]), status.nodes.map((n) => n.name), status.holders.length]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.build(width);
    }
    this.refresh();
  }

  /** Shows where a prompt's tokens are; null: all alike. */
  point(key) {
    this.prompt = key;
    for (const piece of this.holder.querySelectorAll(".piece, .used"))
      piece.classList.toggle("dim", !this.tiles && key !== null && piece.dataset.prompt !== key);
    if (!this.tiles) return;
    const prompt = this.status.prompts.find((p) => promptKey(p) === key);
    this.status.nodes.forEach((node, i) =>
      this.processes.get(nodeName(node, i)).group.classList.toggle("dim", prompt !== undefined && !prompt.spans.some(([holder]) => holder === i)));
  }

  // ---- building ----

  build(width) {
    const { status } = this;
    this.tiles = status.ranks.length + status.nodes.length > MOST_BOXES;
    const sizes = this.tiles ? TILES : BOXES;
    const focused = document.activeElement?.dataset?.process;
    const side = width >= 660 ? SIDE + 34 : 0;
    const area = width - side;
    this.processes = new Map();
    this.links = [];
    const below = svg("g"), above = svg("g");
    let y = side ? 0 : 46 + 30;

    // stages and their ranks
    const perStage = Math.max(1, Math.round(status.ranks.length / Math.max(1, status.stages.length)));
    const local = status.nodes.length === 0;
    const { rank: rankSize, node: nodeSize, gap, apart } = sizes;
    const rankHeight = rankSize.height + (local && !this.tiles && status.holders.length > 0 ? 22 : 0);
    const perRow = Math.max(1, Math.min(status.stages.length, Math.floor((area + apart) / (sizes.stage + 2 * PAD + apart))));
    const room = (area - apart * (perRow - 1)) / perRow - 2 * PAD;
    const inside = rows(perStage, rankSize.width, rankSize.most, rankHeight, Math.min(room, perStage * rankSize.most + (perStage - 1) * gap), gap);
    const used = inside.across * inside.w + (inside.across - 1) * gap;
    const stageWidth = Math.min(room, Math.max(used, this.tiles ? sizes.stage : 0)) + 2 * PAD;
    const stageHeight = inside.height + PAD + TITLE;
    const frames = rows(status.stages.length, stageWidth, stageWidth, stageHeight, area, apart);
    const stagesTop = y;
    const stageBoxes = frames.places.map((place) => ({ x: side + place.x, y: stagesTop + place.y, w: stageWidth, h: stageHeight }));
    const inner = rows(perStage, rankSize.width, this.tiles ? rankSize.most : inside.w, rankHeight, stageWidth - 2 * PAD, gap);
    stageBoxes.forEach((box, i) => {
      const { first_layer: first, n_layers: n } = status.stages[i];
      this.frame(below, above, box).textContent = fit(`stage ${i} · layers ${range(first, first + n)}`, box.w - 2 * PAD, 12);
      if (i > 0) this.pipe(below, stageBoxes[i - 1], box);
    });
    const rankBoxes = status.ranks.map((rank) => {
      const frame = stageBoxes[rank.stage] ?? stageBoxes[0];
      const place = inner.places[rank.shard] ?? inner.places[0];
      return { x: frame.x + PAD + place.x, y: frame.y + TITLE + place.y, w: place.w, h: rankHeight };
    });
    y = stagesTop + frames.height;

    // attention nodes
    let nodeBoxes = [];
    const nodesFrame = { x: side, w: area };
    this.nodesTitle = null;
    if (!local) {
      y += this.tiles ? 54 : status.ranks.length * status.nodes.length <= LABELLED_LINKS ? 92 : 76;
      const inset = this.tiles ? PAD : 0, top = this.tiles ? TITLE : 0;
      const places = rows(status.nodes.length, nodeSize.width, nodeSize.most, nodeSize.height, area - 2 * inset, sizes.nodesApart);
      nodeBoxes = places.places.map((place) => ({ x: side + inset + place.x, y: y + top + place.y, w: place.w, h: nodeSize.height }));
      Object.assign(nodesFrame, { y, h: top + places.height + inset });
      if (this.tiles) this.nodesTitle = this.frame(below, above, nodesFrame);
      y += nodesFrame.h;
    }

    // the coordinator and its lines
    const coordinator = side
      ? { x: 0.5, y: stagesTop + (this.tiles ? 0 : Math.max(0, frames.height / 2 - BOXES.rank.height / 2)), w: SIDE, h: BOXES.rank.height }
      : { x: Math.max(0, width / 2 - 110), y: 0.5, w: Math.min(220, width), h: 46 };
    this.control(below, coordinator, side, stageBoxes, nodeBoxes);
    if (!this.tiles) this.buildLinks(below, rankBoxes, nodeBoxes);
    else if (!local) this.buildBundle(below, { x: side, y: stagesTop, w: area, h: frames.height }, nodesFrame);
    this.process(above, "coordinator", coordinator);
    status.ranks.forEach((rank, i) => this.process(above, `worker ${rank.rank}`, rankBoxes[i]));
    status.nodes.forEach((node, i) => this.process(above, nodeName(node, i), nodeBoxes[i]));

    const drawing = svg("svg", { viewBox: `0 0 ${width} ${Math.ceil(y) + 1}`, height: Math.ceil(y) + 1, role: "group", "aria-label": "The processes of the cluster" });
    drawing.classList.toggle("many", this.links.length > CLEAR_LINKS);
    this.holder.classList.toggle("tiles", this.tiles);
    drawing.append(below, above);
    this.holder.replaceChildren(drawing);
    if (focused) this.processes.get(focused)?.group.focus();
  }

  /** A frame around processes; returns its title. */
  frame(below, above, box) {
    const title = svg("text", { class: "stage-name", x: box.x + PAD + 2, y: box.y + 20 });
    below.append(svg("rect", { class: "frame", x: box.x + 0.5, y: box.y + 0.5, width: box.w - 1, height: box.h - 1, rx: 12 }));
    above.append(title);
    return title;
  }

  /** From one stage to the next: beside it, or in the next row. */
  pipe(layer, from, to) {
    const y = from.y + from.h / 2;
    if (to.y === from.y) {
      layer.append(
        svg("path", { class: "pipe", d: `M${from.x + from.w} ${y}H${to.x - 5}` }),
        svg("path", { class: "pipe-head", d: `M${to.x} ${y}l-7 -4v8z` }),
      );
    } else {
      const a = from.x + from.w / 2, b = to.x + to.w / 2, half = (from.y + from.h + to.y) / 2;
      layer.append(
        svg("path", { class: "pipe", d: `M${a} ${from.y + from.h}V${half}H${b}V${to.y - 5}` }),
        svg("path", { class: "pipe-head", d: `M${b} ${to.y}l-4 -7h8z` }),
      );
    }
  }

  control(layer, box, side, stages, nodes) {
    const line = (d) => layer.append(svg("path", { class: "control", d }));
    if (!side) {
      const x = box.x + box.w / 2;
      if (stages.length > 0) line(`M${x} ${box.y + box.h}V${stages[0].y}`);
      return;
    }
    const y = box.y + box.h / 2;
    if (stages.length > 0) line(`M${box.x + box.w} ${y}H${stages[0].x}`);
    if (nodes.length > 0) {
      const to = nodes[0].y + nodes[0].h / 2, x = box.x + box.w / 2;
      line(`M${x} ${box.y + box.h}V${to - 10}q0 10 10 10H${nodes[0].x}`);
    }
  }

  /** All links as one, from all stages to all nodes. */
  buildBundle(layer, from, to) {
    const x = from.x + from.w / 2, d = `M${x} ${from.y + from.h + 4}V${to.y - 4}`;
    const line = svg("path", { class: "link", d }), flow = svg("path", { class: "flow", d });
    const label = svg("text", { class: "link-rate", x, y: (from.y + from.h + to.y) / 2 + 4 });
    layer.append(line, flow, label);
    this.links.push({ line, flow, label, of: this.status.links.map((link, k) => k), ends: new Set() });
  }

  buildLinks(layer, rankBoxes, nodeBoxes) {
    const { status } = this;
    const nFroms = rankBoxes.length, nNodes = nodeBoxes.length;
    const labels = svg("g");
    for (let i = 0; i < nFroms && nNodes > 0; i++)
      for (let j = 0; j < nNodes; j++) {
        const a = rankBoxes[i], b = nodeBoxes[j];
        const x1 = a.x + (a.w * (j + 1)) / (nNodes + 1), y1 = a.y + a.h;
        const x2 = b.x + (b.w * (i + 1)) / (nFroms + 1), y2 = b.y;
        const bend = (y2 - y1) * 0.5;
        const d = `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
        const line = svg("path", { class: "link", d }), flow = svg("path", { class: "flow", d });
        // Just above the node, where lines have parted; neighbours at two heights.
        const spot = onCurve(x1, y1, x2, y2, y2 - 13 - 17 * (i % 2));
        const label = svg("text", { class: "link-rate", x: spot, y: y2 - 9 - 17 * (i % 2) });
        layer.append(line, flow);
        if (nFroms * nNodes <= LABELLED_LINKS) labels.append(label);
        const of = status.links.map((link, k) => k).filter((k) => {
          const link = status.links[k];
          return link.holder === j && link.rank === status.ranks[i].rank;
        });
        const ends = new Set([nodeName(status.nodes[j], j), ...of.map((k) => `worker ${status.links[k].rank}`)]);
        this.links.push({ line, flow, label, of, ends });
      }
    layer.append(labels);
  }

  process(layer, key, box) {
    const group = svg("g", { class: "process", tabindex: 0, role: "img", "data-process": key });
    group.append(svg("rect", { class: "box", x: box.x + 0.5, y: box.y + 0.5, width: box.w - 1, height: box.h - 1, rx: 9 }));
    const tile = this.tiles && key !== "coordinator";
    const name = tile ? fit(key.replace(/^worker /, ""), box.w - 26, 12) : fit(key, box.w - 42, 13.5, 600);
    group.append(svg("text", { class: tile ? "tile-name" : "name", x: box.x + (tile ? 8 : 13), y: box.y + (tile ? 18 : 23) }, name));
    const state = svg("circle", { class: "state", cx: box.x + box.w - (tile ? 10 : 16), cy: box.y + (tile ? 13.5 : 18.5), r: tile ? 3 : 4 });
    const lines = tile ? [] : [0, 1].map((i) => svg("text", { x: box.x + 13, y: box.y + 43 + 18 * i }));
    if (box.h < 60 && !tile) lines[0].setAttribute("y", box.y + 38);
    group.append(state, ...lines);
    const bar = svg("g");
    group.append(bar);
    group.addEventListener("pointerenter", () => this.choose(key));
    group.addEventListener("focus", () => this.choose(key));
    layer.append(group);
    this.processes.set(key, { group, state, lines, bar, box });
  }

  // ---- every second ----

  refresh() {
    const { status } = this;
    const c = status.coordinator;
    this.show("coordinator", "ready", [c.phase === "ready" ? `serves · up ${duration(c.uptime_s)}` : c.phase, c.host]);
    if (this.processes.get("coordinator").box.h < 60) this.processes.get("coordinator").lines[1].textContent = "";
    for (const rank of status.ranks) {
      const parts = [rank.device === "cpu" ? rank.kernels : rank.device, rank.lanes > 0 ? plural(rank.lanes, "lane") : "", rank.weight_bytes > 0 ? bytes(rank.weight_bytes) : ""];
      this.show(`worker ${rank.rank}`, rank.state, [`layers ${range(rank.first_layer, rank.first_layer + rank.n_layers)} · KV heads ${range(...rank.kv_heads)}`, parts.filter(Boolean).join(" · ") || rank.state]);
      if (status.nodes.length === 0 && status.holders.length > 0 && !this.tiles) this.fill(`worker ${rank.rank}`, 0, 70);
    }
    status.nodes.forEach((node, i) => {
      const holder = status.holders[i];
      const room = holder ? `${percent(holder.pages_used, holder.pages_total)} of ${plural(holder.pages_total, "page")}` : bytes(node.memory_bytes);
      this.show(nodeName(node, i), node.state, [node.state === "absent" ? "has not joined" : `${node.host} · ${bytes(node.memory_bytes)}`, ""]);
      if (!holder) return;
      if (this.tiles) return this.fillTile(nodeName(node, i), holder);
      this.fill(nodeName(node, i), i, 53);
      this.text(nodeName(node, i), 1, room, 76);
    });
    if (this.nodesTitle) this.nodesTitle.textContent = `attention nodes · ${states(status.nodes)}`;
    for (const { line, flow, label, of, ends } of this.links) {
      const rate = of.reduce((sum, k) => sum + (this.rates[k] || 0), 0);
      const busy = rate >= QUIET; // less is greetings
      const strength = busy ? Math.min(6, Math.log10(rate / QUIET)) : 0;
      line.setAttribute("stroke-width", (1.2 + 0.55 * strength).toFixed(2));
      line.classList.toggle("busy", busy);
      line.classList.toggle("chosen", ends.has(this.chosen));
      flow.setAttribute("visibility", strength > 1.5 && this.links.length <= CLEAR_LINKS ? "visible" : "hidden");
      label.textContent = busy ? byteRate(rate) : "";
    }
    this.point(this.prompt);
    this.describe();
  }

  text(key, line, value, y) {
    const { lines, box } = this.processes.get(key);
    if (lines.length === 0) return; // a tile
    lines[line].textContent = fit(value, box.w - 24);
    if (y !== undefined) lines[line].setAttribute("y", box.y + y);
  }

  show(key, state, lines) {
    const process = this.processes.get(key);
    process.group.dataset.state = process.state.dataset.state = state;
    process.group.setAttribute("aria-label", `${key}, ${state}: ${lines.filter(Boolean).join(", ")}`);
    lines.forEach((line, i) => this.text(key, i, line));
  }

  /** How full a holder is: a piece for each prompt, and what is kept for later ones. */
  fill(key, holder, y) {
    const { status } = this;
    const { bar, box } = this.processes.get(key);
    const { pages_used: used, pages_total: total } = status.holders[holder];
    const width = box.w - 26, x = box.x + 13, top = box.y + y;
    const parts = [svg("rect", { class: "track", x, y: top, width, height: 7, rx: 3.5 })];
    const scale = (pages) => (total > 0 ? Math.min(width, (width * pages) / total) : 0);
    let at = 0;
    for (const prompt of status.prompts) {
      const tokens = prompt.spans.reduce((sum, [h, begin, end]) => sum + (h === holder ? end - begin : 0), 0);
      if (tokens === 0) continue;
      const w = Math.min(width - at, Math.max(3, scale(tokens / status.page_tokens)));
      parts.push(svg("rect", { class: `piece holder-${holder % 6}`, x: x + at, y: top, width: w, height: 7, rx: 2, "data-prompt": promptKey(prompt) }));
      at += w;
    }
    if (scale(used) > at + 0.5) parts.push(svg("rect", { class: "used", x: x + at, y: top, width: scale(used) - at, height: 7, rx: 2 }));
    bar.replaceChildren(...parts);
  }

  fillTile(key, { pages_used: used, pages_kept: kept, pages_total: total }) {
    const { bar, box } = this.processes.get(key);
    const width = box.w - 16, x = box.x + 8, y = box.y + box.h - 8;
    const part = (name, pages) => svg("rect", { class: name, x, y, width: total > 0 ? Math.min(width, (width * pages) / total) : 0, height: 3, rx: 1.5 });
    bar.replaceChildren(part("track", total), part("used", used), part("running", used - kept));
  }

  // ---- one process in words ----

  choose(key) {
    this.chosen = key;
    for (const [name, { group }] of this.processes) group.classList.toggle("chosen", name === key);
    for (const { line, ends } of this.links) line.classList.toggle("chosen", ends.has(key));
    this.describe();
  }

  describe() {
    const { status, chosen } = this;
    const rank = status.ranks.find((r) => `worker ${r.rank}` === chosen);
    const nodeAt = status.nodes.findIndex((n, i) => nodeName(n, i) === chosen);
    const facts = chosen === "coordinator" ? this.aboutCoordinator() : rank ? this.aboutRank(rank) : nodeAt >= 0 ? this.aboutNode(status.nodes[nodeAt], nodeAt) : null;
    if (facts === null) {
      this.choose("coordinator"); // what was chosen is gone
      return;
    }
    const list = element("dl");
    for (const [name, value] of facts) list.append(element("div", "", "", {}, element("dt", "", name), element("dd", "", value)));
    const parts = [list];
    if (rank?.layer_wait_s.some((s) => s > 0)) parts.push(this.waits(rank));
    this.details.replaceChildren(...parts);
  }

  waits(rank) {
    const most = Math.max(...rank.layer_wait_s);
    const bars = element("div", "layers", "", { "aria-hidden": "true" });
    for (const seconds of rank.layer_wait_s) {
      const bar = element("span");
      bar.style.height = `${(100 * seconds) / most}%`;
      bars.append(bar);
    }
    const total = rank.layer_wait_s.reduce((a, b) => a + b, 0);
    return element("div", "waits", "", {}, bars, element("p", "layers-name", `waited ${figure(total)} s for attention nodes, layers ${range(rank.first_layer, rank.first_layer + rank.n_layers)}`));
  }

  aboutCoordinator() {
    const { coordinator: c, job } = this.status;
    return [["coordinator", c.phase], ["host", c.host], ["process", String(c.pid)], ["listens at", c.listen], ["version", c.version], ["memory at most", bytes(c.peak_bytes)], ["job", job]];
  }

  aboutRank(r) {
    return [
      [`worker ${r.rank}`, r.state], ["host", r.host || "–"], ["process", String(r.pid)],
      ["stage, shard", `${r.stage}, ${r.shard}`], ["layers", range(r.first_layer, r.first_layer + r.n_layers)], ["KV heads", range(...r.kv_heads)],
      ["device", r.device || "–"], ["kernels", r.kernels || "–"], ["lanes", count(r.lanes)],
      ["weights", bytes(r.weight_bytes)], ["memory at most", bytes(r.peak_bytes)],
      ["steps", count(r.steps)], ["time in steps", `${figure(r.compute_s)} s`],
      ...(r.reconnects > 0 ? [["reconnected", plural(r.reconnects, "time")]] : []),
    ];
  }

  aboutNode(n, i) {
    const links = this.status.links.map((link, k) => [link, this.rates[k] || 0]).filter(([link]) => link.holder === i);
    const sum = (name) => links.reduce((total, [link]) => total + link[name], 0);
    const trips = sum("round_trips");
    return [
      [nodeName(n, i), n.state], ["host", n.host || "–"], ["process", String(n.pid)], ["data at", n.endpoint || "–"],
      ["device", n.device || "–"], ["kernels", n.kernels || "–"], ["lanes", count(n.lanes)], ["reads", byteRate(n.read_bytes_per_s)],
      ["memory for pages", bytes(n.memory_bytes)], ["memory at most", bytes(n.peak_bytes)],
      ["pages taken", `${count(n.pages_taken)} of ${count(n.pages_total)}`], ["queries", count(n.queries)],
      ["time attending", `${figure(n.attend_s)} s`], ["round trip", trips > 0 ? `${figure((sum("round_trip_s") / trips) * 1e6)} µs` : "–"],
      ["received", bytes(sum("sent_bytes"))], ["sent", bytes(sum("received_bytes"))],
      ["now", byteRate(links.reduce((total, [, rate]) => total + rate, 0))],
      ...(n.dropped > 0 ? [["dropped", count(n.dropped)]] : []),
      ...(n.reconnects > 0 ? [["reconnected", plural(n.reconnects, "time")]] : []),
    ];
  }
}

/** One prompt, in the picture and in the list. */
export const promptKey = (prompt) => `${prompt.request}.${prompt.prompt}`;

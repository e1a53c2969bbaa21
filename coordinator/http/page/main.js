// main.js - asks for /cluster once a second, and hands what it says to those who draw it.
import { Chart } from "./charts.js";
import { Chat } from "./chat.js";
import { bytes, count, duration, figure, percent, plural } from "./format.js";
import { Picture } from "./picture.js";
import { Prompts } from "./prompts.js";
import { askForKey, request, ServerError } from "./server.js";

const EVERY_MS = 1000;
const HIDDEN_MS = 10000; // nobody looks: seldom, so that the curves have no hole
const MOST_CURVES = 6; // of KV holders; more are one curve

const get = (id) => document.getElementById(id);
const chat = new Chat();
const picture = new Picture(get("picture"), get("details"));
const prompts = new Prompts(get("prompts"), get("work-summary"), (key) => picture.point(key));
const decode = new Chart(get("chart-decode"), "Generated", { format: figure });
const prefill = new Chart(get("chart-prefill"), "Read", { format: figure });
const latency = new Chart(get("chart-latency"), "Between tokens", { format: (s) => milliseconds(s), least: 0.001 });
const memory = new Chart(get("chart-memory"), "KV cache filled", { format: (share) => `${Math.round(100 * share)}%`, top: 1 });
let before = null; // the status of a second ago

const state = (text, dot) => {
  if (get("state-text").textContent !== text) get("state-text").textContent = text;
  get("state").firstElementChild.dataset.state = dot;
};

function trouble(text) {
  if (get("trouble").textContent !== text) get("trouble").textContent = text;
  get("trouble").hidden = text === "";
}

/** Per second since the last status; null: not known. */
function rate(status, read) {
  if (before === null || before.job !== status.job) return null;
  const seconds = status.coordinator.uptime_s - before.coordinator.uptime_s;
  const change = read(status) - read(before);
  return seconds > 0.2 && change >= 0 ? change / seconds : null;
}

/** A histogram of what came since the last status: {count, mean, quantile(q)}. */
function recent(status, name) {
  const now = status.histograms[name], then = before?.job === status.job ? before.histograms[name] : null;
  if (!now || !then || now.count <= then.count) return null;
  const counts = now.counts.map((n, i) => n - then.counts[i]);
  const n = now.count - then.count;
  const quantile = (q) => {
    let below = 0;
    for (let i = 0; i < counts.length; i++) {
      if (counts[i] > 0 && below + counts[i] >= q * n) {
        const from = i > 0 ? now.bounds[i - 1] : 0, to = now.bounds[i] ?? from;
        return from + ((to - from) * (q * n - below)) / counts[i];
      }
      below += counts[i];
    }
    return now.bounds.at(-1);
  };
  return { mean: (now.sum - then.sum) / n, quantile };
}

const milliseconds = (seconds) => (seconds >= 1 ? `${figure(seconds)} s` : `${figure(1000 * seconds)} ms`);

function drawRate(chart, className, status, counter, note) {
  const perSecond = rate(status, (s) => s.counters[counter] ?? 0);
  chart.add(status.coordinator.uptime_s, [{ className, area: true }], [perSecond], [{ text: figure(perSecond ?? 0), unit: "tokens/s" }], note);
}

function drawCharts(status) {
  const { counters } = status;
  drawRate(decode, "decode", status, "decode_tokens_total", `${count(counters.decode_tokens_total)} so far`);
  drawRate(prefill, "prefill", status, "prefill_tokens_total", counters.cached_tokens_total > 0 ? `${count(counters.cached_tokens_total)} more found` : "");
  const next = recent(status, "time_between_tokens_seconds");
  const first = recent(status, "time_to_first_token_seconds");
  if (first) latency.first = first.mean;
  const mean = next?.mean ?? null, slow = next?.quantile(0.99) ?? null;
  latency.add(
    status.coordinator.uptime_s,
    [{ className: "decode faint" }, { className: "decode", area: true }],
    [slow, mean],
    mean === null ? [{ text: "–", unit: "" }] : [{ text: milliseconds(mean), unit: "mean" }, { text: milliseconds(slow), unit: "p99" }],
    latency.first === undefined ? "" : `first ${milliseconds(latency.first)}`,
  );
  drawMemory(status);
}

const range = (least, most) => (least === most ? `${most}` : `${least}–${most}`);

/** One curve for each holder, in the colour that its node has in the picture; of many, the fullest and the emptiest. */
function drawMemory(status) {
  const { holders } = status;
  const shares = holders.map((h) => (h.pages_total > 0 ? h.pages_used / h.pages_total : 0));
  const sum = (name) => holders.reduce((total, h) => total + h[name], 0);
  const used = sum("pages_used"), total = sum("pages_total");
  const each = holders.length <= MOST_CURVES;
  memory.add(
    status.coordinator.uptime_s,
    each ? holders.map((_, i) => ({ className: `holder-${i}` })) : [{ className: "holder-0 faint" }, { className: "holder-0" }, { className: "holder-0 faint" }],
    each ? shares : [Math.max(...shares), used / total, Math.min(...shares)],
    [{ text: percent(used, total), unit: `of ${count(total * status.page_tokens)} tokens` }],
    holders.length > 1 && used > 0 ? `${range(Math.round(100 * Math.min(...shares)), Math.round(100 * Math.max(...shares)))}% each` : "",
  );
}

function drawHead(status) {
  const { model, coordinator: c, ranks, nodes } = status;
  const name = get("model");
  const rest = [`${count(model.n_layers)} layers`, `${count(model.n_kv_heads)} KV heads`, `KV ${model.kv_type}`, model.context > 0 ? `${count(model.context)} tokens of context` : ""];
  const strong = document.createElement("strong");
  strong.textContent = model.name;
  name.replaceChildren(strong, ` · ${rest.filter(Boolean).join(" · ")}`);
  document.title = `${model.name} – Longspan`;
  chat.name = model.name;
  chat.meet(status.server);
  const lost = [...ranks, ...nodes].filter((p) => p.state === "lost").length;
  const missing = [...ranks, ...nodes].filter((p) => p.state === "absent").length;
  if (lost > 0) state(`${plural(lost, "process", "processes")} lost`, "lost");
  else if (c.phase === "ready") state(`ready, up ${duration(c.uptime_s)}`, "ready");
  else state(missing > 0 ? `waiting for ${plural(missing, "process", "processes")}` : "loading", "joined");
  const weights = ranks.reduce((sum, r) => sum + r.weight_bytes, 0);
  const room = status.holders.reduce((sum, h) => sum + h.pages_total, 0) * status.page_bytes;
  get("cluster-summary").textContent = [
    plural(ranks.length, "worker"), nodes.length > 0 ? plural(nodes.length, "attention node") : "KV in the workers",
    weights > 0 ? `${bytes(weights)} of weights` : "", room > 0 ? `${bytes(room)} of KV cache` : "",
  ].filter(Boolean).join(" · ");
}

/** In which stage of the last second each link was, in bytes. */
const linkRates = (status) => status.links.map((_, i) => rate(status, (s) => (s.links[i] ? s.links[i].sent_bytes + s.links[i].received_bytes : 0)));

async function look() {
  try {
    const status = await (await request("/cluster")).json();
    trouble("");
    drawHead(status);
    picture.update(status, linkRates(status));
    if (status.coordinator.phase === "ready") {
      drawCharts(status);
      prompts.update(status);
    }
    before = status;
  } catch (error) {
    state("not connected", "lost");
    trouble(error instanceof ServerError ? error.message : "The server does not answer; trying again.");
    if (error instanceof ServerError && error.status === 401) return; // until somebody gives a key
  }
  setTimeout(look, document.hidden ? HIDDEN_MS : EVERY_MS);
}

get("key-button").addEventListener("click", async () => {
  if (await askForKey()) look();
});
look();

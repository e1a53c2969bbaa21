// format.js - numbers and names as people read them.

export const count = (n) => Math.round(n).toLocaleString("en");

/** 0.31, 4.2, 48, 1,204 */
export function figure(n) {
  if (!Number.isFinite(n)) return "–";
  const size = Math.abs(n);
  return size === 0 ? "0" : size < 1 ? n.toFixed(2) : size < 10 ? n.toFixed(1) : count(n);
}

function scaled(n, base, units) {
  let unit = 0;
  while (n >= base * 0.9995 && unit < units.length - 1) {
    n /= base;
    unit++;
  }
  return `${n >= 100 || unit === 0 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2)} ${units[unit]}`;
}

export const bytes = (n) => (n > 0 ? scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]) : "–");
export const byteRate = (n) => (n > 0 ? scaled(n, 1000, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]) : "idle");

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)} h`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

export const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(part > 0 && part < 0.1 * whole ? 1 : 0)}%` : "–");

/** [0, 16) is "0–15" */
export const range = (begin, end) => (end - begin > 1 ? `${begin}–${end - 1}` : `${begin}`);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A new element: its class, its text, its attributes, its children. */
export function element(name, className = "", text = "", attributes = {}, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function svg(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== "") made.textContent = text;
  return made;
}

"use strict";
// What every document has: its packed numbers, its colours and the choice of them, and a few words in HTML.

const WIDTHS = {i1: Int8Array, i2: Int16Array, i4: Int32Array, f8: Float64Array};
const MISSING = {i1: -(2 ** 7), i2: -(2 ** 15), i4: -(2 ** 31)};

/** The values of the block that `pack` in documents.py describes; an array becomes a function that gives its numbers. */
async function unpack() {
  const text = atob(document.getElementById("data").textContent);
  const packed = Uint8Array.from(text, letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const block = await new Response(stream).arrayBuffer();
  const start = 4 + new DataView(block).getUint32(0, true);
  const arrays = block.slice(start);
  const json = new TextDecoder().decode(new Uint8Array(block, 4, start - 4));
  return JSON.parse(json, (_, value) => value && Array.isArray(value.$) ? once(() => column(arrays, ...value.$)) : value);
}

function column(arrays, type, at, length, first, divisor) {
  const stored = new WIDTHS[type](arrays, at, length);
  if (type === "f8") return stored;
  const values = new Float64Array(length);
  let sum = first;
  for (let k = 0; k < length; k++) {
    if (stored[k] === MISSING[type]) { values[k] = NaN; continue; }
    sum += stored[k];
    values[k] = sum / divisor;
  }
  return values;
}

function once(make) {
  let value;
  return () => value ??= make();
}

/** Make an element; text in it stays text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** The first place whose value is greater. */
function placeAfter(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1; else high = middle;
  }
  return low;
}

const written = (value, decimals) =>
  Number.isFinite(value) ? value.toLocaleString("en-US", {minimumFractionDigits: decimals, maximumFractionDigits: decimals}) : "";
const plain = value => Number.isFinite(value) ? value.toLocaleString("en-US", {maximumFractionDigits: 8}) : "";
const moment = ms => new Date(ms).toISOString().slice(0, 19).replace("T", " ");

function lengthOf(ms) {
  for (const [unit, name, part, partName] of [[864e5, "d", 36e5, "h"], [36e5, "h", 6e4, "min"], [6e4, "min", 1e3, "s"]]) {
    if (ms >= unit) {
      const rest = Math.floor(ms % unit / part);
      return `${Math.floor(ms / unit)} ${name}${rest ? ` ${rest} ${partName}` : ""}`;
    }
  }
  return `${Math.round(ms / 100) / 10} s`;
}

// Colours: of the style sheet, so that there is one list of them

const probe = document.body.appendChild(element("i", {hidden: true}));

function color(name, alpha = 1) {
  probe.style.color = `var(--${name})`;
  const parts = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3);
  return `rgba(${parts.join(",")},${alpha})`;
}

const painters = [];

/** Call a function now, and whenever the colours change. */
function painted(paint) {
  painters.push(paint);
  paint();
}

function repaint() {
  for (const paint of painters) paint();
}

// The choice of colours; print is light

{
  const root = document.documentElement;
  const choice = document.querySelector(".theme");
  choice.hidden = false;
  for (const input of choice.querySelectorAll("input")) {
    input.checked = input.value === root.dataset.theme;
    input.addEventListener("change", () => {
      root.dataset.theme = input.value;
      try { localStorage.setItem("torghut-theme", input.value); } catch { /* the browser keeps nothing for this file */ }
      repaint();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; repaint(); });
  addEventListener("afterprint", () => { root.dataset.theme = choice.querySelector(":checked").value; repaint(); });
}

/** Show lines of text beside a point of a place, within it; without lines nothing. */
function showTip(place, tip, at, lines) {
  tip.hidden = !lines;
  if (!lines) return;
  tip.replaceChildren(...lines.map(line => element("div", {}, line)));
  tip.style.left = `${Math.min(at.x + 16, Math.max(0, place.clientWidth - 330))}px`;
  tip.style.top = `${Math.max(4, Math.min(at.y + 12, place.clientHeight - 130))}px`;
}

function fail(error) {
  const said = typeof DecompressionStream === "undefined"
    ? "This browser is older than 2023 and cannot read the numbers of the charts; the figures on this page are whole."
    : `The charts cannot be drawn: ${error.message}`;
  document.getElementById("main").prepend(element("ul", {class: "warnings"}, element("li", {}, said)));
  throw error;
}

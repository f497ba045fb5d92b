"use strict";
// What every document needs: its packed numbers, its colours, charts that work by keyboard, and a few words in HTML.

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

function listenForColors() {
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
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; repaint(); printCharts(); });
  addEventListener("afterprint", () => { root.dataset.theme = choice.querySelector(":checked").value; unprintCharts(); repaint(); });
}

// Charts

const charts = [];

/** Put a picture of each chart in its place: what is printed is not painted anew. */
function printCharts() {
  for (const [chart, place] of charts) {
    if (place.hidden) continue;
    const picture = chart.takeScreenshot();
    picture.className = "paper";
    place.append(picture);
  }
}

function unprintCharts() {
  for (const picture of document.querySelectorAll("canvas.paper")) picture.remove();
}

/** Make a chart in an element that has a height. Times are seconds of UTC. */
function makeChart(place, {decimals = 2, hasSeconds = false, ...options} = {}) {
  const chart = LightweightCharts.createChart(place, {
    autoSize: true,
    rightPriceScale: {minimumWidth: 88, borderVisible: false, ...options.rightPriceScale},
    timeScale: {timeVisible: true, secondsVisible: hasSeconds, borderVisible: false, minBarSpacing: 0.02, fixLeftEdge: true, fixRightEdge: true, lockVisibleTimeRangeOnResize: true, ...options.timeScale},
    handleScroll: {mouseWheel: false, vertTouchDrag: false},
    handleScale: {mouseWheel: false, axisPressedMouseMove: {time: true, price: true}},
    localization: {locale: "en-US", priceFormatter: value => written(value, decimals), timeFormatter: time => moment(time * 1000)},
  });
  painted(() => chart.applyOptions({
    layout: {background: {type: "solid", color: color("panel")}, textColor: color("soft"), fontFamily: getComputedStyle(document.body).fontFamily, fontSize: 12},
    grid: {vertLines: {color: color("grid")}, horzLines: {color: color("grid")}},
    crosshair: {mode: 0, vertLine: {color: color("soft", 0.6), labelBackgroundColor: color("soft")}, horzLine: {color: color("soft", 0.6), labelBackgroundColor: color("soft")}},
  }));
  charts.push([chart, place]);
  // The wheel moves the page until a chart is chosen: by a click, or by the tabulator.
  place.addEventListener("focus", () => chart.applyOptions({handleScroll: {mouseWheel: true}, handleScale: {mouseWheel: true}}));
  place.addEventListener("blur", () => chart.applyOptions({handleScroll: {mouseWheel: false}, handleScale: {mouseWheel: false}}));
  place.addEventListener("pointerdown", () => place.focus({preventScroll: true}));
  place.addEventListener("keydown", event => {
    const scale = chart.timeScale(), range = scale.getVisibleLogicalRange();
    if (!range || event.ctrlKey || event.metaKey || event.altKey) return;
    const width = range.to - range.from, middle = (range.to + range.from) / 2;
    const to = {
      ArrowLeft: () => [range.from - width / 8, range.to - width / 8],
      ArrowRight: () => [range.from + width / 8, range.to + width / 8],
      "+": () => [middle - width / 3, middle + width / 3],
      "=": () => [middle - width / 3, middle + width / 3],
      "-": () => [middle - width * 0.75, middle + width * 0.75],
    }[event.key]?.();
    if (to) scale.setVisibleLogicalRange({from: to[0], to: to[1]});
    else if (event.key === "0") scale.fitContent();
    else return;
    event.preventDefault();
  });
  return chart;
}

/** Let charts with the same times move together, and show the crosshair at the same time. */
function together(panes) {
  let moving = false;
  for (const {chart} of panes) {
    chart.timeScale().subscribeVisibleLogicalRangeChange(range => {
      if (moving || !range) return;
      moving = true;
      for (const other of panes) if (other.chart !== chart) other.chart.timeScale().setVisibleLogicalRange(range);
      moving = false;
    });
    chart.subscribeCrosshairMove(at => {
      if (moving) return;
      moving = true;
      for (const other of panes) {
        if (other.chart === chart) continue;
        if (at.time === undefined || !at.point) other.chart.clearCrosshairPosition();
        else other.chart.setCrosshairPosition(NaN, at.time, other.series);
      }
      moving = false;
    });
  }
}

/** Points of a line; where there is no value the line has a hole. */
function points(time, values) {
  return Array.from(time, (ms, k) => Number.isFinite(values[k]) ? {time: ms / 1000, value: values[k]} : {time: ms / 1000});
}

/** A line of text over a chart: parts are [name, text] or text. */
function legendOf(place) {
  const legend = place.appendChild(element("div", {class: "legend"}));
  return parts => legend.replaceChildren(...parts.flatMap(part =>
    Array.isArray(part) ? [`${part[0]} `, element("b", {}, part[1]), "  "] : [`${part}  `]));
}

function fail(error) {
  const said = typeof DecompressionStream === "undefined"
    ? "This browser is older than 2023 and cannot read the numbers of the charts; the figures on this page are whole."
    : `The charts cannot be drawn: ${error.message}`;
  document.getElementById("main").prepend(element("ul", {class: "warnings"}, element("li", {}, said)));
  throw error;
}

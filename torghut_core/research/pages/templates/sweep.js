"use strict";
// The drawings of a sweep: the objective over two parameters, all sets as lines, and how many sets have which value.
// `axes` have a path and values, `places` are those of each axis in each set, `values` the objective, the best set first.

const MARGIN = {top: 14, right: 24, bottom: 46};

(async () => {
  const {places, values, lines, ...rest} = await unpack();
  const data = {...rest, places: places.map(own => own()), values: values(), lines: lines()};
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  if (!data.values.length) return;
  drawMap(data);
  drawLines(data);
  drawSpread(data);
})().catch(fail);

// What the drawings have in common

const short = value => Number.isFinite(value) ? value.toLocaleString("en-US", {maximumSignificantDigits: 5}) : "";
const chosen = (id, other) => document.getElementById(id)?.value ?? other;
const extent = values => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

/** Paint a canvas that fills an element whenever its size, the colours or one of the choices change; `draw(pen, width, height)`. */
function sketch(place, choices, draw) {
  const canvas = place.appendChild(element("canvas"));
  const paint = () => {
    const width = place.clientWidth, height = place.clientHeight;
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    const pen = canvas.getContext("2d");
    pen.scale(devicePixelRatio, devicePixelRatio);
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    pen.textBaseline = "middle";
    draw(pen, width, height);
  };
  painted(paint);
  new ResizeObserver(paint).observe(place);
  for (const id of choices) document.getElementById(id)?.addEventListener("change", paint);
}

/** Show lines of text at the pointer; `said(x, y)` gives them, or nothing. */
function hover(place, said) {
  const tip = place.appendChild(element("div", {class: "tip", hidden: true}));
  place.addEventListener("pointermove", event => {
    const box = place.getBoundingClientRect(), at = {x: event.clientX - box.left, y: event.clientY - box.top};
    showTip(place, tip, at, said(at.x, at.y));
  });
  place.addEventListener("pointerleave", () => { tip.hidden = true; });
}

function write(pen, text, x, y, {align = "left", most = Infinity, ink = "soft"} = {}) {
  let shown = text;
  while (shown.length > 1 && pen.measureText(shown).width > most) shown = `${shown.slice(0, shown.endsWith("…") ? -2 : -1)}…`;
  pen.fillStyle = color(ink);
  pen.textAlign = align;
  pen.fillText(shown, x, y);
}

function rule(pen, x0, y0, x1, y1, ink = "grid", width = 1) {
  pen.strokeStyle = color(ink);
  pen.lineWidth = width;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

/** Which of so many places along a length have a label of a size. */
function labelled(count, length, size) {
  const step = Math.max(1, Math.ceil(count * size / Math.max(1, length)));
  return Array.from({length: Math.ceil(count / step)}, (_, k) => k * step);
}

/** Round numbers between two values, about so many. */
function ticks(low, high, count) {
  const least = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(least));
  const step = power * [1, 2, 5, 10].find(each => each * power >= least);
  const first = Math.ceil(low / step);
  return Array.from({length: Math.max(0, Math.floor(high / step) - first + 1)}, (_, k) => (first + k) * step);
}

const widest = (pen, texts) => Math.min(180, texts.reduce((most, text) => Math.max(most, pen.measureText(text).width), 0));

// The objective over two parameters

function drawMap(data) {
  const place = document.getElementById("map");
  let said = () => null;
  sketch(place, ["across", "up", "joined"], (pen, width) => {
    const a = Number(chosen("across", 0)), b = Number(chosen("up", 0)), found = cellsOf(data, a, b);
    const height = a === b ? 420 : Math.min(900, Math.max(420, 18 * data.axes[b].values.length + 110));
    if (place.clientHeight !== height) place.style.height = `${height}px`;  // and it is painted anew
    said = (a === b ? paintCurve : paintCells)(pen, width, height, data, data.axes[a], data.axes[b], found);
  });
  hover(place, (x, y) => said(x, y));
}

/** The objective by the places of two values: of sets that differ in other parameters alone, the one that was chosen. */
function cellsOf({axes, places, values, lower}, a, b) {
  const how = chosen("joined", "median"), cells = new Map();
  values.forEach((value, row) => {
    const key = places[a][row] * axes[b].values.length + places[b][row];
    cells.has(key) ? cells.get(key).push(value) : cells.set(key, [value]);
  });
  for (const [key, own] of cells) cells.set(key, joined(own, how, lower));
  return cells;
}

function joined(values, how, lower) {
  const sorted = values.sort((a, b) => lower ? b - a : a - b);
  if (how === "best") return sorted.at(-1);
  if (how === "worst") return sorted[0];
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
}

function paintCells(pen, width, height, data, across, up, cells) {
  const columns = across.values.length, rows = up.values.length;
  const [low, high] = extent([...cells.values()]);
  const left = 30 + widest(pen, up.values), right = 30 + widest(pen, [short(low), short(high)]);
  const wide = (width - left - right) / columns, tall = (height - MARGIN.top - MARGIN.bottom) / rows, bottom = height - MARGIN.bottom;
  const gapX = wide > 4 ? 1 : 0, gapY = tall > 4 ? 1 : 0;
  const strength = share => 0.06 + 0.94 * (data.lower ? 1 - share : share);
  pen.fillStyle = color("accent");
  for (const [key, value] of cells) {
    pen.globalAlpha = strength((value - low) / (high - low || 1));
    pen.fillRect(left + Math.floor(key / rows) * wide, bottom - (key % rows + 1) * tall, wide - gapX, tall - gapY);
  }
  for (let k = 0; k < 64; k++) {  // the scale
    pen.globalAlpha = strength(k / 63);
    pen.fillRect(width - right + 10, bottom - (k + 1) * (bottom - MARGIN.top) / 64, 10, (bottom - MARGIN.top) / 64);
  }
  pen.globalAlpha = 1;
  write(pen, short(high), width - right + 25, MARGIN.top + 6);
  write(pen, short(low), width - right + 25, bottom - 6);
  nameAcross(pen, across, left, width - right, height);
  for (const k of labelled(rows, rows * tall, 16)) write(pen, up.values[k], left - 6, bottom - (k + 0.5) * tall, {align: "right", most: left - 28});
  pen.save();
  pen.translate(10, (MARGIN.top + bottom) / 2);
  pen.rotate(-Math.PI / 2);
  write(pen, up.path, 0, 0, {align: "center", most: bottom - MARGIN.top, ink: "ink"});
  pen.restore();
  return (x, y) => {
    const i = Math.floor((x - left) / wide), j = Math.floor((bottom - y) / tall);
    const value = i >= 0 && i < columns && j >= 0 && j < rows ? cells.get(i * rows + j) : undefined;
    return value === undefined ? null : [`${across.path} ${across.values[i]}`, `${up.path} ${up.values[j]}`, `${data.objective} ${short(value)}`];
  };
}

function nameAcross(pen, axis, left, right, height) {
  const wide = (right - left) / axis.values.length, size = 12 + widest(pen, axis.values);
  for (const k of labelled(axis.values.length, right - left, size)) write(pen, axis.values[k], left + (k + 0.5) * wide, height - MARGIN.bottom + 12, {align: "center", most: 180});
  write(pen, axis.path, (left + right) / 2, height - 12, {align: "center", most: right - left, ink: "ink"});
}

function paintCurve(pen, width, height, data, across, _up, cells) {
  const [low, high] = extent([...cells.values()]), steps = ticks(low, high, 6), count = across.values.length;
  const left = 20 + widest(pen, steps.map(short)), right = width - MARGIN.right, bottom = height - MARGIN.bottom, wide = (right - left) / count;
  const heightOf = value => bottom - 8 - (value - low) / (high - low || 1) * (bottom - MARGIN.top - 16);
  for (const step of steps) {
    rule(pen, left, heightOf(step), right, heightOf(step));
    write(pen, short(step), left - 8, heightOf(step), {align: "right"});
  }
  nameAcross(pen, across, left, right, height);
  const shown = across.values.flatMap((_, k) => cells.has(k * count + k) ? [[left + (k + 0.5) * wide, heightOf(cells.get(k * count + k))]] : []);
  pen.strokeStyle = pen.fillStyle = color("accent");
  pen.lineWidth = 1.6;
  pen.beginPath();
  for (const [x, y] of shown) pen.lineTo(x, y);
  pen.stroke();
  for (const [x, y] of shown) {
    pen.beginPath();
    pen.arc(x, y, 3, 0, 2 * Math.PI);
    pen.fill();
  }
  return x => {
    const k = Math.floor((x - left) / wide), value = k >= 0 ? cells.get(k * count + k) : undefined;
    return value === undefined ? null : [`${across.path} ${across.values[k]}`, `${data.objective} ${short(value)}`];
  };
}

// All sets as lines over their parameters and the objective

function drawLines({axes, places, values, lines, objective}) {
  const [low, high] = extent(values), names = [...axes.map(axis => axis.path), objective];
  const shares = row => [...axes.map((axis, n) => places[n][row] / Math.max(1, axis.values.length - 1)), (values[row] - low) / (high - low || 1)];
  sketch(document.getElementById("lines"), ["share"], (pen, width, height) => {
    const step = (width - 130) / axes.length, xOf = n => 20 + n * step, yOf = share => height - 16 - share * (height - 56);
    const cut = Math.max(1, Math.ceil(values.length * Number(chosen("share", 0.1))));
    const trace = (rows, ink, alpha, thick) => {
      pen.strokeStyle = color(ink, alpha);
      pen.lineWidth = thick;
      for (const row of rows) {
        pen.beginPath();
        shares(row).forEach((share, n) => pen.lineTo(xOf(n), yOf(share)));
        pen.stroke();
      }
    };
    trace(lines.filter(row => row >= cut), "soft", 0.2, 0.6);
    trace(lines.filter(row => row < cut), "accent", 0.7, 1.4);
    names.forEach((name, n) => {
      rule(pen, xOf(n), yOf(0), xOf(n), yOf(1), "soft");
      write(pen, name, xOf(n), 14, {most: (n < axes.length ? step : 110) - 12, ink: "ink"});
    });
    const label = (text, n, share) => {
      pen.fillStyle = color("panel", 0.8);
      pen.fillRect(xOf(n) + 3, yOf(share) - 8, Math.min(pen.measureText(text).width + 6, step), 16);
      write(pen, text, xOf(n) + 6, yOf(share), {most: n < axes.length ? step - 12 : 100, ink: "ink"});
    };
    axes.forEach((axis, n) => {
      for (const k of labelled(axis.values.length, height - 56, 30)) label(axis.values[k], n, k / Math.max(1, axis.values.length - 1));
    });
    for (const part of [0, 0.25, 0.5, 0.75, 1]) label(short(low + part * (high - low)), axes.length, part);
  });
}

// How many sets have which value

function drawSpread({values, objective}) {
  const place = document.getElementById("spread");
  const [low, high] = extent(values), step = (high - low) / 60 || 1, bins = new Array(high > low ? 60 : 1).fill(0);
  for (const value of values) bins[Math.min(bins.length - 1, Math.floor((value - low) / step))]++;
  const [, most] = extent(bins);
  let said = () => null;
  sketch(place, [], (pen, width, height) => {
    const counts = ticks(0, most, 5).filter(Number.isInteger), left = 20 + widest(pen, counts.map(short));
    const right = width - MARGIN.right, bottom = height - MARGIN.bottom, wide = (right - left) / bins.length;
    const yOf = count => bottom - count / most * (bottom - MARGIN.top);
    const xOf = value => left + (value - low) / step * wide + (high > low ? 0 : wide / 2);
    for (const count of counts) {
      rule(pen, left, yOf(count), right, yOf(count));
      write(pen, short(count), left - 8, yOf(count), {align: "right"});
    }
    pen.fillStyle = color("accent");
    bins.forEach((count, k) => pen.fillRect(left + k * wide + wide / 20, yOf(count), 0.9 * wide, bottom - yOf(count)));
    for (const value of high > low ? ticks(low, high, Math.min(10, width / 90)) : [low]) write(pen, short(value), xOf(value), bottom + 12, {align: "center"});
    rule(pen, xOf(values[0]), MARGIN.top, xOf(values[0]), bottom, "bad", 2);
    write(pen, objective, (left + right) / 2, height - 12, {align: "center", ink: "ink"});
    said = x => {
      const k = Math.floor((x - left) / wide), from = low + k * step;
      return bins[k] === undefined ? null : [`${objective} ${high > low ? `${short(from)} to ${short(from + step)}` : short(low)}`, `${short(bins[k])} sets`];
    };
  });
  hover(place, x => said(x));
}

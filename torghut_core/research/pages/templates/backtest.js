"use strict";
// The charts and the table of a backtest.

const SHOWN = 50;           // round trips on a page of the table
const SHOWN_IN_PRINT = 200;
const SINGLE_MARKS = 400;   // with more fills in view, those of a bar are drawn as one

(async () => {
  const data = await unpack();
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  if (data.account) drawAccount(data);
  if (data.rolling) drawRolling(data.rolling);
  const market = data.markets.length ? drawMarket(data) : null;
  if (data.trips.entered().length) {
    if (data.strategies.length > 1) drawProfits(data);
    listTrips(data, market);
  }
})().catch(fail);

// Equity and drawdown

function drawAccount({account, benchmark, currency}) {
  const time = account.time(), equity = account.equity(), drawdown = account.drawdown();
  const held = account.benchmark?.();
  const places = ["equity-chart", "drawdown-chart"].map(id => document.getElementById(id));
  const hasSeconds = time.length > 1 && time[1] - time[0] < 6e4;
  const upper = makeChart(places[0], {hasSeconds, timeScale: {visible: false}});
  const lower = makeChart(places[1], {hasSeconds});
  const other = held && upper.addLineSeries({lineWidth: 1, priceLineVisible: false, lastValueVisible: true, crosshairMarkerRadius: 3});
  const line = upper.addAreaSeries({lineWidth: 2, priceLineVisible: false});
  const below = lower.addBaselineSeries({baseValue: {type: "price", price: 0}, lineWidth: 1, priceLineVisible: false, priceFormat: {type: "percent"}});
  painted(() => {
    line.applyOptions({lineColor: color("accent"), topColor: color("accent", 0.2), bottomColor: color("accent", 0.01)});
    other?.applyOptions({color: color("other")});
    below.applyOptions({bottomLineColor: color("down"), bottomFillColor1: color("down", 0.05), bottomFillColor2: color("down", 0.3), topLineColor: color("down"), topFillColor1: "transparent", topFillColor2: "transparent"});
  });
  line.setData(points(time, equity));
  other?.setData(points(time, held));
  below.setData(points(time, drawdown));
  together([{chart: upper, series: line}, {chart: lower, series: below}]);
  for (const chart of [upper, lower]) chart.timeScale().fitContent();

  const say = legendOf(places[0]), sayBelow = legendOf(places[1]);
  const last = time.length - 1;
  const show = at => {
    const k = at?.logical === undefined ? last : Math.max(0, Math.min(last, Math.round(at.logical)));
    say([moment(time[k]), ["equity", `${written(equity[k], 2)} ${currency}`], ...(held ? [[benchmark, written(held[k], 2)]] : [])]);
    sayBelow([["drawdown", `${written(drawdown[k], 2)} %`]]);
  };
  show();
  for (const chart of [upper, lower]) chart.subscribeCrosshairMove(show);

  for (const input of document.querySelectorAll("#scale input")) {
    input.addEventListener("change", () => upper.priceScale("right").applyOptions({mode: Number(input.value)}));
  }
  spans(document.getElementById("span"), time, from => {
    upper.timeScale().setVisibleLogicalRange({from: placeAfter(time, from) - 1, to: last});
  });
}

/** Buttons for the last month, year and so on: as many as the data is long. */
function spans(place, time, choose) {
  const end = time[time.length - 1], whole = end - time[0];
  const days = [["1D", 1], ["1W", 7], ["1M", 30.4], ["3M", 91.3], ["1Y", 365.25], ["3Y", 1096]].filter(([, length]) => length * 864e5 < whole && length * 864e5 > whole / 400);
  if (!days.length) { place.hidden = true; return; }
  for (const [name, length] of [...days, ["all", Infinity]]) {
    const input = element("input", {type: "radio", name: "span", value: name, checked: name === "all"});
    input.addEventListener("change", () => choose(Math.max(time[0], end - length * 864e5)));
    place.append(element("label", {}, input, element("span", {}, name)));
  }
}

function drawRolling(rolling) {
  const time = rolling.time();
  for (const [name, title, tint] of [["sharpe", "Sharpe ratio of the last 63 days", "violet"], ["beta", "Beta of the last 63 days, to the benchmark", "other"]]) {
    if (!rolling[name]) continue;
    const place = element("div", {class: "chart low", tabindex: 0, role: "img", "aria-label": title});
    document.getElementById("rolling").append(element("div", {}, element("h3", {}, title), place));
    const chart = makeChart(place, {timeScale: {timeVisible: false}});
    const line = chart.addLineSeries({lineWidth: 2, priceLineVisible: false});
    const level = line.createPriceLine({price: name === "sharpe" ? 0 : 1, lineWidth: 1, lineStyle: 2, axisLabelVisible: false});
    painted(() => { line.applyOptions({color: color(tint)}); level.applyOptions({color: color("soft", 0.7)}); });
    line.setData(points(time, rolling[name]()));
    chart.timeScale().fitContent();
  }
}

// The market

const OVERLAYS = [["ema12", "EMA 12", "other", 0], ["ema26", "EMA 26", "accent", 0], ["boll_upper", "Bollinger", "soft", 2], ["boll_lower", "", "soft", 2]];
const TINTS = ["accent", "other", "violet", "up", "down", "ink"];

function drawMarket(data) {
  const {fills, trips, strategies, markets} = data;
  const byMarket = markets.map(({symbol}) => ofSymbol(data, data.symbols.indexOf(symbol)));
  const state = {market: 0, level: -1, isFixed: false, hidden: new Set(), shown: new Set(["ema"]), chosen: -1};
  const place = document.getElementById("price-chart"), note = document.getElementById("market-note"), marked = document.getElementById("marks");
  const levels = document.getElementById("level"), symbols = document.getElementById("symbol");
  const smallest = Math.min(...markets.map(market => market.levels[0].step));
  const hasSeconds = smallest < 6e4;
  const chart = makeChart(place, {decimals: markets[0].decimals, hasSeconds});
  const bars = chart.addCandlestickSeries({priceLineVisible: false, borderVisible: false});
  const volume = chart.addHistogramSeries({priceScaleId: "volume", priceLineVisible: false, lastValueVisible: false, priceFormat: {type: "volume"}});
  chart.priceScale("volume").applyOptions({scaleMargins: {top: 0.84, bottom: 0}});
  chart.priceScale("right").applyOptions({scaleMargins: {top: 0.12, bottom: 0.2}});
  const overlays = OVERLAYS.map(([, , , style]) => chart.addLineSeries({lineWidth: 1, lineStyle: style, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false}));
  const panes = [{chart, series: bars}];
  const below = {rsi: drawBelow("rsi-chart", "RSI 14"), macd: drawBelow("macd-chart", "MACD 12, 26, 9")};
  const say = legendOf(place), tip = place.appendChild(element("div", {class: "tip", hidden: true}));
  const marks = new Marks(data, state);
  bars.attachPrimitive(marks);
  painted(() => {
    const [up, down] = [color("up"), color("down")];
    bars.applyOptions({upColor: up, wickUpColor: up, downColor: down, wickDownColor: down});
    overlays.forEach((line, k) => line.applyOptions({color: color(OVERLAYS[k][2], 0.9)}));
    volume.applyOptions({color: color("soft", 0.35)});
    marks.repaint();
  });

  function drawBelow(id, title) {
    const spot = document.getElementById(id), own = makeChart(spot, {hasSeconds});
    const hist = own.addHistogramSeries({priceLineVisible: false, lastValueVisible: false});
    const lines = [0, 1].map(() => own.addLineSeries({lineWidth: 1, priceLineVisible: false, lastValueVisible: false}));
    painted(() => {
      lines[0].applyOptions({color: color(id === "rsi-chart" ? "violet" : "accent")});
      lines[1].applyOptions({color: color("other")});
      hist.applyOptions({color: color("soft", 0.5)});
    });
    if (id === "rsi-chart") for (const price of [30, 70]) lines[0].createPriceLine({price, color: "#8888", lineWidth: 1, lineStyle: 2, axisLabelVisible: false});
    legendOf(spot)([title]);
    panes.push({chart: own, series: lines[0]});
    return {spot, own, hist, lines};
  }

  const current = () => markets[state.market].levels[state.level];

  /** Draw a level so that the same time, from and to in ms, stays in view. */
  function setLevel(level, from, to) {
    state.level = level;
    const market = markets[state.market], own = market.levels[level], time = own.time();
    const [open, high, low, close, sizes] = ["open", "high", "low", "close", "volume"].map(name => own[name]());
    chart.applyOptions({localization: {priceFormatter: value => written(value, market.decimals)}});
    bars.applyOptions({priceFormat: {type: "price", precision: market.decimals, minMove: 10 ** -market.decimals}});
    busy = true;
    bars.setData(Array.from(time, (ms, k) => Number.isFinite(open[k]) ? {time: ms / 1000, open: open[k], high: high[k], low: low[k], close: close[k]} : {time: ms / 1000}));
    volume.setData(points(time, sizes));
    marks.place(byMarket[state.market], time);
    setIndicators();
    view(from ?? time[0], to ?? time[time.length - 1] + own.step);
    busy = false;
    levels.value = state.isFixed ? String(level) : "auto";
    show({});
    note.textContent = `${market.symbol}: bars of ${own.name}, times UTC${market.indicators_of ? `; indicators of ${market.indicators_of} bars` : ""}`;
  }

  function setIndicators() {
    const own = current(), time = own.time();
    const values = name => own.indicators[name]?.();
    const set = (series, name, isOn) => series.setData(isOn && values(name) ? points(time, values(name)) : []);
    OVERLAYS.forEach(([name], k) => set(overlays[k], name, state.shown.has(name.slice(0, 3))));
    for (const [key, {spot, own: other, hist, lines}] of Object.entries(below)) {
      const isOn = state.shown.has(key);
      spot.hidden = !isOn;
      const names = key === "rsi" ? ["rsi14"] : ["macd", "macd_signal"];
      lines.forEach((line, k) => set(line, names[k], isOn));
      set(hist, "macd_hist", isOn && key === "macd");
      const range = chart.timeScale().getVisibleLogicalRange();
      if (isOn && range) other.timeScale().setVisibleLogicalRange(range);
    }
  }

  function view(from, to) {
    const time = current().time();
    const first = Math.max(0, placeAfter(time, from) - 1), last = Math.max(first + 1, placeAfter(time, to - 1) - 1);
    chart.timeScale().setVisibleLogicalRange({from: first - 0.5, to: last + 0.5});
  }

  const width = () => Math.max(200, place.clientWidth - 90);

  /** The coarsest level whose bars are at least as many as a third of the pixels that show them. */
  function fitting(from, to) {
    const own = markets[state.market].levels;
    for (let k = own.length - 1; k > 0; k--) {
      const time = own[k].time();
      if (placeAfter(time, to) - placeAfter(time, from) >= width() / 4) return k;
    }
    return 0;
  }

  let busy = false;
  chart.timeScale().subscribeVisibleLogicalRangeChange(range => {
    marks.requestUpdate?.();
    if (busy || state.isFixed || !range) return;
    const time = current().time(), own = markets[state.market].levels;
    const shown = range.to - range.from;
    const from = time[Math.max(0, Math.floor(range.from))] ?? time[0];
    const to = time[Math.min(time.length - 1, Math.ceil(range.to))] + current().step;
    if ((shown < width() / 10 && state.level > 0) || (shown > width() * 0.9 && state.level < own.length - 1)) {
      const better = fitting(from, to);
      if (better !== state.level) requestAnimationFrame(() => { if (!busy && !state.isFixed) setLevel(better, from, to); });
    }
  });
  together(panes);

  const show = at => {
    const own = current(), time = own.time();
    const k = at.logical === undefined || !at.point ? time.length - 1 : Math.max(0, Math.min(time.length - 1, Math.round(at.logical)));
    const decimals = markets[state.market].decimals;
    const price = name => [name[0].toUpperCase(), written(own[name]()[k], decimals)];
    const shown = OVERLAYS.filter(([name, title]) => title && state.shown.has(name.slice(0, 3)) && own.indicators[name]);
    say([moment(time[k]), ...["open", "high", "low", "close"].map(price), ["volume", plain(own.volume()[k])],
      ...shown.map(([name, title]) => [title, written(own.indicators[name]()[k], decimals)])]);
    showTip(place, tip, at.point, at.point ? marks.near(at.point) : null);
  };
  chart.subscribeCrosshairMove(show);
  marks.said = text => { if (marked.textContent !== text) marked.textContent = text; };

  function chooseMarket(number) {
    state.market = number;
    symbols.value = String(number);
    state.isFixed = false;
    const own = markets[number].levels;
    levels.replaceChildren(element("option", {value: "auto"}, "by zoom"), ...own.map(({name}, k) => element("option", {value: k}, name)));
    const time = own[0].time();
    state.level = 0;
    setLevel(fitting(time[0], time[time.length - 1] + own[0].step));
  }
  symbols.addEventListener("change", () => { state.chosen = -1; chooseMarket(Number(symbols.value)); });
  levels.addEventListener("change", () => {
    const range = chart.timeScale().getVisibleLogicalRange(), time = current().time();
    const from = time[Math.max(0, Math.floor(range.from))], to = time[Math.min(time.length - 1, Math.ceil(range.to))] + current().step;
    state.isFixed = levels.value !== "auto";
    setLevel(state.isFixed ? Number(levels.value) : fitting(from, to), from, to);
  });

  const chips = document.getElementById("strategies");
  if (strategies.length > 1) strategies.slice(0, 12).forEach((name, k) => {
    const dot = element("span", {}, "▲");
    painted(() => { dot.style.color = color(TINTS[k % TINTS.length]); });
    chips.append(element("label", {class: "chip"}, element("input", {type: "checkbox", checked: true, onchange: event => {
      if (event.target.checked) state.hidden.delete(k); else state.hidden.add(k);
      marks.requestUpdate();
    }}), dot, name), " ");
  });
  const has = name => markets.some(market => market.levels[0].indicators[name]);
  for (const [key, title, name] of [["ema", "EMA", "ema12"], ["bol", "Bollinger", "boll_upper"], ["rsi", "RSI", "rsi14"], ["mac", "MACD", "macd"]]) {
    if (!has(name)) continue;
    const own = key === "mac" ? "macd" : key;
    document.getElementById("indicators").append(element("label", {class: "chip"}, element("input", {type: "checkbox", checked: state.shown.has(own), onchange: event => {
      if (event.target.checked) state.shown.add(own); else state.shown.delete(own);
      setIndicators();
    }}), title), " ");
  }
  chooseMarket(0);

  /** Show a round trip: its time with as much before and after, and its line. */
  return trip => {
    const number = markets.findIndex(({symbol}) => symbol === data.symbols[trips.symbol()[trip]]);
    if (number < 0) return false;
    state.chosen = trip;
    if (number !== state.market) chooseMarket(number);
    state.isFixed = false;
    const from = trips.entered()[trip], to = trips.exited()[trip];
    const around = Math.max((to - from) * 0.8, 30 * markets[number].levels[0].step);
    setLevel(fitting(from - around, to + around), from - around, to + around);
    place.scrollIntoView({block: "center"});
    place.focus({preventScroll: true});
    return true;
  };
}

/** The fills and the round trips of a symbol, as places in the columns of all. */
function ofSymbol({fills, trips}, symbol) {
  const pick = (column, of) => Int32Array.from(column.keys()).filter(k => column[k] === of);
  return {fills: pick(fills.symbol(), symbol), trips: pick(trips.symbol(), symbol)};
}

/** Fills as triangles at their price, up for buys, and the lines from entry to exit of round trips. */
class Marks {
  constructor(data, state) {
    Object.assign(this, {data, state, drawn: [], said: () => {}});
    this.renderer = {draw: target => target.useMediaCoordinateSpace(({context}) => this.draw(context))};
    this.view = {zOrder: () => "normal", renderer: () => this.renderer};
  }

  attached({chart, series, requestUpdate}) { Object.assign(this, {chart, series, requestUpdate}); }
  updateAllViews() {}
  paneViews() { return [this.view]; }

  repaint() {
    this.tints = TINTS.map(name => color(name));
    [this.up, this.down, this.edge, this.soft] = [color("up"), color("down"), color("panel"), color("soft")];
    this.requestUpdate?.();
  }

  /** Find the bar of each fill, and of each end of a round trip, among bars that begin at `time`. */
  place({fills, trips}, time) {
    const at = ms => Math.max(0, placeAfter(time, ms) - 1);
    const when = this.data.fills.time(), {entered, exited} = this.data.trips;
    this.fills = fills;
    this.bars = fills.map(k => at(when[k]));
    this.trips = trips;
    this.begins = trips.map(k => at(entered()[k]));
    this.ends = trips.map(k => at(exited()[k]));
    this.requestUpdate?.();
  }

  draw(context) {
    this.drawn = [];
    const scale = this.chart.timeScale(), range = scale.getVisibleLogicalRange();
    if (!range || !this.fills) return;
    const x = bar => scale.logicalToCoordinate(bar), y = price => this.series.priceToCoordinate(price);
    const {fills, trips} = this.data;
    const first = placeAfter(this.bars, Math.floor(range.from) - 1), last = placeAfter(this.bars, Math.ceil(range.to));
    const [strategy, isBuy, price] = [fills.strategy(), fills.is_buy(), fills.price()];
    const isShown = number => !this.state.hidden.has(number);
    const count = last - first;
    if (count <= SINGLE_MARKS) this.drawTrips(context, range, x, y, isShown);
    const bySide = this.data.strategies.length < 2;
    const paintOf = (k, side) => bySide ? (side ? this.up : this.down) : this.tints[strategy[k] % this.tints.length];
    if (count <= SINGLE_MARKS) {
      for (let n = first; n < last; n++) {
        const k = this.fills[n];
        if (isShown(strategy[k])) this.triangle(context, x(this.bars[n]), y(price[k]), isBuy[k], paintOf(k, isBuy[k]), 5.5, [k]);
      }
      this.said(count ? "" : "No fills in view.");
      return;
    }
    context.globalAlpha = 0.7;
    for (let n = first; n < last;) {
      const left = x(this.bars[n]), sides = [[], []];
      const sum = [0, 0];
      for (; n < last && x(this.bars[n]) - left < 13; n++) {
        const k = this.fills[n];
        if (!isShown(strategy[k])) continue;
        sides[isBuy[k]].push(k);
        sum[isBuy[k]] += price[k];
      }
      for (const side of [0, 1]) {
        const own = sides[side];
        if (own.length) this.triangle(context, left + 6, y(sum[side] / own.length), side, own.every(k => strategy[k] === strategy[own[0]]) ? paintOf(own[0], side) : this.soft, Math.min(7.5, 3.5 + Math.log2(own.length) / 2), own);
      }
    }
    context.globalAlpha = 1;
    this.said(`${count.toLocaleString("en-US")} fills in view, drawn together where they are close: a larger mark is more fills, at their mean price. Zoom in for each of them.`);
  }

  drawTrips(context, range, x, y, isShown) {
    const {trips} = this.data, [from, to, profit] = [trips.entry_price(), trips.exit_price(), trips.profit()];
    const last = placeAfter(this.ends, range.to);
    for (let n = placeAfter(this.ends, range.from - 1); n < this.trips.length && n < last + SINGLE_MARKS; n++) {
      const k = this.trips[n];
      if (this.begins[n] > range.to || !isShown(trips.strategy()[k])) continue;
      const isChosen = k === this.state.chosen;
      context.beginPath();
      context.setLineDash(isChosen ? [] : [4, 3]);
      context.lineWidth = isChosen ? 2.5 : 1.2;
      context.strokeStyle = profit[k] >= 0 ? this.up : this.down;
      context.moveTo(x(this.begins[n]), y(from[k]));
      context.lineTo(x(this.ends[n]), y(to[k]));
      context.stroke();
    }
    context.setLineDash([]);
  }

  triangle(context, x, y, isBuy, paint, size, fills) {
    if (x === null || y === null) return;
    const back = isBuy ? size * 1.7 : -size * 1.7;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x - size, y + back);
    context.lineTo(x + size, y + back);
    context.closePath();
    context.fillStyle = paint;
    context.strokeStyle = this.edge;
    context.lineWidth = 1;
    context.fill();
    context.stroke();
    this.drawn.push([x, y + back / 2, fills]);
  }

  /** What to say of the fills at a point; null where there are none. */
  near({x, y}) {
    let best = null, least = 15;
    for (const [left, top, fills] of this.drawn) {
      const apart = Math.hypot(left - x, top - y);
      if (apart < least) [best, least] = [fills, apart];
    }
    if (!best) return null;
    const {fills} = this.data, lines = [];
    for (const k of best.slice(0, 3)) {
      const because = fills.texts[fills.because()[k]], id = explained(fills, k);
      lines.push(`${moment(fills.time()[k])}  ${fills.is_buy()[k] ? "buy" : "sell"} ${plain(fills.quantity()[k])} at ${plain(fills.price()[k])}`);
      lines.push(`${this.data.strategies[fills.strategy()[k]]}${because ? `: ${because.slice(0, 160)}` : ""}`);
      if (id && best.length === 1) lines.push(`torghut explain ${id}`);
    }
    if (best.length > 3) lines.push(`and ${best.length - 3} more`);
    return lines;
  }
}

/** The profit of all round trips so far, a line for each strategy. */
function drawProfits({trips, strategies, currency}) {
  const exited = trips.exited(), profit = trips.profit(), strategy = trips.strategy();
  const title = `Profit of round trips by strategy, ${currency}`;
  const place = element("div", {class: "chart low", tabindex: 0, role: "img", "aria-label": title});
  document.getElementById("profits").append(element("h3", {}, title), place);
  const chart = makeChart(place), say = legendOf(place), lines = [];
  const order = Array.from(exited.keys()).sort((a, b) => exited[a] - exited[b]);
  strategies.slice(0, TINTS.length).forEach((name, number) => {
    const line = chart.addLineSeries({lineWidth: 2, lineType: 1, priceLineVisible: false});
    painted(() => line.applyOptions({color: color(TINTS[number])}));
    const sums = new Map();
    let sum = 0;
    for (const k of order) if (strategy[k] === number) sums.set(exited[k] / 1000, sum += profit[k]);
    line.setData(Array.from(sums, ([time, value]) => ({time, value})));
    lines.push([name, line, sum]);
  });
  const show = at => say([...(at?.time === undefined ? [] : [moment(at.time * 1000)]),
    ...lines.map(([name, line, sum]) => [name, written(at?.time === undefined ? sum : at.seriesData.get(line)?.value ?? NaN, 2)])]);
  show();
  chart.subscribeCrosshairMove(show);
  chart.timeScale().fitContent();
}

/** What `torghut explain` takes for a fill: the beginning of its decision's hash, or the id of an order without one. */
const explained = (fills, k) => fills.orders[k] ?? fills.ids.slice(12 * k, 12 * k + 12).trim();

// The table of round trips

function listTrips(data, show) {
  const {trips, fills, strategies, symbols} = data;
  const count = trips.entered().length;
  const held = Float64Array.from(trips.entered(), (from, k) => trips.exited()[k] - from);
  const percent = Float64Array.from(trips.entry_price(), (price, k) => 100 * (trips.exit_price()[k] / price - 1) * (trips.is_long()[k] ? 1 : -1));
  const rank = names => { const sorted = [...names].sort(); return names.map(name => sorted.indexOf(name)); };
  const [strategyRank, symbolRank] = [rank(strategies), rank(symbols)];
  const id = (column, k) => column[k] < 0 ? "" : explained(fills, column[k]);
  const decimalsOf = new Map(data.markets.map(({symbol, decimals}) => [symbol, decimals]));
  const price = (value, k) => {
    const least = decimalsOf.get(symbols[trips.symbol()[k]]) ?? 0;
    return value.toLocaleString("en-US", {minimumFractionDigits: least, maximumFractionDigits: Math.max(least, 6)});
  };
  const tone = value => value > 0 ? "n good" : value < 0 ? "n bad" : "n";
  const signed = (value, decimals) => `${value > 0 ? "+" : ""}${written(value, decimals)}`;
  const columns = [
    {title: "strategy", sort: k => strategyRank[trips.strategy()[k]], text: k => strategies[trips.strategy()[k]], kind: () => "words"},
    {title: "symbol", sort: k => symbolRank[trips.symbol()[k]], text: k => symbols[trips.symbol()[k]]},
    {title: "side", sort: k => trips.is_long()[k], text: k => trips.is_long()[k] ? "long" : "short"},
    {title: "entered", sort: k => trips.entered()[k], text: k => moment(trips.entered()[k])},
    {title: "held", sort: k => held[k], text: k => lengthOf(held[k]), kind: () => "n"},
    {title: "quantity", sort: k => trips.quantity()[k], text: k => plain(trips.quantity()[k]), kind: () => "n"},
    {title: "entry", sort: k => trips.entry_price()[k], text: k => price(trips.entry_price()[k], k), kind: () => "n"},
    {title: "exit", sort: k => trips.exit_price()[k], text: k => price(trips.exit_price()[k], k), kind: () => "n"},
    {title: "price, %", sort: k => percent[k], text: k => signed(percent[k], 2), kind: k => tone(percent[k])},
    {title: "profit", sort: k => trips.profit()[k], text: k => signed(trips.profit()[k], 2), kind: k => tone(trips.profit()[k])},
    ...(trips.mae ? [["MAE, %", "mae", "How far the price went against it"], ["MFE, %", "mfe", "How far the price went for it"]] : []).map(([title, name, hint]) => ({title, hint, sort: k => trips[name]()[k], text: k => signed(trips[name]()[k], 2), kind: () => "n"})),
    {title: "fees", sort: k => trips.fees()[k], text: k => written(trips.fees()[k], 2), kind: () => "n"},
    {title: "explain entry, exit", ids: k => [id(trips.entry(), k), id(trips.exit(), k)]},
  ].filter(({title}) => !((title === "strategy" && strategies.length < 2) || (title === "symbol" && symbols.length < 2)));
  const state = {column: columns.findIndex(({title}) => title === "entered"), isDown: true, page: 0, shown: SHOWN};
  const choice = (label, first, names) => element("select", {"aria-label": label, onchange: refresh}, element("option", {value: -1}, first), ...names.map((name, k) => element("option", {value: k}, name)));
  const byStrategy = choice("Strategy", "every strategy", strategies), bySymbol = choice("Symbol", "every symbol", symbols);
  const bySide = choice("Side", "long and short", ["short", "long"]), byResult = choice("Result", "won and lost", ["lost", "won"]);
  const search = element("input", {type: "search", placeholder: "reason or id", "aria-label": "Find in reasons and ids", oninput: refresh});
  const found = element("span", {class: "soft", "aria-live": "polite"});
  document.getElementById("trip-tools").append(element("div", {class: "tools"}, ...(strategies.length > 1 ? [byStrategy] : []), ...(symbols.length > 1 ? [bySymbol] : []), bySide, byResult, search, element("span", {class: "grow"}), found));

  const heads = columns.map(({title, sort, hint}, k) => {
    const head = element("th", {scope: "col", title: hint});
    if (!sort) { head.append(title); return head; }
    head.append(element("button", {type: "button", onclick: () => { state.isDown = state.column === k ? !state.isDown : true; state.column = k; refresh(); }}, title));
    return head;
  });
  const body = element("tbody");
  const back = element("button", {type: "button", onclick: () => turn(-1)}, "‹ newer page"), next = element("button", {type: "button", onclick: () => turn(1)}, "next page ›");
  back.textContent = "‹ back";
  const where = element("span", {class: "soft"});
  document.getElementById("trip-table").append(element("table", {class: "trips", "aria-rowcount": count}, element("thead", {}, element("tr", {}, ...heads)), body));
  document.getElementById("trip-table").after(element("div", {class: "tools pager"}, back, next, where));

  let order = [];
  function refresh() {
    const [strategy, symbol, side, result] = [byStrategy, bySymbol, bySide, byResult].map(each => Number(each.value));
    const wanted = search.value.trim().toLowerCase();
    const texts = wanted ? fills.texts.map(text => text.toLowerCase().includes(wanted)) : [];
    const has = k => [trips.entry()[k], trips.exit()[k]].some(fill => fill >= 0 && (texts[fills.because()[fill]] || explained(fills, fill).startsWith(wanted)));
    order = [];
    let profit = 0;
    for (let k = 0; k < count; k++) {
      if (strategy >= 0 && trips.strategy()[k] !== strategy) continue;
      if (symbol >= 0 && trips.symbol()[k] !== symbol) continue;
      if (side >= 0 && trips.is_long()[k] !== side) continue;
      if (result >= 0 && Number(trips.profit()[k] > 0) !== result) continue;
      if (wanted && !has(k)) continue;
      order.push(k);
      profit += trips.profit()[k];
    }
    const {sort} = columns[state.column], sign = state.isDown ? -1 : 1;
    order.sort((a, b) => sign * (sort(a) - sort(b)) || a - b);
    found.textContent = `${order.length.toLocaleString("en-US")} round trips, profit ${signed(profit, 2)}`;
    heads.forEach((head, k) => k === state.column ? head.setAttribute("aria-sort", state.isDown ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
    state.page = 0;
    fill();
  }

  function fill() {
    const pages = Math.max(1, Math.ceil(order.length / state.shown));
    state.page = Math.max(0, Math.min(pages - 1, state.page));
    const rows = order.slice(state.page * state.shown, (state.page + 1) * state.shown);
    body.replaceChildren(...rows.map(rowOf));
    back.disabled = state.page === 0;
    next.disabled = state.page === pages - 1;
    where.textContent = `page ${state.page + 1} of ${pages.toLocaleString("en-US")}`;
  }

  function rowOf(k) {
    const row = element("tr", {tabindex: 0, title: "Show it in the market"});
    for (const {text, kind, ids} of columns) {
      if (text) row.append(element("td", {class: kind?.(k)}, text(k)));
      else row.append(element("td", {}, ...ids(k).filter(Boolean).flatMap(each => [idOf(each), " "])));
    }
    const reasons = [trips.entry()[k], trips.exit()[k]].map(at => at < 0 ? "" : fills.texts[fills.because()[at]]).filter(Boolean);
    if (reasons.length) row.title = `Entered: ${reasons[0].slice(0, 300)}${reasons[1] ? `\nLeft: ${reasons[1].slice(0, 300)}` : ""}`;
    const open = event => { if (!event.target.closest("button") && show?.(k)) event.preventDefault(); };
    row.addEventListener("click", open);
    row.addEventListener("keydown", event => { if (event.key === "Enter") open(event); });
    return row;
  }

  function idOf(text) {
    return element("button", {type: "button", class: "id", title: `Copy: torghut explain ${text}`, onclick: async event => {
      try {
        await navigator.clipboard.writeText(`torghut explain ${text}`);
        event.target.textContent = "copied";
        setTimeout(() => { event.target.textContent = text; }, 900);
      } catch { getSelection().selectAllChildren(event.target); }
    }}, text);
  }

  function turn(by) { state.page += by; fill(); }
  addEventListener("beforeprint", () => { state.shown = SHOWN_IN_PRINT; state.page = 0; fill(); });
  addEventListener("afterprint", () => { state.shown = SHOWN; fill(); });
  refresh();
}

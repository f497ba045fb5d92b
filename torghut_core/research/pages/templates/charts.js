"use strict";
// Charts of values over time, by TradingView's script, that work by keyboard and in print.

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

addEventListener("beforeprint", printCharts);
addEventListener("afterprint", unprintCharts);

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

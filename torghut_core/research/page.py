"""The page of a run: one HTML file that needs nothing but a browser.

Plotly's script comes out of its wheel and is written into the page, so the page works without a network; a content
security policy in it forbids any request. Figures are written as plotly's own JSON, columns as base64 of their bytes;
plotly's Python classes, and pandas, are not imported for it.

Long runs are drawn in longer bars (one-second bars become one-minute bars, and so on), and nothing else changes: the
equity curve, the drawdown and all numbers (`performance`) come from the bars as they were given.
"""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import bottleneck as bn
import jinja2
import msgspec
import numpy as np
import pyarrow as pa
from markupsafe import Markup

from torghut_core.errors import StateError
from torghut_core.model.corporate_actions import AppliedAction
from torghut_core.model.market import TIMEFRAMES, FloatArray, IntArray, window_size
from torghut_core.model.trading import ZERO, Side
from torghut_core.research.performance import (
    NO_MULTIPLIERS,
    BarSeries,
    Curve,
    Row,
    account_curve,
    at_one_step,
    bar_series,
    decimal,
    floats,
    ints,
    joined,
    rows_by,
    thinned,
    values_at,
)
from torghut_core.research.trips import round_trips
from torghut_core.timestamps import MILLISECOND, SECOND, format_timestamp
from torghut_core.trading.totals import to_json

if TYPE_CHECKING:
    from torghut_core.research.backtests import Backtest

Figure: TypeAlias = dict[str, Any]

_DRAWN = ("ema12", "ema26", "boll_upper", "boll_lower", "rsi14", "macd", "macd_signal", "macd_hist")
_MAX_BARS = 5_000
"""Bars drawn per symbol; more are joined to longer ones."""
_MAX_BARS_OF_ALL = 20_000
_MAX_SYMBOLS = 25
_MAX_MARKERS = 5_000
_MAX_TABLE_ROWS = 100

# Colours that hold on white and on near-black; up and down differ in lightness as well as in hue.
_UP, _DOWN = "#26a269", "#d64550"
_BLUE, _AMBER, _GREY, _VIOLET = "#4285d6", "#d1900f", "#8d97a5", "#9b6fd3"


class Card(msgspec.Struct, frozen=True):
    """One figure of the summary; `tone` colours it (``good``, ``bad`` or neither)."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


def write_page(
    path: Path,
    *,
    title: str,
    summary: Row,
    bars: pa.Table,
    cash: Decimal,
    signals: pa.Table | None = None,
    fills: Sequence[Row] = (),
    denied: Sequence[Row] = (),
    multipliers: Mapping[str, Decimal] = NO_MULTIPLIERS,
    charges: Sequence[Row] = (),
    actions: Sequence[AppliedAction] = (),
    currency: str = "account currency",
) -> Path:
    """Write the page of a run and return its path.

    Parameters
    ----------
    path : of the HTML file; its folder exists.
    title : of the page.
    summary : the run in numbers, as ``--json`` prints it; `decisions`, `denied`, `orders` and `final_equity` get a card,
        `denials` counts denials by code, also those that `denied` below leaves out, and everything is listed at the end.
    bars : columns symbol, event_ts (ns), open, high, low, close, volume, and window_size if there are several.
    cash : of the account when the run began.
    signals : columns symbol, event_ts, window_size, and those of ``ta_signals`` to draw.
    fills : event_ts, symbol, strategy_id, side, quantity, price, fee, and the reason in `because`; in order of time.
    denied : decisions: event_ts, symbol, strategy_id, action, quantity, and the rule's code, value and limit.
    multipliers : of the symbols, where they are not 1.
    charges : interest, see `Records.charges`.
    actions : splits and dividends that were applied.
    currency : of the account.

    Raises
    ------
    OSError : the file cannot be written.
    """
    series = bar_series(bars)
    curve = account_curve(float(cash), series, fills, multipliers, charges, actions)
    profits = [trip.profit for trip in round_trips(fills, multipliers, actions)]
    traded = Counter(fill["symbol"] for fill in fills)
    drawn = sorted(series, key=lambda symbol: (-traded[symbol], symbol))[:_MAX_SYMBOLS]
    most = max(250, min(_MAX_BARS, _MAX_BARS_OF_ALL // max(1, len(drawn))))
    computed = {} if signals is None else rows_by(signals, "symbol")
    reasons = _reasons(summary, denied)
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        files("torghut_core.research").joinpath("page.html").read_text(encoding="utf-8")
    )
    page = template.render(
        title=title,
        cards=_cards(summary, cash, fills, charges, denied, reasons, curve, profits),
        markets=[_market(symbol, series[symbol], computed.get(symbol), fills, most) for symbol in drawn],
        outlines=[_outline(symbol, bars) for symbol, bars in series.items()],
        account=_account(curve, currency) if len(curve.event_ts) else None,
        fills=[
            {
                **fill,
                "time": _moment(fill["event_ts"]),
                **{name: _number(fill[name]) for name in ("quantity", "price", "fee")},
            }
            for fill in fills[-_MAX_TABLE_ROWS:][::-1]
        ],
        fill_count=len(fills),
        actions=[{"time": _moment(applied.at), "what": str(applied)} for applied in actions],
        denied=[{**row, "time": _moment(row["event_ts"])} for row in denied[-_MAX_TABLE_ROWS:][::-1]],
        denied_count=max(len(denied), sum(reasons.values())),
        reasons=reasons,
        summary={name: _text(value) for name, value in summary.items()},
        plotly=Markup(files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")),  # noqa: S704 - plotly's own script, out of its wheel
    )
    path.write_text(page, encoding="utf-8")
    return path


def write_backtest(path: Path, title: str, done: Backtest) -> None:
    """Write the page of a backtest; its folder is made where it is missing.

    Raises
    ------
    StateError : the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(
            path,
            title=title,
            summary=json.loads(to_json(done.result))
            | {"denials": done.totals.denials}
            | ({"liquidations": done.totals.liquidations} if done.totals.liquidations else {}),
            bars=done.bars(),
            cash=done.starting_cash,
            signals=done.signal_rows(),
            fills=done.fills(),
            denied=done.denied(),
            multipliers=done.multipliers,
            charges=done.interest(),
            actions=done.actions,
            currency=done.currency,
        )
    except OSError as error:
        raise StateError(f"{path}: {error.strerror} (give another --page)") from error


# Charts


class Chart:
    """Panels over one time axis, from the top down, written as plotly's JSON.

    `event_ts` are the times of every point and bar, `step` the usual time between two of them, 0 if there is none.
    A line breaks where 60 steps are missing.
    """

    def __init__(self, event_ts: IntArray, step: int = 0) -> None:
        self._span = [event_ts[0] / MILLISECOND, (event_ts[-1] + step) / MILLISECOND] if len(event_ts) else None
        self._breaks = np.flatnonzero(np.diff(event_ts) > 60 * step) + 1 if step else np.empty(0, np.int64)
        self._x = _time(event_ts)
        self._x_of_lines = _time(np.insert(event_ts, self._breaks, event_ts[self._breaks - 1] + step))
        self._panels: list[tuple[str, int, Figure]] = []
        self._data: list[Figure] = []
        self._shapes: list[Figure] = []

    def panel(self, title: str, height: int, **axis: Any) -> None:
        """Begin a panel under the ones before, `height` pixels high; later traces are drawn in it."""
        self._panels.append((title, height, axis))

    def draw(self, kind: str, name: str, **trace: Any) -> None:
        """Draw a plotly trace in the panel."""
        trace.setdefault("x", self._x)
        self._data.append({"type": kind, "name": name, "yaxis": self._axis, **trace})

    def line(self, name: str, y: FloatArray, color: str, **trace: Any) -> None:
        """Draw a line."""
        trace.setdefault("line", {"color": color, "width": 1.4})
        broken = _column(np.insert(y, self._breaks, np.nan))
        self.draw("scatter", name, mode="lines", x=self._x_of_lines, y=broken, **trace)

    def level(self, value: float) -> None:
        """Draw a dotted line across the panel."""
        place = {"xref": "paper", "x0": 0, "x1": 1, "yref": self._axis, "y0": value, "y1": value}
        self._shapes.append({"type": "line", "line": {"color": _GREY, "width": 1, "dash": "dot"}, **place})

    def figure(self) -> Figure:
        """Data and layout. The page sets the colours of text, grid and background, by its light or dark scheme."""
        has_legend = any(trace.get("showlegend", True) for trace in self._data)
        gap, above, below = 30, 68 if has_legend else 44, 52
        inside = sum(height for _, height, _ in self._panels) + gap * (len(self._panels) - 1)
        layout: Figure = {
            "height": inside + above + below,
            "margin": {"l": 68, "r": 14, "t": above, "b": below},
            "shapes": self._shapes,
            "showlegend": has_legend,
            "legend": {"orientation": "h", "x": 0, "y": 1 + 20 / inside, "yanchor": "bottom"},
            "bargap": 0.1,
            "xaxis": {
                "type": "date",
                "title": {"text": "time, UTC", "font": {"size": 12}},
                "anchor": self._axis,
                "range": self._span,
                "hoverformat": "%Y-%m-%d %H:%M:%S",
                "rangeslider": {"visible": False},
            },
            "annotations": [],
        }
        top = inside
        for number, (title, height, axis) in enumerate(self._panels, start=1):
            layout["yaxis" if number == 1 else f"yaxis{number}"] = {
                "domain": [max(0, (top - height) / inside), top / inside],
                "tickformat": ",",
                "hoverformat": ",.7~g",
                "zeroline": False,
                "nticks": max(4, height // 28),
                **axis,
            }
            corner = {
                "xref": "paper",
                "x": 0,
                "xanchor": "left",
                "yref": "paper",
                "y": top / inside,
                "yanchor": "bottom",
            }
            layout["annotations"].append({"text": title, "showarrow": False, **corner})
            top -= height + gap
        return {"data": self._data, "layout": layout}

    @property
    def _axis(self) -> str:
        return f"y{len(self._panels)}" if len(self._panels) > 1 else "y"


def _column(values: FloatArray) -> dict[str, str]:
    """A typed array."""
    return {"dtype": "f8", "bdata": base64.b64encode(values.astype("<f8").tobytes()).decode()}


def _time(event_ts: IntArray) -> dict[str, str]:
    """Milliseconds since the epoch, which a date axis takes."""
    return _column(event_ts / MILLISECOND)


def _market(symbol: str, bars: BarSeries, signals: pa.Table | None, fills: Sequence[Row], most: int) -> Row:
    """The chart of a symbol: price with overlays and fills, volume, and the indicators that have values."""
    bars = joined(bars, most)
    of_bars, values = _indicators(bars, signals)
    chart = Chart(bars.event_ts, bars.step)
    chart.panel("price, quote currency per unit", 380)
    if values.keys() >= {"boll_upper", "boll_lower"}:
        edge = {"line": {"color": _GREY, "width": 1, "dash": "dot"}, "hoverinfo": "skip", "legendgroup": "bollinger"}
        chart.line(f"Bollinger 20, 2{of_bars}", values["boll_upper"], _GREY, **edge)
        chart.line("lower", values["boll_lower"], _GREY, showlegend=False, **edge)
    chart.draw(
        "candlestick",
        symbol,
        **{name: _column(getattr(bars, name)) for name in ("open", "high", "low", "close")},
        increasing={"line": {"color": _UP, "width": 1}, "fillcolor": _UP},
        decreasing={"line": {"color": _DOWN, "width": 1}, "fillcolor": _DOWN},
        showlegend=False,
    )
    for name, label, color in (("ema12", "EMA 12", _AMBER), ("ema26", "EMA 26", _BLUE)):
        if name in values:
            chart.line(label + of_bars, values[name], color)
    for side, shape, color in ((Side.BUY, "triangle-up", _UP), (Side.SELL, "triangle-down", _DOWN)):
        _draw_fills(chart, side, shape, color, [fill for fill in fills if fill["symbol"] == symbol])
    chart.panel("volume, units", 70)
    chart.draw("bar", "volume", y=_column(bars.volume), marker={"color": _GREY, "line": {"width": 0}}, showlegend=False)
    if "rsi14" in values:
        chart.panel(f"RSI 14{of_bars}, points", 90, range=[0, 100], tickvals=[0, 30, 50, 70, 100])
        chart.line("RSI 14", values["rsi14"], _VIOLET, showlegend=False)
        chart.level(30)
        chart.level(70)
    if values.keys() >= {"macd", "macd_signal", "macd_hist"}:
        chart.panel(f"MACD 12, 26, 9{of_bars}, quote currency", 90)
        hist = values["macd_hist"]
        marker = {"color": [_UP if value > 0 else _DOWN for value in hist], "opacity": 0.6, "line": {"width": 0}}
        chart.draw("bar", "histogram", y=_column(hist), marker=marker, showlegend=False)
        chart.line("MACD", values["macd"], _BLUE, showlegend=False)
        chart.line("signal", values["macd_signal"], _AMBER, showlegend=False)
    return {"symbol": symbol, "bars": f"{len(bars):,} bars of {_step_name(bars.step)}", **chart.figure()}


def _indicators(bars: BarSeries, signals: pa.Table | None) -> tuple[str, dict[str, FloatArray]]:
    """The columns that have values, at the end of each bar; and the length of their bars, if it is shorter."""
    if signals is None:
        return "", {}
    step, rows = at_one_step(signals, bars.step)
    event_ts = ints(rows["event_ts"])
    found = {name: values_at(bars, event_ts, floats(rows[name])) for name in rows.column_names if name in _DRAWN}
    values = {name: column for name, column in found.items() if not bn.allnan(column)}
    return "" if step == bars.step else f" of {_step_name(step)} bars", values


def _draw_fills(chart: Chart, side: Side, shape: str, color: str, fills: Sequence[Row]) -> None:
    """Mark each fill at its own time and price, with strategy and reason."""
    own = [fill for fill in fills if fill["side"] == side]
    if not own:
        return
    shown = own[-_MAX_MARKERS:]
    chart.draw(
        "scatter",
        f"{side} ({len(own):,})",
        mode="markers",
        x=_time(np.array([fill["event_ts"] for fill in shown], np.int64)),
        y=_column(np.array([float(fill["price"]) for fill in shown])),
        text=[
            f"{side} {_number(fill['quantity'])} at {_number(fill['price'])}<br>{html.escape(str(fill['strategy_id']))}"
            f"<br>{html.escape(str(fill.get('because', '')))}"
            for fill in shown
        ],
        hovertemplate="%{text}<extra></extra>",
        marker={"symbol": shape, "size": 10, "color": color, "line": {"width": 1, "color": "#ffffff"}},
    )


def _account(curve: Curve, currency: str) -> Figure:
    """The chart of the account: equity, and the drawdown below it."""
    thin = thinned(curve)
    chart = Chart(thin.event_ts)
    chart.panel(f"equity, {currency}", 220)
    chart.line("equity", thin.equity, _BLUE, hovertemplate="%{y:,.2f}", showlegend=False)
    chart.panel("drawdown from the highest equity so far", 90, tickformat=".2%")
    fill = {"fill": "tozeroy", "fillcolor": "rgba(214,69,80,0.2)"}
    chart.line("drawdown", thin.drawdown, _DOWN, hovertemplate="%{y:.3%}", showlegend=False, **fill)
    return chart.figure()


# Cards and tables


def _cards(
    summary: Row,
    cash: Decimal,
    fills: Sequence[Row],
    charges: Sequence[Row],
    denied: Sequence[Row],
    reasons: Mapping[str, int],
    curve: Curve,
    trips: Sequence[Decimal],
) -> list[Card]:
    """The figures that a trader asks for first."""
    equity = Decimal(str(summary.get("final_equity", curve.equity[-1] if len(curve.equity) else cash)))
    gain = equity - cash
    tone = "good" if gain > 0 else "bad" if gain < 0 else ""
    cards = [Card("Final equity", f"{equity:,.2f}", f"started with {cash:,.2f}")]
    if cash > 0:
        cards.append(Card("Return", f"{gain / cash * 100:+.3f} %", f"{gain:+,.2f}", tone))
    if len(curve.drawdown):
        worst = int(bn.nanargmin(curve.drawdown))
        when = _moment(int(curve.event_ts[worst]))
        cards.append(
            Card("Max drawdown", f"{100 * curve.drawdown[worst]:.3f} %", when if curve.drawdown[worst] else "")
        )
    cards.append(
        Card("Fees paid", f"{sum((decimal(fill['fee']) for fill in fills), ZERO):,.2f}", "in the equity above")
    )
    if charges:
        paid = sum((decimal(charge["fees"]) for charge in charges), ZERO)
        cards.append(Card("Interest paid", f"{paid:,.2f}", "in the equity above"))
    if summary.get("liquidations"):
        cards.append(
            Card(
                "Liquidated by the broker",
                f"{summary['liquidations']:,}",
                "orders of its own, for want of margin",
                "bad",
            )
        )
    won = sum(profit > 0 for profit in trips)
    share = f"{100 * won / len(trips):.0f} %" if trips else "none"
    cards.append(
        Card("Round trips won", share, f"{won:,} of {len(trips):,}, after fees" if trips else "nothing was closed")
    )
    if "decisions" in summary:
        cards.append(Card("Decisions", f"{summary['decisions']:,}"))
    worst_reasons = ", ".join(f"{code} {count:,}" for code, count in list(reasons.items())[:3])
    cards.append(Card("Denied by risk", f"{summary.get('denied', len(denied)):,}", worst_reasons))
    orders = summary.get("orders")
    cards.append(Card("Fills", f"{len(fills):,}", "" if orders is None else f"of {orders:,} orders"))
    return cards


def _reasons(summary: Row, denied: Sequence[Row]) -> dict[str, int]:
    """How often each rule denied, the most frequent first."""
    counts = summary.get("denials") or Counter(str(row.get("code", "")) for row in denied)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _outline(symbol: str, bars: BarSeries) -> dict[str, str]:
    """The figures of a chart in one row, for a browser without JavaScript."""
    close = bars.close[~np.isnan(bars.close)]
    prices = {
        "first": close[:1],
        "last": close[-1:],
        "high": np.array([bn.nanmax(bars.high)]),
        "low": np.array([bn.nanmin(bars.low)]),
    }
    return {
        "symbol": symbol,
        "from": _moment(int(bars.event_ts[0])),
        "to": _moment(int(bars.event_ts[-1]) + bars.step),
        "bars": f"{len(bars):,} of {_step_name(bars.step)}",
        **{name: f"{price[0]:,.10g}" if len(price) else "" for name, price in prices.items()},
        "volume": f"{bn.nansum(bars.volume):,.10g}",
    }


def _number(value: Any) -> str:
    """A decimal as a person writes it: no exponent, no trailing zeros."""
    text = f"{decimal(value):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else str(value)


def _moment(ns: int) -> str:
    return format_timestamp(ns // SECOND * SECOND).replace("T", " ").removesuffix("Z")


def _step_name(step: int) -> str:
    names = {length: name for name, length in TIMEFRAMES.items()}
    return names.get(step, window_size(step))

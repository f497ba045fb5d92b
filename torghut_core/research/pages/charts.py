"""What the charts of a page show, as arrays: bars in several resolutions, fills, round trips, the account and its returns.

Long runs are thinned to what a browser draws at once: bars are joined to longer ones, the account is drawn in steps of
equal length. Figures are never made of what is thinned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bottleneck as bn
import msgspec
import numpy as np
import pyarrow as pa

from torghut_core.model.market import TIMEFRAME_NAMES, TIMEFRAMES, FloatArray, IntArray, window_size
from torghut_core.model.trading import Side
from torghut_core.research.performance.curve import (
    BarSeries,
    Curve,
    Row,
    at_one_step,
    floats,
    ints,
    joined,
    rows_by,
    values_at,
)
from torghut_core.research.performance.figures import Trips
from torghut_core.research.performance.trips import RoundTrip
from torghut_core.timestamps import DAY, MILLISECOND

DRAWN = ("ema12", "ema26", "boll_upper", "boll_lower", "rsi14", "macd", "macd_signal", "macd_hist")
"""Columns of signals that are drawn."""
MOST_BARS = 120_000
"""Bars of all symbols in their finest resolution; more are joined to longer ones."""
BARS_OF_A_VIEW = 1_500
"""Bars that a screen shows well: the coarsest resolution of a symbol has at most so many."""
MOST_SYMBOLS = 25
MOST_POINTS = 6_000
"""Of the account."""
MOST_TEXT = 600_000
"""Characters of rationales."""


def step_name(step: int) -> str:
    """The name of a bar's length, as a catalog writes it, else as ISO 8601 does."""
    return TIMEFRAME_NAMES.get(step, window_size(step))


def drawn_symbols(series: Mapping[str, BarSeries], fills: Sequence[Row]) -> list[str]:
    """The symbols that get a chart, those with the most fills first."""
    traded = dict.fromkeys(series, 0)
    for fill in fills:
        if fill["symbol"] in traded:
            traded[fill["symbol"]] += 1
    return sorted(series, key=lambda symbol: (-traded[symbol], symbol))[:MOST_SYMBOLS]


def markets(series: Mapping[str, BarSeries], symbols: Sequence[str], signals: pa.Table | None) -> list[dict[str, Any]]:
    """The bars and indicators of each symbol, in resolutions from the finest that fits to one that fits a screen."""
    most = max(2 * BARS_OF_A_VIEW, MOST_BARS // max(1, len(symbols)))
    computed = {} if signals is None else rows_by(signals.select(_read(signals)), "symbol")
    return [_market(symbol, series[symbol], computed.get(symbol), most) for symbol in symbols]


def _read(signals: pa.Table) -> list[str]:
    """The columns of signals that are read: a table is wide, and each is copied."""
    return [name for name in ("symbol", "event_ts", "window_size", *DRAWN) if name in signals.column_names]


def _market(symbol: str, bars: BarSeries, signals: pa.Table | None, most: int) -> dict[str, Any]:
    finest = joined(bars, most)
    levels = [finest]
    while len(levels[-1]) > BARS_OF_A_VIEW and levels[-1].step < DAY:
        longer = joined(levels[-1], max(BARS_OF_A_VIEW, len(levels[-1]) // 4))
        if longer.step == levels[-1].step:
            break
        levels.append(longer)
    decimals = _decimals(finest.close)
    known = None if signals is None else _indicators(finest, signals)
    return {
        "symbol": symbol,
        "decimals": decimals,
        "step": step_name(bars.step),
        "bars": len(bars),
        "indicators_of": step_name(known[0]) if known and known[0] != finest.step else "",
        "levels": [_level(level, decimals, known) for level in levels],
    }


def _level(bars: BarSeries, decimals: int, known: tuple[int, IntArray, dict[str, FloatArray]] | None) -> dict[str, Any]:
    prices = {name: np.round(getattr(bars, name), decimals) for name in ("open", "high", "low", "close")}
    indicators: dict[str, FloatArray] = {}
    if known is not None:
        _, event_ts, columns = known
        for name, values in columns.items():
            indicators[name] = np.round(values_at(bars, event_ts, values), 2 if name == "rsi14" else decimals + 1)
    return {
        "name": step_name(bars.step),
        "step": bars.step / MILLISECOND,
        "time": bars.event_ts // MILLISECOND,
        **prices,
        "volume": _significant(bars.volume),
        "indicators": indicators,
    }


def _indicators(bars: BarSeries, signals: pa.Table) -> tuple[int, IntArray, dict[str, FloatArray]] | None:
    """The length of the bars of which the indicators are, when they were known, and the columns that have values."""
    step, rows = at_one_step(signals, bars.step)
    columns = {name: floats(rows[name]) for name in DRAWN if name in rows.column_names}
    columns = {name: values for name, values in columns.items() if len(values) and not bn.allnan(values)}
    return (step, ints(rows["event_ts"]), columns) if columns else None


def _decimals(prices: FloatArray) -> int:
    """The decimals in which prices are written: as many as they have, at most those that seven digits leave."""
    known = prices[np.isfinite(prices)]
    if not len(known):
        return 2
    highest = float(np.abs(known).max()) or 1.0
    most = max(2, 6 - int(np.floor(np.log10(highest))))
    sample = known[:: max(1, len(known) // 1_000)]
    return next((n for n in range(most) if np.allclose(np.round(sample, n), sample, rtol=1e-12, atol=0)), most)


def _significant(values: FloatArray) -> FloatArray:
    """Four digits of each value: as much as the height of a bar shows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        power = 10.0 ** (3 - np.floor(np.log10(np.abs(values))))
    return np.where(np.isfinite(power), np.round(values * power) / power, values)


def account(curve: Curve, benchmark: FloatArray | None) -> dict[str, Any]:
    """Equity and benchmark at the end of each step of equal length, and the deepest drawdown within it."""
    times = curve.event_ts
    step = _account_step(int(times[-1] - times[0]))
    window = (times - 1) // step
    last = np.append(np.flatnonzero(np.diff(window)), len(times) - 1)
    first = np.append(0, last[:-1] + 1)
    shown = {
        "time": times[last] // MILLISECOND,
        "equity": np.round(curve.equity[last], 2),
        "drawdown": np.round(100 * np.minimum.reduceat(curve.drawdown, first), 3),
    }
    if benchmark is not None:
        shown["benchmark"] = np.round(benchmark[last], 2)
    return shown


def _account_step(span: int) -> int:
    for name in TIMEFRAMES.values():
        if span // name < MOST_POINTS:
            return name
    return DAY


def fill_columns(fills: Sequence[Row], symbols: Sequence[str], strategies: Sequence[str]) -> dict[str, Any]:
    """The fills as columns; the text of their rationales is kept while there is room, the newest first.

    `ids` are the first 12 letters of their decisions' hashes; a fill that no decision made has the id of its order in `orders`.
    """
    place_of = {symbol: place for place, symbol in enumerate(symbols)}
    number_of = {strategy: number for number, strategy in enumerate(strategies)}
    room = MOST_TEXT
    texts: dict[str, int] = {"": 0}
    for fill in reversed(fills):
        because = str(fill.get("because") or "")
        if because not in texts and len(because) <= room:
            room -= len(because)
            texts[because] = len(texts)
    return {
        "time": np.array([fill["event_ts"] for fill in fills], np.int64) // MILLISECOND,
        "symbol": np.array([place_of.get(fill["symbol"], -1) for fill in fills], np.int64),
        "strategy": np.array([number_of[fill["strategy_id"]] for fill in fills], np.int64),
        "is_buy": np.array([fill["side"] == Side.BUY for fill in fills], np.int64),
        "price": np.array([float(fill["price"]) for fill in fills], np.float64),
        "quantity": np.array([float(fill["quantity"]) for fill in fills], np.float64),
        "because": np.array([texts.get(str(fill.get("because") or ""), 0) for fill in fills], np.int64),
        "orders": {
            str(place): fill["client_order_id"] for place, fill in enumerate(fills) if not fill.get("decision_hash")
        },
        "ids": "".join((fill.get("decision_hash") or "")[:12].ljust(12) for fill in fills),
        "texts": list(texts),
    }


def trip_columns(
    trips: Sequence[RoundTrip],
    arrays: Trips,
    fills: Sequence[Row],
    symbols: Sequence[str],
    strategies: Sequence[str],
) -> dict[str, Any]:
    """The round trips as columns, with the place of the fill that opened each and of the one that closed it; -1 for none."""
    opened: dict[tuple[str, str, int], int] = {}
    closed: dict[tuple[str, str, int], int] = {}
    for place, fill in enumerate(fills):
        key = fill["strategy_id"], fill["symbol"], fill["event_ts"]
        opened.setdefault(key, place)
        closed[key] = place
    place_of = {symbol: place for place, symbol in enumerate(symbols)}
    number_of = {strategy: number for number, strategy in enumerate(strategies)}
    entries = [opened.get((trip.strategy_id, trip.symbol, trip.entered_at), -1) for trip in trips]
    exits = [closed.get((trip.strategy_id, trip.symbol, trip.exited_at), -1) for trip in trips]
    money = {
        name: np.array([float(getattr(trip, name)) for trip in trips], np.float64)
        for name in ("quantity", "entry_price", "exit_price", "fees")
    }
    excursions = {"mae": arrays.mae_pct, "mfe": arrays.mfe_pct}
    return {
        "strategy": np.array([number_of[trip.strategy_id] for trip in trips], np.int64),
        "symbol": np.array([place_of[trip.symbol] for trip in trips], np.int64),
        "is_long": np.array([trip.side == Side.BUY for trip in trips], np.int64),
        "entered": arrays.entered_at // MILLISECOND,
        "exited": arrays.exited_at // MILLISECOND,
        "entry": np.array(entries, np.int64),
        "exit": np.array(exits, np.int64),
        "profit": _digits(arrays.profit),
        **{name: _digits(values) for name, values in money.items()},
        **{name: np.round(values, 3) for name, values in excursions.items() if values is not None},
    }


def _digits(values: FloatArray) -> FloatArray:
    """Eight decimals, or fewer where ten digits are enough."""
    highest = float(np.abs(values).max(initial=1.0))
    return np.round(values, min(8, max(2, 9 - int(np.floor(np.log10(highest))))))


class Bin(msgspec.Struct, frozen=True):
    """A bar of a histogram: from, to, and how many."""

    low: float
    high: float
    count: int


def histogram(values: FloatArray, most: int = 41) -> list[Bin]:
    """Values counted in bins of equal width, of which an edge is 0; the outermost hold what is beyond them."""
    if len(values) < 2:
        return []
    low, high = np.percentile(values, [0.5, 99.5])
    width = _round_width((high - low) / most or abs(float(values[0])) or 1.0)
    edges = np.arange(np.floor(low / width), np.ceil(high / width) + 1) * width
    if len(edges) < 2:
        edges = np.array([edges[0], edges[0] + width])
    counts, _ = np.histogram(np.clip(values, edges[0], np.nextafter(edges[-1], -np.inf)), edges)
    return [Bin(*each) for each in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)]


def _round_width(width: float) -> float:
    power = 10.0 ** np.floor(np.log10(width))
    return float(next(step for step in (1, 2, 5, 10) if step * power >= width) * power)

"""Bars as arrays, and the account over time with its drawdown.

Everything here is computed from what a run wrote down, after it, with bottleneck over whole arrays. Nothing that a
decision reads comes from here: a moving value of bottleneck's depends on where its array starts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import bottleneck as bn
import msgspec
import numpy as np
import pyarrow as pa

from torghut_core.model.corporate_actions import AppliedAction
from torghut_core.model.market import TIMEFRAMES, FloatArray, IntArray, window_size
from torghut_core.model.trading import ZERO, Side
from torghut_core.signals import mask

Row: TypeAlias = Mapping[str, Any]

BUY_AND_HOLD = "buy-and-hold"
"""The benchmark that holds what was traded."""

NO_MULTIPLIERS: Mapping[str, Decimal] = MappingProxyType({})
_STEPS = sorted(TIMEFRAMES.values())
_STEP_OF = {window_size(step): step for step in _STEPS}


class BarSeries(msgspec.Struct):
    """The bars of one symbol, oldest first; times in ns, `step` the length of a bar."""

    step: int
    event_ts: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.event_ts)


class Curve(msgspec.Struct):
    """The account at the end of each bar: times in ns, equity, and how far it is below its highest so far (<= 0).

    `exposure` is the notional of all positions, long and short ones added up, in the account's currency.
    """

    event_ts: IntArray
    equity: FloatArray
    drawdown: FloatArray
    exposure: FloatArray


def ints(column: pa.ChunkedArray) -> IntArray:
    """The column as integers."""
    return cast("IntArray", np.from_dlpack(column.cast(pa.int64()).combine_chunks()))


def floats(column: pa.ChunkedArray) -> FloatArray:
    """The column as floats, NaN where it is null; Arrow's own conversion of nulls imports pandas."""
    array = column.cast(pa.float64()).combine_chunks()
    if not len(array):
        return np.empty(0)
    valid, data = array.buffers()
    here = slice(array.offset, array.offset + len(array))
    values = np.frombuffer(data, np.float64)[here].copy()
    if array.null_count:
        values[np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")[here] == 0] = np.nan
    return values


def rows_by(table: pa.Table, column: str) -> dict[str, pa.Table]:
    """The rows of each value of a column of text, in order of the values."""
    encoded = table[column].combine_chunks().dictionary_encode()
    codes = np.from_dlpack(encoded.indices)
    names = encoded.dictionary.to_pylist()
    return {
        name: table.filter(mask(codes == code)) for name, code in sorted(zip(names, range(len(names)), strict=True))
    }


def at_one_step(rows: pa.Table, step: int | None = None) -> tuple[int, pa.Table]:
    """The rows of one bar length, oldest first, and that length, ns: `step` if there are such rows, else the shortest."""
    if "window_size" in rows.column_names:
        sizes = rows_by(rows, "window_size")
        wanted = window_size(step) if step else ""
        size = wanted if wanted in sizes else min(sizes, key=lambda size: _STEP_OF.get(size, 0))
        if size in _STEP_OF:
            return _STEP_OF[size], sizes[size].sort_by("event_ts")
        rows = sizes[size]
    rows = rows.sort_by("event_ts")
    apart = np.diff(ints(rows["event_ts"]))
    return int(apart[apart > 0].min(initial=_STEPS[-1])), rows


def step_of(size: str) -> int:
    """The length of the bars of a `window_size`, ns; 0 where it is none of ours."""
    return _STEP_OF.get(size, 0)


def bar_series(bars: pa.Table) -> dict[str, BarSeries]:
    """The bars of each symbol at its shortest step, by name."""
    found = {}
    for symbol, own in rows_by(bars, "symbol").items():
        step, rows = at_one_step(own)
        columns = [floats(rows[name]) for name in ("open", "high", "low", "close", "volume")]
        found[symbol] = BarSeries(step, ints(rows["event_ts"]), *columns)
    return found


def joined(bars: BarSeries, most: int) -> BarSeries:
    """The bars, or longer ones made of them (days at the longest), so that there are at most `most`."""
    longer = [step for step in _STEPS if step > bars.step]
    while len(bars) > most and longer:
        bars = _join(bars, longer.pop(0))
    return bars


def _join(bars: BarSeries, step: int) -> BarSeries:
    window = bars.event_ts // step
    first = np.flatnonzero(np.diff(window, prepend=-1))
    last = np.append(first[1:], len(bars)) - 1
    return BarSeries(
        step,
        window[first] * step,
        bars.open[first],
        np.fmax.reduceat(bars.high, first),
        np.fmin.reduceat(bars.low, first),
        bars.close[last],
        np.add.reduceat(np.nan_to_num(bars.volume), first),
    )


def _signed(fill: Row) -> float:
    return float(fill["quantity"]) * (1 if fill["side"] == Side.BUY else -1)


def account_curve(
    cash: float,
    series: Mapping[str, BarSeries],
    fills: Sequence[Row],
    multipliers: Mapping[str, Decimal] = NO_MULTIPLIERS,
    charges: Sequence[Row] = (),
    actions: Sequence[AppliedAction] = (),
) -> Curve:
    """Cash and positions at the close of each bar, at each fill and at each corporate action; less the interest, see `Records.charges`.

    A position is valued at the last close before, and at its last fill where there was none, times the multiplier of its
    symbol: 1 where `multipliers` has none. A price of before a split counts as it compares with those after it.
    """
    own: dict[str, list[Row]] = defaultdict(list)
    for row in in_order(fills, actions):
        if not isinstance(row, AppliedAction):
            own[row["symbol"]].append(row)
        elif row.changes:
            own[row.action.symbol].append(_as_fill(row))
    moments = [bars.event_ts + bars.step for bars in series.values()]
    starts = [bars.event_ts[:1] for bars in series.values()]
    traded = np.concatenate([np.empty(0, np.int64), *map(_times, own.values())])
    times = np.sort(
        np.concatenate([*moments, *starts, traded]), kind="stable"
    )  # np.unique hashes, which takes ten times as long
    times = times[np.diff(times, prepend=times[:1] - 1) > 0]
    charged = np.array([0.0, *(float(charge["fees"]) for charge in charges)]).cumsum()
    exposure = np.zeros(len(times))
    equity = cash - charged[np.searchsorted([charge["at"] for charge in charges], times, side="right")]
    for symbol, done in own.items():
        price = np.array([0.0, *(float(fill["price"]) for fill in done)])
        at = _times(done)
        factor = _factors(done, at)
        priced = np.maximum.accumulate(np.where(price != 0, np.arange(len(price)), 0))
        signed = np.array([0.0, *map(_signed, done)]) * float(multipliers.get(symbol, 1))
        fees = np.array([0.0, *(float(fill["fee"]) for fill in done)])
        count = np.searchsorted(at, times, side="right")
        last = np.append(0, priced[1:])[count]
        mark = price[last] * factor(times) / factor(np.append(0, at))[last]
        bars = series.get(symbol)
        if bars is not None:
            known = np.searchsorted(bars.event_ts + bars.step, times, side="right")
            ends = np.append(0, bars.event_ts + bars.step)
            close = np.append(np.nan, bn.push(bars.close))[known] * factor(times) / factor(ends - 1)[known]
            mark = np.where(np.isnan(close), mark, close)
        value = np.cumsum(signed)[count] * mark
        equity += np.cumsum(-signed * price - fees)[count] + value
        exposure += np.abs(value)
    return Curve(times, equity, _drawdown(equity, cash), exposure)


def buy_and_hold(
    cash: float, series: Mapping[str, BarSeries], event_ts: IntArray, actions: Sequence[AppliedAction] = ()
) -> FloatArray:
    """The equity of cash that is put in symbols in equal parts, each at its first price, at no cost, at some times.

    Splits are followed, and dividends are kept as cash. Shape as `event_ts`, ns.
    """
    equity = np.zeros(len(event_ts))
    part = cash / len(series)
    for symbol, bars in series.items():
        own = [applied for applied in actions if applied.action.symbol == symbol and applied.at > bars.event_ts[0]]
        ends, at = bars.event_ts + bars.step, np.array([applied.at for applied in own], np.int64)
        units = part / bars.open[0]
        price = np.append(np.nan, bn.push(bars.close) / factors_at(own, ends - 1))  # of one unit of the first bar's
        value = units * price[np.searchsorted(ends, event_ts, side="right")]
        dividend = units / factors_at(own, at) * np.array([float(applied.action.dividend) for applied in own])
        paid = np.append(0.0, np.cumsum(dividend))[np.searchsorted(at, event_ts, side="right")]
        equity += np.where(np.isnan(value), part, value) + paid
    return equity


def factors_at(actions: Sequence[AppliedAction], event_ts: IntArray) -> FloatArray:
    """The product of the factors of all splits of a symbol up to each of some times, ns: by it a price of before compares."""
    product: FloatArray = np.cumprod(np.array([1.0, *(applied.action.factor for applied in actions)]))
    return product[np.searchsorted([applied.at for applied in actions], event_ts, side="right")]


def _as_fill(applied: AppliedAction) -> Row:
    """What a corporate action did to the account, as a fill at price 0: units that came, and cash as a negative fee."""
    units = sum((change.after.quantity - change.before.quantity for change in applied.changes), ZERO)
    cash = sum((change.cash for change in applied.changes), ZERO)
    return {
        "event_ts": applied.at,
        "quantity": units,
        "side": Side.BUY,
        "price": 0,
        "fee": -cash,
        "action": applied.action,
    }


def in_order(fills: Sequence[Row], actions: Sequence[AppliedAction]) -> Iterator[Row | AppliedAction]:
    """Fills and corporate actions, in the order in which they happened."""
    waiting = deque(actions)
    for number, fill in enumerate(fills):
        while waiting and waiting[0].fills <= number:
            yield waiting.popleft()
        yield fill
    yield from waiting


def _times(done: Sequence[Row]) -> IntArray:
    """When fills, and actions among them, happened, ns; a fill in a bar has the time of its start, and no action comes after it."""
    times = [fill["event_ts"] for fill in done]
    for place in range(len(times) - 2, -1, -1):
        if "action" in done[place]:
            times[place] = min(times[place], times[place + 1])
    return np.array(times, np.int64)


def _factors(done: Sequence[Row], at: IntArray) -> Callable[[IntArray], FloatArray]:
    """The product of the factors of all splits up to each of some times."""
    splits = [place for place, fill in enumerate(done) if "action" in fill]
    product = np.cumprod([1.0, *(done[place]["action"].factor for place in splits)])
    return lambda times: product[np.searchsorted(at[splits], times, side="right")]


def _drawdown(equity: FloatArray, cash: float) -> FloatArray:
    """How far equity is below its highest so far, cash at the start included, as a share of it; 0 without cash."""
    if cash <= 0 or not len(equity):
        return equity * 0
    highest = bn.move_max(np.maximum(equity, cash), window=len(equity), min_count=1)
    return cast("FloatArray", equity / highest - 1)


def thinned(curve: Curve, most: int = 4_000) -> Curve:
    """About `most` points of a curve: the first, last, highest and lowest of each stretch. On a screen, the same line."""
    n = len(curve.event_ts)
    if n <= most:
        return curve
    edges = np.linspace(0, n, most // 4 + 1).astype(np.int64)
    keep = {int(bn.nanargmin(curve.drawdown))}
    for start, stop in pairwise(edges):
        stretch = curve.equity[start:stop]
        keep |= {int(start), int(stop) - 1, int(start + bn.nanargmin(stretch)), int(start + bn.nanargmax(stretch))}
    index = np.array(sorted(keep))
    return Curve(curve.event_ts[index], curve.equity[index], curve.drawdown[index], curve.exposure[index])


def values_at(bars: BarSeries, event_ts: IntArray, values: FloatArray) -> FloatArray:
    """The last value in each bar, NaN where there is none; there is at least one value."""
    last = np.searchsorted(event_ts, bars.event_ts + bars.step) - 1
    return np.where((last >= 0) & (event_ts[last] >= bars.event_ts), values[last], np.nan)


def decimal(value: Any) -> Decimal:
    """The value as a decimal."""
    return value if isinstance(value, Decimal) else Decimal(str(value))

"""Returns by period: days and months of an account, moving Sharpe ratio and beta, and its deepest drawdowns."""

from __future__ import annotations

from typing import Any, cast

import bottleneck as bn
import msgspec
import numpy as np

from torghut_core.model.market import FloatArray, IntArray
from torghut_core.research.performance import Curve
from torghut_core.timestamps import DAY, HOUR, MILLISECOND, format_timestamp

WINDOW = 63
"""Days of the moving figures: a quarter of a year of sessions."""
FEWEST_DAYS = 20
"""With fewer days returns are those of hours."""


class Returns(msgspec.Struct, frozen=True, kw_only=True):
    """The returns of an account by period.

    Attributes
    ----------
    period : ``day`` or ``hour``: the length of one of `each`.
    ends : the last time of each period, ns.
    each : return in each period, a share.
    compared : those of the benchmark; None without one.
    table : the return by month and year, or by hour and day, as rows of a table: label, cells, total.
    columns : what the cells of a row are.
    """

    period: str
    ends: IntArray
    each: FloatArray
    compared: FloatArray | None
    columns: list[str]
    table: list[HeatRow]

    def rolling(self) -> dict[str, Any] | None:
        """The Sharpe ratio and beta of the last `WINDOW` days at the end of each day; None for a shorter run."""
        if self.period != "day" or len(self.each) <= WINDOW:
            return None
        year = periods_of_a_year(self.ends)
        deviation = bn.move_std(self.each, WINDOW, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            sharpe = bn.move_mean(self.each, WINDOW) / deviation * np.sqrt(year)
            found = {"time": self.ends // MILLISECOND, "sharpe": _clean(sharpe)}
            if self.compared is not None:
                both = bn.move_mean(self.each * self.compared, WINDOW)
                apart = bn.move_mean(self.each, WINDOW) * bn.move_mean(self.compared, WINDOW)
                found["beta"] = _clean((both - apart) / bn.move_var(self.compared, WINDOW))
        return {name: values[WINDOW - 1 :] for name, values in found.items()}


class HeatRow(msgspec.Struct, frozen=True):
    """A row of a heat map; a cell without a return is None."""

    label: str
    cells: list[HeatCell | None]
    total: HeatCell


class HeatCell(msgspec.Struct, frozen=True):
    """A return in percent, and how strong its colour is: -4 to 4."""

    percent: float
    strength: int


class Drawdown(msgspec.Struct, frozen=True):
    """Below the highest equity so far: since when, the lowest and when; 0 where it is not made up for. Times in ns."""

    depth: float
    began_at: int
    lowest_at: int
    recovered_at: int


def returns_of(curve: Curve, cash: float, compared: FloatArray | None) -> Returns:
    """The returns of an account that began with `cash`, days of UTC; hours where there are few days.

    Parameters
    ----------
    compared : equity of the benchmark at the times of the curve; None without one.
    """
    times = curve.event_ts
    if len(times) < 2 or cash <= 0:
        none = np.empty(0)
        return Returns(period="day", ends=np.empty(0, np.int64), each=none, compared=None, columns=[], table=[])
    days = (times[-1] - 1) // DAY - times[0] // DAY + 1
    period, length = ("day", DAY) if days >= FEWEST_DAYS else ("hour", HOUR)
    last = _ends(times, length)
    each = _changes(curve.equity[last], cash)
    own = None if compared is None else _changes(compared[last], cash)
    columns, table = _months(curve, cash) if period == "day" else _hours(curve, cash)
    return Returns(period=period, ends=times[last], each=each, compared=own, columns=columns, table=table)


def periods_of_a_year(ends: IntArray) -> float:
    """Days in a year on which there is trading: 365 where there is some on more than half of the weekends, else 252."""
    day = (ends - 1) // DAY
    weekend = np.isin((day + 4) % 7, (0, 6)).mean()  # 1970-01-01 was a Thursday
    return 365.0 if weekend > 1 / 7 else 252.0


def held(times: IntArray, event_ts: IntArray, value: FloatArray) -> FloatArray:
    """What one unit of money is at some times that buys at the first value and holds."""
    known = np.isfinite(value)
    value, event_ts = value[known], event_ts[known]
    if not len(value):
        return np.ones(len(times))
    place = np.searchsorted(event_ts, times, side="right") - 1
    return cast("FloatArray", value[np.maximum(place, 0)] / value[0])


def deepest_drawdowns(curve: Curve, most: int = 5) -> list[Drawdown]:
    """The deepest drawdowns that do not overlap, the deepest first."""
    below = curve.drawdown < 0
    edges = np.flatnonzero(np.diff(below, prepend=False, append=False))
    found = []
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        lowest = start + int(bn.nanargmin(curve.drawdown[start:stop]))
        found.append((float(curve.drawdown[lowest]), start, lowest, stop))
    times = [*curve.event_ts.tolist(), 0]
    return [
        Drawdown(depth, times[max(0, start - 1)], times[lowest], times[stop])
        for depth, start, lowest, stop in sorted(found)[:most]
    ]


def _ends(times: IntArray, length: int) -> IntArray:
    """The last place in each period; a time on its edge ends the one before."""
    return np.append(np.flatnonzero(np.diff((times - 1) // length)), len(times) - 1)


def _changes(equity: FloatArray, cash: float) -> FloatArray:
    before = np.append(cash, equity[:-1])
    return cast("FloatArray", np.divide(equity, before, out=np.ones(len(equity)), where=before > 0) - 1)


def _clean(values: FloatArray) -> FloatArray:
    return cast("FloatArray", np.round(np.where(np.isfinite(values), values, np.nan), 3))


def _months(curve: Curve, cash: float) -> tuple[list[str], list[HeatRow]]:
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    last = _ends(curve.event_ts, DAY)
    months = [format_timestamp(int(each) - 1)[:7] for each in curve.event_ts[last]]
    ended = {month: float(curve.equity[place]) for month, place in zip(months, last.tolist(), strict=True)}
    return names, _rows({(month[:4], int(month[5:]) - 1): equity for month, equity in ended.items()}, cash, 12)


def _hours(curve: Curve, cash: float) -> tuple[list[str], list[HeatRow]]:
    last = _ends(curve.event_ts, HOUR)
    hours = [format_timestamp(int(each) - 1)[:13] for each in curve.event_ts[last]]
    ended = {hour: float(curve.equity[place]) for hour, place in zip(hours, last.tolist(), strict=True)}
    rows = _rows({(hour[:10], int(hour[11:])): equity for hour, equity in ended.items()}, cash, 24)
    return [f"{hour:02}" for hour in range(24)], rows


def _rows(ended: dict[tuple[str, int], float], cash: float, columns: int) -> list[HeatRow]:
    """A row for each label, with the return in each of its periods."""
    change: dict[str, dict[int, float]] = {}
    totals: dict[str, float] = {}
    before = cash
    for (label, column), equity in ended.items():
        change.setdefault(label, {})[column] = 100 * (equity / before - 1) if before > 0 else 0.0
        before = equity
    for label, own in change.items():
        totals[label] = 100 * (float(np.prod([1 + each / 100 for each in own.values()])) - 1)
    most = max((abs(each) for own in change.values() for each in own.values()), default=0.0) or 1.0
    widest = max(map(abs, totals.values()), default=0.0) or 1.0
    return [
        HeatRow(
            label,
            [_cell(own[column], most) if column in own else None for column in range(columns)],
            _cell(totals[label], widest),
        )
        for label, own in change.items()
    ]


def _cell(percent: float, most: float) -> HeatCell:
    strength = int(np.sign(percent) * np.ceil(4 * np.sqrt(abs(percent) / most)))
    return HeatCell(percent, strength)

"""Returns by period: days, months and hours of an account, and its moving Sharpe ratio and beta."""

from __future__ import annotations

from typing import Any, cast

import bottleneck as bn
import msgspec
import numpy as np

from torghut_core.model.market import FloatArray, IntArray
from torghut_core.research.performance.curve import Curve
from torghut_core.research.performance.figures import Days, daily_returns, monthly_returns
from torghut_core.timestamps import HOUR, format_timestamp

WINDOW = 63
"""Days of the moving figures: a quarter of a year of sessions."""
FEWEST_DAYS = 20
"""With fewer days returns are those of hours."""


class Returns(msgspec.Struct, frozen=True, kw_only=True):
    """The returns of an account by period.

    Attributes
    ----------
    period : ``day`` or ``hour``: the length of one of `each`.
    days : the days, or hours.
    each : return in each period, a share.
    compared : those of the benchmark; None without one.
    table : the return by month and year, or by hour and day, as rows of a table: label, cells, total.
    columns : what the cells of a row are.
    """

    period: str
    days: Days
    each: FloatArray
    compared: FloatArray | None
    columns: list[str]
    table: list[HeatRow]

    def rolling(self) -> dict[str, Any] | None:
        """The Sharpe ratio and beta of the last `WINDOW` days at the end of each day; None for a shorter run."""
        if self.period != "day" or len(self.each) <= WINDOW:
            return None
        deviation = bn.move_std(self.each, WINDOW, ddof=1)
        dates = self.days.dates[: len(self.each)].astype("datetime64[ms]").astype(np.int64)
        with np.errstate(divide="ignore", invalid="ignore"):
            sharpe = bn.move_mean(self.each, WINDOW) / deviation * np.sqrt(self.days.per_year)
            found = {"time": dates, "sharpe": _clean(sharpe)}
            if self.compared is not None:
                both = bn.move_mean(self.each * self.compared, WINDOW)
                apart = bn.move_mean(self.each, WINDOW) * bn.move_mean(self.compared, WINDOW)
                found["beta"] = _clean((both - apart) / bn.move_var(self.compared, WINDOW))
        return {name: values[WINDOW - 1 :] for name, values in found.items()}


class HeatRow(msgspec.Struct, frozen=True):
    """A row of a heat map, beside it the same of the benchmark; a cell without a return is None."""

    label: str
    cells: list[HeatCell | None]
    total: HeatCell
    beside: HeatCell | None = None


class HeatCell(msgspec.Struct, frozen=True):
    """A return in percent, and how strong its colour is: -4 to 4."""

    percent: float
    strength: int

    def __str__(self) -> str:
        text = f"{self.percent:.1f}" if abs(self.percent) >= 9.95 else f"{self.percent:.2f}"
        return text.removeprefix("-") if float(text) == 0 else text


def returns_of(curve: Curve, cash: float, days: Days, benchmark: FloatArray | None) -> Returns:
    """The returns of an account that began with `cash`: by day, or by hour of UTC where there are few days.

    Parameters
    ----------
    benchmark : its equity at the times of the curve; None without one.
    """
    if len(curve.event_ts) < 2 or cash <= 0:
        return Returns(period="day", days=days, each=np.empty(0), compared=None, columns=[], table=[])
    is_daily = len(days.last) >= FEWEST_DAYS
    if not is_daily:
        days = days._replace(last=_ends(curve.event_ts, HOUR))
    each = daily_returns(curve.equity, cash, days)
    own = None if benchmark is None else daily_returns(benchmark, cash, days)[: len(each)]
    columns, table = _months(curve, cash, days, benchmark) if is_daily else _hours(curve, days, each)
    period = "day" if is_daily else "hour"
    return Returns(period=period, days=days, each=each, compared=own, columns=columns, table=table)


def _ends(times: IntArray, length: int) -> IntArray:
    """The last place in each period; a time on its edge ends the one before."""
    return np.append(np.flatnonzero(np.diff((times - 1) // length)), len(times) - 1)


def _clean(values: FloatArray) -> FloatArray:
    return cast("FloatArray", np.round(np.where(np.isfinite(values), values, np.nan), 3))


def _months(curve: Curve, cash: float, days: Days, benchmark: FloatArray | None) -> tuple[list[str], list[HeatRow]]:
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    months, returns = monthly_returns(curve.equity, cash, days)
    places = [(month[:4], int(month[5:]) - 1) for month in months.astype(str).tolist()]
    rows = _rows(places, returns, 12)
    if benchmark is not None:
        months, returns = monthly_returns(benchmark, cash, days)
        places = [(month[:4], int(month[5:]) - 1) for month in months.astype(str).tolist()]
        beside = {row.label: row.total for row in _rows(places, returns, 12)}
        rows = [HeatRow(row.label, row.cells, row.total, beside.get(row.label)) for row in rows]
    return names, rows


def _hours(curve: Curve, hours: Days, returns: FloatArray) -> tuple[list[str], list[HeatRow]]:
    ends = curve.event_ts[hours.last[: len(returns)]].tolist()
    labels = [format_timestamp(end - 1) for end in ends]
    return [f"{hour:02}" for hour in range(24)], _rows([(each[:10], int(each[11:13])) for each in labels], returns, 24)


def _rows(places: list[tuple[str, int]], returns: FloatArray, columns: int) -> list[HeatRow]:
    """A row for each label, with the return in each of its periods, and that of all of them."""
    found: dict[str, dict[int, float]] = {}
    for (label, column), each in zip(places, returns.tolist(), strict=True):
        found.setdefault(label, {})[column] = each
    totals = {label: float(np.prod([1 + each for each in own.values()])) - 1 for label, own in found.items()}
    most = max((abs(each) for own in found.values() for each in own.values()), default=0.0) or 1.0
    widest = max(map(abs, totals.values()), default=0.0) or 1.0
    return [
        HeatRow(
            label,
            [_cell(own[column], most) if column in own else None for column in range(columns)],
            _cell(totals[label], widest),
        )
        for label, own in found.items()
    ]


def _cell(share: float, most: float) -> HeatCell:
    return HeatCell(100 * share, int(np.sign(share) * np.ceil(4 * np.sqrt(abs(share) / most))))

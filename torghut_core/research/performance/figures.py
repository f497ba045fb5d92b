"""The figures of a run: return, risk, drawdowns, exposure, round trips and costs; docs/figures.md has each with its formula.

Everything is plain numpy on arrays, so that a sweep computes the figures of thousands of parameter sets, and a `Backtest` its own
by the same function. Formulas are those of empyrical, and tests compare with it and with quantstats; neither is imported here,
for both bring pandas, which takes longer to import than a run of the demo.

Risk is measured in daily returns, for those of a bar depend on its length: days of UTC round the clock (365 a year), sessions of an
exchange (252). What a span is too short for, or nothing was traded for, is NaN, and `unknown` says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from torghut_core.calendars import ROUND_THE_CLOCK, calendar_zone, exchange_sessions
from torghut_core.model.market import FloatArray, IntArray
from torghut_core.timestamps import DAY, HOUR, SECOND, from_datetime, to_datetime

Dates: TypeAlias = NDArray[np.datetime64]

DAYS_A_YEAR, SESSIONS_A_YEAR = 365, 252
FEW, SOME, MANY = 5, 20, 30
"""The least days of which there are figures: of risk, of the worst twentieth of days, and of a year."""

TINY = 1e-28
"""A variance of daily returns that is not more is the error of the arithmetic."""

_TWO_WEEKS = 14 * DAY
_AMERICA = 8 * HOUR
"""How far days of the Americas are behind UTC at most."""
_THURSDAY, _SATURDAY, _SUNDAY = 3, 5, 6
"""The weekday of 1970-01-01, and those of a weekend, counted from Monday."""


class Days(NamedTuple):
    """The days of a curve, oldest first: what it costs to find them is paid once for all curves on the same times.

    Attributes
    ----------
    last : shape (d,), the index of the last point at or before the end of each day.
    dates : shape (d,), datetime64[D], in the time zone of the calendar.
    per_year : days in a year.
    """

    last: IntArray
    dates: Dates
    per_year: int


class Trips(NamedTuple):
    """Round trips as arrays of one length, in order of their ends: times in ns, money in the account's currency.

    `profit` is after fees. How far the price went against each and for it is in percent of its entry price, see `excursions`.
    """

    entered_at: IntArray
    exited_at: IntArray
    profit: FloatArray
    mae_pct: FloatArray | None = None
    mfe_pct: FloatArray | None = None


class Traded(NamedTuple):
    """What was filled, and what it cost, money: `slippage` is against the prices that were decided at, NaN if these are not known."""

    fills: int
    notional: float
    fees: float = 0.0
    interest: float = 0.0
    slippage: float = math.nan


class Drawdown(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in which equity was below its highest so far; times in ns.

    Attributes
    ----------
    began_at : the time of the highest equity before it.
    lowest_at : the time of its lowest equity.
    recovered_at : when equity was as high again; None where it was not.
    depth_pct : of its lowest point, negative, percent of the highest equity.
    length_ns : from its beginning to its recovery, or to the end of the run.
    """

    began_at: int
    lowest_at: int
    recovered_at: int | None
    depth_pct: float
    length_ns: int


class Figure(NamedTuple):
    """What a figure is: its group, its label, its unit ("" for a plain number), and how many of which other figure it needs."""

    group: str
    label: str
    unit: str = ""
    needs: tuple[str, int] | None = None


_NONE = {
    "round_trips": "no round trip is over",
    "won": "no round trip was won",
    "lost": "no round trip was lost",
    "fills": "nothing was traded",
}
_YEAR, _RISK, _TAIL = ("days", MANY), ("days", FEW), ("days", SOME)
_TRIP, _WON, _LOST, _FILL = ("round_trips", 1), ("won", 1), ("lost", 1), ("fills", 1)
FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "final_equity": Figure("return", "final equity", "money"),
        "total_return_pct": Figure("return", "return", "%"),
        "cagr_pct": Figure("return", "return a year (CAGR)", "%", _YEAR),
        "best_day_pct": Figure("return", "best day", "%", ("days", 1)),
        "worst_day_pct": Figure("return", "worst day", "%", ("days", 1)),
        "best_month_pct": Figure("return", "best month", "%", _YEAR),
        "worst_month_pct": Figure("return", "worst month", "%", _YEAR),
        "positive_days_pct": Figure("return", "days with a gain", "%", ("days", 1)),
        "days": Figure("return", "days", "count"),
        "volatility_pct": Figure("risk", "volatility a year", "%", _RISK),
        "sharpe": Figure("risk", "Sharpe ratio", "", _RISK),
        "sortino": Figure("risk", "Sortino ratio", "", _RISK),
        "calmar": Figure("risk", "Calmar ratio", "", _YEAR),
        "omega": Figure("risk", "Omega ratio", "", _RISK),
        "skewness": Figure("risk", "skewness", "", _RISK),
        "kurtosis": Figure("risk", "kurtosis", "", _RISK),
        "var_95_pct": Figure("risk", "daily value at risk (95 %)", "%", _TAIL),
        "cvar_95_pct": Figure("risk", "daily expected shortfall (95 %)", "%", _TAIL),
        "max_drawdown_pct": Figure("risk", "deepest drawdown", "%"),
        "longest_drawdown_days": Figure("risk", "longest drawdown", "days"),
        "time_in_market_pct": Figure("exposure", "time in the market", "%"),
        "mean_exposure_pct": Figure("exposure", "mean exposure", "%"),
        "max_exposure_pct": Figure("exposure", "largest exposure", "%"),
        "turnover": Figure("exposure", "turnover", "x"),
        "turnover_a_year": Figure("exposure", "turnover a year", "x", _YEAR),
        "fills": Figure("round trips", "fills", "count"),
        "round_trips": Figure("round trips", "round trips", "count"),
        "won": Figure("round trips", "won", "count"),
        "lost": Figure("round trips", "lost", "count"),
        "win_rate_pct": Figure("round trips", "win rate", "%", _TRIP),
        "profit_factor": Figure("round trips", "profit factor", "", _LOST),
        "expectancy": Figure("round trips", "mean profit", "money", _TRIP),
        "mean_win": Figure("round trips", "mean gain", "money", _WON),
        "mean_loss": Figure("round trips", "mean loss", "money", _LOST),
        "payoff": Figure("round trips", "mean gain to mean loss", "", _LOST),
        "best_trip": Figure("round trips", "best", "money", _TRIP),
        "worst_trip": Figure("round trips", "worst", "money", _TRIP),
        "longest_winning_streak": Figure("round trips", "most won in a row", "count"),
        "longest_losing_streak": Figure("round trips", "most lost in a row", "count"),
        "mean_holding_s": Figure("round trips", "mean holding time", "s", _TRIP),
        "median_holding_s": Figure("round trips", "median holding time", "s", _TRIP),
        "longest_holding_s": Figure("round trips", "longest holding time", "s", _TRIP),
        "mean_mae_pct": Figure("round trips", "mean adverse excursion", "%", _TRIP),
        "mean_mfe_pct": Figure("round trips", "mean favourable excursion", "%", _TRIP),
        "fees": Figure("costs", "fees", "money"),
        "interest": Figure("costs", "interest", "money"),
        "slippage": Figure("costs", "slippage", "money"),
        "costs": Figure("costs", "all costs", "money"),
        "costs_bps": Figure("costs", "costs of what was traded", "bps", _FILL),
        "slippage_share_pct": Figure("costs", "slippage of all costs", "%", _FILL),
        "costs_of_gain_pct": Figure("costs", "costs of the gain before them", "%", _FILL),
    }
)
"""Every figure of a run, in the order in which it is shown."""

COMPARED: Mapping[str, Figure] = MappingProxyType(
    {
        "beta": Figure("benchmark", "beta", "", _RISK),
        "alpha_pct": Figure("benchmark", "alpha a year", "%", _RISK),
        "correlation": Figure("benchmark", "correlation", "", _RISK),
        "tracking_error_pct": Figure("benchmark", "tracking error a year", "%", _RISK),
        "information_ratio": Figure("benchmark", "information ratio", "", _RISK),
        "benchmark_return_pct": Figure("benchmark", "return of the benchmark", "%"),
    }
)
"""Every figure of a run beside a benchmark."""


def figures(
    event_ts: IntArray,
    equity: FloatArray,
    cash: float,
    *,
    days: Days | None = None,
    trips: Trips | None = None,
    traded: Traded | None = None,
    exposure: FloatArray | None = None,
) -> dict[str, float]:
    """A run in figures, by the names of `FIGURES`: money in the account's currency, NaN where one is not known.

    Parameters
    ----------
    event_ts, equity : shape (n,), the account from its start on, ns and money; NaN where it was not valued.
    cash : of the account before it.
    days : of `event_ts`, once for many runs on the same times; days of UTC where None.
    trips, traded : what is known of round trips and costs; their figures are left out where None.
    exposure : shape (n,), the notional of all positions, unsigned, money; its figures are left out where None.

    Examples
    --------
    >>> at = np.arange(41) * DAY
    >>> found = figures(at, 1000.0 * 1.001 ** np.arange(41), 1000.0)
    >>> round(found["total_return_pct"], 3), found["max_drawdown_pct"], found["days"]
    (4.079, 0.0, 40)
    """
    days = trading_days(event_ts) if days is None else days
    equity = _known(equity, cash)
    found = _of_returns(event_ts, equity, cash, days)
    if exposure is not None:
        found |= _of_exposure(event_ts, equity, exposure)
    if traded is not None:
        found |= _of_costs(traded, equity, cash, days)
    if trips is not None:
        found |= _of_trips(trips)
    return found


def unknown(found: Mapping[str, float]) -> dict[str, str]:
    """Why figures are NaN, by name: what they need, and what there is."""
    reasons = {}
    for name, value in found.items():
        if math.isnan(value):
            needed, least = FIGURES[name].needs or ("", 0)
            if found.get(needed, least) >= least:
                reasons[name] = "nothing to divide by"
            else:
                reasons[name] = _NONE.get(needed, f"needs {least} days, there are {found['days']:.0f}")
    return reasons


def trading_days(event_ts: IntArray, calendar: str = ROUND_THE_CLOCK, *, has_start: bool = True) -> Days:
    """The days of a curve. A point at midnight ends the day before it.

    Round the clock, a curve of two weeks and more without a point at a weekend is one of an exchange whose calendar nobody named:
    its days are those that have a point. They are days of UTC; or days that end at 8:00 UTC, for Friday's bar of an American day ends
    in the night to Saturday. A point that is alone on its Sunday is of Monday: a fill at the open of a daily bar is at its start.

    Parameters
    ----------
    event_ts : shape (n,), ns, increasing.
    calendar : a name of exchange_calendars, or 24/7.
    has_start : whether the first point is the start of a run, as in a `Curve`, and of the day of what follows it; else it is the
        end of a bar.
    """
    if not len(event_ts):
        return Days(np.empty(0, np.int64), np.empty(0, "datetime64[D]"), DAYS_A_YEAR)
    before = event_ts - 1
    if has_start:
        before[0] = before[1] if len(before) > 1 else event_ts[0]
    if calendar != ROUND_THE_CLOCK:
        starts, dates = _sessions(calendar, int(before[0]), int(before[-1]))
        if len(starts):
            last = np.searchsorted(before, np.append(starts[1:], before[-1] + 1)) - 1
            return Days(last, dates, SESSIONS_A_YEAR)
    if before[-1] - before[0] >= _TWO_WEEKS:
        for behind in (0, _AMERICA):
            day = (before - behind) // DAY
            new = np.diff(day, prepend=day[0] - 1, append=day[-1])
            is_alone = (new[:-1] > 0) & (new[1:] == 1) & ((day + _THURSDAY) % 7 == _SUNDAY)
            last, seen = _days_with_points(day + is_alone)
            if ((seen + _THURSDAY) % 7 < _SATURDAY).all():
                return Days(last, seen.astype("datetime64[D]"), SESSIONS_A_YEAR)
    last, seen = _days_with_points(before // DAY)
    every = np.arange(seen[0], seen[-1] + 1)
    return Days(last[np.searchsorted(seen, every, side="right") - 1], every.astype("datetime64[D]"), DAYS_A_YEAR)


def _days_with_points(day: IntArray) -> tuple[IntArray, IntArray]:
    """The last point of each day that has one, and the days; `day` is that of each point, counted from 1970-01-01."""
    last = np.append(np.flatnonzero(np.diff(day)), len(day) - 1)
    return last, day[last]


@lru_cache(maxsize=16)
def _sessions(calendar: str, first: int, last: int) -> tuple[IntArray, Dates]:
    """When the days of the sessions from one time to another begin, ns, and their dates.

    A day begins at midnight where the exchange is; one after a weekend or a holiday with its session, if that is earlier.
    """
    margin = timedelta(days=12)
    since, until = ((to_datetime(at) + way * margin).date().isoformat() for at, way in ((first, -1), (last, 1)))
    known = exchange_sessions(calendar, since, until)
    zone = ZoneInfo(calendar_zone(calendar))
    dates = [to_datetime(close).astimezone(zone).date() for close in known.closes.tolist()]
    starts = []
    for number, (date, opens) in enumerate(zip(dates, known.opens.tolist(), strict=True)):
        midnight = from_datetime(datetime(date.year, date.month, date.day, tzinfo=zone).astimezone(UTC))
        follows = number and dates[number - 1] == date - timedelta(days=1)
        starts.append(midnight if follows else min(midnight, opens))
    begins, days = np.array(starts, np.int64), np.array(dates, "datetime64[D]")
    own = slice(
        max(0, int(np.searchsorted(begins, first, side="right")) - 1), int(np.searchsorted(begins, last, side="right"))
    )
    return begins[own], days[own]


def daily_returns(equity: FloatArray, cash: float, days: Days) -> FloatArray:
    """The return of each day, shape (d,), as a share: of the equity at the end of the day before, at first of the cash.

    After a total loss there are no returns: the days from the one on that begins without equity are left out.
    """
    ends = np.append(cash, _known(equity, cash)[days.last])
    lost = np.flatnonzero(ends[:-1] <= 0)
    ends = ends[: lost[0] + 1] if len(lost) else ends
    returns: FloatArray = ends[1:] / ends[:-1] - 1
    return returns


def monthly_returns(equity: FloatArray, cash: float, days: Days) -> tuple[Dates, FloatArray]:
    """The months of a curve, datetime64[M], and the return of each as a share; to the month of a total loss."""
    months = days.dates.astype("datetime64[M]")
    last = np.append(np.flatnonzero(months[1:] != months[:-1]), len(months) - 1) if len(months) else days.last
    returns = daily_returns(equity, cash, Days(days.last[last], days.dates[last], 12))
    return months[last][: len(returns)], returns


def drawdowns(event_ts: IntArray, equity: FloatArray, cash: float) -> list[Drawdown]:
    """The drawdowns of a curve, the deepest first."""
    equity = _known(equity, cash)
    if not len(equity) or cash <= 0:
        return []
    highest = np.maximum(np.maximum.accumulate(equity), cash)
    first, stop = _stretches(equity < highest)
    found = []
    for a, b in zip(first.tolist(), stop.tolist(), strict=True):
        lowest = a + int(np.argmin(equity[a:b]))
        began_at, ended_at = int(event_ts[max(a - 1, 0)]), int(event_ts[min(b, len(equity) - 1)])
        found.append(
            Drawdown(
                began_at=began_at,
                lowest_at=int(event_ts[lowest]),
                recovered_at=ended_at if b < len(equity) else None,
                depth_pct=100 * float(equity[lowest] / highest[lowest] - 1),
                length_ns=ended_at - began_at,
            )
        )
    return sorted(found, key=lambda drawdown: drawdown.depth_pct)


def compared(returns: FloatArray, benchmark: FloatArray, per_year: int) -> dict[str, float]:
    """Daily returns beside those of a benchmark on the same days, by the names of `COMPARED`.

    Parameters
    ----------
    returns, benchmark : shape (d,), shares; the days of the shorter one are compared.
    per_year : days in a year.
    """
    days = min(len(returns), len(benchmark))
    found = dict.fromkeys(COMPARED, math.nan)
    own, other = returns[:days], benchmark[:days]
    found["benchmark_return_pct"] = 100 * float(np.prod(1 + benchmark) - 1)
    if days < FEW:
        return found
    moved, its = own - own.mean(), other - other.mean()
    variance, both, of_other = (float(each.sum()) / (days - 1) for each in (moved * moved, moved * its, its * its))
    if of_other > TINY:
        found["beta"] = beta = both / of_other
        daily = float(own.mean() - beta * other.mean())
        found["alpha_pct"] = 100 * ((1 + daily) ** per_year - 1) if daily > -1 else -100.0
        if variance > TINY:
            found["correlation"] = both / math.sqrt(variance * of_other)
    apart = own - other
    error = float(apart.std(ddof=1)) * math.sqrt(per_year)
    found["tracking_error_pct"] = 100 * error
    if error > math.sqrt(TINY):
        found["information_ratio"] = float(apart.mean()) * per_year / error
    return found


def _known(equity: FloatArray, cash: float) -> FloatArray:
    """The last value that is known, where one is NaN; cash before the first."""
    if len(equity) and np.isnan(equity.sum()):
        last = np.maximum.accumulate(np.where(np.isnan(equity), 0, np.arange(1, len(equity) + 1)))
        return np.append(cash, equity)[last]
    return equity


def _stretches(is_so: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Where each stretch of what is true begins, and the index behind its end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_so, [False]])))
    return edges[::2], edges[1::2]


def _of_returns(event_ts: IntArray, equity: FloatArray, cash: float, days: Days) -> dict[str, float]:
    returns = daily_returns(equity, cash, days)
    count, per_year = len(days.last), days.per_year
    final = float(equity[-1]) if count else cash
    found = dict.fromkeys((name for name, figure in FIGURES.items() if figure.group in ("return", "risk")), math.nan)
    found |= {"final_equity": final, "days": count, "max_drawdown_pct": 0.0, "longest_drawdown_days": 0.0}
    if cash <= 0 or not count:
        return found | {"total_return_pct": 0.0 if cash > 0 else math.nan}
    total = final / cash - 1
    found |= {
        "total_return_pct": 100 * total,
        "best_day_pct": 100 * float(returns.max()),
        "worst_day_pct": 100 * float(returns.min()),
        "positive_days_pct": 100 * int(np.count_nonzero(returns > 0)) / len(returns),
    }
    highest = np.maximum(np.maximum.accumulate(equity), cash)
    deepest = float((equity / highest).min()) - 1
    first, stop = _stretches(equity < highest)
    lengths = event_ts[np.minimum(stop, len(equity) - 1)] - event_ts[np.maximum(first - 1, 0)]
    found |= {"max_drawdown_pct": 100 * deepest, "longest_drawdown_days": float(lengths.max(initial=0)) / DAY}
    if count >= MANY:
        cagr = (1 + total) ** (per_year / count) - 1 if total > -1 else -1.0
        _, monthly = monthly_returns(equity, cash, days)
        found |= {
            "cagr_pct": 100 * cagr,
            "calmar": cagr / -deepest if deepest < 0 else math.nan,
            "best_month_pct": 100 * float(monthly.max()),
            "worst_month_pct": 100 * float(monthly.min()),
        }
    if len(returns) >= FEW:
        found |= _of_risk(returns, per_year)
    if len(returns) >= SOME:
        lowest = np.sort(returns)
        place, share = divmod(0.05 * (len(returns) - 1), 1)
        at = int(place)
        found["var_95_pct"] = 100 * float(lowest[at] + share * (lowest[at + 1] - lowest[at]))
        found["cvar_95_pct"] = 100 * float(lowest[: at + 1].mean())
    return found


def _of_risk(returns: FloatArray, per_year: int) -> dict[str, float]:
    mean = float(returns.mean())
    apart = returns - mean
    squares = apart * apart
    spread = math.sqrt(float(squares.sum()) / (len(returns) - 1))
    variance = float(squares.mean())
    losses = np.minimum(returns, 0)
    lost = -float(losses.sum())
    downside = math.sqrt(float((losses * losses).mean()))
    found = {"volatility_pct": 100 * spread * math.sqrt(per_year)}
    if variance > TINY:
        found["sharpe"] = mean / spread * math.sqrt(per_year)
        found["skewness"] = float((squares * apart).mean()) / variance**1.5
        found["kurtosis"] = float((squares * squares).mean()) / variance**2
    if downside > 0:
        found["sortino"] = mean / downside * math.sqrt(per_year)
        found["omega"] = (float(returns.sum()) + lost) / lost
    return found


def _of_exposure(event_ts: IntArray, equity: FloatArray, exposure: FloatArray) -> dict[str, float]:
    apart = np.diff(event_ts)
    span = float(apart.sum()) if len(apart) else 0.0
    if not span:
        return dict.fromkeys(("time_in_market_pct", "mean_exposure_pct", "max_exposure_pct"), 0.0)
    held = np.nan_to_num(exposure)
    share = np.divide(held, equity, out=np.zeros(len(equity)), where=equity > 0)
    return {
        "time_in_market_pct": 100 * float(apart[held[:-1] > 0].sum()) / span,
        "mean_exposure_pct": 100 * float((share[:-1] * apart).sum()) / span,
        "max_exposure_pct": 100 * float(share.max()),
    }


def _of_costs(traded: Traded, equity: FloatArray, cash: float, days: Days) -> dict[str, float]:
    slippage = traded.slippage if traded.fills else 0.0
    costs = traded.fees + traded.interest + (0.0 if math.isnan(slippage) else slippage)
    final = float(equity[-1]) if len(equity) else cash
    mean = float(equity.mean()) if len(equity) else cash
    before = final - cash + costs
    turnover = traded.notional / mean if mean > 0 else math.nan
    return {
        "turnover": turnover,
        "turnover_a_year": turnover * days.per_year / len(days.last) if len(days.last) >= MANY else math.nan,
        "fills": traded.fills,
        "fees": traded.fees,
        "interest": traded.interest,
        "slippage": slippage,
        "costs": costs,
        "costs_bps": 10_000 * costs / traded.notional if traded.notional > 0 else math.nan,
        "slippage_share_pct": 100 * slippage / costs if costs > 0 else math.nan,
        "costs_of_gain_pct": 100 * costs / before if before > 0 and traded.fills else math.nan,
    }


def _of_trips(trips: Trips) -> dict[str, float]:
    count = len(trips.profit)
    found = dict.fromkeys(
        (name for name, figure in FIGURES.items() if figure.group == "round trips" and name != "fills"), math.nan
    )
    is_won, is_lost = trips.profit > 0, trips.profit < 0
    won, lost = int(np.count_nonzero(is_won)), int(np.count_nonzero(is_lost))
    gained, given = float(trips.profit[is_won].sum()), -float(trips.profit[is_lost].sum())
    found |= {"round_trips": count, "won": won, "lost": lost}
    found |= {"longest_winning_streak": _longest(is_won), "longest_losing_streak": _longest(is_lost)}
    if won:
        found["mean_win"] = gained / won
    if lost:
        found |= {"mean_loss": -given / lost, "profit_factor": gained / given}
        found["payoff"] = gained / won / (given / lost) if won else 0.0
    if count:
        held = (trips.exited_at - trips.entered_at) / SECOND
        found |= {
            "win_rate_pct": 100 * won / count,
            "expectancy": float(trips.profit.mean()),
            "best_trip": float(trips.profit.max()),
            "worst_trip": float(trips.profit.min()),
            "mean_holding_s": float(held.mean()),
            "median_holding_s": float(np.median(held)),
            "longest_holding_s": float(held.max()),
        }
        for name, values in (("mean_mae_pct", trips.mae_pct), ("mean_mfe_pct", trips.mfe_pct)):
            if values is not None:
                found[name] = float(values.mean())
    return found


def _longest(is_so: Sequence[bool] | NDArray[np.bool_]) -> int:
    first, stop = _stretches(np.asarray(is_so, bool))
    return int((stop - first).max(initial=0))

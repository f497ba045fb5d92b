"""The figures are those of empyrical and of quantstats, of ledgers that were added up on paper, and of plain laws."""

import json
import math
import re

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kurtosis, norm, skew

from support import field_bars
from support.docs import ROOT
from torghut_core.research.performance.figures import (
    DAYS_A_YEAR,
    FIGURES,
    SESSIONS_A_YEAR,
    Days,
    Traded,
    Trips,
    compared,
    daily_returns,
    drawdowns,
    figures,
    monthly_returns,
    trading_days,
    unknown,
)
from torghut_core.timestamps import DAY, HOUR, MINUTE, parse_timestamp

T0 = parse_timestamp("2026-01-05T00:00:00Z")
"""A Monday."""


def curve_of(returns, per_year=DAYS_A_YEAR):
    """A curve with a point at the end of each day, from 1,000: times, equity, days."""
    equity = 1000 * np.cumprod(1 + np.asarray(returns, float))
    at = T0 + np.arange(1, len(equity) + 1) * DAY
    return at, equity, Days(np.arange(len(equity)), (at // DAY - 1).astype("datetime64[D]"), per_year)


def of(returns, per_year=DAYS_A_YEAR):
    at, equity, days = curve_of(returns, per_year)
    return figures(at, equity, 1000.0, days=days)


# Against empyrical and quantstats.

returns_of_days = st.lists(st.integers(-90, 120).map(lambda x: x / 1000), min_size=31, max_size=90)


@given(returns_of_days, returns_of_days, st.sampled_from([SESSIONS_A_YEAR, DAYS_A_YEAR]))
def test_they_are_those_of_empyrical(returns, benchmark, per_year):
    """Every figure that both have, whatever the returns were; what it cannot say is not known here either."""
    own, other = (np.array(each[: min(len(returns), len(benchmark))]) for each in (returns, benchmark))
    found, beside = of(own, per_year), compared(own, other, per_year)
    of_year = {"annualization": per_year}
    theirs = {
        "total_return_pct": 100 * empyrical.cum_returns_final(own),
        "cagr_pct": 100 * empyrical.cagr(own, **of_year),
        "volatility_pct": 100 * empyrical.annual_volatility(own, **of_year),
        "sharpe": empyrical.sharpe_ratio(own, **of_year),
        "sortino": empyrical.sortino_ratio(own, **of_year),
        "calmar": empyrical.calmar_ratio(own, **of_year),
        "omega": empyrical.omega_ratio(own, annualization=per_year),
        "max_drawdown_pct": 100 * empyrical.max_drawdown(own),
        "var_95_pct": 100 * empyrical.value_at_risk(own),
        "cvar_95_pct": 100 * empyrical.conditional_value_at_risk(own),
    }
    if (own < 0).any():
        assert {name: found[name] for name in theirs} == pytest.approx(theirs, rel=1e-9, abs=1e-9, nan_ok=True)
    if np.ptp(other) > 0:
        alpha, beta = empyrical.alpha_beta(own, other, **of_year)
        assert beside["beta"] == pytest.approx(beta, rel=1e-8, abs=1e-9)
        assert beside["alpha_pct"] == pytest.approx(100 * alpha, rel=1e-8, abs=1e-9)


@pytest.mark.shared
def test_years_of_a_real_market_are_those_of_empyrical():
    """Bitcoin held from its close of 2014-12-01 on; the tape lacks 34 days, which are days without a change."""
    tape = ROOT.parent / "shared" / "data" / "daily" / "bars_1d_btcusd_coinbase.parquet"
    if not tape.exists():
        pytest.skip("the recorded data is not beside the project")
    bars = pd.read_parquet(tape, columns=["event_ts", "close"]).set_index("event_ts")["close"]
    returns = bars.asfreq("D").ffill().pct_change().dropna()
    equity = bars.to_numpy()
    at = bars.index.as_unit("ns").asi8 + DAY
    days = trading_days(at)
    found = figures(at, equity, float(equity[0]), days=days)
    of_year = {"annualization": DAYS_A_YEAR}

    assert (days.per_year, len(days.last)) == (DAYS_A_YEAR, len(returns)) == (365, len(bars) - 1 + 34)
    assert found["cagr_pct"] == pytest.approx(100 * empyrical.cagr(returns, **of_year))
    assert found["sharpe"] == pytest.approx(empyrical.sharpe_ratio(returns, **of_year))
    assert found["sortino"] == pytest.approx(empyrical.sortino_ratio(returns, **of_year))
    assert found["max_drawdown_pct"] == pytest.approx(100 * empyrical.max_drawdown(returns))
    months = empyrical.aggregate_returns(returns, "monthly")
    assert found["best_month_pct"] == pytest.approx(100 * months.max())
    assert found["worst_month_pct"] == pytest.approx(100 * months.min())


def curves():
    """Two years of a walk beside one that moves with it, and the minutes of a real tape, as if each were a day."""
    days, minutes = field_bars.days(), field_bars.minutes()["ES"]
    closes = {
        "walk": (days["AAA"]["close"], days["BBB"]["close"]),
        "ES": (minutes["close"], minutes["open"]),
    }
    return {name: [np.diff(each) / each.to_numpy()[:-1] for each in pair] for name, pair in closes.items()}


@pytest.mark.parametrize(("name", "per_year"), [("walk", SESSIONS_A_YEAR), ("ES", DAYS_A_YEAR)])
def test_they_are_those_of_quantstats_where_it_means_the_same(name, per_year):
    """As quantstats 0.0.86 printed them, with the differences of meaning that its readers should know."""
    theirs = json.loads((ROOT / "tests" / "support" / "quantstats.json").read_text())[name]
    own, other = curves()[name]
    found, beside = of(own, per_year), compared(own, other, per_year)
    for share in ("total_return", "cagr", "volatility", "max_drawdown"):
        assert found[f"{share}_pct"] == pytest.approx(100 * theirs[share], rel=1e-9)
    for ratio in ("sharpe", "sortino", "calmar", "omega"):
        assert found[ratio] == pytest.approx(theirs[ratio], rel=1e-9)
    assert found["best_day_pct"] == pytest.approx(100 * theirs["best"])
    assert found["worst_day_pct"] == pytest.approx(100 * theirs["worst"])
    assert beside["beta"] == pytest.approx(theirs["beta"])

    # It takes returns for normal, where ours are what happened.
    assert 100 * theirs["value_at_risk"] == pytest.approx(100 * norm.ppf(0.05, own.mean(), own.std(ddof=1)))
    assert theirs["cvar"] != pytest.approx(theirs["cvar_historical"], rel=0.01)
    # Asked for what happened, it takes all days as bad as the twentieth, where ours takes a twentieth of the days.
    assert theirs["cvar_historical"] == pytest.approx(own[own <= np.quantile(own, 0.05)].mean())
    assert found["cvar_95_pct"] == pytest.approx(100 * np.sort(own)[: (len(own) - 1) // 20 + 1].mean())
    # It adds up the alpha of days, where ours is compounded as returns are; and its information ratio is that of a day.
    daily = own.mean() - beside["beta"] * other.mean()
    assert theirs["alpha"] == pytest.approx(per_year * daily)
    assert beside["alpha_pct"] == pytest.approx(100 * ((1 + daily) ** per_year - 1))
    assert beside["information_ratio"] == pytest.approx(theirs["information_ratio"] * math.sqrt(per_year))
    # Its kurtosis is in excess of 3 and, as its skewness, corrected for small samples.
    assert theirs["kurtosis"] == pytest.approx(kurtosis(own, bias=False))
    assert theirs["skew"] == pytest.approx(skew(own, bias=False))
    assert found["kurtosis"] == pytest.approx(kurtosis(own, fisher=False))
    assert found["skewness"] == pytest.approx(skew(own))
    # A day without a change is no day to it.
    assert theirs["win_rate"] == pytest.approx(np.mean(own > 0) / np.mean(own != 0))
    assert found["positive_days_pct"] == pytest.approx(100 * np.mean(own > 0))
    # Its drawdown begins with the first day below the highest, where ours begins at the highest.
    at, equity, _ = curve_of(own)
    assert drawdowns(at, equity, 1000.0)[0].length_ns // DAY in (theirs["deepest_days"], theirs["deepest_days"] + 1)


# On paper.


def test_a_week_on_paper():
    """1,000, then 1,010, 999.9, 999.9, 1,019.898, 1,009.69902: +1 %, -1 %, 0, +2 %, -1 %."""
    found = of([0.01, -0.01, 0, 0.02, -0.01])
    spread = math.sqrt((0.008**2 + 0.012**2 + 0.002**2 + 0.018**2 + 0.012**2) / 4)  # around the mean of 0.2 %

    assert found["days"] == 5
    assert found["final_equity"] == pytest.approx(1009.69902)
    assert found["total_return_pct"] == pytest.approx(0.969902)
    assert found["volatility_pct"] == pytest.approx(100 * spread * math.sqrt(365))
    assert found["sharpe"] == pytest.approx(0.002 / spread * math.sqrt(365))
    assert found["sortino"] == pytest.approx(0.002 / math.sqrt(2 * 0.01**2 / 5) * math.sqrt(365))
    assert found["omega"] == pytest.approx(0.03 / 0.02)
    assert found["positive_days_pct"] == pytest.approx(40)
    assert (found["best_day_pct"], found["worst_day_pct"]) == (pytest.approx(2), pytest.approx(-1))
    assert found["max_drawdown_pct"] == pytest.approx(-1)
    assert found["longest_drawdown_days"] == 3  # from the end of the first day to the end of the fourth
    assert math.isnan(found["cagr_pct"])
    assert unknown(found)["cagr_pct"] == "needs 30 days, there are 5"


def test_drawdowns_on_paper():
    """Each from its highest to its recovery; one that has not recovered lasts to the end; a start below cash is one."""
    equity = np.array([95.0, 100, 110, 88, 99, 110, 121, 120, 60.5])
    at = T0 + np.arange(len(equity)) * DAY
    found = drawdowns(at, equity, 100.0)

    assert [round(each.depth_pct, 6) for each in found] == [-50, -20, -5]
    assert [(each.began_at - T0) // DAY for each in found] == [6, 2, 0]
    assert [(each.lowest_at - T0) // DAY for each in found] == [8, 3, 0]
    assert [each.recovered_at and (each.recovered_at - T0) // DAY for each in found] == [None, 5, 1]
    assert [each.length_ns // DAY for each in found] == [2, 3, 1]


def test_round_trips_on_paper():
    """Ten units of money won, five lost, twenty won, one that gave nothing, five lost twice."""
    profit = np.array([10.0, -5, 20, 0, -5, -5])
    entered = T0 + np.arange(6) * HOUR
    held = np.array([1, 2, 3, 4, 5, 9]) * MINUTE
    trips = Trips(entered, entered + held, profit, -np.arange(6.0), np.arange(6.0) / 2)
    at, equity, _ = curve_of([0.015])
    found = figures(at, equity, 1000.0, trips=trips, traded=Traded(12, 5000.0, fees=6.0, interest=2.0, slippage=4.0))

    assert (found["round_trips"], found["won"], found["lost"]) == (6, 2, 3)
    assert found["win_rate_pct"] == pytest.approx(100 / 3)
    assert found["profit_factor"] == pytest.approx(2)
    assert found["expectancy"] == pytest.approx(2.5)
    assert (found["mean_win"], found["mean_loss"], found["payoff"]) == (15, -5, 3)
    assert (found["best_trip"], found["worst_trip"]) == (20, -5)
    assert (found["longest_winning_streak"], found["longest_losing_streak"]) == (1, 2)
    assert (found["mean_holding_s"], found["median_holding_s"], found["longest_holding_s"]) == (240, 210, 540)
    assert (found["mean_mae_pct"], found["mean_mfe_pct"]) == (-2.5, 1.25)
    assert (found["costs"], found["costs_bps"]) == (12, pytest.approx(24))
    assert found["slippage_share_pct"] == pytest.approx(100 / 3)
    assert found["costs_of_gain_pct"] == pytest.approx(100 * 12 / 27)  # 15 were gained, and 12 paid
    assert found["turnover"] == pytest.approx(5000 / 1015)


def test_exposure_on_paper():
    """A quarter of the time half of the equity, then all of it for half of the time, then none."""
    at = T0 + np.array([0, 1, 2, 4]) * DAY
    found = figures(at, np.full(4, 100.0), 100.0, exposure=np.array([50.0, 0, 100, 0]))

    assert found["time_in_market_pct"] == pytest.approx(75)
    assert found["mean_exposure_pct"] == pytest.approx(62.5)
    assert found["max_exposure_pct"] == pytest.approx(100)


def test_months_are_those_of_the_calendar():
    """January's last day belongs to January, and a month's return is the product of its days'."""
    returns = np.random.default_rng(3).normal(0, 0.01, 58)
    at, equity, days = curve_of(returns)
    months, monthly = monthly_returns(equity, 1000.0, days)

    assert months.astype(str).tolist() == ["2026-01", "2026-02", "2026-03"]
    assert monthly == pytest.approx([np.prod(1 + part) - 1 for part in (returns[:27], returns[27:55], returns[55:])])
    assert figures(at, equity, 1000.0, days=days)["best_month_pct"] == pytest.approx(100 * monthly.max())


# Days.


def minutes_of(session, count=390):
    """The ends of a session's minutes."""
    return parse_timestamp(session) + np.arange(1, count + 1) * MINUTE


def test_sessions_are_days_of_the_exchange():
    """Over a weekend, a holiday, and a change of the clocks: five sessions, each to its last minute, 252 a year."""
    opens = ["2026-03-05T14:30:00Z", "2026-03-06T14:30:00Z", "2026-03-09T13:30:00Z", "2026-03-10T13:30:00Z"]
    at = np.concatenate([minutes_of(each) for each in opens])
    days = trading_days(np.append(at[0] - MINUTE, at), "XNYS")

    assert days.per_year == SESSIONS_A_YEAR
    assert days.dates.astype(str).tolist() == ["2026-03-05", "2026-03-06", "2026-03-09", "2026-03-10"]
    assert days.last.tolist() == [390, 780, 1170, 1560]


def test_a_session_without_bars_is_a_day_without_a_change():
    """The tape lacks a session: its return is 0, and annual figures count it."""
    at = np.concatenate([minutes_of("2026-01-06T14:30:00Z"), minutes_of("2026-01-08T14:30:00Z")])
    days = trading_days(at, "XNYS", has_start=False)
    returns = daily_returns(np.linspace(1001, 1780, 780), 1000.0, days)

    assert days.dates.astype(str).tolist() == ["2026-01-06", "2026-01-07", "2026-01-08"]
    assert returns[1] == 0 < min(returns[0], returns[2])


def test_what_moves_before_the_open_and_after_the_close_is_of_the_same_day():
    """Extended hours belong to the session of their date, those of a Saturday to Friday's."""
    at = np.array([parse_timestamp(f"2026-01-{text}:00Z") for text in ("08T10:00", "08T23:00", "09T10:00", "10T15:00")])
    assert trading_days(at, "XNYS", has_start=False).last.tolist() == [1, 3]


def test_futures_begin_on_sunday_evening():
    """At the CME, Sunday's evening is of Monday's session; a weekday's evening is of its own date."""
    at = np.array([parse_timestamp(f"2026-01-{text}:00Z") for text in ("09T18:00", "12T01:00", "12T18:00", "13T18:00")])
    days = trading_days(at, "CMES", has_start=False)
    assert days.dates.astype(str).tolist() == ["2026-01-09", "2026-01-12", "2026-01-13"]
    assert days.last.tolist() == [0, 2, 3]


def test_days_round_the_clock_are_those_of_utc():
    """Midnight ends a day; a day without a point has the equity of the day before; there are 365 in a year."""
    at = T0 + np.array([0, HOUR, DAY, DAY + HOUR, 4 * DAY])
    days = trading_days(at)
    assert days.per_year == DAYS_A_YEAR
    assert days.dates.astype(str).tolist() == [f"2026-01-0{day}" for day in (5, 6, 7, 8)]
    assert days.last.tolist() == [2, 3, 3, 4]


@pytest.mark.parametrize("opens_at", [0, 5 * HOUR])
def test_daily_bars_of_an_exchange_are_its_days(opens_at):
    """A bar that begins at midnight, of UTC or of New York, is of the session of its date, to the last of the month."""
    dates = np.array(["2026-01-29", "2026-01-30", "2026-02-02", "2026-02-03"], "datetime64[D]")
    starts = dates.astype("datetime64[ns]").astype(np.int64) + opens_at
    days = trading_days(np.append(starts[0], starts + DAY), "XNYS")
    assert days.dates.tolist() == dates.tolist()
    assert days.last.tolist() == [1, 2, 3, 4]


def test_a_tape_without_weekends_is_one_of_sessions():
    """Where nobody named the calendar: its days are those with points, 252 a year. A point on a Sunday says otherwise."""
    at = T0 + np.array([7 * week + day for week in range(4) for day in range(1, 6)]) * DAY
    assert trading_days(at).per_year == SESSIONS_A_YEAR
    assert len(trading_days(at, has_start=False).last) == 20
    assert trading_days(np.append(at, T0 + 35 * DAY - HOUR)).per_year == DAYS_A_YEAR


@pytest.mark.parametrize("midnight", [0, 5 * HOUR, 8 * HOUR])
def test_daily_bars_without_a_calendar_are_sessions_wherever_their_midnight_is(midnight):
    """Of UTC, New York or California; fills at the open of a Monday, which are points at its midnight, add no day."""
    ends = T0 + np.array([7 * week + day for week in range(4) for day in range(1, 6)]) * DAY + midnight
    mondays = T0 + np.arange(4) * 7 * DAY + midnight
    for at, has_start in (
        (ends, False),
        (np.append(mondays[0], ends), True),
        (np.sort(np.append(mondays, ends)), True),
    ):
        days = trading_days(at, has_start=has_start)
        assert days.per_year == SESSIONS_A_YEAR
        assert at[days.last].tolist() == ends.tolist()
        assert days.dates[3:6].astype(str).tolist() == ["2026-01-08", "2026-01-09", "2026-01-12"]


# Laws.


@given(returns_of_days, st.sampled_from([2.0**-20, 0.5, 64.0]))
def test_the_unit_of_money_changes_no_share(returns, unit):
    """In cents or in millions: shares and ratios are the same to the bit, money is multiplied."""
    at, equity, days = curve_of(returns)
    trips = Trips(at, at + HOUR, np.array(returns))
    one = figures(at, equity, 1000.0, days=days, trips=trips, exposure=equity / 2, traded=Traded(2, 700.0, 1.0))
    other = figures(
        at,
        equity * unit,
        1000.0 * unit,
        days=days,
        trips=trips._replace(profit=trips.profit * unit),
        exposure=equity * unit / 2,
        traded=Traded(2, 700.0 * unit, unit),
    )
    for name, value in one.items():
        factor = unit if FIGURES[name].unit == "money" else 1
        assert other[name] == pytest.approx(value * factor, rel=1e-12, nan_ok=True), name


@given(returns_of_days, st.data())
def test_points_within_days_change_no_risk_of_days(returns, data):
    """Bars of any length give the same daily figures, and a drawdown that is at least as deep."""
    at, equity, days = curve_of(returns)
    places = data.draw(st.lists(st.integers(0, len(at) - 1), max_size=20))
    inside = np.array([at[place] - HOUR - number for number, place in enumerate(places)], np.int64)
    more, order = np.append(at, inside), np.argsort(np.append(at, inside))
    dips = np.append(equity, equity[places] * 0.9) if places else equity
    one = figures(at, equity, 1000.0, days=days)
    finer = figures(more[order], dips[order], 1000.0, days=trading_days(more[order], has_start=False))

    of_curve = {"max_drawdown_pct", "calmar", "longest_drawdown_days"}
    assert {name: finer[name] for name in finer.keys() - of_curve} == pytest.approx(
        {name: one[name] for name in one.keys() - of_curve}, nan_ok=True
    )
    assert finer["max_drawdown_pct"] <= one["max_drawdown_pct"]


@given(st.lists(st.integers(1, 200).map(float), min_size=1, max_size=60))
def test_the_deepest_of_the_drawdowns_is_the_figure(values):
    """And no two of them overlap; together they are all the time below the highest."""
    equity = np.array(values)
    at = T0 + np.arange(len(equity)) * DAY
    found, figure = drawdowns(at, equity, 100.0), figures(at, equity, 100.0)

    assert figure["max_drawdown_pct"] == pytest.approx(min((each.depth_pct for each in found), default=0))
    assert figure["longest_drawdown_days"] == max((each.length_ns / DAY for each in found), default=0)
    in_order = sorted(found, key=lambda each: each.lowest_at)
    ends = [each.recovered_at or int(at[-1]) for each in in_order]
    assert all(end <= after.began_at for end, after in zip(ends, in_order[1:], strict=False))


# Where there is little.

NOTHING = Trips(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0))


@pytest.mark.parametrize(
    "equity",
    [
        [],
        [1000.0],
        [math.nan],
        [1000.0] * 40,
        [1000.0, math.nan, 1010.0],
        [math.nan] * 40,
        [900.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [900.0, -500.0, -600.0, 100.0, 200.0, 300.0],
        [900.0] * 30 + [-500.0] * 30,
        list(np.linspace(1000, 2000, 40)),
    ],
    ids=[
        "no bars",
        "one point",
        "one NaN",
        "no trade",
        "NaN",
        "all NaN",
        "all lost",
        "below 0",
        "a month lost",
        "gains",
    ],
)
@pytest.mark.parametrize("cash", [1000.0, 0.0])
def test_little_is_no_error(equity, cash):
    """Each figure is a number, or it is not known and says why; none is infinite, and nothing warns."""
    at = T0 + np.arange(1, len(equity) + 1) * DAY
    values = np.array(equity, float)
    found = figures(at, values, cash, trips=NOTHING, traded=Traded(0, 0.0), exposure=values * 0)
    reasons = unknown(found)

    assert found.keys() == FIGURES.keys()
    assert not [name for name, value in found.items() if math.isinf(value)]
    assert reasons.keys() == {name for name, value in found.items() if math.isnan(value)}
    assert all(reasons.values())
    assert found["slippage"] == found["costs"] == found["round_trips"] == 0
    drawdowns(at, values, cash)


def test_a_total_loss_is_minus_100_percent():
    """From the day on that begins with nothing there are no returns, whatever equity does."""
    found = of([0.0] * 20 + [-1.0] + [0.5] * 20)
    assert found["total_return_pct"] == found["cagr_pct"] == found["worst_day_pct"] == -100
    assert found["max_drawdown_pct"] == -100
    assert found["calmar"] == -1
    at = T0 + np.arange(1, 4) * DAY
    assert daily_returns(np.array([500.0, -10.0, 700.0]), 1000.0, trading_days(at, has_start=False)) == pytest.approx(
        [-0.5, -1.02]
    )


def test_what_is_not_valued_keeps_its_last_value():
    """NaN is no loss."""
    at = T0 + np.arange(1, 5) * DAY
    gaps, filled = (np.array([1000.0, value, value, 1100.0]) for value in (math.nan, 1000.0))
    assert figures(at, gaps, 1000.0) == pytest.approx(figures(at, filled, 1000.0), nan_ok=True)


def test_a_benchmark_that_does_not_move_has_no_beta():
    """Nothing is divided by 0."""
    found = compared(np.full(40, 0.01), np.zeros(40), DAYS_A_YEAR)
    assert math.isnan(found["beta"])
    assert found["benchmark_return_pct"] == 0


def test_every_figure_is_on_its_page():
    """docs/figures.md has a row for each, in their order, with the unit."""
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert [row for row in rows if row in FIGURES] == list(FIGURES)
    beside = compared(np.zeros(2), np.zeros(2), DAYS_A_YEAR)
    assert [row for row in rows if row in beside] == list(beside)


def test_the_example_of_the_page_runs(monkeypatch, capsys):
    """As it stands, from the root of a checkout."""
    monkeypatch.chdir(ROOT)
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "figures.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    exec(code, {})
    said = capsys.readouterr().out
    assert "basis points of what was traded went to costs" in said
    assert "all of it in ES: -" in said

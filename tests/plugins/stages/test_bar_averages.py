"""Volume-weighted averages of bars: whose session a bar is of, and when a vendor's own average is not believed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.stages.indicators import Indicators
from torghut_sources.stages.resample import Resample
from torghut_sources.stages.vwap import is_plausible, price_of

from support.effort import examples
from torghut_core import HOUR, MINUTE, Bars, Batch, SymbolTable, exchange_sessions, parse_timestamp

NAN = float("nan")


def run(rows, step, *, symbol="ACME", timeframe=None, size=None, **params):
    """(session average, count of averages left out) of bars (time, price, volume[, vwap]) of one price each."""
    symbols = SymbolTable()
    number = symbols.number(symbol)
    series, stages = symbols.series(number, step), [Indicators(Indicators.Params(columns=["vwap"], **params))]
    if timeframe:
        stages.insert(0, Resample(Resample.Params(timeframes=[timeframe])))
    found, count = [], 0
    for first in range(0, len(rows), size or len(rows)):
        part = rows[first : first + (size or len(rows))]
        start = np.array([parse_timestamp(row[0]) for row in part])
        price = np.array([row[1] for row in part])
        bars = Bars.from_columns(
            at=range(first, first + len(part)), event_ts=start, symbol=[number] * len(part), series=[series] * len(part),
            step=[step] * len(part), open=price, high=price, low=price, close=price, volume=[row[2] for row in part],
            vwap=[row[3] if len(row) > 3 else NAN for row in part],
        )  # fmt: skip
        batch = Batch.of(symbols, first, start + step, bars=bars)
        for stage in stages:
            batch = stage.update(batch)
        wanted = batch.signals.step == (step if timeframe is None else HOUR)
        found += batch.signals.vwap_session[wanted].round(3).tolist()
        count += batch.implausible_vwaps
    return found, count


HOURS = [
    ("2024-06-05T19:00:00Z", 50, 1000),
    ("2024-06-06T13:00:00Z", 100, 9000),
    ("2024-06-06T14:00:00Z", 110, 1000),
    ("2024-06-06T15:00:00Z", 110, 1000),
    ("2024-06-06T19:00:00Z", 110, 1000),
    ("2024-06-07T13:00:00Z", 200, 9000),
    ("2024-06-07T14:00:00Z", 210, 1000),
]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_bar_in_which_a_session_opens_is_of_that_session(size):
    """The hour from 09:00 New York has the open at 09:30, and its volume begins the day's average."""
    assert run(HOURS, HOUR, size=size)[0] == [50, 100, 101, 101.818, 102.5, 200, 201]


def test_hour_in_which_a_market_opens_is_of_the_new_day():
    """Mumbai opens at 09:15: the hour from 09:00 (03:30 UTC) is of the new day."""
    rows = [("2024-06-05T09:30:00Z", 50, 1000), ("2024-06-06T03:30:00Z", 100, 1), ("2024-06-06T04:30:00Z", 110, 1)]
    assert run(rows, HOUR, calendars={"*": "XBOM"})[0] == [50, 100, 105]


def test_resampled_hour_in_which_a_session_opens_is_of_that_session():
    """So is an hour that was made of smaller bars."""
    minutes = [
        ("2024-06-05T19:59:00Z", 50, 1000),
        ("2024-06-06T13:30:00Z", 100, 5000),
        ("2024-06-06T13:59:00Z", 100, 4000),
        ("2024-06-06T14:59:00Z", 110, 1000),
    ]
    assert run(minutes, MINUTE, timeframe="1Hour")[0] == [50, 100, 101]


@given(st.sampled_from(["XNYS", "XBOM", "XTKS", "XLON"]), st.integers(1, 240), st.lists(st.integers(0, 60 * 24 * 200)))
@examples(60)
def test_session_of_a_bar_is_the_last_one_that_opens_before_its_end(calendar, minutes, offsets):
    """Whatever a bar's length and the calendar, its average begins where the newest open before its end does."""
    first, step = parse_timestamp("2024-01-08T00:00:00Z"), minutes * MINUTE
    opens = exchange_sessions(calendar, "2023-12-01", "2024-12-01").opens
    starts = sorted({first + offset * MINUTE // step * step for offset in offsets})
    rows = [(start, n + 1.0, 1.0) for n, start in enumerate(starts)]
    expected, session, own = [], None, []
    for start, price, _ in rows:
        newest = opens[opens < start + step].max()
        own = [*own, price] if newest == session else [price]
        session = newest
        expected.append(round(sum(own) / len(own), 3))
    texts = [(np.datetime_as_string(np.datetime64(start, "ns"), timezone="UTC"), *rest) for start, *rest in rows]
    assert not rows or run(texts, step, calendars={"*": calendar})[0] == pytest.approx(expected, abs=1e-3)


VWAPS = [
    (247.02, 247.15, 247.1, True),
    (247.02, 247.15, 246.93, False),
    (247.05, 247.2, 1.0, False),
    (247.05, 247.2, 99_999.0, False),
    (247.05, 247.2, 20_862.0, False),
    (106_000.01, 106_000.04, 106_000.0, True),  # rounded to 0.1
    (106_000.06, 106_000.08, 106_000.1, True),
    (106_000.01, 106_000.02, 106_000.1, False),
    (0.12345, 0.12346, 0.1235, True),  # rounded to four decimals, off by less than 0.1 %
    (0.123, 0.124, 0.1, False),
    (100.1, 100.1, 100.10000000000001, True),  # a quotient's last bit
]


@pytest.mark.parametrize(("low", "high", "vwap", "is_right"), VWAPS)
def test_average_has_to_be_one_of_the_prices_but_for_rounding(low, high, vwap, is_right):
    """One outside low to high is not used, but for half a unit of its last digit."""
    assert is_plausible(low, high, vwap) is is_right
    assert price_of(high, low, low, vwap) == (vwap if is_right else (high + low + low) / 3)


@given(st.floats(1.0, 1e5), st.floats(0.0, 0.5), st.floats(0.0, 1.0), st.integers(2, 8))
@examples(200)
def test_rounded_average_is_used(low, width, share, digits):
    """Whatever the digits that a vendor rounds to, an average between low and high is taken; one 1 % outside is not."""
    high = low * (1 + width)
    assert is_plausible(low, high, round(low + share * (high - low), digits))
    assert not is_plausible(low, high, low * 0.99)
    assert not is_plausible(low, high, high * 1.01)


def test_averages_left_out_are_counted():
    """The bars count with (high + low + close) / 3 in session and rolling averages."""
    rows = [(f"2024-06-05T14:0{n}:00Z", 247.0, 100.0, vwap) for n, vwap in enumerate((20_862.0, 247.0, NAN, 1.0))]
    assert run(rows, MINUTE, symbol="SPY") == ([247.0] * 4, 2)

"""Round trips are what the fills say, and their excursions what the bars between say."""

import math
from collections import Counter
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torghut_core.catalog.entries import InstrumentEntry
from torghut_core.errors import InputError
from torghut_core.generation.instruments import Instruments
from torghut_core.model.corporate_actions import AppliedAction, CorporateAction
from torghut_core.model.trading import Side
from torghut_core.research.performance.curve import BarSeries
from torghut_core.research.performance.trips import (
    BREAKDOWNS,
    RoundTrip,
    breakdown,
    round_trips,
    trip_arrays,
    trip_table,
)
from torghut_core.timestamps import HOUR, SECOND, parse_timestamp

T0 = 1_767_623_400 * SECOND


def fill(at, side="buy", quantity="1", price="100", fee="0", symbol="ES", strategy_id="one"):
    """A fill `at` ns after the first bar's start."""
    money = {"quantity": Decimal(quantity), "price": Decimal(price), "fee": Decimal(fee)}
    return {"event_ts": T0 + at, "symbol": symbol, "strategy_id": strategy_id, "side": side, **money}


def trip(entered_at, exited_at, entry=100, exit=100, side=Side.BUY, symbol="ES", profit=1, strategy_id="one"):
    """A round trip of one unit."""
    return RoundTrip(
        strategy_id=strategy_id,
        symbol=symbol,
        side=side,
        quantity=Decimal(1),
        entered_at=entered_at,
        exited_at=exited_at,
        entry_price=Decimal(entry),
        exit_price=Decimal(exit),
        profit=Decimal(profit),
        fees=Decimal("0.5"),
    )


@pytest.mark.parametrize(
    ("trades", "profits"),
    [
        ([("buy", "2", "10"), ("sell", "1", "11")], []),
        ([("buy", "2", "10"), ("sell", "1", "11"), ("sell", "1", "12")], ["2.70"]),
        ([("sell", "1", "10"), ("buy", "3", "8"), ("sell", "2", "7")], ["1.80", "-2.10"]),
    ],
)
def test_a_round_trip_is_from_flat_to_flat_after_all_its_fees(trades, profits):
    """Half closed is no trip yet; a fill through zero ends one and begins the next; the fee of 0.1 a fill counts."""
    fills = [fill(k, *trade, fee="0.1") for k, trade in enumerate(trades)]

    assert [trip.profit for trip in round_trips(fills)] == [Decimal(profit) for profit in profits]


def test_a_round_trip_has_its_way_in_and_its_way_out():
    """Units and mean prices of what was entered and of what was left, with the times of the first fill and the last."""
    trades = [("sell", "1", "10"), ("sell", "3", "12"), ("buy", "2", "9"), ("buy", "5", "7"), ("sell", "3", "8")]
    short, long = round_trips([fill(k, *trade, fee="0.1") for k, trade in enumerate(trades)], {"ES": Decimal(50)})

    assert (short.side, short.quantity, short.entry_price, short.exit_price) == ("sell", 4, Decimal("11.5"), 8)
    assert (short.profit, short.fees) == (Decimal("699.6"), Decimal("0.4"))
    assert (long.side, long.quantity, long.entry_price, long.exit_price) == ("buy", 3, 7, 8)
    assert (long.profit, long.fees) == (Decimal("149.9"), Decimal("0.1"))
    assert short.entered_at < short.exited_at == long.entered_at < long.exited_at


def test_strategies_have_round_trips_each_for_itself():
    """One strategy's buy and another's sell of the same symbol close nothing."""
    assert round_trips([fill(0), fill(1, "sell", strategy_id="two")]) == []


# Excursions.


def bars_of(low, high):
    """Bars of a second."""
    low, high = np.array(low, float), np.array(high, float)
    return BarSeries(SECOND, T0 + np.arange(len(low)) * SECOND, low, high, low, high, np.ones(len(low)))


@given(
    st.lists(st.tuples(st.integers(80, 120), st.integers(0, 9)) | st.none(), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24), st.sampled_from(list(Side))), max_size=8),
)
def test_excursions_are_those_of_the_bars_between(bars, moves):
    """Whatever the bars and however the round trips overlap: as one sees who looks at each bar of each."""
    low = [math.nan if bar is None else bar[0] for bar in bars]
    high = [math.nan if bar is None else sum(bar) for bar in bars]
    series = bars_of(low, high)
    half = SECOND // 2
    trips = [trip(T0 + min(a, b) * half, T0 + max(a, b) * half, 100, 101, side) for a, b, side in moves]
    found = trip_arrays(trips, {"ES": series})

    for own, mae, mfe in zip(trips, found.mae_pct, found.mfe_pct, strict=True):
        inside = (series.event_ts >= own.entered_at) & (series.event_ts + SECOND <= own.exited_at)
        prices = [100.0, 101.0, *series.low[inside], *series.high[inside]]
        moved = [(price - 100) * (1 if own.side is Side.BUY else -1) for price in prices if not math.isnan(price)]
        assert mae == pytest.approx(min(moved))
        assert mfe == pytest.approx(max(moved))


def test_excursions_compare_over_a_split():
    """Seven for one between entry and exit: prices of before count as a seventh, as the entry price does."""
    split = AppliedAction(
        at=T0 + 2 * SECOND,
        fills=1,
        action=CorporateAction(symbol="ES", ex_date=date(2026, 1, 5), new=Decimal(7)),
        changes=(),
    )
    series = bars_of([630, 700, 99, 100], [700, 770, 101, 100])
    found = trip_arrays([trip(T0, T0 + 4 * SECOND)], {"ES": series}, [split])
    assert (found.mae_pct[0], found.mfe_pct[0]) == (pytest.approx(-10), pytest.approx(10))


def test_without_bars_or_a_positive_price_excursions_are_what_can_be_said():
    """The exit is known; of an entry at 0 there is no percentage."""
    found = trip_arrays([trip(T0, T0 + SECOND, exit=98), trip(T0, T0 + SECOND, entry=0)], {})
    assert (found.mae_pct[0], found.mfe_pct[0]) == (pytest.approx(-2), 0)
    assert np.isnan(found.mae_pct[1])
    assert np.isnan(found.mfe_pct[1])
    none = trip_arrays([], {"ES": bars_of([1], [2])})
    assert len(none.profit) == trip_table([], none).num_rows == 0


# Breakdowns.

INSTRUMENTS = Instruments(
    {
        "ES": InstrumentEntry(calendar="CMES"),
        "SPY": InstrumentEntry(calendar="XNYS"),
        "BTC": InstrumentEntry(calendar="24/7"),
    }
)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4000),
            st.integers(0, 500),
            st.sampled_from(["ES", "SPY", "BTC"]),
            st.sampled_from(list(Side)),
            st.integers(-50, 50),
            st.sampled_from(["one", "two"]),
        ),
        max_size=30,
    )
)
def test_breakdowns_add_up_to_the_whole(drawn):
    """Whatever one splits by: every round trip is in one group, and number, profit and fees are those of all."""
    trips = [
        trip(T0 + at * HOUR, T0 + (at + held) * HOUR, symbol=symbol, side=side, profit=profit, strategy_id=strategy)
        for at, held, symbol, side, profit, strategy in drawn
    ]
    for by in BREAKDOWNS:
        table = breakdown(trips, by, INSTRUMENTS)
        assert sum(table["round_trips"].to_pylist()) == len(trips)
        assert sum(table["won"].to_pylist()) == sum(each.profit > 0 for each in trips)
        assert sum(table["profit"].to_pylist()) == sum(each.profit for each in trips)
        assert sum(table["fees"].to_pylist()) == len(trips) / 2
    counts = Counter(each.symbol for each in trips)
    rows = breakdown(trips, "symbol", INSTRUMENTS)
    assert dict(zip(rows["symbol"].to_pylist(), rows["round_trips"].to_pylist(), strict=True)) == counts


def test_hours_and_days_are_those_of_the_exchange():
    """Half past nine in New York, in winter and in summer; for a pair it is the time of UTC. Weekdays begin with Monday."""
    winter, summer = parse_timestamp("2026-01-04T14:30:00Z"), parse_timestamp("2026-07-06T13:30:00Z")
    trips = [trip(at, at + HOUR, symbol=symbol) for at in (winter, summer) for symbol in ("SPY", "BTC")]

    assert breakdown(trips, "hour", INSTRUMENTS)["hour"].to_pylist() == ["09", "13", "14"]
    assert breakdown(trips, "weekday", INSTRUMENTS)["weekday"].to_pylist() == ["Monday", "Sunday"]
    night = trip(parse_timestamp("2026-02-01T02:00:00Z"), parse_timestamp("2026-02-01T03:00:00Z"), symbol="SPY")
    assert breakdown([night], "month", INSTRUMENTS)["month"].to_pylist() == ["2026-01"]


def test_an_unknown_breakdown_says_which_there_are():
    """A typo is no empty table."""
    with pytest.raises(
        InputError, match=r"no breakdown by 'minute' \(there are strategy, symbol, side, hour, weekday, month\)"
    ):
        breakdown([], "minute", INSTRUMENTS)

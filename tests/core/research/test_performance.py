"""The figures of a run are those that plain arithmetic gives."""

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torghut_core.research.performance import BarSeries, Curve, account_curve, joined, thinned
from torghut_core.research.trips import round_trips
from torghut_core.timestamps import MINUTE, SECOND

T0 = 1_767_623_400 * SECOND


def fill(at, side="buy", quantity="1", price="100", fee="0", symbol="ES", strategy_id="one"):
    """A fill `at` ns after the first bar's start."""
    money = {"quantity": Decimal(quantity), "price": Decimal(price), "fee": Decimal(fee)}
    return {"event_ts": T0 + at, "symbol": symbol, "strategy_id": strategy_id, "side": side, **money}


@given(
    moves=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["buy", "sell"]), st.integers(1, 5), st.integers(90, 110)),
        max_size=12,
    ),
    closes=st.lists(st.integers(90, 110) | st.none(), min_size=1, max_size=10),
)
def test_equity_is_the_fold_of_the_fills(moves, closes):
    """Whatever was traded, at each moment the curve is what adding up one fill after the other gives."""
    fills = [
        fill(at * SECOND, side, str(quantity), str(price), fee="0.25", symbol="ES" if price % 3 else "NQ")
        for at, side, quantity, price in sorted(moves)
    ]
    close = np.array([math.nan if close is None else close for close in closes])
    event_ts = T0 + np.arange(len(close)) * SECOND
    bars = BarSeries(SECOND, event_ts, close, close, close, close, np.ones(len(close)))
    curve = account_curve(1000.0, {"ES": bars}, fills)

    for event_ts, equity in zip(curve.event_ts.tolist(), curve.equity, strict=True):
        expected = Decimal(1000)
        for symbol in ("ES", "NQ"):
            own = [row for row in fills if row["symbol"] == symbol and row["event_ts"] <= event_ts]
            known = [close for k, close in enumerate(closes) if close is not None and T0 + (k + 1) * SECOND <= event_ts]
            mark = known[-1] if known and symbol == "ES" else own[-1]["price"] if own else 0
            for row in own:
                signed = row["quantity"] if row["side"] == "buy" else -row["quantity"]
                expected += signed * (mark - row["price"]) - row["fee"]
        assert equity == pytest.approx(float(expected))


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


@given(st.lists(st.integers(0, 400), min_size=3, max_size=60, unique=True), st.integers(1, 20))
def test_longer_bars_are_made_of_the_shorter_ones(seconds, most):
    """Joining bars keeps first open, last close, highest high, lowest low and all volume, window by window."""
    ts = T0 // MINUTE * MINUTE + np.sort(np.array(seconds)) * SECOND
    close = 100 + np.array(seconds, np.float64)
    bars = BarSeries(SECOND, ts, close - 1, close + 2, close - 2, close, np.ones(len(ts)))
    longer = joined(bars, most)

    assert len(longer) <= most
    assert longer.volume.sum() == len(ts)
    for k, start in enumerate(longer.event_ts):
        inside = (ts >= start) & (ts < start + longer.step)
        assert (longer.open[k], longer.close[k]) == (bars.open[inside][0], bars.close[inside][-1])
        assert (longer.high[k], longer.low[k]) == (bars.high[inside].max(), bars.low[inside].min())


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(8, 60))
@example([0, -5, 100, 90, 95, 95, 95, 95, 95, 95], 8)  # the deepest drawdown is no end and no extreme of its stretch
def test_a_thinned_curve_keeps_its_ends_and_its_extremes(values, most):
    """What is left out is not seen on a screen: first, last, highest, lowest and the deepest drawdown stay."""
    equity = np.array(values)
    drawdown = equity - np.maximum.accumulate(equity)
    thin = thinned(Curve(np.arange(len(values)), equity, drawdown, np.abs(equity)), most)

    assert len(thin.event_ts) <= most + 1
    assert {0, len(values) - 1} <= set(thin.event_ts.tolist())
    assert (thin.equity.min(), thin.equity.max()) == (equity.min(), equity.max())
    assert thin.drawdown.min() == drawdown.min()

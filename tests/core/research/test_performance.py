"""The curve of a run is what plain arithmetic gives."""

import math
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torghut_core.model.corporate_actions import AppliedAction, CorporateAction
from torghut_core.research.performance.curve import BarSeries, Curve, account_curve, buy_and_hold, joined, thinned
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


def applied(action, at):
    """A corporate action that was applied at the start of a second, to nothing that was held."""
    return AppliedAction(at=T0 + at * SECOND, fills=0, action=action, changes=())


def test_exposure_is_the_notional_of_all_positions():
    """Long and short ones added up, times the multiplier, at each moment's price; 0 once all is closed."""
    close = np.array([100.0, 110.0, 120.0])
    bars = BarSeries(SECOND, T0 + np.arange(3) * SECOND, close, close, close, close, close)
    fills = [
        fill(0, "buy", "2"),
        fill(SECOND, "sell", "1", symbol="NQ", price="50"),
        fill(2 * SECOND, "sell", "2", price="110"),
        fill(2 * SECOND, "buy", "1", symbol="NQ", price="50"),
    ]
    curve = account_curve(1000.0, {"ES": bars}, fills, {"ES": Decimal(10)})
    assert curve.exposure.tolist() == [2000, 2000 + 50, 0, 0]


def test_buy_and_hold_puts_equal_parts_in_each_symbol():
    """Each from its first price on, before that in cash; nothing is lost where a bar has no price."""
    whole = np.array([100.0, math.nan, 150.0])
    late = np.array([10.0, 5.0])
    series = {
        "ES": BarSeries(SECOND, T0 + np.arange(3) * SECOND, whole, whole, whole, whole, whole),
        "NQ": BarSeries(SECOND, T0 + np.arange(1, 3) * SECOND, late, late, late, late, late),
    }
    times = T0 + np.arange(4) * SECOND
    assert buy_and_hold(1000.0, series, times).tolist() == [1000, 1000, 1000, 500 / 100 * 150 + 500 / 10 * 5]


def test_buy_and_hold_follows_splits_and_keeps_dividends():
    """Two for one at the second bar, then a dividend of 1 for each of the units that there are now."""
    prices = np.array([100.0, 50.0, 49.0])
    bars = BarSeries(SECOND, T0 + np.arange(3) * SECOND, prices, prices, prices, prices, prices)
    day = date(2026, 1, 5)
    actions = [
        applied(CorporateAction(symbol="ES", ex_date=day, new=Decimal(2)), 1),
        applied(CorporateAction(symbol="ES", ex_date=day, dividend=Decimal(1)), 2),
        applied(CorporateAction(symbol="NQ", ex_date=day, dividend=Decimal(9)), 2),
    ]
    held = buy_and_hold(1000.0, {"ES": bars}, T0 + np.array([0, 1, 2, 3]) * SECOND, actions)
    assert held.tolist() == [1000, 1000, 1000 + 20, 980 + 20]


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

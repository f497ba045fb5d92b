"""The EMA cross, and that it trades as the peers' benchmark does."""

from decimal import Decimal

import numpy as np
import pytest
from torghut_strategies import EmaCross
from torghut_testing import Rehearsal, Row, context, signal

from torghut_core import Side


def proposed(ema12, ema26, **seen):
    return EmaCross(EmaCross.Params(quantity=3)).on_signal(signal(ema12=ema12, ema26=ema26), context(**seen))


def test_fast_above_slow_is_bought_when_flat():
    """Flat and above: buy the quantity."""
    decision = proposed(101.0, 100.0)
    assert (decision.action, decision.quantity) == (Side.BUY, Decimal(3))


@pytest.mark.parametrize("fast", [99.0, 100.0])
@pytest.mark.parametrize("others", [{}, {"working": 2}, {"protecting": -3}], ids=["alone", "entry open", "protected"])
def test_position_is_closed_when_fast_is_not_above_slow(fast, others):
    """Long and below, or level: close, also while the rest of the entry or a stop is open."""
    decision = proposed(fast, 100.0, position=3, **others)
    assert (decision.action, decision.quantity) == (Side.SELL, Decimal(3))


@pytest.mark.parametrize(
    ("fast", "seen"),
    [
        (101.0, {"position": 3}),
        (99.0, {}),
        (101.0, {"working": 3}),
        (99.0, {"position": 3, "working": -3}),
    ],
)
def test_nothing_is_done_without_need(fast, seen):
    """Long while above, flat while below, or with an order under way: nothing."""
    assert proposed(fast, 100.0, **seen) is None


def test_trades_are_those_of_the_peers_rule():
    """Over a random walk it enters and leaves at the bars at which the benchmark of the peers does."""
    closes = (100 * np.exp(np.cumsum(np.random.default_rng(7).normal(0, 4e-4, 20_000)))).round(2).tolist()
    fast = slow = closes[0]
    rows, orders = [], []
    want, position, above = 0, 0, False
    for number, close in enumerate(closes):
        position, want = position + want, 0
        fast += 2 / 13 * (close - fast)
        slow += 2 / 27 * (close - slow)
        if number < 26:
            continue
        rows.append(Row(signal(event_ts=number, ema12=fast, ema26=slow), close))
        if fast > slow and not above and not position:
            want = 1
        elif above and not fast > slow and position:
            want = -1
        above = fast > slow
        if want:
            orders.append((number, "buy" if want > 0 else "sell"))
    decisions = Rehearsal(EmaCross(EmaCross.Params())).run(rows)
    assert len(orders) > 500
    assert [(decision.event_ts, decision.action.value) for decision in decisions] == orders

"""Time-series momentum with volatility scaling."""

import math
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from torghut_strategies import TimeSeriesMomentum
from torghut_testing import Rehearsal, Row, context, plain_copy, signal

from torghut_core import Side


def strategy(**params):
    return TimeSeriesMomentum(TimeSeriesMomentum.Params(**{"lookback": 3, "vol_bars": 2, **params}))


def rows(*closes, symbol="ES"):
    return [Row(signal(symbol, event_ts=number), close) for number, close in enumerate(closes)]


def test_first_decision_needs_lookback_bars():
    """Until there is a close `lookback` bars ago nothing is decided."""
    decisions = Rehearsal(strategy()).run(rows(100.0, 101.0, 102.0, 103.0))
    assert [decision.event_ts for decision in decisions] == [3]


@pytest.mark.parametrize(
    ("closes", "shorts", "actions"),
    [
        ((100.0, 90.0, 110.0, 101.0), False, [Side.BUY]),
        ((100.0, 90.0, 110.0, 99.0), False, []),
        ((100.0, 90.0, 110.0, 99.0), True, [Side.SELL]),
        ((100.0, 90.0, 110.0, 100.0), True, []),
    ],
)
def test_position_has_the_sign_of_the_past_return(closes, shorts, actions):
    """Up over the lookback is held long, down short where that is asked for, level not at all."""
    assert [decision.action for decision in Rehearsal(strategy(shorts=shorts)).run(rows(*closes))] == actions


def test_position_is_closed_when_the_return_turns():
    """Without shorts a falling market is left, whole."""
    rehearsal = Rehearsal(strategy(rebalance_band="0.9"))
    decisions = rehearsal.run(rows(100.0, 101.0, 102.0, 103.0, 103.0, 90.0, 89.0))
    assert [decision.action for decision in decisions] == [Side.BUY, Side.SELL]
    assert rehearsal.context("ES").position.quantity == 0


def test_size_is_target_over_volatility():
    """Notional x target / volatility / price, volatility the root of the weighted mean of squared returns."""
    closes = (100.0, 102.0, 99.0, 104.0)
    variance = None
    for before, after in pairwise(closes):
        square = (after / before - 1) ** 2
        variance = square if variance is None else 2 / 3 * variance + 1 / 3 * square
    (decision,) = Rehearsal(strategy(notional=10_000, target_vol_bps=50)).run(rows(*closes))
    assert float(decision.quantity) == pytest.approx(10_000 * 0.005 / math.sqrt(variance) / 104.0, abs=1e-6)
    assert decision.quantity % Decimal("0.000001") == 0


def test_size_is_capped():
    """A quiet market is not held beyond `max_leverage` x notional."""
    quiet = rows(100.0, 100.01, 100.02, 100.04)
    (decision,) = Rehearsal(strategy(notional=1_000, target_vol_bps=100, max_leverage=2, quantity_step=1)).run(quiet)
    assert decision.quantity == 19  # 2,000 / 100.04, in whole units


def test_small_changes_are_not_traded():
    """Within the band the position stays; without a band the same market is traded all the time."""
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0.001, 0.001, 300)))
    market = rows(*closes.tolist())
    wide = Rehearsal(strategy(vol_bars=50, rebalance_band="0.5")).run(market)
    none = Rehearsal(strategy(vol_bars=50, rebalance_band=0)).run(market)
    assert 0 < len(wide) < len(none) / 5


def test_order_under_way_counts_as_filled():
    """What is wanted and not filled yet is not asked for again."""
    momentum = strategy()
    (decision,) = Rehearsal(momentum).run(rows(100.0, 90.0, 95.0, 101.0))
    assert momentum.on_signal(signal("ES"), context(101.0, working=decision.quantity, symbol="ES")) is None
    assert momentum.on_signal(signal("ES"), context(101.0, symbol="ES")) is not None


def test_price_without_a_return_is_skipped():
    """A close of zero or below, or none, changes nothing and is not remembered."""
    market = rows(100.0, 101.0, 0.0, -3.0, math.nan, 102.0, 103.0)
    with_holes = [decision.quantity for decision in Rehearsal(strategy()).run(market)]
    without = [decision.quantity for decision in Rehearsal(strategy()).run(rows(100.0, 101.0, 102.0, 103.0))]
    assert with_holes == without != []


def test_state_does_not_grow():
    """No more closes are kept than the lookback needs."""
    momentum = strategy()
    Rehearsal(momentum).run(rows(*[100.0 + number for number in range(50)]))
    assert momentum.closes == {"ES": [146.0, 147.0, 148.0, 149.0]}


def test_shorter_lookback_goes_on_with_the_state_of_a_longer():
    """A reload with fewer bars of lookback decides at once, on the last ones."""
    market = rows(100.0, 50.0, 60.0, 70.0, 80.0, 90.0)
    old = strategy(lookback=5)
    assert Rehearsal(old).run(market[:5]) == []
    new = strategy(lookback=2)
    new.load_state(plain_copy(old.save_state()), old.state_version)
    assert Rehearsal(new).run(market[5:])[0].action is Side.BUY
    assert new.closes["ES"] == [70.0, 80.0, 90.0]

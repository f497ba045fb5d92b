"""The user's default strategy."""

from decimal import Decimal

import pytest
from torghut_strategies import MacdRsi
from torghut_testing import context, signal

from torghut_core import Side


def proposed(macd_hist, rsi14, position=0, working=0, **params):
    strategy = MacdRsi(MacdRsi.Params(**params))
    return strategy.on_signal(signal(macd_hist=macd_hist, rsi14=rsi14), context(position=position, working=working))


def test_weakness_that_turned_is_bought():
    """Flat, histogram above zero, RSI below the threshold: buy the quantity."""
    decision = proposed(0.1, 34.9, quantity="0.5")
    assert (decision.action, decision.quantity) == (Side.BUY, Decimal("0.5"))


def test_strength_that_turned_is_sold():
    """Long, histogram below zero, RSI above the threshold: close all that is held."""
    decision = proposed(-0.1, 65.1, position="2.5")
    assert (decision.action, decision.quantity) == (Side.SELL, Decimal("2.5"))


@pytest.mark.parametrize(
    ("macd_hist", "rsi14", "position"),
    [(0.1, 35.0, 0), (0.0, 10.0, 0), (-0.1, 10.0, 0), (0.1, 10.0, 1), (-0.1, 65.0, 1), (0.0, 90.0, 1), (-0.1, 90.0, 0)],
)
def test_nothing_is_done_at_or_before_a_threshold(macd_hist, rsi14, position):
    """Thresholds are strict, and each side needs both indicators."""
    assert proposed(macd_hist, rsi14, position) is None


@pytest.mark.parametrize(("macd_hist", "rsi14", "position", "working"), [(0.1, 10.0, 0, 1), (-0.1, 90.0, 2, -2)])
def test_nothing_is_done_while_an_order_works(macd_hist, rsi14, position, working):
    """An order under way is not sent twice."""
    assert proposed(macd_hist, rsi14, position, working) is None


def test_open_rest_of_an_entry_does_not_hold_up_the_exit():
    """What is held is closed while the entry still works."""
    decision = proposed(-0.1, 90.0, 2, 1)
    assert (decision.action, decision.quantity) == (Side.SELL, Decimal(2))

"""Bollinger mean reversion."""

from decimal import Decimal

import pytest
from torghut_strategies import MeanReversion
from torghut_testing import context, signal

from torghut_core import Side

BAND = {"boll_lower": 98.0, "boll_mid": 100.0, "boll_upper": 102.0}


def proposed(price, position=0, working=0, **params):
    strategy = MeanReversion(MeanReversion.Params(quantity=2, **params))
    return strategy.on_signal(signal(**BAND), context(price, position, working=working))


@pytest.mark.parametrize(
    ("price", "position", "shorts", "action"),
    [
        (97.9, 0, False, Side.BUY),
        (100.0, 2, False, Side.SELL),
        (103.0, 2, False, Side.SELL),
        (97.9, 0, True, Side.BUY),
        (102.1, 0, True, Side.SELL),
        (100.0, -2, True, Side.BUY),
        (97.0, -2, True, Side.BUY),
        (99.0, -2, False, Side.BUY),
    ],
)
def test_outside_is_entered_and_the_middle_left(price, position, shorts, action):
    """Enter beyond a band, leave at or beyond the middle; a short is also left when shorts were switched off."""
    decision = proposed(price, position, shorts=shorts)
    assert (decision.action, decision.quantity) == (action, Decimal(2))


@pytest.mark.parametrize(
    ("price", "position", "working", "shorts"),
    [
        (98.0, 0, 0, True),
        (102.0, 0, 0, True),
        (102.1, 0, 0, False),
        (97.0, 2, 0, True),
        (103.0, -2, 0, True),
        (97.0, 0, 2, False),
        (100.0, 2, -2, False),
        (100.0, -2, 2, True),
    ],
)
def test_nothing_is_done_inside_or_while_an_order_works(price, position, working, shorts):
    """On the band, on the wrong side of the middle, with an order under way, or short without leave: nothing."""
    assert proposed(price, position, working, shorts=shorts) is None


@pytest.mark.parametrize(("position", "working", "action"), [(2, 1, Side.SELL), (-2, -1, Side.BUY)])
def test_open_rest_of_an_entry_does_not_hold_up_the_exit(position, working, action):
    """What is held is closed at the middle while the entry still works."""
    decision = proposed(100.0, position, working, shorts=True)
    assert (decision.action, decision.quantity) == (action, Decimal(2))

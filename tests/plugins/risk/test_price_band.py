"""Prices that cannot be meant."""

from decimal import Decimal

import pytest
from torghut_risk import PriceBand
from torghut_testing import decision, risk_context

from torghut_core import OrderType, Outcome, Verdict


def check(limit_price=None, stop_price=None, action="buy", price=100, position=0):
    if stop_price is None:
        order_type = OrderType.MARKET if limit_price is None else OrderType.LIMIT
    else:
        order_type = OrderType.STOP if limit_price is None else OrderType.STOP_LIMIT
    proposed = decision(
        action,
        1,
        order_type=order_type,
        limit_price=None if limit_price is None else Decimal(limit_price),
        stop_price=None if stop_price is None else Decimal(stop_price),
    )
    return PriceBand(PriceBand.Params(max_distance_pct="0.05")).check(proposed, risk_context(price, position))


@pytest.mark.parametrize("limit_price", ["95", "105"])
def test_price_at_the_edge_passes(limit_price):
    """Both edges belong to the band."""
    assert check(limit_price) == Verdict("price-band", Outcome.ALLOW, "price-band", "5", "5")


@pytest.mark.parametrize("action", ["buy", "sell"])
@pytest.mark.parametrize("prices", [("94.99",), ("105.01",), (None, "94.99"), (None, "105.01")])
def test_price_outside_is_denied(action, prices):
    """Above or below, limit or stop, buy or sell: too far is too far."""
    verdict = check(*prices, action=action)
    assert (verdict.outcome, verdict.value) == (Outcome.DENY, "5.01")


def test_farther_price_counts():
    """Of a stop-limit order both prices have to be within."""
    assert check("101", "110").value == "10"
    assert check("110", "101").value == "10"


def test_order_that_names_no_price_passes():
    """For a market order there is nothing to measure, but the verdict has the band."""
    assert check() == Verdict("price-band", Outcome.ALLOW, "price-band", "", "5")


def test_exit_at_a_far_price_passes():
    """What closes a position may wait for any price."""
    assert check("200", action="sell", position=1).outcome is Outcome.ALLOW

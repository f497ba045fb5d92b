"""The size of a position."""

from decimal import Decimal

import pytest
from torghut_risk import MaxPositionPctEquity
from torghut_testing import decision, risk_context

from torghut_core import Limits, OpenOrder, Outcome, Side, Verdict


def check(proposed, context, share="0.05", **params):
    params = {"max_position_pct_equity": share, **params}
    return MaxPositionPctEquity(MaxPositionPctEquity.Params(**params)).check(proposed, context)


def test_position_at_the_limit_passes():
    """5 % of 100,000 at a price of 100 are 50 units."""
    verdict = check(decision("buy", 30), risk_context(100, 20))
    code = "max-position-pct-equity"
    assert verdict == Verdict(code, Outcome.ALLOW, code, "5000", "5000", highest_price=Decimal(100))


@pytest.mark.parametrize(
    ("action", "position", "working", "left"),
    [
        ("buy", 20, 0, 30),
        ("buy", 20, 10, 20),
        ("buy", 20, -10, 30),
        ("sell", -20, 0, 30),
        ("sell", -20, -10, 20),
        ("sell", 20, 0, 70),
        ("buy", -20, 0, 70),
    ],
)
def test_larger_order_is_shrunk_to_what_is_left(action, position, working, left):
    """Held and working units the same way count, working units the other way do not; shorts are measured alike."""
    verdict = check(decision(action, 100), risk_context(100, position, working=working, allow_shorts=True))
    assert (verdict.outcome, verdict.quantity) == (Outcome.SHRINK, Decimal(left))


def test_working_orders_on_both_sides_do_not_cancel_out():
    """A resting sale makes no room for a buy: it may never fill."""
    orders = [
        OpenOrder(strategy_id="another", side=side, quantity=Decimal(10), limit_price=Decimal(price))
        for side, price in ((Side.BUY, 90), (Side.SELL, 110))
    ]
    assert check(decision("buy", 100), risk_context(100, 20, orders=orders)).quantity == 20
    assert check(decision("sell", 100), risk_context(100, -20, orders=orders, allow_shorts=True)).quantity == 20


def test_full_position_takes_no_more():
    """At the limit, or beyond it, an entry is denied."""
    assert check(decision("buy", 1), risk_context(100, 50)).outcome is Outcome.DENY
    assert check(decision("buy", 1), risk_context(100, 60)).outcome is Outcome.DENY


def test_position_beyond_the_limit_can_be_reduced():
    """A sale that leaves less than there was passes, although what is left is still too much."""
    assert check(decision("sell", 1), risk_context(100, 500)).outcome is Outcome.ALLOW


@pytest.mark.parametrize("equity", [0, -500])
def test_account_without_equity_opens_nothing(equity):
    """A share of nothing is nothing."""
    assert check(decision("buy", 1), risk_context(100, equity=equity)).outcome is Outcome.DENY


def test_account_position_counts_and_not_the_strategy_s():
    """Two strategies in one symbol share its limit."""
    verdict = check(decision("buy", 30), risk_context(100, 40, strategy_position=0))
    assert (verdict.outcome, verdict.quantity) == (Outcome.SHRINK, Decimal(10))


def test_tighter_share_wins():
    """The strategy's own share counts when it is lower."""
    context = risk_context(100, limits=Limits(max_position_pct_equity=Decimal("0.01")))
    assert check(decision("buy", 30), context).quantity == 10
    assert check(decision("buy", 30), context, share=None).quantity == 10


def test_without_any_share_everything_passes():
    """No limit is no limit."""
    assert check(decision("buy", 10**6), risk_context(), share=None).outcome is Outcome.ALLOW

"""Selling what is not there."""

from decimal import Decimal

import pytest
from torghut_risk import NoShorts
from torghut_testing import decision, risk_context

from torghut_core import Outcome, Verdict


def check(proposed, context):
    return NoShorts(NoShorts.Params()).check(proposed, context)


def test_sale_of_all_that_is_held_passes():
    """Down to flat is no short."""
    verdict = check(decision("sell", 5), risk_context(position=5))
    assert verdict == Verdict("no-shorts", Outcome.ALLOW, "no-shorts", "5", "5")


@pytest.mark.parametrize(
    ("position", "strategy_position", "working", "account_working"),
    [(3, 3, 0, 0), (5, 5, -2, -2), (3, 5, 0, 0), (5, 3, 0, 0), (5, 5, 0, -2), (3, 3, 2, 2)],
)
def test_larger_sale_is_shrunk_to_what_is_held(position, strategy_position, working, account_working):
    """Three units are there: less what is being sold, by the strategy and by the account; not what is being bought."""
    context = risk_context(
        position=position, strategy_position=strategy_position, working=working, account_working=account_working
    )
    verdict = check(decision("sell", 10), context)
    assert (verdict.outcome, verdict.quantity, verdict.limit) == (Outcome.SHRINK, Decimal(3), "3")


@pytest.mark.parametrize(("position", "working"), [(0, 0), (-2, 0), (5, -5), (0, 5)])
def test_sale_of_nothing_held_is_denied(position, working):
    """Flat, short, on the way out or only on the way in: there is nothing to sell."""
    assert check(decision("sell", 1), risk_context(position=position, working=working)).outcome is Outcome.DENY


def test_buy_passes():
    """A buy sells nothing."""
    verdict = check(decision("buy", 10**6), risk_context())
    assert (verdict.outcome, verdict.value, verdict.limit) == (Outcome.ALLOW, "0", "0")


def test_setting_opens_the_rule():
    """TRADING_ALLOW_SHORTS turns the rule off; then there is no limit to show."""
    verdict = check(decision("sell", 10), risk_context(allow_shorts=True))
    assert (verdict.outcome, verdict.value, verdict.limit) == (Outcome.ALLOW, "10", "")

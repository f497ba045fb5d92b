"""What one strategy may have at work."""

from decimal import Decimal

import pytest
from torghut_risk import PerStrategyNotional
from torghut_testing import decision, risk_context

from torghut_core import Outcome, Verdict


def check(proposed, context, limit=5000, **params):
    return PerStrategyNotional(PerStrategyNotional.Params(max_strategy_notional=limit, **params)).check(
        proposed, context
    )


def test_order_that_reaches_the_limit_passes():
    """The limit itself is allowed."""
    verdict = check(decision("buy", 10), risk_context(100, strategy_exposure=4000))
    assert verdict == Verdict(
        "per-strategy-notional", Outcome.ALLOW, "per-strategy-notional", "5000", "5000", highest_price=Decimal(100)
    )


def test_larger_order_is_shrunk_to_what_is_left():
    """1000 left at 300 are 3 in whole units."""
    verdict = check(decision("buy", 10), risk_context(300, strategy_exposure=4000), quantity_step=1)
    assert (verdict.outcome, verdict.quantity, verdict.value) == (Outcome.SHRINK, Decimal(3), "7000")


@pytest.mark.parametrize("exposure", [5000, 6000])
def test_full_strategy_opens_nothing(exposure):
    """At the limit, or beyond it by moves of the price, an entry is denied."""
    assert check(decision("buy", 1), risk_context(strategy_exposure=exposure)).outcome is Outcome.DENY


def test_other_strategies_do_not_count():
    """What others hold and have working is theirs."""
    context = risk_context(100, position=1000, strategy_position=10, account_working=500)
    assert check(decision("buy", 40), context).outcome is Outcome.ALLOW


def test_own_working_orders_count():
    """What is on its way in is as good as there."""
    assert check(decision("buy", 40), risk_context(100, working=20)).quantity == 30


def test_exit_passes_beyond_the_limit():
    """What takes off the book is never too much."""
    assert check(decision("sell", 100), risk_context(100, 100)).outcome is Outcome.ALLOW

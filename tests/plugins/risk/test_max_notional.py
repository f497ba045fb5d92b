"""The notional of one order."""

from decimal import Decimal

import pytest
from hypothesis import given
from torghut_risk import MaxNotional
from torghut_testing import decision, decisions, risk_context, risk_contexts

from torghut_core import Limits, OrderType, Outcome, Verdict


def check(proposed, context, **params):
    return MaxNotional(MaxNotional.Params(**params)).check(proposed, context)


def test_order_at_the_limit_passes():
    """The limit itself is allowed; value and limit are there to be explained."""
    verdict = check(decision("buy", 10), risk_context(price=100), max_notional_per_trade="1000.00")
    assert verdict == Verdict("max-notional", Outcome.ALLOW, "max-notional", "1000", "1000", highest_price=Decimal(100))


@pytest.mark.parametrize("quantity", ["10.4", "10.5", "11"])
def test_limit_is_counted_in_whole_steps(quantity):
    """A limit of 10.5 units lets 10 through, of whatever is more: a larger order is never left with less."""
    verdict = check(decision("buy", quantity), risk_context(price=100), max_notional_per_trade=1050, quantity_step=1)
    assert verdict.quantity == 10


def test_quantity_within_the_last_whole_step_stays_as_it_is():
    """What is well within the limit need not be whole steps."""
    verdict = check(decision("buy", "9.5"), risk_context(price=100), max_notional_per_trade=1050, quantity_step=1)
    assert verdict.outcome is Outcome.ALLOW


def test_order_above_the_limit_is_shrunk_to_whole_steps():
    """What is left is rounded down: 1000 / 30 in steps of 0.01."""
    verdict = check(decision("buy", 50), risk_context(price=30), max_notional_per_trade=1000, quantity_step="0.01")
    assert (verdict.outcome, verdict.quantity) == (Outcome.SHRINK, Decimal("33.33"))
    assert (verdict.value, verdict.limit) == ("1500", "1000")


def test_order_of_which_nothing_is_left_is_denied():
    """Less than one step is nothing."""
    verdict = check(decision("buy", 2), risk_context(price=1001), max_notional_per_trade=1000, quantity_step=1)
    assert verdict == Verdict("max-notional", Outcome.DENY, "max-notional", "2002", "1000")


@pytest.mark.parametrize(
    ("rule", "strategy", "limit"), [("500", "800", "500"), ("800", "500", "500"), (None, "500", "500")]
)
def test_tighter_limit_wins(rule, strategy, limit):
    """A strategy can tighten the rule and the rule the strategy."""
    context = risk_context(price=1, limits=Limits(max_notional_per_trade=Decimal(strategy)))
    verdict = check(decision("buy", 1000), context, max_notional_per_trade=rule)
    assert (verdict.limit, verdict.quantity) == (limit, Decimal(limit))


def test_without_any_limit_everything_passes():
    """No limit is no limit, and the verdict still has the notional."""
    verdict = check(decision("buy", 10**9), risk_context(price=100))
    assert (verdict.outcome, verdict.value, verdict.limit) == (Outcome.ALLOW, "100000000000", "")


def test_exit_above_the_limit_passes_whole():
    """A position that grew beyond the limit can still be left."""
    assert check(decision("sell", 50), risk_context(100, 50), max_notional_per_trade=1000).outcome is Outcome.ALLOW


def test_reversal_is_cut_to_its_exit():
    """Selling 50 of 20 held at a limit of 10 sells the 20."""
    verdict = check(decision("sell", 50), risk_context(100, 20), max_notional_per_trade=1000)
    assert (verdict.outcome, verdict.quantity) == (Outcome.SHRINK, Decimal(20))


def test_limit_price_above_the_market_counts():
    """A buy that may pay 200 is measured at 200."""
    dear = decision("buy", 10, order_type=OrderType.LIMIT, limit_price=Decimal(200))
    assert check(dear, risk_context(price=100), max_notional_per_trade=1000).quantity == 5


@given(proposed=decisions(), context=risk_contexts())
def test_entry_that_passes_is_within_the_limit(proposed, context):
    """What is allowed or left of an order is at most the limit, except for what it closes."""
    verdict = check(proposed, context, max_notional_per_trade=10_000)
    quantity = {Outcome.ALLOW: proposed.quantity, Outcome.DENY: Decimal(0)}.get(verdict.outcome, verdict.quantity)
    assert quantity <= context.closable(proposed.action) or quantity * context.price <= Decimal(verdict.limit)

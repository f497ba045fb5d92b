"""What all symbols together may put at risk."""

from decimal import Decimal

import pydantic
import pytest
from torghut_risk import MaxGrossExposure
from torghut_testing import decision, risk_context

from torghut_core import OrderType, Outcome, Verdict


def check(proposed, context, **params):
    return MaxGrossExposure(MaxGrossExposure.Params(**params)).check(proposed, context)


def test_order_that_reaches_the_limit_passes():
    """The limit itself is allowed; value and limit are those of the account after the order."""
    verdict = check(decision("buy", 10), risk_context(100, gross_exposure=4000), max_gross_exposure=5000)
    assert verdict == Verdict(
        "max-gross-exposure", Outcome.ALLOW, "max-gross-exposure", "5000", "5000", highest_price=Decimal(100)
    )


def test_larger_order_is_shrunk_to_what_is_left():
    """1000 left at 300 are 3.3 in steps of 0.1."""
    context = risk_context(300, gross_exposure=4000)
    verdict = check(decision("buy", 10), context, max_gross_exposure=5000, quantity_step="0.1")
    assert (verdict.outcome, verdict.quantity, verdict.value) == (Outcome.SHRINK, Decimal("3.3"), "7000")


@pytest.mark.parametrize("action", ["buy", "sell"])
def test_account_at_the_limit_opens_nothing(action):
    """Long or short, what is full takes no more."""
    verdict = check(decision(action, 1), risk_context(gross_exposure=5000), max_gross_exposure=5000)
    assert verdict.outcome is Outcome.DENY


def test_working_orders_and_other_symbols_count():
    """Gross exposure is all of the account's: the context's number, not the symbol's."""
    context = risk_context(100, position=10, account_working=20)
    verdict = check(decision("buy", 30), context, max_gross_exposure=5000)
    assert (verdict.quantity, verdict.value) == (Decimal(20), "6000")


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"max_gross_exposure": 5000, "max_gross_pct_equity": "1.5"}, "5000"),
        ({"max_gross_exposure": 5000, "max_gross_pct_equity": "0.1"}, "1000"),
        ({"max_gross_pct_equity": "1.5"}, "15000"),
    ],
)
def test_lower_limit_wins(limits, limit):
    """Of a sum and a share of equity the lower one holds; a share may be above 1."""
    assert check(decision("buy", 1), risk_context(equity=10_000), **limits).limit == limit


def test_order_counts_at_the_worst_price_it_may_get():
    """A buy that may pay 200 is measured at 200."""
    dear = decision("buy", 10, order_type=OrderType.LIMIT, limit_price=Decimal(200))
    assert check(dear, risk_context(100), max_gross_exposure=1000).quantity == 5


def test_exit_passes_beyond_the_limit():
    """What takes off the book is never too much."""
    assert check(decision("sell", 50), risk_context(100, 50), max_gross_exposure=1000).outcome is Outcome.ALLOW


def test_reversal_counts_what_it_opens():
    """Selling 10 of 4 held opens 6, of which 500 left at 100 allow 5."""
    context = risk_context(100, 4, gross_exposure=400, allow_shorts=True)
    verdict = check(decision("sell", 10), context, max_gross_exposure=900)
    assert (verdict.outcome, verdict.quantity, verdict.value) == (Outcome.SHRINK, Decimal(9), "1000")


@pytest.mark.parametrize("equity", [0, -500])
def test_account_without_equity_opens_nothing(equity):
    """A share of nothing is nothing."""
    assert check(decision(), risk_context(equity=equity), max_gross_pct_equity=2).outcome is Outcome.DENY


def test_rule_without_a_limit_is_refused():
    """A rule that bounds nothing is a mistake in the catalog, and the message says what to give."""
    with pytest.raises(pydantic.ValidationError, match="max_gross_exposure, max_gross_pct_equity, or both"):
        MaxGrossExposure.Params()

"""What the account can pay for."""

from decimal import Decimal

from torghut_risk import BuyingPower
from torghut_testing import decision, risk_context

from torghut_core import Outcome, Verdict


def check(proposed, context, fee_buffer_bps=0, **params):
    return BuyingPower(BuyingPower.Params(fee_buffer_bps=fee_buffer_bps, **params)).check(proposed, context)


def test_order_that_takes_all_passes():
    """Buying power can be used up to the last cent."""
    verdict = check(decision("buy", 10), risk_context(price=100, buying_power=1000))
    assert verdict == Verdict("buying-power", Outcome.ALLOW, "buying-power", "1000", "1000", highest_price=Decimal(100))


def test_larger_order_is_shrunk():
    """What cannot be paid for is left out, in whole steps."""
    verdict = check(decision("buy", 10), risk_context(price=300, buying_power=1000), quantity_step="0.1")
    assert (verdict.outcome, verdict.quantity) == (Outcome.SHRINK, Decimal("3.3"))


def test_working_buys_and_fees_are_kept_back():
    """1000 less 400 reserved pays for 5 units at 100 with 10 % on top."""
    context = risk_context(price=100, buying_power=1000, reserved_cash=400)
    verdict = check(decision("buy", 10), context, fee_buffer_bps=1000, quantity_step=1)
    assert (verdict.quantity, verdict.value, verdict.limit) == (Decimal(5), "1100", "600")


def test_empty_account_buys_nothing():
    """With nothing left, or less, an entry is denied."""
    assert check(decision("buy", 1), risk_context(buying_power=0)).outcome is Outcome.DENY
    assert check(decision("buy", 1), risk_context(buying_power=100, reserved_cash=200)).outcome is Outcome.DENY


def test_exit_needs_no_buying_power():
    """Selling what is held, or buying back what is owed, passes on an empty account."""
    assert check(decision("sell", 5), risk_context(position=5, buying_power=-1)).outcome is Outcome.ALLOW
    assert check(decision("buy", 5), risk_context(position=-5, buying_power=-1)).outcome is Outcome.ALLOW


def test_reversal_pays_for_what_it_opens():
    """Selling 10 of 4 held opens 6 short, of which 300 at 100 cover 3."""
    context = risk_context(price=100, position=4, buying_power=300, allow_shorts=True)
    verdict = check(decision("sell", 10), context)
    assert (verdict.outcome, verdict.quantity, verdict.value) == (Outcome.SHRINK, Decimal(7), "600")

"""The pause between entries."""

from decimal import Decimal

import pytest
from torghut_risk import Cooldown
from torghut_testing import decision, risk_context

from torghut_core import Limits, Outcome, Verdict

NOW = 1_000_000_000_000


def check(proposed, elapsed, own=0, seconds=60, position=0):
    last = None if elapsed is None else NOW - int(elapsed * 10**9)
    context = risk_context(position=position, now=NOW, last_order_at=last, limits=Limits(cooldown_seconds=own))
    return Cooldown(Cooldown.Params(cooldown_seconds=seconds)).check(proposed, context)


def test_entry_after_the_pause_passes():
    """The pause is over when it is over, to the nanosecond."""
    assert check(decision(), 60) == Verdict("cooldown", Outcome.ALLOW, "cooldown", "60", "60")


def test_entry_within_the_pause_is_denied():
    """Half a second too early is too early."""
    assert check(decision(), 59.5) == Verdict("cooldown", Outcome.DENY, "cooldown", "59.5", "60")


def test_first_order_passes():
    """Before the first order there is nothing to wait for, and nothing to measure."""
    assert check(decision(), None) == Verdict("cooldown", Outcome.ALLOW, "cooldown", "", "60")


@pytest.mark.parametrize(("own", "seconds"), [(60, 10), (10, 60)])
def test_longer_pause_wins(own, seconds):
    """A strategy can lengthen the rule's pause and the rule the strategy's."""
    assert check(decision(), 30, own=own, seconds=seconds).outcome is Outcome.DENY


def test_exit_does_not_wait():
    """What is held can be sold at once."""
    assert check(decision("sell", 2), 0, position=2).outcome is Outcome.ALLOW


def test_reversal_is_cut_to_its_exit():
    """The part that opens the other side waits."""
    verdict = check(decision("sell", 5), 0, position=2)
    assert (verdict.outcome, verdict.quantity) == (Outcome.SHRINK, Decimal(2))

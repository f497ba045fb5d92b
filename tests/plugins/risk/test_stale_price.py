"""The age of the price."""

import pytest
from torghut_risk import StalePrice
from torghut_testing import decision, risk_context

from torghut_core import Outcome, Verdict

NOW = 1_000_000_000_000


def check(proposed, age_ns, position=0):
    context = risk_context(position=position, now=NOW, price_ts=NOW - age_ns)
    return StalePrice(StalePrice.Params(max_age_ms=500)).check(proposed, context)


@pytest.mark.parametrize(("age_ns", "value"), [(500_000_000, "500"), (0, "0"), (-1_000_000, "-1")])
def test_fresh_price_passes(age_ns, value):
    """Up to the limit the price is fresh, and so is one that is stamped later than now."""
    assert check(decision(), age_ns) == Verdict("stale-price", Outcome.ALLOW, "stale-price", value, "500")


def test_old_price_is_denied():
    """A nanosecond too old is too old."""
    assert check(decision(), 500_000_001) == Verdict("stale-price", Outcome.DENY, "stale-price", "500.000001", "500")


def test_exit_at_an_old_price_passes():
    """Better out at an unknown price than in."""
    assert check(decision("sell", 1), 10**12, position=1).outcome is Outcome.ALLOW

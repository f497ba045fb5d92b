"""How many orders: within a minute, and at work."""

import pytest
from torghut_risk import MaxOpenOrders, MaxOrdersPerMinute
from torghut_testing import decision, risk_context

from torghut_core import Outcome, Verdict

RULES = {
    "max-orders-per-minute": (MaxOrdersPerMinute, "max_orders_per_minute", "orders_last_minute"),
    "max-open-orders": (MaxOpenOrders, "max_open_orders", "open_orders"),
}


def check(name, count, proposed=None, position=0):
    rule, limit, counted = RULES[name]
    context = risk_context(position=position, **{counted: count})
    return rule(rule.Params(**{limit: 3})).check(proposed or decision(), context)


@pytest.mark.parametrize("name", RULES)
def test_last_order_within_the_limit_passes(name):
    """The third of three is allowed."""
    assert check(name, 2) == Verdict(name, Outcome.ALLOW, name, "2", "3")


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("count", [3, 4])
def test_order_beyond_the_limit_is_denied(name, count):
    """The fourth of three is not, nor when exits have made it more than three."""
    assert check(name, count) == Verdict(name, Outcome.DENY, name, str(count), "3")


@pytest.mark.parametrize("name", RULES)
def test_exit_passes_however_many_there_are(name):
    """Leaving never waits for a counter; a reversal is cut to its exit."""
    assert check(name, 100, decision("sell", 2), position=2).outcome is Outcome.ALLOW
    assert check(name, 100, decision("sell", 5), position=2).quantity == 2

"""What all rules of the package have in common."""

import pytest
import torghut_risk
from hypothesis import given
from torghut_testing import decisions, registered, risk_contexts

PARAMS = {
    "max-daily-loss": {"max_daily_loss_pct": "0.02"},
    "max-gross-exposure": {"max_gross_exposure": 100_000},
    "max-open-orders": {"max_open_orders": 100},
    "max-orders-per-minute": {"max_orders_per_minute": 100},
    "per-strategy-notional": {"max_strategy_notional": 100_000},
    "price-band": {"max_distance_pct": "0.05"},
    "symbol-allowlist": {"symbols": ["BTC/USD"]},
}
RULES = registered(torghut_risk, "register_risk_rules")


@pytest.mark.parametrize("name", RULES)
@given(proposed=decisions(), context=risk_contexts())
def test_verdict_carries_the_name_in_the_catalog(name, proposed, context):
    """An operator finds the rule that spoke, and always in the same words."""
    rule = RULES[name]
    verdict = rule(rule.Params(**PARAMS.get(name, {}))).check(proposed, context)
    assert (verdict.rule, verdict.code) == (name, name)
    assert "E" not in verdict.value.removeprefix("BTC/USD") + verdict.limit.removeprefix("BTC/USD")

"""What all rules of the package have in common."""

import pytest
import torghut_risk
from hypothesis import given
from torghut_testing import decisions, registered, risk_contexts

PARAMS = {"symbol-allowlist": {"symbols": ["BTC/USD"]}}
RULES = registered(torghut_risk, "register_risk_rules")


@pytest.mark.parametrize("name", RULES)
@given(proposed=decisions(), context=risk_contexts())
def test_verdict_carries_the_name_in_the_catalog(name, proposed, context):
    """An operator finds the rule that spoke, and always in the same words."""
    rule = RULES[name]
    verdict = rule(rule.Params(**PARAMS.get(name, {}))).check(proposed, context)
    assert (verdict.rule, verdict.code) == (name, name)
    assert "E" not in verdict.value.removeprefix("BTC/USD") + verdict.limit.removeprefix("BTC/USD")

"""What this rule promises; the checks of every rule run by themselves."""

from acme_alpha import AcmeAlpha
from torghut_core import Outcome
from torghut_testing import decision, risk_context


def test_penny_stock_is_denied():
    rule = AcmeAlpha(AcmeAlpha.Params(min_price="5"))
    assert rule.check(decision("buy", 10), risk_context(price="4.99")).outcome is Outcome.DENY
    assert rule.check(decision("buy", 10), risk_context(price="5")).outcome is Outcome.ALLOW

"""What this advisor promises; the checks of every advisor run by themselves."""

from decimal import Decimal

from acme_alpha import AcmeAlpha
from torghut_core import Outcome
from torghut_testing import decision, risk_context


def test_entry_after_a_jump_gets_a_veto():
    advisor = AcmeAlpha(AcmeAlpha.Params(max_jump="0.05"))
    calm, wild = (risk_context(price=price, recent_price=Decimal(100)) for price in ("104", "106"))
    assert advisor.review(decision("buy", 10), calm).outcome is Outcome.ALLOW
    assert advisor.review(decision("buy", 10), wild).outcome is Outcome.DENY

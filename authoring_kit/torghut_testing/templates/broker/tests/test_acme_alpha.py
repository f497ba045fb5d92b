"""What this broker promises; the checks of every broker run by themselves."""

from decimal import Decimal

from acme_alpha import AcmeAlpha
from torghut_core import Side
from torghut_testing import intent, trade_batch


def test_a_unit_costs_its_price_and_the_fee():
    broker = AcmeAlpha(AcmeAlpha.Params(cash="1000", fee="2"))
    order = intent("one", Side.BUY, 1)
    broker.submit(order)
    broker.advance(trade_batch([(order.symbol, 1, 100.0, 5.0)]), 0, 1)
    assert broker.account().cash == Decimal(898)
    assert broker.account().equity == Decimal(998)

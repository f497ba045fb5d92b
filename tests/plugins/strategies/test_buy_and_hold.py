"""The benchmark."""

from decimal import Decimal

from torghut_strategies import BuyAndHold
from torghut_testing import Rehearsal, random_rows

from torghut_core import Side


def test_each_symbol_is_bought_once_and_kept():
    """One purchase per symbol, at its first row, and nothing after."""
    rows = random_rows((), seed=0, count=50, symbols=("BTC/USD", "ES", "SPY"))
    rehearsal = Rehearsal(BuyAndHold(BuyAndHold.Params(quantity="0.25")))
    decisions = rehearsal.run(rows)
    assert [decision.symbol for decision in decisions] == ["BTC/USD", "ES", "SPY"]
    assert {decision.action for decision in decisions} == {Side.BUY}
    assert rehearsal.context("ES").position.quantity == Decimal("0.25")


def test_denied_purchase_is_tried_again():
    """What was never filled is not held: the next row asks again."""
    first, second = random_rows((), seed=0, count=2, symbols=("ES",))
    strategy = BuyAndHold(BuyAndHold.Params())
    assert Rehearsal(strategy).show(first)
    assert Rehearsal(strategy).show(second)

"""Which part of an order only takes off the book: the one place that says it, `RiskContext.closable`."""

from decimal import Decimal

import pytest
from hypothesis import given
from torghut_testing import decisions, risk_context, risk_contexts

from torghut_core import Side


@pytest.mark.parametrize(
    ("position", "working", "sell", "buy"),
    [
        (0, 0, 0, 0),
        (5, 0, 5, 0),
        (-5, 0, 0, 5),
        (5, -2, 3, 0),
        (5, -5, 0, 0),
        (5, -8, 0, 0),
        (5, 3, 5, 0),
        (-5, 2, 0, 3),
        (-5, -3, 0, 5),
        (0, 3, 0, 0),
    ],
)
def test_exits_under_way_are_gone_and_entries_not_yet_there(position, working, sell, buy):
    """Held or owed units count once, less what is being closed already."""
    context = risk_context(position=position, working=working)
    assert (context.closable(Side.SELL), context.closable(Side.BUY)) == (sell, buy)


def test_smaller_book_counts():
    """What the account does not have cannot be closed, and what is not the strategy's is not its to close."""
    assert risk_context(position=3, strategy_position=5).closable(Side.SELL) == 3
    assert risk_context(position=5, strategy_position=3).closable(Side.SELL) == 3
    assert risk_context(position=5, strategy_position=-3).closable(Side.SELL) == 0


@given(proposed=decisions(), context=risk_contexts())
def test_closing_never_turns_a_book_round(proposed, context):
    """After selling or buying back what is closable, with or without the orders under way, no book has changed sign."""
    units = context.closable(proposed.action) * (1 if proposed.action is Side.BUY else -1)
    for position, working in (
        (context.position, context.account_working),
        (context.strategy_position, context.working),
    ):
        for held in (position, position + working):
            assert not units or (held + units) * held >= Decimal(0)
            assert abs(held + units) <= abs(held)

"""Which part of an order only takes off the book: the one place that says it, `RiskContext.closable`."""

from decimal import Decimal
from itertools import combinations

import msgspec
import pytest
from hypothesis import given
from torghut_testing import decisions, risk_context, risk_contexts

from torghut_core import OpenOrder, Side

STRATEGY = risk_context().strategy_id


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


def test_resting_entry_and_exit_in_flight_do_not_cancel_out():
    """Regression: beside a resting buy of 3 an exit of all 5 seemed to leave 3 to sell, which made the account short."""
    orders = [
        OpenOrder(strategy_id=STRATEGY, side=Side.BUY, quantity=Decimal(3), limit_price=Decimal(90)),
        OpenOrder(strategy_id=STRATEGY, side=Side.SELL, quantity=Decimal(5)),
    ]
    assert risk_context(position=5, orders=orders).closable(Side.SELL) == 0
    others = [msgspec.structs.replace(order, strategy_id="another") for order in orders]
    assert risk_context(position=5, orders=others).closable(Side.SELL) == 0
    assert risk_context(position=8, strategy_position=5, orders=others).closable(Side.SELL) == 3


def test_smaller_book_counts():
    """What the account does not have cannot be closed, and what is not the strategy's is not its to close."""
    assert risk_context(position=3, strategy_position=5).closable(Side.SELL) == 3
    assert risk_context(position=5, strategy_position=3).closable(Side.SELL) == 3
    assert risk_context(position=5, strategy_position=-3).closable(Side.SELL) == 0


@given(proposed=decisions(), context=risk_contexts())
def test_closing_never_turns_a_book_round(proposed, context):
    """Whichever orders under way fill before, selling or buying back what is closable only makes a book smaller."""
    units = signed(proposed.action, context.closable(proposed.action))
    own = [order for order in context.orders if order.strategy_id == context.strategy_id]
    for position, working in ((context.position, context.orders), (context.strategy_position, own)):
        for count in range(len(working) + 1):
            for filled in combinations(working, count):
                held = position + sum(signed(order.side, order.quantity) for order in filled)
                assert not units or (held + units) * held >= 0
                assert abs(held + units) <= abs(held)


def signed(side, quantity):
    return quantity if side is Side.BUY else -quantity

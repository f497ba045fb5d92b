"""The kit's rehearsal: brackets and orders that get other terms, as simple as its other fills."""

import pytest
from torghut_testing import Rehearsal, Row, context, intent, signal

from support.actions import Plan, buy, close, sell
from torghut_core import OrderType, Purpose, Side


def rehearsed(closes, *acts):
    """What is held after each close, and the types of the orders that are open then, as a plan answers the rows in turn."""
    rehearsal = Rehearsal(Plan(*acts))
    found = []
    for price in closes:
        rehearsal.show(Row(signal(close=price), price))
        seen = rehearsal.context("BTC/USD")
        found.append((seen.position.quantity, [str(order.intent.order_type) for order in seen.orders]))
    return rehearsal.context("BTC/USD"), found


@pytest.mark.parametrize(
    ("closes", "gain"),
    [([99, 90], -10), ([101, 110], 10), ([99, 85], -15), ([99, 101], None)],
)
def test_one_leg_ends_the_position_and_the_other(closes, gain):
    """At the price of the row that reaches it; what is between them changes nothing."""
    seen, found = rehearsed([100, 100, *closes], buy(2, stop_loss=90, take_profit=110))
    assert found[1] == (2, ["stop", "limit"])
    assert found[-1] == ((2, ["stop", "limit"]) if gain is None else (0, []))
    assert seen.position.realized_pnl == 2 * (gain or 0)
    assert seen.is_flat is (gain is not None)
    assert seen.protecting == (-4 if gain is None else 0)


@pytest.mark.parametrize(
    ("act", "waits", "reaches"),
    [
        (buy(1, order_type=OrderType.LIMIT, limit_price=95), 96, 94),
        (sell(1, order_type=OrderType.LIMIT, limit_price=105), 104, 106),
        (buy(1, order_type=OrderType.STOP, stop_price=105), 104, 106),
        (sell(1, order_type=OrderType.STOP, stop_price=95), 96, 94),
        (buy(1, order_type=OrderType.TRAILING_STOP, trail_pct=5), 99, 105),
    ],
)
def test_an_entry_waits_for_its_price(act, waits, reaches):
    """Among the open orders of its strategy, which may cancel or change it: a strategy meets such rows in trading."""
    seen, found = rehearsed([100, waits, waits, reaches], act)
    assert [held for held, _ in found[:3]] == [0, 0, 0]
    assert len(found[2][1]) == 1
    assert abs(found[3][0]) == 1
    assert abs(seen.position.average_price) == reaches


def test_a_trailing_leg_follows():
    """At its distance from the best price since the fill, for a short position too."""
    assert rehearsed([100, 100, 110, 120, 111, 110], buy(1, trail=10))[0].position.realized_pnl == 10
    assert rehearsed([100, 100, 90, 80, 89, 90], sell(1, trail=10))[0].position.realized_pnl == 10


def test_a_close_takes_the_legs_back():
    """And so does what closes the position otherwise."""
    for closing in (close(), sell(1)):
        assert rehearsed([100] * 4, buy(1, stop_loss=90, take_profit=110), None, closing)[1][-1] == (0, [])


def test_a_reversal_protects_what_it_opens():
    """The part that closes has no legs."""
    _, found = rehearsed([100] * 4, buy(1), None, sell(3, stop_loss=110))
    assert found[-1] == (-2, ["stop"])


def test_a_leg_can_be_moved_and_let_go():
    """Moved, it ends the position elsewhere; canceled, it leaves the other."""
    move = lambda context: context.replace(context.orders[0], because="follow", stop_price=99)  # noqa: E731
    let_go = lambda context: context.cancel(context.orders[1], because="let it run")  # noqa: E731
    bracket = buy(1, stop_loss=90, take_profit=110)
    _, found = rehearsed([100, 100, 100, 105, 120, 99], bracket, None, move, let_go)
    assert found[3:] == [(1, ["stop"]), (1, ["stop"]), (0, [])]


def test_an_order_that_is_done_is_not_changed():
    """Nothing happens to it, and no other order is made."""
    kept = []

    def keep(context):
        kept.extend(context.orders)

    late = lambda context: context.replace(kept[0], because="late", stop_price=101)  # noqa: E731
    _, found = rehearsed([100, 100, 90, 100, 100], buy(1, stop_loss=90), keep, late)
    assert found[1:] == [(1, ["stop"]), (0, []), (0, []), (0, [])]


def test_a_context_has_the_orders_that_it_is_given():
    """Counted as the kernel counts them."""
    stop = intent("stop", Side.SELL, 2, order_type=OrderType.STOP, stop_price=90, purpose=Purpose.EXIT)
    seen = context(position=2, orders=[stop, intent("bid", Side.BUY, 1, order_type=OrderType.LIMIT, limit_price=80)])
    assert [order.intent.client_order_id for order in seen.orders] == ["stop", "bid"]
    assert (seen.protecting, seen.buying, seen.selling) == (-2, 1, 0)
    assert seen.replace(seen.orders[0], because="follow", stop_price=95).replaces == "stop"

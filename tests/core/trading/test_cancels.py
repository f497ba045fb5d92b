"""What a strategy does with its open orders: it sees them, and takes them back."""

from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import actions
from support.actions import buy, sell
from support.effort import examples
from torghut_core.model.trading import Cancel, OrderState, OrderType, TimeInForce

GTC = TimeInForce.GTC


def open_orders(context):
    return [(order.intent.side, order.remaining, order.state) for order in context.orders]


play = partial(actions.play, sees=open_orders)


def bid(price, quantity=1):
    return buy(quantity, order_type=OrderType.LIMIT, limit_price=Decimal(price), time_in_force=GTC)


def stop(price, quantity=1):
    return sell(quantity, order_type=OrderType.STOP, stop_price=Decimal(price), time_in_force=GTC)


def cancel_first(context):
    return context.cancel(context.orders[0], because="changed its mind")


def states(audit):
    return [(row["side"], OrderState(row["state"]), row["reason"]) for row in audit.orders("test")]


def test_an_open_order_is_seen_and_taken_back():
    """With the reason in the audit; what it would have met afterwards does nothing."""
    plan, engine, audit = play([100, 100, 100, 80, 80], bid(90), cancel_first)
    assert plan.seen == [[], [("buy", 1, "accepted")], [], [], []]
    assert states(audit) == [("buy", "canceled", "changed its mind")]
    assert not engine.books.working
    assert engine.totals.fills == 0


def test_all_are_taken_back_but_protection_unless_it_is_named():
    """A grid is pulled, and the stop stays."""
    grid = lambda context: [act(context) for act in (bid(90), bid(80), bid(70))]  # noqa: E731
    pull = lambda context: context.cancel_all(because="pull the grid")  # noqa: E731
    all_ = lambda context: context.cancel_all(because="and the stop", protection=True)  # noqa: E731
    plan, _, audit = play([100] * 7, buy(1), grid, stop(50), pull, None, all_)
    assert [len(seen) for seen in plan.seen] == [0, 0, 3, 4, 1, 1, 0]
    reasons = {reason for _, state, reason in states(audit) if state == "canceled"}
    assert reasons == {"pull the grid", "and the stop"}


def test_it_cancels_and_orders_in_one_answer():
    """In the order in which they are given: the old order is gone before the new one is judged."""
    move = lambda context: [*context.cancel_all(because="follow"), bid(95)(context)]  # noqa: E731
    plan, engine, _ = play([100, 100, 100, 100], bid(90), move)
    assert [len(seen) for seen in plan.seen] == [0, 1, 1, 1]
    (working,) = engine.books.working.values()
    assert working.order.intent.limit_price == 95
    assert engine.totals.decisions == 2, "a cancel is no decision"


def test_a_cancel_on_its_way_may_come_too_late():
    """What is filled before it arrives is filled; asking again changes nothing."""
    plan, engine, _ = play(
        [100, 100, 100, 100, 100, 80, 80], bid(90), None, None, cancel_first, cancel_first, latency_ms=150_000
    )
    assert plan.seen[4] == [("buy", 1, "pending_cancel")]
    assert engine.books.positions["one", "ES"].quantity == 1


@pytest.mark.parametrize("name", ["tg-of-another", ""])
def test_an_order_that_is_not_its_own_is_left_alone(name):
    """Unknown ids, and those of orders that are done, do nothing."""
    cancel = lambda context: Cancel(symbol="ES", client_order_id=name, because="try")  # noqa: E731
    _, engine, _ = play([100, 100, 100], bid(90), cancel)
    assert len(engine.books.working) == 1
    assert engine.roster.quarantined == {}


@pytest.mark.parametrize(
    "cancel",
    [
        Cancel(symbol="NQ", client_order_id="tg-1", because="try"),
        Cancel(symbol="ES", client_order_id=1, because="try"),
        Cancel(symbol="ES", client_order_id="tg-1", because=None),
    ],
)
def test_a_cancel_that_is_none_ends_the_strategy(cancel):
    """As a decision that is none."""
    _, engine, _ = play([100, 100, 100], bid(90), lambda _: cancel)
    assert "on_signal gave a" in engine.roster.quarantined["one"]


@examples(40)
@given(
    prices=st.lists(st.integers(80, 110), min_size=8, max_size=30),
    acts=st.lists(st.sampled_from(["bid", "stop", "buy", "cancel", "all", "none"]), max_size=30),
    cuts=st.sets(st.integers(1, 29)),
    latency_ms=st.sampled_from([0, 30_000, 90_000]),
)
def test_cancels_are_the_same_however_the_stream_is_cut(prices, acts, cuts, latency_ms):
    """Orders, fills and reasons do not depend on batches; an order that was canceled is filled no more."""
    known = {
        "bid": bid(95),
        "stop": stop(90),
        "buy": buy(1),
        "cancel": lambda context: cancel_first(context) if context.orders else None,
        "all": lambda context: context.cancel_all(because="all", protection=True),
        "none": None,
    }
    plan, engine, audit = play(prices, *map(known.get, acts), latency_ms=latency_ms)
    other, cut_engine, cut_audit = play(prices, *map(known.get, acts), cuts=cuts, latency_ms=latency_ms)
    assert (other.seen, cut_engine.digest, states(cut_audit)) == (plan.seen, engine.digest, states(audit))

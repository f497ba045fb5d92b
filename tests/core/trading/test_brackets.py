"""Brackets: what protects an entry from its fills on, each leg an order of its own, of which one cancels the other."""

from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import actions
from support.actions import buy, close, sell
from support.effort import examples
from torghut_core.model.trading import OrderType, TimeInForce

GTC = TimeInForce.GTC


def held_and_legs(context):
    return (context.position.quantity, sorted((str(each.intent.order_type), each.remaining) for each in context.orders))


play = partial(actions.play, sees=held_and_legs)


def orders(audit):
    """Of each order: side, type, quantity, state, average price."""
    return [
        (row["side"], row["order_type"], row["filled_quantity"], row["state"], row["average_price"])
        for row in audit.orders("test")
    ]


def bracket(quantity=1, **legs):
    return buy(quantity, **{"stop_loss": 90, "take_profit": 110, **legs})


def test_its_legs_come_with_the_fill():
    """As exits of the filled quantity that rest till canceled, and that count neither as entries nor as exits on their way."""
    sees = lambda context: (context.is_flat, context.is_long, context.buying, context.selling)  # noqa: E731
    plan, engine, audit = play([100, 100, 100], bracket(2), sees=sees)
    assert plan.seen == [(True, False, 0, 0), (False, True, 0, 0), (False, True, 0, 0)]
    assert orders(audit) == [
        ("buy", "market", 2, "filled", 100),
        ("sell", "stop", 0, "accepted", 0),
        ("sell", "limit", 0, "accepted", 0),
    ]
    entry, stop, profit = (row["client_order_id"] for row in audit.orders("test"))
    assert (stop, profit) == (f"{entry}-s1", f"{entry}-p1")
    legs = [working.order.intent for working in engine.books.working.values()]
    assert {(leg.parent, leg.time_in_force, leg.is_protection) for leg in legs} == {(entry, GTC, True)}


@pytest.mark.parametrize(("price", "kind"), [(89, "stop"), (111, "limit")])
def test_one_leg_cancels_the_other(price, kind):
    """Whichever is reached: the position is closed once."""
    plan, engine, audit = play([100, 100, price, price, 89, 111], bracket(2))
    assert plan.seen[-1] == (0, [])
    filled = [each for each in orders(audit) if each[3] == "filled"]
    assert [each[1] for each in filled] == ["market", kind]
    assert not engine.books.working
    assert engine.totals.fills == 2


def test_the_stop_comes_first_inside_one_bar():
    """What came first in a bar that reaches both is unknown."""
    _, _, audit = play([100, 100, (100, 120, 80, 100)], bracket())
    assert ("sell", "stop", 1, "filled", 90) in orders(audit)


@pytest.mark.parametrize(
    ("bar", "ends"),
    [
        ((100, 105, 89, 95), ("stop", 90)),
        ((100, 111, 95, 105), ("limit", 110)),
        ((100, 111, 89, 95), ("stop", 90)),
        ((88, 95, 85, 90), ("stop", 88)),
        ((112, 115, 111, 112), ("limit", 112)),
    ],
)
def test_legs_meet_the_rest_of_the_bar_whose_open_filled_the_entry(bar, ends):
    """All of it came after."""
    plan, _, audit = play([100, bar, 100], bracket())
    assert plan.seen[1] == (0, []), "the strategy sees the bar's end"
    assert ("sell", ends[0], 1, "filled", ends[1]) in orders(audit)


@pytest.mark.parametrize(
    ("bar", "ends"),
    [
        ((100, 111, 94, 105), None),  # the high may be from before
        ((100, 100, 89, 100), ("stop", 90)),  # the low came after the limit was reached
        ((100, 100, 94, 112), ("limit", 110)),  # the close came after
    ],
)
def test_legs_of_an_entry_at_its_limit_meet_what_certainly_came_after(bar, ends):
    """The end of the bar beyond the limit, and its close."""
    entry = buy(1, order_type=OrderType.LIMIT, limit_price=95, stop_loss=90, take_profit=110)
    plan, _, audit = play([100, bar], entry)
    if ends is None:
        assert plan.seen[1][0] == 1
    else:
        assert ("sell", ends[0], 1, "filled", ends[1]) in orders(audit)


@pytest.mark.parametrize(
    ("bar", "ends"),
    [
        ((100, 106, 89, 104), None),  # the low may be from before
        ((100, 112, 99, 104), None),  # of what is in its favor only the close counts
        ((100, 106, 89, 89), ("stop", 90)),
        ((100, 112, 99, 111), ("limit", 110)),
    ],
)
def test_legs_of_an_entry_at_its_stop_meet_the_close(bar, ends):
    """Nothing else of the bar certainly came after."""
    entry = buy(1, order_type=OrderType.STOP, stop_price=105, stop_loss=90, take_profit=110)
    plan, _, audit = play([100, bar], entry)
    if ends is None:
        assert plan.seen[1][0] == 1
    else:
        assert ("sell", ends[0], 1, "filled", ends[1]) in orders(audit)


def test_a_trailing_stop_follows():
    """At its distance from the best price since the fill."""
    _, _, audit = play([100, 100, 110, 120, 108], buy(1, trail=10))
    assert ("sell", "trailing_stop", 1, "filled", 108) in orders(audit)


def test_a_short_entry_is_protected_from_above():
    """By mirrored legs."""
    _, _, audit = play([100, 100, 111], sell(1, stop_loss=110, take_profit=90))
    assert ("buy", "stop", 1, "filled", 111) in orders(audit)


def test_each_fill_has_its_pair():
    """An entry that fills in parts is protected in these parts, at once; one bar may close all of them."""
    plan, engine, audit = play([100, 100, 100, 100, 89, 89, 89], bracket(8), participation=Decimal("0.3"))
    assert plan.seen[3] == (8, [("limit", 2), ("limit", 3), ("limit", 3), ("stop", 2), ("stop", 3), ("stop", 3)])
    assert engine.books.positions["one", "ES"].quantity == 0
    assert not engine.books.working
    sold = sum(row["filled_quantity"] for row in audit.orders("test") if row["side"] == "sell")
    assert sold == 8


def test_a_leg_that_fills_in_part_makes_the_other_smaller():
    """So that both never sell more than is held."""
    plan, _, _ = play([100, 100, 100, 89], bracket(2), bracket(2), participation=Decimal("0.3"))
    assert plan.seen[2] == (4, [("limit", 2), ("limit", 2), ("stop", 2), ("stop", 2)])
    assert plan.seen[3] == (1, [("limit", 1), ("stop", 1)])


def test_what_is_sold_otherwise_releases_the_oldest_pair():
    """All pairs together protect what is held once."""
    plan, _, _ = play([100] * 6, bracket(2), bracket(2, stop_loss=80), None, sell(3), None)
    assert plan.seen[3] == (4, [("limit", 2), ("limit", 2), ("stop", 2), ("stop", 2)])
    assert plan.seen[4] == (1, [("limit", 1), ("stop", 1)])


def test_a_close_takes_the_legs_back():
    """And closes all of it."""
    plan, engine, _ = play([100] * 4, bracket(2), close())
    assert plan.seen[2] == (0, [])
    assert not engine.books.working


def test_a_reversal_protects_what_it_opens():
    """The leg that closes has no bracket."""
    plan, _, _ = play([100] * 5, buy(1), sell(3, stop_loss=110, take_profit=90))
    assert plan.seen[-1] == (-2, [("limit", 2), ("stop", 2)])


def test_a_strategy_may_let_a_leg_go_or_move_it():
    """What it cancels does not come back; a stop that is moved is the same order."""
    trail = lambda context: context.replace(  # noqa: E731
        next(each for each in context.orders if each.intent.order_type == "stop"), because="follow", stop_price=95
    )
    drop = lambda context: context.cancel(context.orders[1], because="let it run")  # noqa: E731
    plan, _, audit = play([100, 100, 100, 100, 94], bracket(), trail, drop)
    assert plan.seen[3] == (1, [("stop", 1)])
    assert ("sell", "stop", 1, "filled", 94) in orders(audit)
    assert len(orders(audit)) == 3


@pytest.mark.parametrize(
    ("legs", "said"),
    [
        ({"stop_loss": 100}, "stop_loss 100 is not below the entry at 100"),
        ({"stop_loss": 101}, "stop_loss 101 is not below the entry at 100"),
        ({"take_profit": 99}, "take_profit 99 is not above the entry at 100"),
        ({"trail": 5}, "stop_loss and trail are two stops"),
        ({"stop_loss": 0}, "stop_loss 0 is not positive"),
        ({"stop_loss": None, "trail": -1}, "trail -1 is not positive"),
    ],
)
def test_a_bracket_that_protects_nothing_is_denied(legs, said):
    """With what is wrong about it."""
    _, engine, audit = play([100, 100], bracket(**legs))
    assert engine.totals.denials == {"bracket-valid": 1}
    (decision,) = audit.decisions("test")
    assert said in {verdict["code"]: verdict["value"] for verdict in decision["verdicts"]}["bracket-valid"]


@examples(60)
@given(
    bars=st.lists(
        st.tuples(*[st.integers(80, 120)] * 4).map(lambda p: (p[0], max(p), min(p), p[3])), min_size=6, max_size=25
    ),
    acts=st.lists(
        st.sampled_from(["bracket", "trail", "limit", "short", "close", "sell", "move", "none"]), max_size=25
    ),
    cuts=st.sets(st.integers(1, 24)),
    latency_ms=st.sampled_from([0, 90_000]),
    participation=st.sampled_from([None, Decimal("0.2")]),
)
def test_brackets_are_the_same_however_the_stream_is_cut(bars, acts, cuts, latency_ms, participation):
    """And what is held is never protected by more, once all that is under way has arrived."""
    known = {
        "bracket": bracket(3),
        "trail": buy(2, trail=7, take_profit=130),
        "limit": buy(2, order_type=OrderType.LIMIT, limit_price=95, stop_loss=85, take_profit=105, time_in_force=GTC),
        "short": sell(4, stop_loss=112, take_profit=88),
        "close": close(),
        "sell": sell(1),
        "move": lambda context: [
            context.replace(each, because="up", stop_price=each.intent.stop_price + 2)
            for each in context.orders
            if each.intent.order_type == "stop"
        ],
        "none": None,
    }
    terms = {"latency_ms": latency_ms, "participation": participation}
    plan, engine, audit = play(bars, *map(known.get, acts), **terms)
    other, cut_engine, cut_audit = play(bars, *map(known.get, acts), cuts=cuts, **terms)
    assert (other.seen, cut_engine.digest, orders(cut_audit)) == (plan.seen, engine.digest, orders(audit))
    if not latency_ms:
        for held, legs in plan.seen:
            for kinds in (("stop", "trailing_stop"), ("limit",)):
                assert sum(left for kind, left in legs if kind in kinds and kind != "limit") <= abs(held)


@pytest.mark.parametrize("latency_ms", [0, 90_000])
def test_legs_of_both_sides_at_a_time_fit_what_is_held(latency_ms):
    """A reversal has legs of what was held and of what is held now, for a while: neither hides the other."""
    bars = [100] * 20 + [111] * 4 + [89] * 4
    flip = lambda context: context.sell(4, because="flip", stop_loss=110, take_profit=80)  # noqa: E731
    _plan, engine, _ = play(bars, bracket(2), None, None, None, flip, latency_ms=latency_ms)
    assert engine.books.positions["one", "ES"].quantity == 0
    assert not engine.books.working
    assert engine.books.context("one", "ES").protections == 0


def test_a_leg_does_not_grow_beyond_its_fill():
    """Two stops would sell the same units."""
    grow = lambda context: [context.replace(each, because="more", quantity=9) for each in context.orders]  # noqa: E731
    plan, _, _ = play([100] * 5, bracket(3), bracket(2), grow, None)
    assert plan.seen[4] == (5, [("limit", 2), ("limit", 3), ("stop", 2), ("stop", 3)])


@pytest.mark.parametrize(("limit", "state"), [(85, "denied"), (112, "denied"), (96, "allowed")])
def test_an_entry_is_replaced_as_one_that_its_bracket_protects(limit, state):
    """Terms on which its legs would protect nothing are denied, as for a new order."""
    entry = buy(1, order_type=OrderType.LIMIT, limit_price=95, stop_loss=90, take_profit=110, time_in_force=GTC)
    move = lambda context: context.replace(context.orders[0], because="move", limit_price=limit)  # noqa: E731
    _, _, audit = play([100] * 4, entry, move)
    assert [row["status"] for row in audit.decisions("test")] == ["allowed", state]

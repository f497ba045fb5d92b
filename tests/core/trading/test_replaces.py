"""An open order that gets other terms: the same order, judged as what it would become."""

from decimal import Decimal
from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_risk import MaxNotional

from support import actions
from support.actions import buy, sell
from support.effort import examples
from torghut_core.model.trading import OrderType, TimeInForce

GTC = TimeInForce.GTC


def terms_of(context):
    return [(each.remaining, each.intent.limit_price or each.intent.stop_price) for each in context.orders]


play = partial(actions.play, sees=terms_of)


def bid(price, quantity=1):
    return buy(quantity, order_type=OrderType.LIMIT, limit_price=price, time_in_force=GTC)


def move(place=0, **terms):
    """Replace one of the open orders, where it is open."""
    return lambda context: (
        context.replace(context.orders[place], because="move", **terms) if len(context.orders) > place else None
    )


def test_it_is_the_same_order_on_other_terms():
    """With the decision that changed it beside it, and no second order."""
    plan, engine, audit = play([100, 100, 100, (98, 98, 96, 98)], bid(90), move(limit_price=97, quantity=3))
    assert plan.seen[2] == [(3, 97)]
    (row,) = audit.orders("test")
    assert (row["quantity"], row["limit_price"], row["state"], row["average_price"]) == (3, 97, "filled", 97)
    _first, second = audit.decisions("test")
    assert (second["status"], second["params"]["replaces"]) == ("allowed", row["client_order_id"])
    assert (engine.totals.decisions, engine.totals.denied, engine.totals.orders) == (2, 0, 1)


def test_what_is_filled_of_it_stays():
    """`quantity` is what is to remain open."""
    plan, engine, _ = play([100, 100, 89, 100, 80], bid(90, 5), None, move(quantity=4), participation=Decimal("0.3"))
    assert plan.seen[2] == [(2, 90)]
    assert plan.seen[3] == [(4, 90)]
    assert engine.books.positions["one", "ES"].quantity == 6


def test_a_stop_follows_the_price():
    """Moved row by row, it ends the position at its last price."""
    stop = sell(1, order_type=OrderType.STOP, stop_price=90, time_in_force=GTC)
    plan, _, audit = play([100, 100, 110, 120, 120, 104], buy(1), stop, move(stop_price=98), move(stop_price=105))
    assert [seen for seen in plan.seen if seen] == [[(1, 90)], [(1, 98)], [(1, 105)]]
    assert [row["average_price"] for row in audit.orders("test")] == [100, 104]


@pytest.mark.parametrize("latency_ms", [0, 90_000])
def test_the_same_terms_ask_for_nothing(latency_ms):
    """No request is made where nothing would change."""
    _, engine, audit = play([100] * 5, bid(90), None, None, move(limit_price=90), latency_ms=latency_ms)
    assert "replace" not in {row["event"] for row in audit.rows("execution_events")}
    assert len(engine.books.working) == 1


def test_rules_judge_what_it_would_become():
    """Without the order as it is: what they deny leaves it as it was, what they shrink is what it gets."""
    rule = MaxNotional(MaxNotional.Params(max_notional_per_trade=300))
    plan, _engine, audit = play([100] * 5, bid(90, 2), move(quantity=3), move(quantity=5), rules=[("max", rule)])
    assert plan.seen[2] == [(3, 90)]
    assert plan.seen[3] == [(3, 90)]
    assert [row["status"] for row in audit.decisions("test")] == ["allowed"] * 3


def test_an_exit_never_grows_beyond_what_is_held():
    """However much of it is asked for."""
    profit = sell(2, order_type=OrderType.LIMIT, limit_price=110, time_in_force=GTC)
    plan, engine, _ = play([100, 100, 100, 100, 111], buy(2), profit, move(quantity=9))
    assert plan.seen[3] == [(2, 110)]
    assert engine.books.positions["one", "ES"].quantity == 0


@pytest.mark.parametrize(("latency_ms", "state"), [(0, "canceled"), (90_000, "pending_cancel")])
def test_nothing_happens_to_an_order_that_cannot_be_replaced(latency_ms, state):
    """Done, or on its way there: no decision, no request."""
    kept = []

    def cancel(context):
        kept.extend(context.orders)
        return context.cancel(kept[0], because="gone")

    late = lambda context: context.replace(kept[0], because="late", limit_price=95)  # noqa: E731
    _, engine, audit = play([100] * 5, bid(90), None, cancel, late, latency_ms=latency_ms)
    assert engine.totals.decisions == 1
    assert {row["event"] for row in audit.rows("execution_events")} >= {"cancel"}
    assert "replace" not in {row["event"] for row in audit.rows("execution_events")}
    assert engine.roster.quarantined == {}


def test_an_order_of_another_is_left_alone():
    """An id that is none of its own does nothing."""
    forged = lambda context: msgspec.structs.replace(bid(95)(context), replaces="tg-of-another")  # noqa: E731
    plan, engine, _ = play([100] * 4, bid(90), forged)
    assert plan.seen[-1] == [(1, 90)]
    assert engine.totals.decisions == 1


@examples(40)
@given(
    prices=st.lists(st.integers(80, 110), min_size=8, max_size=30),
    acts=st.lists(st.sampled_from(["bid", "stop", "buy", "up", "down", "more", "less", "none"]), max_size=30),
    cuts=st.sets(st.integers(1, 29)),
    latency_ms=st.sampled_from([0, 30_000, 90_000]),
)
def test_replaces_are_the_same_however_the_stream_is_cut(prices, acts, cuts, latency_ms):
    """Orders, fills and decisions do not depend on batches; what is reserved for orders is given back with them."""
    known = {
        "bid": bid(95, 2),
        "stop": sell(1, order_type=OrderType.STOP, stop_price=90, time_in_force=GTC),
        "buy": buy(1),
        "up": move(limit_price=99),
        "down": move(1, limit_price=85),
        "more": move(quantity=4),
        "less": move(quantity=1),
        "none": None,
    }
    plan, engine, audit = play(prices, *map(known.get, acts), latency_ms=latency_ms)
    other, cut_engine, cut_audit = play(prices, *map(known.get, acts), cuts=cuts, latency_ms=latency_ms)
    events = [(row["event"], row["state"]) for row in audit.rows("execution_events")]
    assert [(row["event"], row["state"]) for row in cut_audit.rows("execution_events")] == events
    assert (other.seen, cut_engine.digest) == (plan.seen, engine.digest)
    engine.gateway.cancel()
    for working in list(engine.books.working.values()):
        assert working.asked is None or working.order.state in ("pending_replace", "pending_cancel")
    if not engine.books.working:
        assert engine.books.reserved == 0

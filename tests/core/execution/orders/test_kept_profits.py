"""A venue that holds one exit of the same units: the kernel keeps the take-profit until the market reaches it."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from torghut_testing import trade_batch

from support.effort import examples
from tests.core.execution.orders.conftest import MemoryVenue, calm_down, happens
from torghut_core import Side
from torghut_core.errors import OrderRefused
from torghut_core.model.trading import Bracket, OrderState, TimeInForce

S = OrderState
BRACKET = Bracket(stop_loss=Decimal(90), take_profit=Decimal(110))
ENTRY, STOP, PROFIT = "tg-1", "tg-1-s1", "tg-1-p1"


class OneExit(MemoryVenue):
    """Keeps the units of an exit from any other order, as Alpaca does with crypto; fills at once or not at all what asks for that."""

    def __init__(self):
        super().__init__()
        self.price = Decimal(100)

    def holds_pair(self, stop, profit):
        return False

    def _take(self, intent):
        sold = sum(
            each.remaining for each in self.book.values() if each.intent.side is Side.SELL and not _is_over(each)
        )
        is_new_sale = intent.side is Side.SELL and intent.client_order_id not in self.book
        if is_new_sale and intent.quantity > self.held.get(intent.symbol, 0) - sold:
            raise OrderRefused("insufficient-quantity", "insufficient balance")
        status = super()._take(intent)
        if intent.time_in_force is TimeInForce.IOC:
            if self.price >= intent.limit_price:
                self.fill(intent.client_order_id, intent.quantity, str(self.price))
            else:
                self.end(intent.client_order_id, S.CANCELED)
        return self._shown(intent.client_order_id) or status


def _is_over(order):
    return order.state in (S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED)


def working(venue):
    return {number: order.remaining for number, order in venue.book.items() if not _is_over(order)}


def held(desk, venue, quantity=10):
    desk.run()
    venue.fill(ENTRY, quantity)
    desk.gateway.apply_updates()
    desk.run()
    return desk


def show(desk, venue, price, seen=None):
    """A print, and what follows from it; `seen` is what the market is by the time an order arrives."""
    venue.price = Decimal(seen or price)
    desk.clock.pass_(1)
    batch = trade_batch([("ES", desk.clock.now, float(price), 1.0)])
    desk.gateway.begin(batch)
    desk.gateway.finish(batch)
    for _ in range(3):  # the cancel, the take-profit, the legs anew
        desk.run()


@pytest.fixture
def venue():
    return OneExit()


@pytest.fixture
def entered(desk, intent, venue):
    desk.send(intent(ENTRY, "ES", Side.BUY, "10", strategy_id="one", bracket=BRACKET, decision_hash="1"))
    return held(desk, venue)


def test_the_stop_rests_at_the_venue_and_the_take_profit_here(entered, venue):
    """Recorded, open, and not sent."""
    assert working(venue) == {STOP: 10}
    assert set(entered.books.outbox) == {PROFIT}
    show(entered, venue, 109)
    assert working(venue) == {STOP: 10}


def test_the_stop_makes_way_for_the_take_profit(entered, venue):
    """At the price, in one step: canceled first, sent after it, filled at once."""
    show(entered, venue, 111)
    assert working(venue) == {}
    assert (venue.book[STOP].state, venue.book[PROFIT].state) == (S.CANCELED, S.FILLED)
    assert venue.book[PROFIT].intent.time_in_force is TimeInForce.IOC
    assert venue.held["ES"] == 0
    assert not entered.books.working
    assert not entered.books.brackets.unprotected


def test_a_take_profit_that_came_too_late_brings_the_stop_back(entered, venue):
    """And is kept again, to be tried again after a while."""
    show(entered, venue, 110, seen=105)
    assert working(venue) == {"tg-1-s1r2": 10}
    assert set(entered.books.outbox) == {"tg-1-p1r2"}
    show(entered, venue, 111)
    assert working(venue) == {"tg-1-s1r2": 10}, "not at once"
    entered.clock.pass_(6)
    show(entered, venue, 111)
    assert venue.held["ES"] == 0
    assert working(venue) == {}


def test_a_stop_that_fills_first_ends_it(entered, venue):
    """The take-profit is never sent."""
    venue.fill(STOP, 10, "90")
    entered.gateway.apply_updates()
    entered.run()
    assert not entered.books.working
    assert PROFIT not in venue.book


def test_a_stop_that_fills_while_it_makes_way(entered, venue):
    """Its fill and our cancel cross: nothing more is sold."""
    venue.script["cancel"].append("lost")
    venue.before = lambda kind, _number: venue.fill(STOP, 10, "90") if kind == "cancel" else None
    show(entered, venue, 111)
    entered.settle()
    entered.run()
    assert venue.held["ES"] == 0
    assert PROFIT not in venue.book


@pytest.mark.parametrize("moment", ["kept", "made way", "sent"])
def test_a_crash_leaves_it_protected(entered, venue, moment):
    """Whether the stop has made way, and whether the take-profit was sent: one of the two ends it, or both are there again."""
    desk = entered
    if moment != "kept":
        venue.end(STOP, S.CANCELED)
        desk.books.working[STOP].cancel_reason = "its take-profit is reached"
        desk.gateway.apply_updates()
        desk.audit.commit()
    if moment == "sent":
        venue.price = Decimal(111)
        intent = desk.books.working[PROFIT].order.intent
        venue.submit(msgspec.structs.replace(intent, time_in_force=TimeInForce.IOC))
    venue.news.clear()
    desk = desk.again()
    desk.settle(is_start=True, since=-(2**62))
    desk.run()
    desk.settle()
    desk.run()
    if moment == "sent":
        assert venue.held["ES"] == 0
        assert not desk.books.working
    else:
        (stop,) = working(venue)
        assert working(venue)[stop] == 10
        assert set(desk.books.outbox) == {PROFIT}
    assert not desk.books.brackets.unprotected


@examples(1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_story_sells_twice_or_leaves_it_unprotected(desk_type, clock, intent, data):
    """Prices, fills, crashes and lost answers in any order: no more is sold than was bought, and what is held has its stop."""
    venue = OneExit()
    desk = desk_type(venue, clock)
    desk.send(intent(ENTRY, "ES", Side.BUY, "10", strategy_id="one", bracket=BRACKET, decision_hash="1"))
    desk.run()
    for _ in range(data.draw(st.integers(1, 14))):
        act = data.draw(st.sampled_from(["fill", "show", "show", "stop", "apply", "run", "crash", "snapshot", "lost"]))
        if act == "fill" and venue.book[ENTRY].remaining:
            venue.fill(ENTRY, min(data.draw(st.integers(1, 5)), venue.book[ENTRY].remaining))
        elif act == "show":
            price = data.draw(st.sampled_from([100, 109, 110, 112]))
            show(desk, venue, price, data.draw(st.sampled_from([None, 105])))
        elif act == "stop":
            stops = [number for number in working(venue) if number != ENTRY]
            if stops:
                number = data.draw(st.sampled_from(stops))
                venue.fill(number, min(data.draw(st.integers(1, 5)), venue.book[number].remaining), "90")
        else:
            desk = happens(act, desk, venue, data.draw)
        assert venue.held.get("ES", 0) >= 0
    calm_down(desk, venue)
    left = venue.held.get("ES", Decimal(0))
    assert left >= 0
    assert sum(units for number, units in working(venue).items() if number != ENTRY) == left
    assert desk.books.positions["one", "ES"].quantity == left
    assert not desk.books.brackets.unprotected

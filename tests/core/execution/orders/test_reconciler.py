"""Our books and the venue's come to agree, however they differ; remaining differences are reported."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.execution.orders.conftest import run_one
from torghut_core import Side, is_done
from torghut_core.errors import InputError, StateError, VenueError
from torghut_core.execution.reconciler import SETTLING, VenueSnapshot
from torghut_core.model.order_state import reports_of
from torghut_core.model.trading import Fill, Order, OrderEvent, OrderState, Position, Report
from torghut_core.timestamps import SECOND

S, E = OrderState, OrderEvent
LONG_AGO = -(2**62)


def told(number, event, quantity=None, venue="venue-1"):
    fill = None
    if quantity is not None:
        fill = Fill(
            client_order_id=number,
            fill_id=f"early-{number}",
            symbol="",
            side=Side.BUY,
            quantity=quantity,
            price=Decimal(100),
            fee=Decimal(0),
            event_ts=1,
        )
    return Report(client_order_id=number, event=event, event_ts=1, venue_order_id=venue, fill=fill)


class Pair:
    """One order, in our books and at the venue; either may lack it."""

    def __init__(self, draw, number, intent):
        self.number = f"tg-{number}"
        self.intent = intent(
            self.number,
            draw(st.sampled_from(["ES", "CL"])),
            draw(st.sampled_from(Side)),
            "10",
            strategy_id=draw(st.sampled_from(["one", "two"])),
        )
        self.here = draw(st.sampled_from([None, "unsent", "sent", "works", "canceling", "replacing", "lost", "done"]))
        may_fill = self.here in ("works", "canceling", "replacing", "done")
        self.filled_here = draw(st.sampled_from([0, 4, 10] if self.here == "done" else [0, 4])) if may_fill else 0
        least = [each for each in (0, 4, 7, 10) if each >= self.filled_here]
        self.filled_there = draw(st.sampled_from(least))
        ends = [S.CANCELED, S.EXPIRED] + ([] if self.filled_there else [S.REJECTED])
        live = [None, S.ACCEPTED, *ends] if self.here != "done" else [None, *(end for end in ends if end != S.REJECTED)]
        self.there = draw(st.sampled_from(live))

    def set_up(self, desk):
        """Put the order into our books and at the venue."""
        number, books, venue = self.number, desk.books, desk.venue
        signed = 1 if self.intent.side is Side.BUY else -1
        if self.here is not None:
            desk.send(self.intent)
            desk.gateway.outbox.clear()
            if self.here == "sent":
                books.apply_report(told(number, E.SUBMIT, venue=""))
            elif self.here == "lost":
                books.apply_report(told(number, E.CANCELED, venue=""))
            elif self.here != "unsent":
                books.apply_report(told(number, E.ACCEPT))
                if self.filled_here:
                    fill = told(number, E.FILL, Decimal(self.filled_here))
                    fill = msgspec.structs.replace(
                        fill, fill=msgspec.structs.replace(fill.fill, symbol=self.intent.symbol, side=self.intent.side)
                    )
                    books.apply_report(fill)
                last = {"canceling": E.CANCEL, "replacing": E.REPLACE, "done": E.CANCELED}.get(self.here)
                if last and self.filled_here < 10:
                    books.apply_report(told(number, last))
        filled = self.filled_here
        if self.there is not None:
            filled = self.filled_there
            order = Order(intent=self.intent, state=S.ACCEPTED, venue_order_id="venue-1", updated_at=5)
            venue.book[number] = order
            if filled:
                venue.fill(number, filled, "101")
                venue.held[self.intent.symbol] -= signed * filled
            venue.end(number, self.there)
        held = venue.held
        held[self.intent.symbol] = held.get(self.intent.symbol, Decimal(0)) + signed * filled


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_books_converge(venue_type, desk_type, clock, intent, data):
    """From any pair of books: orders and their fills agree, other differences block, no foreign order is touched."""
    venue = venue_type()
    desk = desk_type(venue, clock)
    pairs = [Pair(data.draw, number, intent) for number in range(data.draw(st.integers(0, 5), "orders"))]
    for pair in pairs:
        pair.set_up(desk)
    for symbol in data.draw(st.lists(st.sampled_from(["ES", "CL", "GC"]), max_size=2), "outside"):
        venue.held[symbol] = venue.held.get(symbol, Decimal(0)) + 3
    foreign = {f"x-{number}" for number in range(data.draw(st.integers(0, 2), "foreign"))}
    for number in foreign:
        venue.submit(intent(number))
    theirs = {number: msgspec.structs.replace(venue.book[number]) for number in foreign}
    venue.calls.clear()
    if data.draw(st.booleans(), "news is heard"):
        desk.gateway.apply_updates()
    venue.news.clear()
    is_restart = data.draw(st.booleans(), "restart")
    since = data.draw(st.sampled_from([None, LONG_AGO]), "done since") if is_restart else None
    if is_restart:
        desk = desk.again(data.draw(st.sampled_from([2**62, LONG_AGO]), "orders since"))

    for turn in range(12):
        done = desk.settle(is_start=is_restart and not turn, since=since if not turn else None)
        asked = len(venue.calls)
        desk.run()
        if not done.changes and not done.suspects and len(venue.calls) == asked and not venue.under_way and turn > 2:
            break
        clock.pass_(SETTLING / SECOND + 1)
    else:
        pytest.fail("the books do not come to rest")

    books = desk.books
    for pair in pairs:
        order, working = venue.book.get(pair.number), books.working.get(pair.number)
        if order is None:
            assert working is None or working.order.intent.symbol in desk.reconciler.blocked
        elif not is_done(order.state):
            assert reports_of(working.order, desk.venue.find(pair.number)) == []
            assert working.order.filled_quantity == order.filled_quantity
        else:
            assert working is None
    gone = {working.order.intent.symbol for number, working in books.working.items() if number not in venue.book}
    differ = {
        symbol for symbol in venue.held.keys() | books.nets.keys() if venue.held.get(symbol, 0) != books.net(symbol)
    }
    assert set(desk.reconciler.blocked) == gone | differ
    for symbol in differ:  # only what no order explains
        explained = all(
            pair.there is None or pair.here not in (None, "lost", "done")
            for pair in pairs
            if pair.intent.symbol == symbol and pair.filled_there != pair.filled_here
        )
        assert not explained or venue.held[symbol] - books.net(symbol) in (3, 6)
    assert {number: venue.book[number] for number in foreign} == theirs
    assert not [
        call for call in venue.calls if call[0] in ("submit", "replace") or (call[0] == "cancel" and call[1] in foreign)
    ]
    assert set(desk.reconciler.last.foreign) == foreign
    assert desk.totals.illegal_reports == 0

    seen = desk.look()
    desk.reconciler.reconcile(seen)
    before = desk.state()
    assert desk.reconciler.reconcile(seen).changes == 0
    assert desk.state() == before

    for symbol in list(desk.reconciler.blocked):
        desk.reconciler.accept(symbol, "it was me", "ops")
    assert books.nets == {symbol: quantity for symbol, quantity in venue.held.items() if quantity}
    desk.audit.commit()
    after = desk.again()
    assert (
        after.books.positions.items()
        >= {key: position for key, position in books.positions.items() if position != Position()}.items()
    )
    assert set(after.books.working) == set(books.working)
    assert not after.settle(is_start=True).differences


def test_same_snapshot_twice_does_not_confirm_itself(desk):
    """A difference counts when a second snapshot shows it; settling the same one twice is not enough."""
    desk.venue.held["ES"] = Decimal(3)
    seen = desk.look()
    assert desk.reconciler.reconcile(seen).suspects == {"ES": "0 here, 3 at the venue"}
    desk.reconciler.reconcile(seen)
    assert desk.reconciler.blocked == {}
    desk.clock.pass_(1)
    assert desk.settle().differences == {"ES": "0 here, 3 at the venue"}


def test_order_that_was_accepted_during_the_snapshot_is_not_lost(desk, intent):
    """An order that is not in the snapshot, and was accepted since, is not taken for lost."""
    desk.send(intent())
    seen = desk.look()
    desk.run()
    done = desk.reconciler.reconcile(seen)
    assert desk.reconciler.blocked == {}
    desk.clock.pass_(1)
    assert desk.settle().differences == done.differences == {}


def test_executors_report_comes_before_what_the_snapshot_missed(desk, intent):
    """An order that ended while the snapshot was taken is not ended twice."""
    desk.venue.script["submit"].append("refused")
    desk.send(intent())
    seen = desk.look()
    desk.audit.commit()
    desk.gateway.dispatch()
    run_one(desk.executor)
    desk.reconciler.reconcile(seen)
    desk.gateway.apply_updates()
    assert desk.totals.illegal_reports == 0
    assert desk.totals.rejected == 1


def test_position_that_moved_during_the_snapshot_is_not_compared(desk, intent):
    """A fill between a snapshot and its settling is no difference, not even a suspected one."""
    desk.send(intent())
    desk.run()
    seen = desk.look()
    desk.venue.fill("tg-1", 4)
    desk.gateway.apply_updates()
    assert desk.reconciler.reconcile(seen).suspects == {}
    desk.clock.pass_(1)
    assert desk.settle().suspects == {}


def test_own_order_that_is_not_recorded_is_adopted(desk, intent):
    """An exit that was sent without a database is adopted for the position's strategy, with its fills, and recorded."""
    desk.send(intent(strategy_id="two"))
    desk.run()
    desk.venue.fill("tg-1", 10)
    desk.gateway.apply_updates()
    desk.audit.commit()
    desk.venue.submit(intent("tg-9", side=Side.SELL, strategy_id="?"))
    desk.venue.fill("tg-9", 4)
    later = desk.again()
    assert later.settle(is_start=True).adopted == ["tg-9"]
    assert later.books.working["tg-9"].context.strategy_id == "two"
    assert later.books.net("ES") == 6
    later.audit.commit()
    assert later.audit.find_order("test", "tg-9").filled_quantity == 4


def test_foreign_order_is_listed_and_left_alone(desk, intent):
    """A foreign order is listed while it is open, and no request is sent for it."""
    desk.venue.submit(intent("x-1"))
    desk.venue.calls.clear()
    assert desk.settle().foreign == ["x-1"]
    desk.venue.end("x-1", S.CANCELED)
    desk.gateway.apply_updates()
    assert desk.settle().foreign == []
    assert {kind for kind, _ in desk.venue.calls} == {"orders"}


def test_plugin_that_fails_in_a_snapshot_is_a_venue_that_does_not_answer(desk):
    """Whatever a broker raises, a snapshot raises `VenueError`, which the loop expects."""
    desk.venue.script["orders"].append("broken")
    with pytest.raises(VenueError, match="a defect"):
        desk.look()


def test_order_that_only_the_database_knows_waits_for_it(desk, intent, monkeypatch):
    """While the database cannot be read, an own order that the books lack waits, and everything else is settled."""

    def fail(account, number):
        raise StateError("the database is gone")

    desk.venue.submit(intent("tg-9"))
    desk.venue.news.clear()
    with monkeypatch.context() as down:
        down.setattr(desk.audit, "find_order", fail)
        assert desk.settle().adopted == []
    assert desk.settle().adopted == ["tg-9"]


def lose(desk, intent):
    """An order that timed out, was taken for lost, and arrives at the venue all the same."""
    desk.venue.script["submit"].extend(["late"] + ["lost"] * 99)
    desk.send(intent)
    desk.run()
    desk.clock.pass_(SETTLING / SECOND)
    assert desk.settle().lost == ["tg-1"]
    desk.venue.land()


def test_lost_order_that_arrives_is_canceled_also_when_it_fills(desk, intent):
    """A fill of an order that was taken for lost counts, and the rest of the order is canceled."""
    lose(desk, intent())
    desk.venue.fill("tg-1", 4)
    desk.settle()
    desk.run()
    assert desk.venue.book["tg-1"].state is S.CANCELED
    desk.settle()
    assert desk.books.net("ES") == 4
    assert desk.totals.illegal_reports == 0


@pytest.mark.parametrize("since", [2**62, LONG_AGO])
def test_lost_order_that_arrives_after_a_restart_is_known(desk, intent, since):
    """An order that is done in the database and open at the venue is canceled, and its fills count, at any age."""
    lose(desk, intent())
    desk.audit.commit()
    desk.venue.news.clear()
    desk.venue.fill("tg-1", 4)
    desk.venue.news.clear()
    later = desk.again(since)
    later.settle(is_start=True)
    later.run()
    later.settle()
    assert desk.venue.book["tg-1"].state is S.CANCELED
    assert later.books.net("ES") == 4
    assert later.reconciler.blocked == {}


def test_fill_while_nobody_was_there_counts(desk, intent):
    """An order that was canceled before the process ended, and had filled more by then, is read at the start."""
    desk.send(intent())
    desk.run()
    desk.venue.end("tg-1", S.CANCELED)
    desk.gateway.apply_updates()
    desk.audit.commit()
    desk.venue.fill("tg-1", 4)
    desk.venue.news.clear()
    later = desk.again()
    assert later.settle(is_start=True, since=LONG_AGO).differences == {}
    assert later.books.net("ES") == 4


def test_order_that_is_gone_can_be_accepted(desk, intent):
    """An order that the venue no longer knows blocks its symbol until the operator accepts that it has ended."""
    desk.send(intent())
    desk.run()
    desk.venue.book.clear()
    for _ in range(2):
        desk.clock.pass_(1)
        desk.settle()
    assert desk.reconciler.blocked == {"ES": "order tg-1 is gone from the venue"}
    assert desk.reconciler.accept("ES", "the venue lost it", "ops") == 0
    desk.clock.pass_(1)
    assert desk.settle().differences == {}
    assert desk.books.working == {}


def test_difference_is_accepted_as_it_was_seen(desk, intent):
    """The operator accepts the difference, whatever has filled since it was seen."""
    desk.venue.held["ES"] = Decimal(3)
    desk.send(intent())
    desk.run()
    for _ in range(2):
        desk.clock.pass_(1)
        desk.settle()
    desk.venue.fill("tg-1", 4)
    desk.gateway.apply_updates()
    assert desk.reconciler.accept("ES", "it was me", "ops") == 3
    assert desk.books.net("ES") == desk.venue.held["ES"] == 7


def test_nothing_to_accept(desk):
    """Accepting a symbol in which there is no difference is an error."""
    with pytest.raises(InputError, match="ES"):
        desk.reconciler.accept("ES", "", "ops")


def test_done_orders_are_not_under_the_executors_care(desk, intent):
    """An order that the venue shows as done is forgotten: a halt has nothing to cancel."""
    desk.send(intent())
    desk.run()
    desk.venue.end("tg-1", S.EXPIRED)
    desk.venue.news.clear()
    desk.settle()
    desk.venue.calls.clear()
    desk.executor.cancel_all()
    desk.run()
    assert desk.venue.calls == []


def test_snapshot_has_defaults():
    """A snapshot needs orders, positions and account; the rest has defaults."""
    assert VenueSnapshot(orders=[], positions={}, account=None).found == {}

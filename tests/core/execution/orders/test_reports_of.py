"""The venue's statuses of an order, by any way, any number of times, become reports: `order_state.reports_of`."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torghut_core import apply_report, is_done
from torghut_core.model.order_state import TRANSITIONS, reports_of
from torghut_core.model.trading import (
    Fill,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    OrderStatus,
    OrderType,
    Report,
    Side,
)

S, E = OrderState, OrderEvent
TERMS = Intent(
    client_order_id="tg-1",
    decision_hash="",
    account="test",
    strategy_id="test",
    symbol="ES",
    side=Side.BUY,
    quantity=Decimal(10),
    decided_at=0,
    order_type=OrderType.LIMIT,
    limit_price=Decimal(100),
)
CENT = Decimal("0.01")


def fill(quantity, price, fill_id, at=0):
    return Fill(
        client_order_id="tg-1",
        fill_id=fill_id,
        symbol="ES",
        side=Side.BUY,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(0),
        event_ts=at,
    )


def status(state=S.ACCEPTED, filled="0", price="0", told=None, **fields):
    fields.setdefault("intent", TERMS)
    fields.setdefault("venue_order_id", "venue-1")
    order = Order(state=state, filled_quantity=Decimal(filled), average_price=Decimal(price), **fields)
    return OrderStatus(order=order, fill=told)


def known(state=S.ACCEPTED, filled="0", price="0", **fields):
    fields.setdefault("venue_order_id", "" if state in (S.PENDING, S.SUBMITTED) else "venue-1")
    fields.setdefault("fill_ids", ["first"] if Decimal(filled) else [])
    return Order(intent=TERMS, state=state, filled_quantity=Decimal(filled), average_price=Decimal(price), **fields)


def learn(order, seen):
    """Apply the reports of a status; return their events."""
    reports = reports_of(order, seen)
    for report in reports:
        assert apply_report(order, report)
    return [report.event for report in reports]


class History:
    """One order's life at a venue: a status after each event."""

    def __init__(self, draw, rounding):
        self.draw = draw
        self.rounding = rounding
        self.order = Order(intent=TERMS, state=S.ACCEPTED, venue_order_id="venue-1", updated_at=1)
        self.cost = Decimal(0)
        self.statuses = []
        self.show()
        for _ in range(draw(st.integers(0, 8))):
            self.order.updated_at += draw(st.integers(0, 2))
            draw(st.sampled_from(self.possible))()

    @property
    def possible(self):
        order = self.order
        late = [self.fill] if order.remaining else []
        if order.state in (S.CANCELED, S.EXPIRED):
            return [*late, self.show]
        if is_done(order.state):
            return [self.show]
        refused = [] if order.filled_quantity else [self.end(S.REJECTED)]
        return [self.fill, self.fill, self.fill, self.replace, self.end(S.CANCELED), self.end(S.EXPIRED), *refused]

    def fill(self):
        order, draw = self.order, self.draw
        share = draw(st.sampled_from(["1", "0.5", "0.1", "0.001"]))
        quantity = order.remaining * Decimal(share)
        price = draw(st.decimals("50", "200", places=2))
        self.cost += quantity * price
        order.filled_quantity += quantity
        order.average_price = self.cost / order.filled_quantity
        if not order.remaining:
            order.state = S.FILLED
        elif not is_done(order.state):
            order.state = S.PARTIALLY_FILLED
        self.show(fill(quantity, price, f"fill-{len(self.statuses)}", order.updated_at))

    def replace(self):
        order = self.order
        quantity = order.filled_quantity + self.draw(st.sampled_from(["0.001", "1", "10", "30"]).map(Decimal))
        price = self.draw(st.sampled_from([Decimal(99), Decimal(101)]))
        order.intent = msgspec.structs.replace(order.intent, quantity=quantity, limit_price=price)
        order.venue_order_id += "'"
        self.show()

    def end(self, state):
        def happen():
            self.order.state = state
            self.show()

        return happen

    def show(self, told=None):
        shown = msgspec.structs.replace(self.order)
        if self.rounding:
            shown.average_price = shown.average_price.quantize(self.rounding)
        self.statuses.append(OrderStatus(order=shown, fill=told if self.draw(st.booleans()) else None))


ACTS = (E.SUBMIT, E.CANCEL, E.CANCEL_REJECTED, E.REPLACE, E.REPLACE_REJECTED)
"""What we may do to an order, at any time, stamped by a clock that is not the venue's."""


@given(st.data())
def test_any_news_in_any_order_leads_to_what_the_venue_shows(data):
    """With statuses lost, repeated and reordered, and our requests between them, the last one makes the orders equal."""
    rounding = data.draw(st.sampled_from([None, CENT]), "rounding of averages")
    history = History(data.draw, rounding)
    some = st.one_of(st.sampled_from(history.statuses), st.sampled_from(ACTS))
    order = Order(intent=TERMS)
    fills = []
    for news in [*data.draw(st.lists(some, max_size=12), "news"), history.statuses[-1]]:
        if isinstance(news, OrderEvent):
            if news in TRANSITIONS[order.state]:
                at = data.draw(st.sampled_from([0, 5, 1_000]), "our clock")
                apply_report(order, Report(client_order_id="tg-1", event=news, event_ts=at))
            continue
        for report in reports_of(order, news):
            assert apply_report(order, report), f"{report} again"  # and raises where it is illegal
            fills += [report.fill] if report.fill else []
        assert reports_of(order, news) == [], "the same again is no news"
    theirs = history.statuses[-1].order
    assert order.filled_quantity == theirs.filled_quantity
    assert is_done(order.state) == is_done(theirs.state)
    assert (order.state is S.FILLED) == (theirs.state is S.FILLED)
    assert abs(order.average_price - theirs.average_price) <= (8 * rounding if rounding else Decimal("1e-20"))
    assert sum((each.quantity for each in fills), Decimal(0)) == order.filled_quantity
    assert len({each.fill_id for each in fills}) == len(fills)
    assert all(each.price > 0 and each.quantity > 0 for each in fills)
    if not is_done(order.state):
        assert (order.intent, order.remaining) == (theirs.intent, theirs.remaining)


@pytest.mark.parametrize("state", [S.PENDING, S.SUBMITTED, S.PENDING_CANCEL])
def test_first_word_of_the_venue_is_that_it_has_the_order(state):
    """In any state of ours, an order that the venue shows was accepted, and has the venue's id."""
    order = known(state, venue_order_id="")
    assert learn(order, status()) == [E.ACCEPT]
    assert order.venue_order_id == "venue-1"
    assert order.state is (state if state is S.PENDING_CANCEL else S.ACCEPTED)


def test_whole_life_in_one_status():
    """One status gives all events since the last: accepted, filled in part, canceled."""
    order = known(S.SUBMITTED)
    assert learn(order, status(S.CANCELED, "4", "101.5", reason="by request")) == [E.ACCEPT, E.FILL, E.CANCELED]
    assert (order.state, order.filled_quantity, order.average_price, order.reason) == (
        S.CANCELED,
        Decimal(4),
        Decimal("101.5"),
        "by request",
    )


def test_fill_of_the_status_is_taken_as_it_is():
    """The venue's fill, with its id, price and time, is kept if it explains all that is new."""
    order = known(filled="4", price="100")
    told = fill(2, "103", "venue-fill", at=7)
    assert learn(order, status(S.PARTIALLY_FILLED, "6", "101", told=told)) == [E.FILL]
    assert order.fill_ids == ["first", "venue-fill"]
    assert order.average_price == 101


def test_missed_fills_have_the_price_that_the_averages_give():
    """A fill whose status was lost and the one in this status become one, named after the total."""
    order = known(filled="4", price="100")
    (report,) = reports_of(order, status(S.PARTIALLY_FILLED, "8", "102", told=fill(2, "105", "venue-fill")))
    assert (report.fill.quantity, report.fill.price, report.fill.fill_id) == (4, 104, "total-8")


def test_late_fill_that_is_known_changes_nothing():
    """A status with less filled than is known changes nothing."""
    order = known(S.PARTIALLY_FILLED, "6", "101")
    assert learn(order, status(S.PARTIALLY_FILLED, "4", "100", told=fill(4, "100", "never-seen"))) == []


def test_fill_after_a_cancel_counts():
    """Of an order that is done, only fills are reported: they happened before it was done."""
    order = known(S.CANCELED, "4", "100")
    assert learn(order, status(S.CANCELED, "6", "100")) == [E.FILL]
    assert (order.state, order.filled_quantity) == (S.CANCELED, 6)


def test_done_order_does_not_come_back_to_work():
    """A status from before the order was done changes nothing."""
    order = known(S.CANCELED)
    assert learn(order, status(S.ACCEPTED)) == []


def test_refusal_of_what_was_not_accepted():
    """An order that the venue refused was never accepted."""
    order = known(S.SUBMITTED)
    assert learn(order, status(S.REJECTED, reason="no")) == [E.REJECTED]


def test_refusal_under_unknown_terms():
    """An order that was replaced and then refused, with no status in between, is refused, and keeps its old terms."""
    order = known(S.SUBMITTED)
    terms = msgspec.structs.replace(TERMS, quantity=Decimal(6))
    assert learn(order, status(S.REJECTED, intent=terms)) == [E.REJECTED]


def test_refusal_of_a_filled_order_is_a_cancel():
    """An order with fills cannot have been refused: the rest of it was canceled."""
    order = known(S.SUBMITTED)
    assert learn(order, status(S.REJECTED, "4", "100")) == [E.ACCEPT, E.FILL, E.CANCELED]


def test_new_terms_come_before_the_fills_under_them():
    """A fill of more than the old quantity is legal, since the new terms are reported first."""
    order = known(S.PENDING_REPLACE, "4", "100")
    terms = msgspec.structs.replace(TERMS, quantity=Decimal(20), limit_price=Decimal(99))
    assert learn(order, status(S.PARTIALLY_FILLED, "15", "100", intent=terms)) == [E.REPLACED, E.FILL]
    assert (order.intent, order.remaining) == (terms, 5)


def test_new_terms_count_though_our_clock_is_ahead():
    """New terms count although our request has a later time stamp: our clock may be ahead of the venue's."""
    order = known(S.PENDING_REPLACE, updated_at=1_000)
    terms = msgspec.structs.replace(TERMS, limit_price=Decimal(99))
    assert learn(order, status(intent=terms, updated_at=1)) == [E.REPLACED]
    assert order.intent == terms


def test_terms_of_a_status_from_before_our_fills_are_old():
    """Terms in a status that lacks fills which we know are old, and are ignored."""
    terms = msgspec.structs.replace(TERMS, limit_price=Decimal(99))
    order = known(S.PARTIALLY_FILLED, "4", "100")
    assert learn(order, status(intent=terms, updated_at=1_000)) == []


def test_stop_that_the_venue_moves_is_no_new_term():
    """The venue moves the stop of a trailing order: that is no replacement."""
    trailing = msgspec.structs.replace(TERMS, order_type=OrderType.TRAILING_STOP, limit_price=None)
    order = Order(intent=trailing, state=S.ACCEPTED, venue_order_id="venue-1")
    moved = msgspec.structs.replace(trailing, stop_price=Decimal(97))
    assert learn(order, status(intent=moved)) == []


def test_fills_of_a_lost_order_count():
    """A fill of an order that was taken for lost is booked, and the order stays done."""
    order = known(S.CANCELED, venue_order_id="")
    assert learn(order, status(S.PARTIALLY_FILLED, "4", "100")) == [E.FILL]
    assert (order.state, order.filled_quantity) == (S.CANCELED, 4)

"""Legs at a real venue: sent once each, found again after a crash, sent anew where they are missing, and never too many."""

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from support.effort import examples
from tests.core.execution.orders.conftest import calm_down, happens, run_one
from torghut_core import Side
from torghut_core.model.trading import Bracket, Cancel, OrderState

S = OrderState
BRACKET = Bracket(stop_loss=Decimal(90), take_profit=Decimal(110))
ENTRY, STOP, PROFIT = "tg-1", "tg-1-s1", "tg-1-p1"


@pytest.fixture
def entered(desk, intent):
    """An entry of ten units with a bracket, that the venue has."""

    def entry(bracket=BRACKET):
        desk.send(intent(ENTRY, "ES", Side.BUY, "10", strategy_id="one", bracket=bracket, decision_hash="1"))
        desk.run()
        return desk

    return entry


def working(venue):
    """What is open at the venue, by id."""
    return {
        number: order.remaining
        for number, order in venue.book.items()
        if order.state in (S.ACCEPTED, S.PARTIALLY_FILLED)
    }


def test_legs_are_recorded_with_the_fill_and_then_sent(entered, venue):
    """One commit has both: a crash in between leaves no fill without its legs."""
    desk = entered()
    venue.fill(ENTRY, 10)
    desk.gateway.apply_updates()
    assert set(desk.books.outbox) == {STOP, PROFIT}
    assert STOP not in venue.book, "not before the commit"
    desk.audit.commit()
    rows = {row["client_order_id"]: row for row in desk.audit.orders("test")}
    assert rows[STOP]["parent"] == rows[PROFIT]["parent"] == ENTRY
    desk.run()
    assert working(venue) == {STOP: 10, PROFIT: 10}


@pytest.mark.parametrize("sent", ["none", "one", "both"])
def test_legs_that_were_recorded_and_perhaps_sent_are_sent_once(entered, venue, sent):
    """After a crash: what the venue has is found, what it has not is sent, under the same ids."""
    desk = entered()
    venue.fill(ENTRY, 10)
    desk.gateway.apply_updates()
    for leg in {"none": [], "one": [STOP], "both": [STOP, PROFIT]}[sent]:
        venue.submit(desk.books.working[leg].order.intent)
    desk = desk.again()
    desk.settle(is_start=True)
    desk.run()
    assert working(venue) == {STOP: 10, PROFIT: 10}
    assert all(count == 1 for count in venue.placed.values())
    assert not desk.books.brackets.unprotected


def test_a_fill_that_only_a_snapshot_shows_is_protected(entered, venue):
    """Its report never came."""
    desk = entered()
    venue.fill(ENTRY, 10)
    venue.news.clear()
    desk.settle()
    desk.run()
    assert working(venue) == {STOP: 10, PROFIT: 10}


def test_each_partial_fill_is_protected_at_once(entered, venue):
    """Each by its own pair."""
    desk = entered()
    for quantity in (3, 7):
        venue.fill(ENTRY, quantity)
        desk.gateway.apply_updates()
        desk.run()
    assert working(venue) == {STOP: 3, PROFIT: 3, "tg-1-s2": 7, "tg-1-p2": 7}


@pytest.mark.parametrize(("leg", "other"), [(STOP, PROFIT), (PROFIT, STOP)])
@pytest.mark.parametrize("quantity", [4, 10])
def test_what_fills_of_one_leg_the_other_loses(entered, venue, leg, other, quantity):
    """Also at a venue that does not link them."""
    desk = entered()
    venue.fill(ENTRY, 10)
    desk.gateway.apply_updates()
    desk.run()
    venue.fill(leg, quantity)
    desk.gateway.apply_updates()
    desk.run()
    desk.gateway.apply_updates()
    assert working(venue) == ({} if quantity == 10 else {leg: 6, other: 6})


def test_a_leg_that_the_venue_refuses_is_said_until_the_position_is_closed(entered, venue, intent):
    """The books do not call it protected."""
    desk = entered(Bracket(stop_loss=Decimal(90)))
    venue.fill(ENTRY, 10)
    desk.gateway.apply_updates()
    venue.script["submit"].append("refused")
    desk.run()
    (line,) = desk.books.brackets.unprotected
    assert "one holds ES without its stop order: rejected" in line
    desk.settle()
    assert desk.books.brackets.unprotected, "it would be refused again"
    venue.submit(intent("tg-2", "ES", Side.SELL, "10"))
    desk.send(intent("tg-3", "ES", Side.SELL, "10", strategy_id="one", purpose="exit"))
    desk.run()
    venue.fill("tg-3", 10)
    desk.gateway.apply_updates()
    assert not desk.books.brackets.unprotected


@pytest.mark.parametrize("how", ["never sent", "rejected before the restart", "rejected after it"])
def test_a_restart_does_not_forget_that_an_exit_failed(entered, venue, intent, clock, how):
    """Protection has made room for it, so what it was to close is unprotected, and that is said."""
    desk = entered(Bracket(stop_loss=Decimal(90)))
    venue.fill(ENTRY, 10)
    desk.gateway.apply_updates()
    desk.run()
    exit_ = intent("tg-2", "ES", Side.SELL, "10", strategy_id="one", purpose="exit", decided_at=1)
    desk.send(exit_, is_close=True)
    if how != "never sent":
        desk.run()  # the stop is canceled
        desk.run()
        assert working(venue) == {"tg-2": 10}
    if how == "rejected before the restart":
        venue.end("tg-2", S.REJECTED)
        desk.gateway.apply_updates()
    desk = desk.again()
    if how == "rejected after it":
        venue.end("tg-2", S.REJECTED)
    desk.settle(is_start=True)
    calm_down(desk, venue)
    (line,) = desk.books.brackets.unprotected
    assert "one holds 10 ES without protection, which made room for an exit" in line


@pytest.mark.parametrize("how", ["never arrived", "expired"])
def test_a_leg_that_is_missing_is_sent_anew(entered, venue, clock, how):
    """Under another id, with the next snapshot."""
    desk = entered(Bracket(stop_loss=Decimal(90)))
    venue.fill(ENTRY, 10)
    desk.gateway.apply_updates()
    if how == "expired":
        desk.run()
        venue.end(STOP, S.EXPIRED)
        desk.gateway.apply_updates()
    else:
        venue.script["submit"].extend(["lost"] * 6)
        venue.script["find"].extend(["accepted"] * 6)
        desk.run()
        assert desk.executor.unresolved
        clock.pass_(60)
    assert working(venue) == {}
    desk.settle()
    desk.run()
    assert working(venue) == {"tg-1-s1r2": 10}
    assert not desk.books.brackets.unprotected


def test_legs_that_cannot_be_made_smaller_are_sent_anew(entered, venue, intent):
    """At once: smaller by what the strategy sells otherwise."""
    desk = entered()
    venue.fill(ENTRY, 10)
    desk.gateway.apply_updates()
    desk.run()
    venue.script["replace"].extend(["refused"] * 2)
    desk.send(intent("tg-2", "ES", Side.SELL, "4", strategy_id="one", purpose="exit"))
    for _ in range(4):
        desk.run()
    assert working(venue) == {"tg-2": 4, "tg-1-s1r2": 6, "tg-1-p1r2": 6}
    venue.fill("tg-2", 4)
    desk.gateway.apply_updates()
    desk.run()
    assert working(venue) == {"tg-1-s1r2": 6, "tg-1-p1r2": 6}
    assert not desk.books.brackets.unprotected


@pytest.fixture
def held(entered, venue):
    """A position of ten units whose two legs the venue has."""
    desk = entered()
    venue.fill(ENTRY, 10)
    later(desk)
    return desk


def later(desk, snapshots=0):
    """Let updates come and requests go, and then so many snapshots."""
    for _ in range(3):
        desk.gateway.apply_updates()
        desk.run()
    for _ in range(snapshots):
        desk.clock.pass_(30)
        desk.settle()
        desk.run()


def test_both_legs_fill_in_part(held, venue):
    """Each loses what the other has filled, and no more."""
    for leg, units in ((PROFIT, 3), (STOP, 1)):
        venue.fill(leg, units)
        later(held)
    assert working(venue) == {STOP: 6, PROFIT: 6}
    held = held.again()
    held.settle(is_start=True)
    later(held, snapshots=2)
    assert working(venue) == {STOP: 6, PROFIT: 6}


@pytest.mark.parametrize("filled", [4, 10])
def test_process_ends_between_a_fill_and_what_the_other_leg_loses(held, venue, filled):
    """The next one makes the other leg fit, and an exit does not wait for the answer to a request that was never made."""
    venue.fill(PROFIT, filled)
    held.gateway.apply_updates()
    held.executor._queue.clear()
    desk = held.again()
    desk.settle(is_start=True)
    later(desk)
    assert working(venue) == ({STOP: 6, PROFIT: 6} if filled == 4 else {})


@pytest.mark.parametrize("how", [S.EXPIRED, S.CANCELED])
def test_restart_forgets_no_leg_that_has_ended(held, venue, how):
    """It is sent anew, or said to be missing, by the process after."""
    venue.end(STOP, how)
    held.gateway.apply_updates()
    desk = held.again()
    desk.settle(is_start=True)
    later(desk, snapshots=1)
    if how is S.EXPIRED:
        assert working(venue) == {PROFIT: 10, "tg-1-s1r2": 10}
    else:
        assert desk.books.brackets.unprotected == ["one holds ES without its stop order: canceled"]


def test_leg_that_the_strategy_let_go_stays_gone_after_a_restart(held, venue):
    """What it cancels does not come back."""
    context = held.books.context("one", "ES")
    held.gateway.cancel_order(Cancel(symbol="ES", client_order_id=STOP, because="let it run"), context)
    later(held)
    desk = held.again()
    desk.settle(is_start=True)
    later(desk, snapshots=2)
    assert working(venue) == {PROFIT: 10}
    assert not desk.books.brackets.unprotected


def test_ended_leg_of_units_that_the_other_has_sold_is_not_sent_anew(held, venue, intent):
    """Its stop price belongs to units that are gone: those of a later entry keep their own."""
    held.send(intent("tg-2", strategy_id="one", decision_hash="2", bracket=BRACKET))
    held.run()
    venue.fill("tg-2", 10)
    later(held)
    venue.end(STOP, S.EXPIRED)
    held.gateway.apply_updates()
    venue.fill(PROFIT, 10)
    later(held, snapshots=2)
    assert working(venue) == {"tg-2-s1": 10, "tg-2-p1": 10}


def test_leg_that_the_account_leaves_no_room_for_is_said(held, venue, intent):
    """Another strategy is short as much: to sell would open a position at the venue, so the stop waits, and is not recorded again and again."""
    held.send(intent("tg-2", side=Side.SELL, strategy_id="two", decision_hash="2"))
    held.run()
    venue.fill("tg-2", 10)
    later(held)
    venue.end(STOP, S.EXPIRED)
    later(held, snapshots=3)
    assert held.books.brackets.unprotected == ["one holds ES without its stop order: expired"]
    assert "tg-1-s1r2" not in {row["client_order_id"] for row in held.audit.orders("test")}


def test_leg_waits_until_orders_may_be_sent_again(held, venue):
    """While none may, it is said to be missing, and not recorded with each snapshot."""
    venue.end(STOP, S.EXPIRED)
    held.executor.refusal = lambda _: "halted"
    later(held, snapshots=3)
    assert len(held.audit.orders("test")) == 3
    assert held.books.brackets.unprotected
    held.executor.refusal = lambda _: ""
    later(held, snapshots=1)
    assert working(venue) == {PROFIT: 10, "tg-1-s1r2": 10}


def test_leg_that_may_not_be_sent_is_not_recorded_again_at_once(held, venue):
    """Though the other one was canceled on purpose: it waits for a snapshot."""
    context = held.books.context("one", "ES")
    held.gateway.cancel_order(Cancel(symbol="ES", client_order_id=PROFIT, because="let it run"), context)
    later(held)
    held.executor.refusal = lambda _: "halted"
    venue.end(STOP, S.CANCELED)
    later(held)
    later(held)
    assert len(held.audit.orders("test")) == 4
    assert held.books.brackets.unprotected


def test_legs_that_left_without_a_record_are_known_again(entered, venue):
    """The database was away, and the process ended: its fills are one now, and what the venue has of their legs belongs to it."""
    desk = entered()
    for units in (4, 6):
        venue.fill(ENTRY, units)
        desk.gateway.apply_updates()
        desk.gateway.dispatch()
        while run_one(desk.executor):
            pass
    desk.audit.drop()
    venue.news.clear()
    desk = desk.again()
    desk.settle(is_start=True)
    later(desk, snapshots=2)
    assert working(venue) == {STOP: 4, PROFIT: 4, "tg-1-s2": 6, "tg-1-p2": 6}
    venue.fill("tg-1-s2", 6)
    venue.fill(STOP, 4)
    later(desk, snapshots=2)
    assert working(venue) == {}
    assert desk.books.positions["one", "ES"].quantity == 0


def test_a_halt_leaves_protection_and_lets_new_legs_out(entered, venue, desk):
    """An entry that fills while it is canceled is protected too."""
    entered()
    venue.fill(ENTRY, 4)
    desk.gateway.apply_updates()
    desk.run()
    desk.executor.cancel_all()
    desk.run()
    assert working(venue) == {STOP: 4, PROFIT: 4}


@examples(1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_story_leaves_too_many_exits_or_none(venue_type, desk_type, clock, intent, data):
    """Fills in parts, crashes, lost answers and snapshots in any order: in the end each held unit has its legs, once."""
    venue = venue_type()
    desk = desk_type(venue, clock)
    desk.send(intent(ENTRY, "ES", Side.BUY, "10", strategy_id="one", bracket=BRACKET, decision_hash="1"))
    desk.run()
    for _ in range(data.draw(st.integers(1, 12))):
        act = data.draw(st.sampled_from(["fill", "leg", "apply", "run", "crash", "snapshot", "lost", "mute"]))
        if act == "fill" and venue.book[ENTRY].remaining:
            venue.fill(ENTRY, min(data.draw(st.integers(1, 4)), venue.book[ENTRY].remaining))
        elif act == "leg":
            legs = [number for number in working(venue) if number != ENTRY]
            if legs and venue.held["ES"] > 0:
                number = data.draw(st.sampled_from(sorted(legs)))
                venue.fill(number, min(data.draw(st.integers(1, 4)), venue.book[number].remaining, venue.held["ES"]))
        elif act == "mute":
            venue.news.clear()
        else:
            desk = happens(act, desk, venue, data.draw)
    calm_down(desk, venue)
    held = venue.held.get("ES", Decimal(0))
    kinds = {"s": Decimal(0), "p": Decimal(0)}
    for number, left in working(venue).items():
        if number != ENTRY:
            kinds[number.split("-")[2][0]] += left
    assert (kinds["s"], kinds["p"]) == (held, held)
    assert desk.books.positions["one", "ES"].quantity == held
    assert not desk.books.brackets.unprotected


@pytest.mark.parametrize("how", ["refused", "expired"])
@pytest.mark.parametrize("quantity", [4, 10])
def test_an_exit_that_fails_after_protection_made_room_is_said(held, venue, intent, how, quantity):
    """Until what it was to close is closed."""
    if how == "refused":
        venue.script["submit"].append("refused")
    exit_ = intent("tg-2", "ES", Side.SELL, str(quantity), strategy_id="one", purpose="exit")
    held.send(exit_, is_close=quantity == 10)
    later(held)
    later(held)
    if how == "expired":
        venue.end("tg-2", S.EXPIRED)
        later(held)
    assert [line for line in held.books.brackets.unprotected if f"holds {quantity} ES without protection" in line]
    held.send(intent("tg-3", "ES", Side.SELL, "10", strategy_id="one", purpose="exit"), is_close=True)
    later(held)
    later(held)
    venue.fill("tg-3", 10)
    later(held)
    assert not held.books.brackets.unprotected

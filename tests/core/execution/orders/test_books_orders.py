"""Books and gateway at a real venue: orders that are not sent yet, and reports that cross a cancel."""

from decimal import Decimal

import pytest

from tests.core.execution.orders.conftest import run_one
from torghut_core import Side
from torghut_core.model.trading import OrderEvent, OrderState, Report

S, E = OrderState, OrderEvent


def test_nothing_is_sent_before_it_is_dispatched(desk, intent):
    """An order waits in the outbox until its intent is committed."""
    desk.send(intent())
    run_one(desk.executor)
    assert desk.venue.calls == []
    desk.run()
    assert desk.venue.placed == {"tg-1": 1}


def test_order_that_is_canceled_in_the_outbox_is_never_sent(desk, intent):
    """A cancel of an order in the outbox ends it; neither order nor cancel is sent to the venue."""
    desk.send(intent())
    desk.gateway.cancel()
    desk.run()
    assert desk.venue.calls == []
    assert desk.books.working == {}
    assert desk.audit.find_order("test", "tg-1").reason == "not sent: canceled before it was sent"


def test_refused_orders_are_canceled_and_the_rest_is_sent(desk, intent):
    """An order that may not be sent is canceled with the reason; the others are sent."""
    desk.send(intent())
    desk.send(intent("tg-2"))
    desk.gateway.dispatch(lambda each: "no database" if each.client_order_id == "tg-1" else "")
    desk.run()
    assert desk.venue.placed == {"tg-2": 1}
    assert desk.audit.find_order("test", "tg-1").reason == "not sent: no database"


@pytest.mark.parametrize("act", ["cancel", "settle"])
def test_late_submit_report_is_legal(desk, intent, act):
    """A SUBMIT report that comes after a cancel request, or after a reconciliation, is no illegal report."""
    desk.send(intent())
    desk.audit.commit()
    desk.gateway.dispatch()
    run_one(desk.executor)
    if act == "cancel":
        desk.gateway.cancel()
    else:
        desk.settle()
    desk.run()
    assert desk.totals.illegal_reports == 0


def test_refusal_of_the_guards_cancel_changes_nothing(desk, intent):
    """The guard cancels without the loop; the venue's refusal of that cancel changes nothing in the books."""
    desk.send(intent())
    desk.run()
    desk.venue.script["cancel"].append("refused")
    desk.executor.cancel_all()
    desk.run()
    assert desk.totals.illegal_reports == 0
    assert desk.books.working["tg-1"].order.state is S.ACCEPTED


def test_order_whose_cancel_was_refused_stays_open(desk, intent):
    """After a refused cancel the order is ACCEPTED again, and can be canceled again."""
    desk.send(intent())
    desk.run()
    desk.venue.script["cancel"].append("refused")
    desk.gateway.cancel()
    desk.run()
    assert desk.books.working["tg-1"].order.state is S.ACCEPTED
    desk.gateway.cancel()
    desk.run()
    assert desk.venue.book["tg-1"].state is S.CANCELED


def test_illegal_report_is_counted_and_changes_nothing(desk, intent):
    """An illegal report of the venue is not excused as one that crossed a cancel."""
    desk.send(intent())
    desk.run()
    report = Report(client_order_id="tg-1", event=E.SUBMIT, event_ts=0)
    assert desk.books.apply_report(report) == 0
    assert desk.totals.illegal_reports == 1


def test_position_that_was_handed_over_is_the_heirs_after_a_restart(desk, intent):
    """A fill of an order whose position was handed over is the heir's, here and in the database."""
    desk.send(intent(strategy_id="one"))
    desk.run()
    desk.venue.fill("tg-1", 4)
    desk.gateway.apply_updates()
    desk.books.hand_over("one", "two", "ES")
    desk.venue.fill("tg-1", 3)
    desk.gateway.apply_updates()
    later = desk.again()
    held = {key: position.quantity for key, position in later.books.positions.items() if position.quantity}
    assert held == {("two", "ES"): Decimal(7)}


def test_fill_of_an_exit_closes_what_is_held(desk, intent):
    """The fill of an exit reduces the position of its strategy, and the account's."""
    desk.send(intent())
    desk.run()
    desk.venue.fill("tg-1", 10)
    desk.gateway.apply_updates()
    desk.send(intent("tg-2", side=Side.SELL))
    desk.run()
    desk.venue.fill("tg-2", 10)
    desk.gateway.apply_updates()
    assert desk.books.nets == {}
    assert desk.books.working == {}

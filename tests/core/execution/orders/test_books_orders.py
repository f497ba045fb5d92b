"""The blotter on the way to a real venue: what is not on its way yet, and news that crosses."""

from decimal import Decimal

import pytest

from tests.core.execution.orders.conftest import run_one
from torghut_core import Side
from torghut_core.model.trading import OrderEvent, OrderState, Report

S, E = OrderState, OrderEvent


def test_nothing_leaves_before_it_is_dispatched(desk, intent):
    """An order waits in the outbox until its intent is durable."""
    desk.send(intent())
    run_one(desk.executor)
    assert desk.venue.calls == []
    desk.run()
    assert desk.venue.placed == {"tg-1": 1}


def test_order_that_is_canceled_in_the_outbox_never_leaves(desk, intent):
    """A cancel before the order left takes it back; the venue hears of neither."""
    desk.send(intent())
    desk.gateway.cancel()
    desk.run()
    assert desk.venue.calls == []
    assert desk.books.working == {}
    assert desk.audit.find_order("test", "tg-1").reason == "not sent: canceled before it was sent"


def test_what_may_not_leave_is_taken_back_and_the_rest_goes(desk, intent):
    """Only what is refused stays, and it is written down why."""
    desk.send(intent())
    desk.send(intent("tg-2"))
    desk.gateway.dispatch(lambda each: "no database" if each.client_order_id == "tg-1" else "")
    desk.run()
    assert desk.venue.placed == {"tg-2": 1}
    assert desk.audit.find_order("test", "tg-1").reason == "not sent: no database"


@pytest.mark.parametrize("act", ["cancel", "settle"])
def test_that_it_was_sent_is_no_news_of_an_order_that_has_gone_on(desk, intent, act):
    """A cancel that was asked for, or a look that was settled, before SUBMIT is heard makes nothing illegal."""
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


def test_refused_cancel_that_nobody_here_asked_for_is_no_news(desk, intent):
    """The guard cancels without the loop; that the venue says no changes nothing in the books."""
    desk.send(intent())
    desk.run()
    desk.venue.script["cancel"].append("refused")
    desk.executor.cancel_all()
    desk.run()
    assert desk.totals.illegal_reports == 0
    assert desk.books.working["tg-1"].order.state is S.ACCEPTED


def test_refused_cancel_that_was_asked_for_lets_the_order_work_on(desk, intent):
    """The order is ACCEPTED again, and can be canceled again."""
    desk.send(intent())
    desk.run()
    desk.venue.script["cancel"].append("refused")
    desk.gateway.cancel()
    desk.run()
    assert desk.books.working["tg-1"].order.state is S.ACCEPTED
    desk.gateway.cancel()
    desk.run()
    assert desk.venue.book["tg-1"].state is S.CANCELED


def test_report_that_cannot_be_is_counted_and_changes_nothing(desk, intent):
    """An illegal report of the venue's own does not pass for news that crossed."""
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
    """What an exit fills comes off the position of its strategy, and off the account's."""
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

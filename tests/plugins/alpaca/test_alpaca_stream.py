"""The stream of trade updates: what it reports, and that a broken stream is noticed, reported and reconnected."""

import logging
import time
from decimal import Decimal

import pytest
from torghut_testing.alpaca import FakeAlpaca, FakeVenue

from torghut_core import Order, OrderState, OrderType, apply_report, reports_of

KEY, SECRET = "PKPLANTEDKEY", "planted/secret/value"  # those of conftest.py


def received(kit, broker, count):
    """The next `count` statuses."""
    statuses = []
    kit.until(lambda: statuses.extend(broker.updates()) or len(statuses) >= count)
    return statuses


def life(kit, broker, intent, state):
    """The order after statuses of the stream alone have brought it to `state`, and the fills on its way."""
    order, fills = Order(intent=intent), []

    def is_there():
        for status in broker.updates():
            for report in reports_of(order, status):
                apply_report(order, report)
                fills.extend([report.fill] if report.fill else [])
        return order.state is state

    kit.until(is_there)
    return order, fills


def test_every_change_is_reported(fake, kit, broker):
    """Accepted, partly filled, filled: each status has the whole order, and the executions have their ids."""
    asked = kit.order(order_type=OrderType.LIMIT, limit_price=Decimal(50))
    broker.submit(asked)
    fake.venue.fill("tg-1", 2, 50)
    fake.venue.fill("tg-1", 3, 49)
    order, fills = life(kit, broker, asked, OrderState.FILLED)
    assert [(fill.quantity, fill.price) for fill in fills] == [(2, 50), (3, 49)]
    assert not [fill for fill in fills if fill.fill_id.startswith("total-")]
    assert order.average_price == Decimal("49.4")


@pytest.mark.parametrize("fault", ["duplicate", "reorder", "drop"])
def test_frames_may_come_twice_late_or_not_at_all(fake, kit, broker, fault):
    """The totals of the last frame are enough for the right position."""
    asked = kit.order(order_type=OrderType.LIMIT, limit_price=Decimal(50))
    broker.submit(asked)
    received(kit, broker, 1)
    getattr(fake.stream, fault)()
    fake.venue.fill("tg-1", 2, 50)
    fake.venue.fill("tg-1", 3, 50)
    order, fills = life(kit, broker, asked, OrderState.FILLED)
    assert sum(fill.quantity for fill in fills) == order.filled_quantity == 5
    assert order.average_price == 50


def test_changes_are_reported_under_the_first_id(fake, kit, broker):
    """A new leg and its fills carry the first `client_order_id`, after a restart of torghut too."""
    asked = kit.order(order_type=OrderType.LIMIT, limit_price=Decimal(50))
    broker.submit(asked)
    broker.replace("tg-1", limit_price=Decimal(51))
    restarted = kit.connect()
    fake.venue.fill("tg-1-r2", 1, 51)
    fake.venue.fill("tg-1-r2", 4, 51)
    for listener in (broker, restarted):
        order, fills = life(kit, listener, asked, OrderState.FILLED)
        assert order.intent.limit_price == 51
        assert order.venue_order_id == fake.venue.order("tg-1-r2")["id"]
        assert {fill.client_order_id for fill in fills} == {"tg-1"}
        assert sum(fill.quantity for fill in fills) == 5


def test_late_report_of_the_old_leg_takes_nothing_back(fake, kit, broker):
    """``replaced`` shows the old order with its old price, and may come last: the new terms stay."""
    asked = kit.order(order_type=OrderType.LIMIT, limit_price=Decimal(50))
    broker.submit(asked)
    broker.replace("tg-1", limit_price=Decimal(51))
    old = fake.venue.order("tg-1") | {"replaced_by": None, "updated_at": "2099-01-01T00:00:00Z"}
    order, _ = life(kit, broker, asked, OrderState.REPLACED)
    kit.until(lambda: broker.updates() or True)
    fake.stream.send({"stream": "trade_updates", "data": {"event": "replaced", "order": old}})
    for status in received(kit, broker, 1):
        for report in reports_of(order, status):
            apply_report(order, report)
    assert order.intent.limit_price == 51
    assert order.venue_order_id == fake.venue.order("tg-1-r2")["id"]


def test_foreign_orders_are_reported(fake, kit, broker):
    """Statuses of orders that a third party placed on the account come too."""
    fake.venue.place("BTC/USD", "buy", "1", client_order_id="by-hand")
    assert {status.order.intent.client_order_id for status in received(kit, broker, 3)} == {"by-hand"}


def test_nonsense_does_not_break_the_reader(fake, kit, broker):
    """Garbage, unknown events and messages without an order are skipped; the next status is reported."""
    fake.stream.garbage()
    fake.stream.garbage(b"[1]")
    fake.stream.send({"stream": "weather", "data": 1})
    for data in (None, [], {}, {"event": "fill"}, {"event": "fill", "order": {"id": "x"}}):
        fake.stream.send({"stream": "trade_updates", "data": data})
    fake.venue.place("BTC/USD", "buy", "1", client_order_id="odd")
    fake.venue.hold("BTC/USD")
    fake.venue.place("BTC/USD", "buy", "1", type="limit", limit_price="90", client_order_id="restated")
    fake.venue.report("restated", "restated")
    statuses = received(kit, broker, 6)
    assert {status.order.intent.client_order_id for status in statuses} == {"odd", "restated"}
    assert broker.health() == []


def test_text_frames_are_read_too(kit):
    """The live venue speaks in text."""
    with FakeAlpaca(FakeVenue(), key=KEY, secret=SECRET, binary=False) as fake:
        fake.venue.set_price("BTC/USD", 100)
        broker = kit.connect(url=fake.url)
        broker.submit(kit.order())
        assert received(kit, broker, 3)[-1].order.state is OrderState.FILLED
        broker.close()


def test_connection_that_was_cut_comes_back(fake, kit, broker):
    """Health says that it is down, and is clean again when the venue has confirmed the stream again."""
    fake.stop_listening()
    fake.stream.cut()
    kit.until(broker.health)
    assert "down" in broker.health()[0]
    fake.listen_again()
    kit.until(lambda: not broker.health())
    broker.submit(kit.order())
    assert received(kit, broker, 3)[-1].order.state is OrderState.FILLED


@pytest.mark.parametrize("quiet_seconds", [0, 0.6])
def test_mute_connection_is_noticed(fake, kit, quiet_seconds):
    """Open and silent, also to pings, soon or late: found within the time that was asked for."""
    broker = kit.connect(stream_timeout_seconds=0.4)
    time.sleep(quiet_seconds)  # nothing is to be waited for: pings go to and fro meanwhile
    assert broker.health() == []
    fake.stream.mute()
    began = time.monotonic()
    kit.until(broker.health)
    assert time.monotonic() - began < 0.4 + 0.4
    fake.stream.unmute()
    kit.until(lambda: not broker.health())


def test_quiet_connection_stays(fake, kit):
    """A venue with nothing to say answers pings, and the connection is kept."""
    broker = kit.connect(stream_timeout_seconds=0.1)
    connection = broker._stream._connection
    give_up = time.monotonic() + 0.5
    while time.monotonic() < give_up:
        assert broker.health() == []
        time.sleep(0.01)
    assert broker._stream._connection is connection


def test_refused_stream_says_so(fake, kit):
    """Health names the reason and the fix, and gets clean when the venue relents."""
    fake.stream.refuse_auth(2)
    broker = kit.make()
    broker.connect(kit.connection())
    kit.until(lambda: "unauthorized" in "".join(broker.health()))
    kit.until(lambda: not broker.health())


def test_not_healthy_before_the_stream_is_confirmed(fake, kit):
    """Until the venue has confirmed the stream, health reports it."""
    fake.stream.mute()
    broker = kit.make(stream_timeout_seconds=0.3)
    broker.connect(kit.connection())
    give_up = time.monotonic() + 0.5
    while time.monotonic() < give_up:
        assert broker.health()
        time.sleep(0.01)
    fake.stream.unmute()
    kit.until(lambda: not broker.health())


@pytest.mark.parametrize("mute", [False, True])
def test_close_is_quick(fake, kit, broker, mute):
    """Closing ends the thread in a moment, also while the venue is mute."""
    thread = broker._stream._thread
    if mute:
        fake.stream.mute()
    began = time.monotonic()
    broker.close()
    assert time.monotonic() - began < 1.5
    assert not thread.is_alive()
    assert "closed" in broker.health()[0]


def test_keys_are_in_no_log(fake, kit, caplog):
    """Not even where everything is logged: websockets would write down the frame that carries them."""
    caplog.set_level(logging.DEBUG)
    fake.stream.refuse_auth(1)
    broker = kit.make()
    broker.connect(kit.connection())
    kit.until(lambda: not broker.health())
    ours = "".join(record.getMessage() for record in caplog.records if record.name != "websockets.server")
    assert KEY not in ours
    assert SECRET not in ours
    assert KEY not in repr(vars(broker._stream))
    assert SECRET not in repr(vars(broker._stream))

"""Brackets from the books to the venue that holds a pair as one order, and back."""

import time
from decimal import Decimal

import msgspec
import pytest
from pydantic import SecretStr
from torghut_brokers.alpaca import Alpaca
from torghut_testing import trade_batch
from torghut_testing.alpaca import FakeAlpaca

from support.waiting import until
from torghut_core import Bracket, Cancel, Connection, Side, TimeInForce

BRACKET = Bracket(stop_loss=Decimal(9), take_profit=Decimal(12))
ENTRY, STOP, PROFIT = "tg-1", "tg-1-s1", "tg-1-p1"


@pytest.fixture
def fake():
    with FakeAlpaca() as served:
        served.venue.set_price("AAPL", 10)
        yield served


@pytest.fixture
def venue(fake):
    """In place of the venue in memory: the broker, connected to a stand-in."""
    keys = {"ALPACA_KEY_ID": fake.key, "ALPACA_SECRET_KEY": fake.secret}
    broker = Alpaca(Alpaca.Params(url=fake.url, timeout_seconds=30.0))
    broker.connect(Connection(is_live=False, secret=lambda name: SecretStr(keys[name])))
    until(lambda: not broker.health())
    yield broker
    broker.close()


@pytest.fixture
def entered(desk, intent):
    """An entry of ten shares with a bracket, that the venue has filled, and its legs are out."""
    desk.send(intent(ENTRY, "AAPL", Side.BUY, "10", strategy_id="one", bracket=BRACKET, decision_hash="1"))
    run_until(desk, lambda: {STOP, PROFIT} <= set(desk.books.working) and not desk.books.outbox)
    return desk


def run_until(desk, condition):
    def is_so():
        desk.gateway.apply_updates()
        desk.run()
        return condition()

    until(is_so)


def states(desk):
    desk.audit.commit()
    return {row["client_order_id"]: (row["state"], row["filled_quantity"]) for row in desk.audit.orders("test")}


def test_pair_is_one_order_there(entered, fake):
    """Both legs are accepted, and the venue holds the units once."""
    assert states(entered) == {ENTRY: ("filled", 10), STOP: ("accepted", 0), PROFIT: ("accepted", 0)}
    assert [order["order_class"] for order in fake.venue.orders()] == ["", "oco", "oco"]
    assert not entered.books.brackets.unprotected


@pytest.mark.parametrize(("price", "leg", "other"), [(9, STOP, PROFIT), (12, PROFIT, STOP)])
def test_one_leg_closes_the_position(entered, fake, price, leg, other):
    """Once; the books and the venue agree, and nothing is called unprotected."""
    fake.venue.set_price("AAPL", price)
    run_until(entered, lambda: not entered.books.working)
    assert states(entered) == {ENTRY: ("filled", 10), leg: ("filled", 10), other: ("canceled", 0)}
    entered.settle()
    assert fake.venue.positions() == []
    assert not entered.books.foreign
    assert not entered.books.brackets.unprotected


def test_part_of_the_take_profit(entered, fake):
    """The stop has what is left, in the books as at the venue."""
    fake.venue.hold("AAPL")
    fake.venue.fill(PROFIT, 4, 12)
    run_until(entered, lambda: entered.books.working[STOP].order.remaining == 6)
    fake.venue.release("AAPL")
    fake.venue.set_price("AAPL", 9)
    run_until(entered, lambda: not entered.books.working)
    assert states(entered)[STOP] == ("filled", 6)
    assert fake.venue.positions() == []


@pytest.mark.parametrize("price", [9, 12])
def test_process_that_ends_in_between(entered, fake, price):
    """The next one finds both legs, or how they ended, and sends nothing twice."""
    sent = len(fake.venue.orders())
    desk = entered.again()
    fake.venue.set_price("AAPL", price)
    desk.settle(is_start=True)
    run_until(desk, lambda: not desk.books.working)
    assert len(fake.venue.orders()) == sent
    assert fake.venue.positions() == []
    assert not desk.books.foreign


def settled(desk):
    """Let snapshots and updates come until nothing is under way."""

    def is_done():
        desk.settle()
        desk.gateway.apply_updates()
        desk.run()
        under_way = [each for each in desk.books.working.values() if each.order.state != "accepted"]
        return not under_way and not desk.books.outbox and not desk.books.brackets.unprotected

    until(is_done)


def test_part_of_the_position_is_sold(entered, fake, intent):
    """The venue does not make a pair smaller: it is taken back, and another one protects what is still held."""
    entered.send(intent("tg-2", "AAPL", Side.SELL, "4", strategy_id="one", purpose="exit"))
    run_until(entered, lambda: "tg-2" not in entered.books.working)
    settled(entered)
    assert fake.venue.position("AAPL")["qty"] == "6"
    assert states(entered)["tg-2"] == ("filled", 4)
    left = {number: each.order.remaining for number, each in entered.books.working.items()}
    assert left == {"tg-1-s1r2": 6, "tg-1-p1r2": 6}
    fake.venue.set_price("AAPL", 9)
    run_until(entered, lambda: not entered.books.working)
    assert fake.venue.positions() == []


@pytest.mark.parametrize(("leg", "renewed", "price"), [(PROFIT, "tg-1-s1r2", 9), (STOP, "tg-1-p1r2", 12)])
def test_strategy_cancels_one_leg(entered, fake, leg, renewed, price):
    """The venue cancels both: the other one is sent anew, alone."""
    context = entered.books.context("one", "AAPL")
    entered.gateway.cancel_order(Cancel(symbol="AAPL", client_order_id=leg, because="no more"), context)
    run_until(entered, lambda: set(entered.books.working) == {renewed})
    settled(entered)
    assert set(entered.books.working) == {renewed}
    fake.venue.set_price("AAPL", price)
    run_until(entered, lambda: not entered.books.working)
    assert fake.venue.positions() == []


@pytest.mark.parametrize("leg", [PROFIT, STOP])
def test_person_cancels_a_pair(entered, fake, leg):
    """It stays canceled, and is said until the position is closed."""
    fake.venue.cancel(
        fake.venue.order(PROFIT)["id"] if leg == PROFIT else fake.venue.order(PROFIT, nested=True)["legs"][0]["id"]
    )
    run_until(entered, lambda: not entered.books.working)
    entered.settle()
    entered.run()
    assert not entered.books.working
    assert len(entered.books.brackets.unprotected) == 2


def test_close_beside_a_pair(entered, fake, intent):
    """Both legs are taken back first, since the venue holds the units for them; then the position is closed."""
    exit_ = intent("tg-2", "AAPL", Side.SELL, "10", strategy_id="one", purpose="exit")
    entered.send(exit_, is_close=True)
    run_until(entered, lambda: not entered.books.working)
    assert states(entered) == {
        ENTRY: ("filled", 10),
        STOP: ("canceled", 0),
        PROFIT: ("canceled", 0),
        "tg-2": ("filled", 10),
    }
    assert fake.venue.positions() == []


def test_take_profit_of_crypto_is_kept_here(desk, fake, intent):
    """The stop rests there; at the price it makes way, and the take-profit is filled at once."""
    fake.venue.set_price("BTC/USD", 100)
    protection = Bracket(stop_loss=Decimal(90), take_profit=Decimal(110))
    entry = intent(ENTRY, "BTC/USD", Side.BUY, "1", strategy_id="one", bracket=protection, decision_hash="1")
    desk.send(msgspec.structs.replace(entry, time_in_force=TimeInForce.GTC))
    run_until(desk, lambda: desk.settle() and set(desk.books.outbox) == {PROFIT})
    run_until(desk, lambda: desk.books.working[STOP].order.state == "accepted")
    assert {order["client_order_id"] for order in fake.venue.orders(status="open")} == {STOP}
    fake.venue.set_price("BTC/USD", 111)
    batch = trade_batch([("BTC/USD", time.time_ns(), 111.0, 1.0)])
    desk.gateway.begin(batch)
    desk.gateway.finish(batch)
    run_until(desk, lambda: not desk.books.working)
    assert states(desk)[STOP][0] == "canceled"
    assert states(desk)[PROFIT][0] == "filled"
    assert fake.venue.positions() == []
    assert not desk.books.brackets.unprotected

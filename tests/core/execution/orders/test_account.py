"""The account between two polls of the venue, and fees that the venue takes from the units bought."""

from decimal import Decimal

import pytest

from torghut_core import Instrument, Side
from torghut_core.model.trading import Purpose

RATE = Decimal("0.0026")
COIN = "BTC/USD"


@pytest.fixture
def desk(desk, venue):
    venue.fee_in_kind = lambda symbol: RATE if "/" in symbol else Decimal(0)
    return desk


@pytest.fixture
def buy(desk, venue, intent):
    """A function that buys for a strategy, filled whole."""
    count = iter(range(1, 100))

    def bought(quantity, strategy="one", symbol=COIN):
        number = f"tg-{next(count)}"
        desk.send(intent(number, symbol, Side.BUY, quantity, strategy_id=strategy))
        desk.run()
        venue.fill(number, quantity)
        desk.gateway.apply_updates()

    return bought


def held(desk, symbol=COIN):
    positions = desk.books.positions
    return {strategy: position.quantity for (strategy, name), position in positions.items() if name == symbol}


def seen_twice(desk):
    """The differences that two snapshots in a row show."""
    desk.settle()
    desk.clock.pass_(1)
    return desk.settle().differences


def test_fee_in_kind_is_taken_off_the_position(desk, venue, buy):
    """A fee taken from the coins bought is no difference: the strategy's position is what it can sell."""
    buy("1")
    venue.held[COIN] -= Decimal("0.0025")
    done = desk.settle()
    assert (done.differences, done.suspects, desk.reconciler.blocked) == ({}, {}, {})
    assert held(desk) == {"one": Decimal("0.9975")}
    assert desk.books.positions["one", COIN].fees == Decimal("0.2500")


def test_fee_that_comes_days_later_and_in_parts_is_a_fee_still(desk, venue, buy):
    """Fees may be posted at any time and in parts, and each purchase pays only once."""
    buy("1")
    desk.settle()
    buy("1")
    for _ in range(2):
        desk.settle()
        venue.held[COIN] -= Decimal("0.0025")
        desk.settle()
    assert held(desk) == {"one": Decimal("1.9950")}
    venue.held[COIN] -= Decimal("0.0025")
    assert list(seen_twice(desk)) == [COIN]


def test_strategies_share_a_fee_by_what_they_hold(desk, venue, buy):
    """The shares add up to the fee, to the last digit."""
    buy("1", "one")
    buy("2", "two")
    venue.held[COIN] -= Decimal("0.007")
    desk.settle()
    assert sum(held(desk).values()) == venue.held[COIN]
    assert held(desk)["two"] == Decimal(2) - (Decimal("0.007") - Decimal("0.002333333"))


def sell(desk, venue, intent, number, quantity, strategy):
    terms = {"strategy_id": strategy, "purpose": Purpose.EXIT}
    desk.send(intent(number, COIN, Side.SELL, quantity, **terms))
    desk.run()
    if number in venue.book:
        venue.fill(number, quantity)
        desk.gateway.apply_updates()


def test_fee_is_not_taken_off_a_strategy_that_has_sold(desk, venue, buy, intent):
    """Who holds nothing pays nothing: nobody becomes short of coins by a fee."""
    buy("1", "one")
    buy("2", "two")
    desk.settle()
    sell(desk, venue, intent, "tg-sale", "1", "one")
    venue.held[COIN] -= Decimal("0.0075")
    desk.settle()
    assert held(desk) == {"one": 0, "two": Decimal("1.9925")}


def test_exit_of_coins_bought_just_now_waits_for_a_snapshot_of_the_venue(desk, venue, buy, intent):
    """The venue may have kept its fee: the exit is cut to what is there, and is not refused."""
    looks = []
    desk.gateway.request_snapshot = lambda: looks.append("asked")
    buy("1")
    venue.held[COIN] -= Decimal("0.0025")
    sell(desk, venue, intent, "tg-sale", "1", "one")
    assert (looks, len(venue.book)) == (["asked"], 1)
    desk.settle()
    desk.run()
    desk.run()
    assert [order.intent.quantity for order in venue.book.values()] == [1, Decimal("0.9975")]


@pytest.mark.parametrize(("symbol", "missing"), [(COIN, "0.0027"), (COIN, "-0.001"), ("ES", "0.001")])
def test_what_is_no_fee_is_a_difference(desk, venue, buy, symbol, missing):
    """More than the largest fee, additional units, and missing units whose fee is paid in money are differences."""
    buy("1", symbol=symbol)
    venue.held[symbol] -= Decimal(missing)
    assert list(seen_twice(desk)) == [symbol]
    assert held(desk, symbol) == {"one": Decimal(1)}


def test_fee_is_known_after_a_restart(desk, venue, buy):
    """A fee is recorded, and one that is posted after the restart is recognized too."""
    buy("1")
    venue.held[COIN] -= Decimal("0.001")
    desk.settle()
    later = desk.again()
    later.executor.fee_in_kind = venue.fee_in_kind
    assert held(later) == {"one": Decimal("0.999")}
    venue.held[COIN] -= Decimal("0.0015")
    later.settle(is_start=True)
    assert (held(later), later.reconciler.blocked) == ({"one": Decimal("0.9975")}, {})


def test_purchase_lowers_the_buying_power_at_once(desk, venue, buy):
    """The venue's last answer about the account is older than the fill: the cash is not spent twice."""
    before = desk.gateway.account().buying_power
    buy("10")
    assert desk.gateway.account().buying_power == before - 1000
    desk.settle()
    assert desk.gateway.account().buying_power == before - 1000 == venue.cash


def test_snapshot_that_began_before_a_purchase_does_not_hide_it(desk, buy):
    """The account in the snapshot may or may not include the fill: the lower buying power counts."""
    seen = desk.look()
    before = seen.account.buying_power
    buy("10")
    desk.reconciler.reconcile(seen)
    assert desk.gateway.account().buying_power == before - 1000


def test_sale_does_not_raise_the_buying_power_before_the_venue_says_so(desk, venue, buy, intent):
    """The proceeds of a sale count only when the venue's account has them: they may have to settle first."""
    buy("10")
    desk.settle()
    before = desk.gateway.account().buying_power
    desk.send(intent("tg-sale", COIN, Side.SELL, "10"))
    desk.run()
    venue.fill("tg-sale", "10")
    desk.gateway.apply_updates()
    assert desk.gateway.account().buying_power == before


SMALLEST = Decimal("0.01")


@pytest.fixture
def coin_holder(desk, venue, buy):
    """A strategy that holds a coin, less its fee, at a venue that takes no order below 0.01."""
    venue.instrument = lambda symbol, stated: Instrument(min_quantity=SMALLEST) if "/" in symbol else stated
    buy("1")
    venue.held[COIN] -= Decimal("0.0025")
    desk.settle()
    return desk.books.context("one", COIN)


def test_what_is_below_the_smallest_order_of_the_venue_is_nothing_held(desk, venue, intent, coin_holder):
    """The strategy is flat and can close nothing, its symbol counts as free; the books keep the units."""
    sale = intent("tg-99", COIN, Side.SELL, "0.99", strategy_id="one", purpose=Purpose.EXIT)
    desk.send(sale)
    desk.run()
    venue.fill("tg-99", "0.99")
    desk.gateway.apply_updates()
    assert held(desk) == {"one": Decimal("0.0075")}
    assert coin_holder.is_flat
    assert not coin_holder.is_long
    assert coin_holder.close("enough") is coin_holder.target(0, "enough") is None
    assert (desk.books.held, desk.books.holding, desk.books.symbols) == ([], set(), set())
    assert desk.settle().differences == {}


def test_fee_that_comes_when_only_dust_is_left_is_taken_off_it(desk, venue, intent, coin_holder):
    """The dust is still the strategy's: what the venue keeps of it is a fee, and no difference that stops entries."""
    desk.send(intent("tg-99", COIN, Side.SELL, "0.99", strategy_id="one", purpose=Purpose.EXIT))
    desk.run()
    venue.fill("tg-99", "0.99")
    desk.gateway.apply_updates()
    venue.held[COIN] -= Decimal("0.0001")
    assert seen_twice(desk) == {}
    assert held(desk) == {"one": Decimal("0.0074")}


def test_position_of_the_smallest_order_is_held(coin_holder):
    """What the venue would take an order for can be closed."""
    assert coin_holder.is_long
    assert coin_holder.close("enough").quantity == Decimal("0.9975")

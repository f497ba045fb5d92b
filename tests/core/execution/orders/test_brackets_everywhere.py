"""Brackets end the same at the simulated venue, at Alpaca, which holds a pair of shares as one order and none of crypto, and over restarts."""

import time
from decimal import Decimal

import msgspec
import pytest
from pydantic import SecretStr
from torghut_brokers import Simulated
from torghut_brokers.alpaca import Alpaca
from torghut_testing import trade_batch
from torghut_testing.alpaca import FakeAlpaca

from support.simulated import tape, trade
from support.waiting import until
from tests.core.execution.orders.conftest import Desk, make_intent
from torghut_core import Bracket, Cancel, Connection, OrderType, Side, TimeInForce
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.instruments import Instrument
from torghut_core.model.order_state import is_done
from torghut_core.trading.books import Books
from torghut_core.trading.gateway import SimulatedGateway
from torghut_core.trading.recent_prices import RecentPrices
from torghut_core.trading.totals import Totals

ENTRY = "tg-1"
BRACKET = Bracket(stop_loss=Decimal(90), take_profit=Decimal(120))
STORIES = {
    "the stop is reached": [("price", 95), ("price", 90)],
    "the take-profit is reached": [("price", 110), ("price", 120)],
    "a gap beyond the stop": [("price", 87)],  # less than what a stop of crypto allows at Alpaca
    "a gap beyond the take-profit": [("price", 130)],
    "the strategy closes": [("price", 110), ("sell", 10)],
    "a part is sold, and the stop is reached": [("sell", 4), ("price", 90)],
    "a part is sold, and the take-profit is reached": [("sell", 4), ("price", 110), ("price", 120)],
    "all is sold in parts": [("sell", 4), ("sell", 6)],
    "the take-profit is canceled, and the stop is reached": [
        ("cancel", OrderType.LIMIT),
        ("price", 120),
        ("price", 90),
    ],
    "the stop is canceled, and the take-profit is reached": [("cancel", OrderType.STOP), ("price", 90), ("price", 120)],
    "nothing is reached": [("price", 95), ("price", 119)],
}


class World:
    """An account that has bought ten units at 100 with a bracket, and what happens to it then."""

    symbol = "BTC/USD"

    def entry(self):
        intent = make_intent(ENTRY, self.symbol, Side.BUY, "10", decided_at=self.now(), bracket=BRACKET)
        return msgspec.structs.replace(intent, time_in_force=TimeInForce.GTC)

    def do(self, step, number):
        """Let a step of a story begin."""
        kind, value = step
        if kind == "price":
            self.move_price(value)
        elif kind == "sell":
            sale = make_intent(
                f"sale-{number}", self.symbol, Side.SELL, str(value), purpose="exit", decided_at=self.now()
            )
            self.desk.send(msgspec.structs.replace(sale, time_in_force=TimeInForce.GTC), is_close=value == self.held())
        else:
            legs = [each.order.intent for each in self.desk.books.working.values()]
            (leg,) = [leg.client_order_id for leg in legs if leg.order_type is value]
            context = self.desk.books.context("one", self.symbol)
            wanted = Cancel(symbol=self.symbol, client_order_id=leg, because="the story says so")
            self.desk.gateway.cancel_order(wanted, context)

    def held(self):
        position = self.desk.books.positions.get(("one", self.symbol))
        return position.quantity if position else Decimal(0)

    def seen(self):
        """What is held, what is sold by which kind of order, and what protects the rest."""
        self.desk.audit.commit()
        sold, open_ = {}, {}
        for row in self.desk.audit.orders("test"):
            kind = row["order_type"]
            if row["side"] == "sell" and row["filled_quantity"]:
                sold[kind] = sold.get(kind, 0) + row["filled_quantity"]
        for working in self.desk.books.working.values():
            kind = str(working.order.intent.order_type)
            open_[kind] = open_.get(kind, 0) + working.order.remaining
        return self.held(), sold, open_, self.desk.books.brackets.unprotected


class AtSimulated(World):
    """At the simulated venue; a restart takes over its state as a process does that starts."""

    def __init__(self):
        self.clock = 0
        self.desk = SimulatedDesk(Simulated(Simulated.Params(cash=Decimal(10_000))), MemoryAuditStore())
        self.move_price(100)
        self.desk.send(self.entry())
        self.move_price(100)

    def now(self):
        return 0

    def do(self, step, number):
        super().do(step, number)
        if step[0] == "sell":
            self.move_price(self.price)  # an order meets what comes after it

    def move_price(self, price):
        self.price = price
        self.clock += 1
        batch = tape(trade(self.clock, float(price), size=1000.0, symbol=self.symbol), start=self.desk.at)
        self.desk.gateway.begin(batch)
        self.desk.gateway.finish(batch)
        self.desk.at = batch.stop

    def restart(self):
        broker = Simulated(Simulated.Params(cash=Decimal(10_000)))
        broker.load_state(self.desk.broker.save_state(), broker.state_version)
        before, self.desk = self.desk, SimulatedDesk(broker, self.desk.audit)
        before.audit.commit()
        orders = self.desk.audit.recent_orders("test", 0)
        self.desk.books.restore(self.desk.audit.positions("test"), orders)
        self.desk.gateway.resume([order for order in orders if not is_done(order.state)])

    def expect(self, seen):
        self.desk.gateway.apply_updates()
        assert self.seen() == seen


class SimulatedDesk(Desk):
    """As `Desk`, at a broker in the loop's thread."""

    def __init__(self, broker, audit):
        self.broker, self.audit, self.at = broker, audit, 0
        self.books = Books(
            "test",
            audit,
            Totals(),
            [],
            lambda *_: None,
            self,
            broker.usual_time_in_force,
            lambda symbol: broker.instrument(symbol, Instrument()),
            RecentPrices(),
            is_simulated=True,
        )
        self.gateway = SimulatedGateway(broker, self.books)


class AtAlpaca(World):
    """At the stand-in of Alpaca, over HTTP and its stream of updates."""

    def __init__(self, symbol, fake, clock):
        self.symbol, self.fake, self.clock = symbol, fake, clock
        fake.venue.set_price(symbol, 100)
        keys = {"ALPACA_KEY_ID": fake.key, "ALPACA_SECRET_KEY": fake.secret}
        self.broker = Alpaca(Alpaca.Params(url=fake.url, timeout_seconds=30.0))
        self.broker.connect(Connection(is_live=False, secret=lambda name: SecretStr(keys[name])))
        until(lambda: not self.broker.health())
        self.desk = Desk(self.broker, clock)
        self.desk.send(self.entry())

    def now(self):
        return time.time_ns()

    def move_price(self, price):
        self.fake.venue.set_price(self.symbol, price)
        batch = trade_batch([(self.symbol, time.time_ns(), float(price), 1.0)])
        self.desk.gateway.begin(batch)
        self.desk.gateway.finish(batch)

    def restart(self):
        self.desk = self.desk.again()
        self.desk.settle(is_start=True)

    def expect(self, seen):
        def is_so():
            self.clock.pass_(1)
            self.desk.settle()
            self.desk.gateway.apply_updates()
            self.desk.run()
            return self.seen() == seen and self.is_at_rest()

        until(is_so, lambda: f"{self.seen()} and not {seen}")

    def expect_the_truth(self):
        """Of an exit that had not left when its process ended, and never leaves: what is held is protected, or it is said that it is not."""

        def is_so():
            self.clock.pass_(1)
            self.desk.settle()
            self.desk.gateway.apply_updates()
            self.desk.run()
            held, _, open_, unprotected = self.seen()
            is_over = "market" not in open_ and self.is_at_rest()
            return is_over and (
                bool(unprotected) or all(open_.get(leg, 0) == held for leg in ("stop", "limit") if held)
            )

        until(is_so, self.seen)

    def is_at_rest(self):
        changing = [
            each for each in self.desk.books.working.values() if each.order.state in ("pending_cancel", "submitted")
        ]
        return not changing and self.at_venue() == self.held()

    def at_venue(self):
        held = [Decimal(each["qty"]) for each in self.fake.venue.positions()]
        return sum(held, Decimal(0))


def simulated(steps, restart=None):
    """What is seen of a story at the simulated venue, after the entry and after each step."""
    world = AtSimulated()
    seen = [world.seen()]
    for number, step in enumerate(steps):
        if number == restart:
            world.restart()
            world.expect(seen[-1])
        world.do(step, number)
        world.desk.gateway.apply_updates()
        seen.append(world.seen())
    return seen


@pytest.mark.parametrize("story", STORIES)
def test_simulated_venue_over_a_restart(story):
    """Between any two events: the same after each."""
    steps = STORIES[story]
    expected = simulated(steps)
    for restart in range(len(steps)):
        assert simulated(steps, restart) == expected


def cases():
    """Stories at each kind of venue with a restart before, in, or in none of their steps."""
    for story, steps in STORIES.items():
        for symbol in ("AAPL", "BTC/USD"):
            for place in [None, *[(how, step) for step in range(len(steps)) for how in ("before", "in")]]:
                name = "no restart" if place is None else f"restart {place[0]} step {place[1]}"
                yield pytest.param(story, symbol, place, id=f"{story}-{symbol}-{name}")


@pytest.mark.parametrize(("story", "symbol", "restart"), [*cases()])
def test_alpaca_as_the_simulated_venue(story, symbol, restart, clock):
    """After each event the same is held, sold and protected, whether a process ends before an event or before it hears of it."""
    steps = STORIES[story]
    after_entry, *after = simulated(steps)
    with FakeAlpaca() as fake:
        world = AtAlpaca(symbol, fake, clock)
        try:
            world.expect(after_entry)
            for number, (step, seen) in enumerate(zip(steps, after, strict=True)):
                if restart == ("before", number):
                    world.restart()
                world.do(step, number)
                if restart == ("in", number):
                    if step[0] != "price":
                        world.desk.run()
                    world.restart()
                    if step[0] == "price":
                        world.move_price(step[1])
                    if step[0] == "sell":
                        world.expect_the_truth()
                        break
                world.expect(seen)
        finally:
            world.broker.close()

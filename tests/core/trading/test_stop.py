"""What the engine does when an operator stops everything."""

from decimal import Decimal

import pytest
from torghut_brokers import Simulated

from support.generations import generation, instance, signal_batch
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import OrderState, OrderType
from torghut_core.ports import Strategy
from torghut_core.trading.engine import FLATTEN_AGAIN, Engine
from torghut_core.trading.gates import Gates

MINUTE = 60_000_000_000
START = 1_378_000_800_000_000_000  # 2013: a tape of long ago
NOW = 1_795_000_000_000_000_000


class Says(Strategy):
    """Proposes what the test put there for the row."""

    def __init__(self, words):
        super().__init__(None)
        self.words = words

    def on_signal(self, signal, context):
        word = self.words.pop(0) if self.words else None
        if word == "buy":
            return context.buy(2, because="in")
        if word == "ask":
            return context.sell(2, because="high", order_type=OrderType.LIMIT, limit_price=Decimal(1000))
        if word == "bid":
            return context.buy(1, because="low", order_type=OrderType.LIMIT, limit_price=Decimal(1))
        return None


class Stream:
    """An engine on the simulated broker, and a tape that continues."""

    def __init__(self, *words, control="running", permits=None):
        self.gates = Gates(trading_enabled=True, control=control)
        self.audit = MemoryAuditStore()
        made = generation(instance("one", Says(list(words))), broker=Simulated(Simulated.Params()))
        self.engine = Engine(made, "test", self.audit, self.gates, permits=permits)
        self.rows = 0
        self.symbols = None

    def go_on(self, rows=1):
        for _ in range(rows):
            row = ("ES", START + self.rows * MINUTE, 100.0, 101.0, 99.0, 100.0, 10.0)
            batch = signal_batch([row], "1Min", self.symbols, self.rows)
            self.symbols = batch.symbols
            self.engine.step(batch)
            self.rows += 1

    @property
    def held(self):
        return sum(position.quantity for position in self.engine.books.positions.values())

    def orders(self):
        self.audit.commit()
        return [(row["side"], row["quantity"], row["state"]) for row in self.audit.orders("test")]


def test_halt_takes_back_what_works_and_keeps_what_is_held():
    """No order is open any more, and nothing is sold that was not asked to be sold."""
    stream = Stream("buy", None, "bid")
    stream.go_on(3)
    assert (stream.held, len(stream.engine.books.working)) == (2, 1)
    stream.gates.control = "halted"
    stream.engine.apply_control("", NOW)
    stream.go_on(3)
    assert (stream.held, len(stream.engine.books.working)) == (2, 0)
    assert stream.orders()[-1] == ("buy", 1, OrderState.CANCELED)


@pytest.mark.parametrize("pulses", [1, 5])
def test_flatten_closes_what_is_held_once(pulses):
    """Also on a tape of long ago, and however often the control is applied until the order is filled."""
    stream = Stream("buy", None, "bid")
    stream.go_on(3)
    stream.gates.control = "halted"
    for pulse in range(pulses):
        stream.engine.apply_control("enough (jane)", NOW + pulse)
    stream.go_on(2)
    assert (stream.held, len(stream.engine.books.working)) == (0, 0)
    assert [order[:2] for order in stream.orders() if order[0] == "sell"] == [("sell", 2)]
    decision = stream.audit.decisions("test")[-1]
    assert (decision["rationale"], decision["verdicts"][0]["code"]) == ("enough (jane)", "flatten")


def test_flatten_is_tried_again_where_the_order_came_to_nothing():
    """A position that is still there some seconds later is sold again; not before."""
    stream = Stream("buy")
    stream.go_on(2)
    stream.gates.control = "halted"
    for seconds in (0, FLATTEN_AGAIN - 1, FLATTEN_AGAIN):
        stream.engine.apply_control("enough", NOW + seconds)
        stream.engine.gateway.cancel()
    assert [order[0] for order in stream.orders()] == ["buy", "sell", "sell"]


def test_reduce_only_cancels_entries_and_leaves_exits_working():
    """An order that only takes off the book is what the control is there for."""
    stream = Stream("bid")
    stream.go_on(2)
    stream.gates.control = "reduce_only"
    stream.engine.apply_control("", NOW)
    assert len(stream.engine.books.working) == 0


def test_pause_leaves_orders_alone():
    """What works was let through before."""
    stream = Stream("bid")
    stream.go_on(2)
    stream.gates.control = "pause_entries"
    stream.engine.apply_control("", NOW)
    assert len(stream.engine.books.working) == 1


def test_exit_is_known_as_one_where_no_rule_reads_the_account():
    """Without any risk rule too: the last check lets it pass, and `reduce_only` leaves it working."""
    stream = Stream("buy", None, "ask", permits=lambda intent: "" if intent.purpose != "entry" or not full else "full")
    full = []
    stream.go_on(2)
    full.append(True)
    stream.go_on(1)
    assert (stream.held, len(stream.engine.books.working)) == (2, 1)
    stream.gates.control = "reduce_only"
    stream.engine.apply_control("", NOW)
    assert len(stream.engine.books.working) == 1

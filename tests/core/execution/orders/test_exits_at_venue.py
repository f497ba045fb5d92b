"""Exits and flattening at a venue: past its own stops, and by what is held there, whatever a person does in between."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.actions import buy, close, sell
from support.effort import examples
from support.generations import generation, instance, signal_batch
from tests.core.execution.orders.conftest import ACCOUNT, HandClock, MemoryVenue, run_one
from torghut_core import OrderRefused, Side, is_done
from torghut_core.audit import MemoryAuditStore
from torghut_core.execution.executor import Executor
from torghut_core.execution.reconciler import Reconciler, take_snapshot
from torghut_core.model.trading import OrderState, OrderType, TimeInForce
from torghut_core.ports import Strategy
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.engine import FLATTEN_AGAIN, Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * SECOND
GTC = {"time_in_force": TimeInForce.GTC}


class StrictVenue(MemoryVenue):
    """A venue that keeps the units of an open order from being sold by another, and turns no position round in one order."""

    def _take(self, intent):
        if intent.client_order_id not in self.book:
            self._check(intent)
        return super()._take(intent)

    def _check(self, intent):
        held = self.held.get(intent.symbol, Decimal(0))
        if held and (held > 0) is (intent.side is Side.SELL) and intent.quantity > self.free(intent.symbol):
            raise OrderRefused("insufficient-quantity", "insufficient qty available for order")

    def free(self, symbol):
        """Units of the position that no open order would close."""
        held = self.held.get(symbol, Decimal(0))
        side = Side.SELL if held > 0 else Side.BUY
        kept = [each.remaining for each in self.book.values() if not is_done(each.state) and each.intent.side is side]
        return max(Decimal(0), abs(held) - sum((each for each in kept), Decimal(0)))

    def trade_by_hand(self, symbol, units):
        """A person buys or sells, as far as the venue lets them."""
        held = self.held.get(symbol, Decimal(0))
        if held and held * units < 0:
            units = max(-self.free(symbol), min(self.free(symbol), units))
        self.held[symbol] = held + units


class Says(Strategy):
    """Answers with what the test put there for the symbol."""

    def __init__(self, acts):
        super().__init__(None)
        self.acts = acts

    def on_signal(self, signal, context):
        act = self.acts.pop(0) if self.acts else None
        return act(context) if act else None


class Floor:
    """An engine that trades at a venue, its executor taking one step at a time."""

    def __init__(self, clock, *names):
        self.clock, self.venue = clock, StrictVenue()
        self.venue.capabilities = msgspec.structs.replace(self.venue.capabilities)
        self.acts = {name: [] for name in names or ("one",)}
        self.gates = Gates(trading_enabled=True)
        self.audit = MemoryAuditStore(clock)
        made = generation(*(instance(name, Says(acts)) for name, acts in self.acts.items()), broker=self.venue)
        self.executor = Executor(self.venue, lambda _: "", threads=0, clock=clock)
        self.engine = Engine(made, ACCOUNT, self.audit, self.gates, executor=self.executor, allow_shorts=True)
        self.reconciler = Reconciler(self.engine.gateway, self.executor, self.audit, ACCOUNT)
        self.rows, self.symbols, self.reason = 0, None, ""

    def row(self, *acts, name="one"):
        """A bar at 100, at which a strategy does something."""
        self.acts[name].extend(acts)
        bar = ("ES", START + self.rows * MINUTE, 100.0, 100.0, 100.0, 100.0, 10.0)
        batch = signal_batch([bar], "1Min", self.symbols, self.rows)
        self.symbols, self.rows = batch.symbols, self.rows + 1
        self.engine.step(batch)
        self.pulse(0)

    def pulse(self, seconds=FLATTEN_AGAIN / SECOND):
        """Later the control is applied, what waits is sent, and the venue's answers are taken."""
        self.clock.pass_(seconds)
        self.engine.apply_control(self.reason, self.clock.wall())
        for _ in range(4):
            self.engine.gateway.apply_updates()
            self.audit.commit()
            self.engine.gateway.dispatch()
            while run_one(self.executor):
                pass

    def settle(self):
        """Take two snapshots of the venue."""
        for _ in range(2):
            books = self.engine.books
            open_ids, moves = self.reconciler.open_ids, dict(books.moves)
            snapshot = take_snapshot(self.venue, open_ids, moves, books.spent, None, self.clock)
            self.reconciler.reconcile(snapshot)
            self.clock.pass_(1)
        self.gates.unreconciled = self.reconciler.differences
        self.pulse(0)

    def fill(self, *, stops=False):
        """Fill everything that is open, stops only where they are asked for."""
        for number, order in list(self.venue.book.items()):
            if not is_done(order.state) and (stops or order.intent.order_type is OrderType.MARKET):
                self.venue.fill(number, order.remaining)
        self.pulse(0)

    def flatten(self):
        self.gates.control, self.reason = "halted", "enough (jane)"

    @property
    def held(self):
        return self.venue.held.get("ES", Decimal(0))

    @property
    def orders(self):
        self.audit.commit()
        return [(row["side"], row["quantity"], OrderState(row["state"])) for row in self.audit.orders(ACCOUNT)]


@pytest.fixture
def floor(clock):
    return Floor(clock)


def stop(quantity):
    return sell(quantity, order_type=OrderType.STOP, stop_price=Decimal(90), **GTC)


def long_with_stop(floor, quantity=5):
    floor.row(buy(quantity))
    floor.fill()
    floor.row(stop(quantity))
    assert floor.venue.free("ES") == 0


@pytest.mark.parametrize("way", [close(), sell(5), close(order_type=OrderType.LIMIT, limit_price=Decimal(99))])
def test_exit_waits_until_its_stop_is_canceled(floor, way):
    """The venue would refuse it before; it waits in the outbox, and is refused by nobody."""
    long_with_stop(floor)
    floor.row(way)
    assert floor.orders == [("buy", 5, "filled"), ("sell", 5, "canceled"), ("sell", 5, "accepted")]
    floor.fill(stops=True)
    assert floor.held == 0


def test_part_of_a_position_is_sold_past_its_stop(floor):
    """The stop is replaced by a smaller one first; it goes on protecting the rest."""
    long_with_stop(floor)
    floor.row(sell(2))
    floor.fill()
    assert floor.held == 3
    assert floor.orders[1:] == [("sell", 3, "replaced"), ("sell", 2, "filled")]


def test_stop_that_fills_while_it_is_being_canceled_ends_the_exit(floor):
    """What the stop has sold is not sold again; what it left is."""
    long_with_stop(floor)
    stop_id = floor.audit.orders(ACCOUNT)[1]["client_order_id"]
    floor.venue.before = lambda kind, number: floor.venue.fill(stop_id, 3) if kind == "cancel" else None
    floor.row(close())
    floor.fill()
    assert floor.held == 0
    assert [order[:2] for order in floor.orders] == [("buy", 5), ("sell", 5), ("sell", 5), ("sell", 2)]
    assert floor.audit.orders(ACCOUNT)[2]["reason"] == "not sent: 2 of 5 can still be closed"


def test_exit_is_sent_anyway_where_the_stop_cannot_be_canceled(floor):
    """The venue refuses the cancel: the exit is not held up, and the venue's refusal is its end."""
    long_with_stop(floor)
    floor.venue.script["cancel"].extend(["refused"] * 9)
    floor.row(close())
    assert floor.orders[2] == ("sell", 5, "rejected")


def test_exit_that_waits_survives_a_pause_and_a_restart_takes_it_back(floor):
    """A pause lets exits pass, the waiting ones too."""
    long_with_stop(floor)
    floor.venue.script["cancel"].extend(["lost", "lost"])
    floor.acts["one"].append(close())
    floor.gates.control = "pause_entries"
    floor.row()
    assert floor.orders[2][2] == "pending"
    floor.clock.pass_(5)
    floor.pulse(5)
    floor.pulse(5)
    floor.fill()
    assert (floor.held, floor.orders[2][2]) == (0, "filled")


def test_reversal_is_two_orders_at_the_venue(floor):
    """The venue turns no position round in one order: the second leaves when the first has filled."""
    floor.row(buy(2))
    floor.fill()
    floor.row(sell(5))
    assert [order for order in floor.orders if order[0] == "sell"] == [("sell", 2, "accepted"), ("sell", 3, "pending")]
    floor.settle()
    floor.fill()
    floor.fill()
    assert floor.held == -3


def test_reversal_whose_first_leg_is_refused_opens_nothing(floor):
    """The second leg ends with the first."""
    floor.row(buy(2))
    floor.fill()
    floor.venue.script["submit"].append("refused")
    floor.row(sell(5))
    floor.fill()
    assert (floor.held, floor.orders[1:]) == (2, [("sell", 2, "rejected"), ("sell", 3, "canceled")])


@pytest.mark.parametrize(("by_hand", "sold"), [(-4, 6), (-10, 0), (5, 15), (-13, 0)])
def test_flatten_sells_what_the_venue_holds(floor, by_hand, sold):
    """A person has traded: what is left is sold, no unit more, and what is owed is bought back."""
    floor.row(buy(10))
    floor.fill()
    floor.venue.held["ES"] += by_hand
    floor.settle()
    floor.flatten()
    for _ in range(4):
        floor.pulse()
        floor.fill()
    assert floor.held == 0
    assert sum(order[1] for order in floor.orders if order[0] == "sell") == sold


@pytest.mark.parametrize(("by_hand", "sold"), [(-4, 6), (-10, 0), (5, 10)])
@pytest.mark.parametrize("way", ["close", "sell"])
def test_exit_is_cut_to_what_the_venue_holds(floor, way, by_hand, sold):
    """Though shorts are allowed: an exit of what is not there opens nothing."""
    floor.row(buy(10))
    floor.fill()
    floor.venue.held["ES"] += by_hand
    floor.settle()
    floor.row(close() if way == "close" else sell(10))
    floor.fill()
    assert sum(order[1] for order in floor.orders if order[0] == "sell") == sold


def test_difference_that_was_accepted_cuts_no_exit(floor):
    """From then on it is explained, and the books count again."""
    floor.row(buy(10))
    floor.fill()
    floor.venue.held["ES"] += 5
    floor.settle()
    floor.reconciler.accept("ES", "bought by hand", "jane")
    assert floor.engine.books.net_at_venue("ES") == 15
    floor.row(close())
    floor.fill()
    assert floor.held == 5


def test_flatten_is_not_held_up_by_a_stop(floor):
    """Stops are canceled, then what is held is sold."""
    long_with_stop(floor)
    floor.flatten()
    for _ in range(3):
        floor.pulse()
        floor.fill()
    assert floor.held == 0
    assert floor.orders[1:] == [("sell", 5, "canceled"), ("sell", 5, "filled")]


def test_flatten_leaves_what_is_below_the_smallest_order(clock):
    """Dust is tried no second time, and the books keep it."""
    floor = Floor(clock)
    floor.row(buy(10))
    floor.fill()
    floor.engine.books.context("one", "ES").smallest_order = floor.engine.books.context("", "ES").smallest_order = 1
    floor.venue.held["ES"] -= Decimal("9.5")
    floor.settle()
    floor.flatten()
    for _ in range(4):
        floor.pulse()
        floor.fill()
    assert (floor.held, len(floor.orders)) == (Decimal("0.5"), 1)


@pytest.mark.parametrize("by_hand", [0, 11])
def test_flatten_is_repeated_by_what_the_venue_holds_since(floor, by_hand):
    """A person cancels its orders and sells the units: positions are compared again before any more is sold."""
    floor.row(buy(2))
    floor.fill()
    floor.venue.held["ES"] += by_hand
    floor.settle()
    floor.flatten()
    floor.pulse()
    for number, order in list(floor.venue.book.items()):
        if not is_done(order.state):
            floor.venue.cancel(number)
            floor.venue.held["ES"] -= order.remaining
    for _ in range(3):
        floor.fill()
        floor.pulse()
    assert floor.held == 0
    floor.settle()
    floor.pulse()
    assert [order[1] for order in floor.orders if order[0] == "sell"] == [2, *([by_hand] if by_hand else [])]


def test_flatten_of_two_strategies_that_disagree_closes_the_net(clock):
    """One is long 5, the other short 3: the account holds 2, and 2 are sold."""
    floor = Floor(clock, "one", "two")
    floor.row(buy(5))
    floor.fill()
    floor.row(sell(3), name="two")
    floor.fill()
    assert floor.held == 2
    floor.flatten()
    for _ in range(3):
        floor.pulse()
        floor.fill()
    assert floor.held == 0


def test_flatten_sells_in_no_strategys_name_what_that_one_is_selling_already(clock):
    """What is left is the other's: afterwards both hold nothing, not one too little and the other too much."""
    floor = Floor(clock, "one", "two")
    floor.row(buy(1), name="two")
    floor.row(buy(1))
    floor.fill()
    floor.row(close())
    floor.flatten()
    floor.pulse()
    floor.fill()
    assert floor.held == 0
    assert not floor.engine.books.held


def test_flatten_sells_once_what_is_none_of_the_strategies(floor):
    """What an operator accepted as an outside trade, and as much that was bought by hand since, are one order."""
    for _ in range(2):
        floor.venue.trade_by_hand("ES", Decimal(2))
        floor.settle()
        if "ES" in floor.reconciler.blocked and not floor.engine.books.held:
            floor.reconciler.accept("ES", "bought by hand", "jane")
    assert (floor.engine.books.net("ES"), floor.engine.books.differences) == (2, {"ES": 2})
    floor.flatten()
    floor.pulse()
    floor.fill()
    assert floor.held == 0
    assert floor.orders == [("sell", 4, "filled")]


def protect(context, price, order_type):
    """A stop or a take-profit for all that is held."""
    if not context.is_long:
        return None
    name = "stop_price" if order_type is OrderType.STOP else "limit_price"
    terms = {name: Decimal(price), "order_type": order_type, **GTC}
    return context.sell(context.position.quantity, because="test", **terms)


ACTS = st.one_of(
    st.builds(buy, st.integers(1, 4)),
    st.builds(sell, st.integers(1, 6)),
    st.just(close()),
    st.just(lambda context: protect(context, 90, OrderType.STOP)),
    st.just(lambda context: protect(context, 110, OrderType.LIMIT)),
    st.builds(
        lambda quantity: buy(quantity, order_type=OrderType.LIMIT, limit_price=Decimal(1), **GTC), st.integers(1, 3)
    ),
    st.builds(lambda quantity: lambda context: context.target(quantity, because="test"), st.integers(-3, 3)),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.sampled_from(["one", "two"]), ACTS),
        st.tuples(st.just("fill"), st.integers(0, 9), st.integers(1, 5)),
        st.tuples(st.just("by hand"), st.integers(-6, 6)),
        st.tuples(st.just("cancel"), st.sampled_from(["refused", "lost", "accepted"])),
        st.tuples(st.just("settle")),
    ),
    max_size=30,
)


@examples(1500, quick=40)
@given(steps=STEPS)
def test_exits_and_flattening_never_turn_a_position_round(steps):
    """Whatever the books, the venue and a person do; at the end nothing is held."""
    floor = Floor(HandClock(), "one", "two")
    venue = floor.venue

    def fill(which, quantity):
        numbers = [number for number, order in venue.book.items() if not is_done(order.state)]
        if not numbers:
            return
        number = numbers[which % len(numbers)]
        before, intent = venue.held.get("ES", Decimal(0)), venue.book[number].intent
        if intent.is_exit and before * (1 if intent.side is Side.SELL else -1) < min(
            quantity, venue.book[number].remaining
        ):
            raise AssertionError(f"{number} would turn {before} round")
        venue.fill(number, quantity)
        floor.pulse(0)

    for kind, *terms in steps:
        if kind == "act":
            floor.row(terms[1], name=terms[0])
        elif kind == "fill":
            fill(*terms)
        elif kind == "by hand":
            venue.trade_by_hand("ES", Decimal(terms[0]))
            floor.settle()
        elif kind == "cancel":
            venue.script["cancel"].append(terms[0])
        else:
            floor.settle()
    venue.script["cancel"].clear()
    floor.pulse(40)
    floor.settle()
    floor.flatten()
    for _ in range(12):
        floor.pulse()
        floor.settle()
        fill(0, 100)
    assert venue.held.get("ES", 0) == 0
    assert floor.engine.totals.illegal_reports == 0
    assert all(count == 1 for count in venue.placed.values())

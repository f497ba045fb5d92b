"""A venue in memory with scripted faults, and a clock that a test moves."""

import itertools
from collections import Counter, deque
from decimal import Decimal

import msgspec
import pytest
from hypothesis import strategies as st

from torghut_core import (
    Account,
    Broker,
    Capabilities,
    DuplicateOrder,
    Intent,
    NotSent,
    OrderRefused,
    OrderType,
    Side,
    Throttled,
    TimeInForce,
    Unanswered,
    is_done,
)
from torghut_core.audit import MemoryAuditStore
from torghut_core.execution.executor import Executor
from torghut_core.execution.reconciler import Reconciler, take_snapshot
from torghut_core.model.instruments import Instrument
from torghut_core.model.trading import Decision, Order, OrderState, OrderStatus, Position
from torghut_core.timestamps import SECOND
from torghut_core.trading.books import Books
from torghut_core.trading.gateway import VenueGateway
from torghut_core.trading.recent_prices import RecentPrices
from torghut_core.trading.totals import Totals

S = OrderState
ACCOUNT = "test"
LONG_AGO = -(2**62)


class MemoryVenue(Broker):
    """A venue whose orders fill when a test calls `fill`.

    `script` has, by the kind of request, the outcomes of the next ones:

    accepted    nothing goes wrong
    refused     the venue refuses, with a code
    throttled   too many requests; a number is the seconds after which to retry
    not_sent    the request does not reach the venue
    taken       the venue does it, and the answer is lost
    lost        the venue does not do it, and there is no answer
    late        like lost, but the request is under way, and is done at the next `land`
    broken      the plugin has a defect, and raises before the venue does anything
    broken_after the same, after the venue has done it
    unseen      of a look-up: the order exists, and is not shown yet
    """

    capabilities = Capabilities(frozenset(OrderType), frozenset(TimeInForce), brackets=True)

    def __init__(self):
        super().__init__(self.Params())
        self.book = {}
        self.placed = Counter()
        self.calls = []
        self.script = {"submit": deque(), "find": deque(), "cancel": deque(), "replace": deque(), "orders": deque()}
        self.under_way = []
        self.news = deque()
        self.refuses_duplicates = True
        self.held = {}
        self.cash = Decimal(100_000)
        ticks = itertools.count(1)
        self.now = lambda: next(ticks)
        self.before = lambda _kind, _number: None
        self.after = lambda _kind, _number: None

    # What the executor and the reconciler ask.

    def submit(self, intent):
        return self._do("submit", intent.client_order_id, lambda: self._take(intent))

    def cancel(self, client_order_id):
        self._do("cancel", client_order_id, lambda: self.end(client_order_id, S.CANCELED))

    def replace(self, client_order_id, quantity=None, limit_price=None, stop_price=None):
        terms = {"quantity": quantity, "limit_price": limit_price, "stop_price": stop_price}
        given = {name: value for name, value in terms.items() if value is not None}
        self._do("replace", client_order_id, lambda: self.restate(client_order_id, given))

    def find(self, client_order_id):
        return self._do("find", client_order_id, lambda: self._shown(client_order_id))

    def orders(self):
        def listed():
            return [self._as_known(order) for order in self.book.values() if not is_done(order.state)]

        return self._do("orders", "", listed)

    def done_since(self, since):
        return [
            self._as_known(order) for order in self.book.values() if is_done(order.state) and order.updated_at > since
        ]

    def positions(self):
        return {symbol: Position(quantity, Decimal(100)) for symbol, quantity in self.held.items() if quantity}

    def account(self):
        return Account(self.cash, self.cash, self.cash, "USD", "1")

    def updates(self):
        news = list(self.news)
        self.news.clear()
        return news

    # What happens there.

    def fill(self, number, quantity, price="100"):
        """Fill a part of an order, in any state but rejected."""
        order = self.book[number]
        quantity = min(Decimal(quantity), order.remaining)
        cost = order.average_price * order.filled_quantity + quantity * Decimal(price)
        order.filled_quantity += quantity
        order.average_price = cost / order.filled_quantity
        signed = quantity if order.intent.side is Side.BUY else -quantity
        self.held[order.intent.symbol] = self.held.get(order.intent.symbol, Decimal(0)) + signed
        self.cash -= signed * Decimal(price)
        if not order.remaining:
            order.state = S.FILLED
        elif not is_done(order.state):
            order.state = S.PARTIALLY_FILLED
        self._tell(number)

    def end(self, number, state):
        """End an open order; one that is done stays as it is."""
        order = self.book.get(number)
        if order is not None and not is_done(order.state):
            order.state = state
            self._tell(number)

    def restate(self, number, terms):
        """Change the terms of an open order, unless the new quantity is filled already."""
        order = self.book.get(number)
        if (
            order is None
            or is_done(order.state)
            or terms.get("quantity", order.intent.quantity) <= order.filled_quantity
        ):
            raise OrderRefused("not-replaceable", "no such working order")
        order.intent = msgspec.structs.replace(order.intent, **terms)
        order.venue_order_id += "'"
        self._tell(number)

    def land(self):
        """Let requests arrive that were under way when the executor stopped waiting for them."""
        requests, self.under_way = self.under_way, []
        for request in requests:
            try:
                request()
            except (DuplicateOrder, OrderRefused):
                continue

    # How requests go.

    def _do(self, kind, number, act):
        self.calls.append((kind, number))
        self.before(kind, number)
        outcome = self.script[kind].popleft() if self.script[kind] else "accepted"
        if outcome == "refused":
            raise OrderRefused("buying-power", "insufficient buying power")
        if outcome == "throttled" or isinstance(outcome, int | float):
            raise Throttled("too many requests", None if outcome == "throttled" else outcome)
        if outcome == "not_sent":
            raise NotSent("no route")
        if outcome == "lost":
            raise Unanswered("timed out")
        if outcome == "late":
            self.under_way.append(act)
            raise Unanswered("timed out")
        if outcome == "broken":
            raise RuntimeError("a defect")
        if outcome == "unseen":
            return None
        answer = act()
        self.after(kind, number)
        if outcome == "taken":
            raise Unanswered("cut")
        if outcome == "broken_after":
            raise KeyError("status")
        return answer

    def _take(self, intent):
        number = intent.client_order_id
        if number in self.book and self.refuses_duplicates:
            raise DuplicateOrder("client_order_id must be unique")
        self.placed[number] += 1
        name = f"venue-{number}-{self.placed[number]}"
        self.book[number] = Order(intent=intent, state=S.ACCEPTED, venue_order_id=name, updated_at=self.now())
        self._tell(number)
        return self._shown(number)

    def _as_known(self, order):
        """An order as a venue knows it: not what it protects, or what protects it."""
        intent = order.intent
        if intent.parent or intent.bracket is not None:
            intent = msgspec.structs.replace(intent, bracket=None, parent="", parent_fill="")
        return msgspec.structs.replace(order, intent=intent)

    def _shown(self, number):
        order = self.book.get(number)
        return None if order is None else OrderStatus(order=self._as_known(order))

    def _tell(self, number):
        self.book[number].updated_at = self.now()
        self.news.append(self._shown(number))


class HandClock:
    """Wall and monotonic time, which advance only by `pass_`."""

    def __init__(self):
        self.now = 1_767_623_401 * SECOND

    def wall(self):
        return self.now

    def monotonic(self):
        return self.now / SECOND

    def pass_(self, seconds):
        self.now += max(1, round(seconds * SECOND))


def run_one(executor):
    """Do one task that is due, for an executor without threads; return whether there was one."""
    with executor._changed:
        task = None if executor._is_closed else executor._due()
    if task is not None:
        executor._handle(task)
    return task is not None


class Desk:
    """One process that trades one account: its books, its executor without threads, its reconciler."""

    def __init__(self, venue, clock, audit=None, permits=lambda _: ""):
        self.venue, self.clock = venue, clock
        self.audit = audit or MemoryAuditStore(clock)
        self.totals = Totals()
        self.executor = Executor(venue, permits, threads=0, clock=clock)
        self.executor._random.seed(0)
        self.books = Books(
            ACCOUNT,
            self.audit,
            self.totals,
            [],
            lambda *_: None,
            self,
            self.executor.usual_time_in_force,
            lambda symbol: self.executor.instrument(symbol, Instrument()),
            RecentPrices(),
            is_simulated=False,
        )
        self.gateway = VenueGateway(self.executor, self.books)
        self.reconciler = Reconciler(self.gateway, self.executor, self.audit, ACCOUNT)

    def account(self):
        """The account, as a context sees it."""
        return self.gateway.account()

    def send(self, intent, *second, is_close=False):
        """Record a decision and hand its order to the gateway, and that of a second leg; `run` sends it."""
        decision = Decision(
            account=ACCOUNT,
            strategy_id=intent.strategy_id,
            symbol=intent.symbol,
            event_ts=0,
            decided_at=intent.decided_at,
            action=intent.side,
            quantity=intent.quantity,
            because="",
            decision_hash=intent.client_order_id,
        )
        self.audit.record_decision(decision, {}, [], intent)
        context = self.books.context(intent.strategy_id, intent.symbol)
        self.gateway.send(intent, context, Decimal(0), *second, is_close=is_close)

    def run(self):
        """Send everything that waits, and apply the updates."""
        self.audit.commit()
        self.gateway.dispatch()
        while self.executor._queue:
            if not run_one(self.executor):
                self.clock.pass_(self.executor._queue[0][0] - self.clock.monotonic())
        self.gateway.apply_updates()

    def look(self, since=None):
        books = self.books
        return take_snapshot(self.venue, self.reconciler.open_ids, dict(books.moves), books.spent, since, self.clock)

    def settle(self, *, is_start=False, since=None):
        return self.reconciler.reconcile(self.look(since), is_start=is_start)

    def again(self, since=LONG_AGO):
        """Start the next process, which knows what is recorded."""
        self.audit.commit()
        desk = type(self)(self.venue, self.clock, self.audit)
        orders = self.audit.recent_orders(ACCOUNT, since)
        desk.books.restore(self.audit.positions(ACCOUNT), orders)
        working = [order for order in orders if not is_done(order.state)]
        desk.executor.resume(working)
        desk.gateway.resume(working)
        return desk

    def state(self):
        """Return everything that may not change without a new report."""
        books, executor = self.books, self.executor
        self.audit.commit()
        return msgspec.to_builtins(
            [
                {number: working.order for number, working in books.working.items()},
                {number: working.order for number, working in books._done.items()},
                {str(key): position for key, position in books.positions.items()},
                books.nets,
                books.foreign,
                self.reconciler.blocked,
                executor.unresolved,
                executor._open,
                [task for _, _, task in executor._queue],
                [self.audit.rows(table) for table in ("trade_decisions", "executions", "execution_events")],
                self.audit.rows("position_snapshots"),
            ],
            enc_hook=str,
        )


def happens(act, desk, venue, draw):
    """Let one thing of a story happen that has nothing to do with fills or prices; the desk that works then.

    Parameters
    ----------
    act : "apply", "run", "crash", "snapshot", or "lost": the answer to the next order, or the order.
    draw : hypothesis' draw.
    """
    if act == "apply":
        desk.gateway.apply_updates()
    elif act == "run":
        desk.run()
    elif act == "crash":
        venue.news.clear()
        desk = desk.again()
        desk.settle(is_start=True, since=LONG_AGO)
    elif act == "snapshot":
        desk.settle()
    elif act == "lost":
        venue.script["submit"].append(draw(st.sampled_from(["lost", "taken", "not_sent", "throttled"])))
    return desk


def calm_down(desk, venue):
    """Nothing goes wrong any more, until nothing is under way."""
    venue.script["submit"].clear()
    for _ in range(8):
        desk.clock.pass_(30)
        desk.settle()
        desk.run()
        venue.land()


@pytest.fixture(scope="session")
def desk_type():
    return Desk


@pytest.fixture
def desk(venue, clock):
    return Desk(venue, clock)


@pytest.fixture(scope="session")
def venue_type():
    return MemoryVenue


@pytest.fixture
def venue():
    return MemoryVenue()


@pytest.fixture
def clock():
    """The clock of executor and reconciler."""
    return HandClock()


def make_intent(number="tg-1", symbol="ES", side=Side.BUY, quantity="10", **fields):
    given = {"decision_hash": number, "account": "test", "strategy_id": "one", "decided_at": 0, **fields}
    return Intent(client_order_id=number, symbol=symbol, side=side, quantity=Decimal(quantity), **given)


@pytest.fixture(scope="session")
def intent():
    """A function that makes an intent."""
    return make_intent

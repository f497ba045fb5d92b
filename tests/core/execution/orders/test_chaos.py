"""The order path with every kind of fault, and its process killed at any point between two effects.

Books, executor, reconciler and audit are the real ones. Their steps are taken one by one in one thread, so that anything
may come between any two of them; a crash throws all of them away but the committed part of the database and the venue.
A proof runs ten thousand stories.
"""

import random
import shutil
from collections import deque
from decimal import Decimal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from support.effort import examples, many
from tests.core.execution.orders.conftest import run_one
from torghut_core import Position, Side, StateError, VenueError, is_done
from torghut_core.audit import MemoryAuditStore, SqlAuditStore
from torghut_core.execution.reconciler import SETTLING
from torghut_core.execution.venue import RECENT
from torghut_core.model.trading import OrderState, OrderType, Purpose
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE, SECOND

S = OrderState
ACCOUNT = "test"
LANDS_WITHIN = 5.0
"""Seconds within which a request that the executor has given up reaches the venue, or never does."""


class Crash(BaseException):
    """The process was killed."""


class MemoryDatabase:
    """A memory store whose committed rows outlive the process that wrote them."""

    def __init__(self, world):
        class Store(MemoryAuditStore):
            def commit(self):
                world.around_commit(super().commit)

            def _stored_hashes(self, account):
                return {row["decision_hash"] for row in self.rows("trade_decisions", account=account)}

        self._store = Store(world.clock)

    def open(self):
        """Return the store as a new process finds it."""
        self._store._pending.clear()
        self._store._known.clear()
        return self._store

    def close(self):
        pass


class SqliteDatabase:
    """A file; a process that is killed leaves it as it is."""

    def __init__(self, world, path):
        class Store(SqlAuditStore):
            def commit(self):
                world.around_commit(super().commit)

        self._make = lambda: Store(path, world.clock)
        self._store = None

    def open(self):
        self.close()
        self._store = self._make()
        return self._store

    def close(self):
        if self._store is not None:
            self._store._pending.clear()
            self._store._engine.dispose()


class World:
    """One account at one venue, and the processes that trade it, one after the other.

    `is_strict`: the venue accepts the same id twice, so that no order may ever be sent twice; then no request arrives
    late, look-ups show every order, and the database can be written. `is_slow`: a request may still arrive after the
    reconciler has taken its order for lost.
    """

    def __init__(self, venue, clock, desk_type, intent, database, *, is_strict=False, is_slow=False):
        self.venue, self.clock, self._desk_type, self._intent = venue, clock, desk_type, intent
        self.is_strict, self.is_slow = is_strict, is_slow
        self.fuse = None
        self.is_dead = False
        self.is_halted = False
        self.is_down = False
        self.is_answer_lost = False
        self.unrecorded = ""
        self.looked = None
        self.decided = []
        self.unwritten = set()
        self.excused = set()
        self.touched = set()
        """Symbols in which a person has traded."""
        self.withdrawn = set()
        self.left_after_halt = []
        self.illegal = 0
        self.crashes = 0
        self.late = deque()
        self.desk = None
        venue.refuses_duplicates = not is_strict
        venue.now = lambda: self.clock.now - 3 * SECOND  # its clock is behind
        venue.before, venue.after = self._before_request, lambda _kind, _number: self.point()
        self.database = database(self)
        self.boot()

    # Where it may end.

    def point(self):
        """A point between two effects: the process may be killed here."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse, self.is_dead = None, True
        if self.is_dead:  # the kernel contains what a broker raises: so every later effect raises too
            raise Crash

    def _before_request(self, kind, number):
        self.point()
        if kind == "submit" and self.is_halted:
            self.left_after_halt.append(number)

    def around_commit(self, commit):
        self.point()
        if self.is_down:
            raise StateError("the disk is full")
        commit()
        self.point()
        if self.is_answer_lost:
            self.is_answer_lost = False
            raise StateError("the connection broke")

    def permits(self, intent):
        self.point()
        return "halted" if self.is_halted else ""

    # A process, as `Run` and `Venue` lead it.

    def boot(self):
        """Start the process, again and again until the venue answers and nothing kills it."""
        while True:
            try:
                self._begin()
            except Crash:
                self.is_dead = True
            except (StateError, VenueError):
                pass
            else:
                if not self.is_dead:
                    return
            self.crashes += self.is_dead

    def _begin(self):
        self._bury()
        self.is_dead = False
        self.is_down = self.is_answer_lost = False
        self.unrecorded, self.looked = "", None
        desk = self.desk = self._desk_type(self.venue, self.clock, self.database.open(), self.permits)
        now = self.clock.wall()
        orders = desk.audit.recent_orders(ACCOUNT, now - RECENT)
        self.withdrawn = {number for number in self.withdrawn if desk.audit.is_known(ACCOUNT, number)}
        desk.books.restore(desk.audit.positions(ACCOUNT), orders)
        desk.executor.resume([order for order in orders if not is_done(order.state)])
        since = max((order.updated_at for order in orders), default=now) - MINUTE
        desk.settle(is_start=True, since=since)
        self.commit()

    def _bury(self):
        if self.desk is not None:
            self.illegal += self.desk.totals.illegal_reports
            self.desk.totals.illegal_reports = 0
        self.desk = None
        self.venue.news.clear()  # nobody listened

    def do(self, name, *choices):
        """Do one step; if it kills the process, start the next one."""
        try:
            getattr(self, name)(*choices)
        except Crash:
            self.is_dead = True
        if self.is_dead:
            self.crashes += 1
            self.boot()

    def commit(self):
        desk = self.desk
        try:
            desk.audit.commit()
            self.unrecorded = ""
        except StateError as error:
            self.unrecorded = str(error)

        def refusal(intent):
            if intent.purpose is Purpose.ENTRY:
                return self.unrecorded
            if self.unrecorded:
                self.unwritten.add(intent.client_order_id)
            return ""

        desk.gateway.dispatch(refusal)

    # The steps.

    def decide(self, strategy, symbol, side, purpose):
        """Make a new decision; an exit closes the position."""
        desk = self.desk
        context = desk.books.context(strategy, symbol)
        quantity = Decimal(10)
        if purpose is Purpose.EXIT:
            held = context.position.quantity
            if not held:
                return
            side, quantity = Side.SELL if held > 0 else Side.BUY, abs(held)
        elif self.unrecorded or symbol in desk.reconciler.blocked:
            return
        number = f"tg-{len(self.decided)}"
        terms = {"strategy_id": strategy, "decided_at": self.clock.wall(), "purpose": purpose}
        self.decided.append(self._intent(number, symbol, side, quantity, **terms))
        self._decide(self.decided[-1])

    def exit_as(self, how, strategy, symbol):
        """Protect what is held by a stop, close it past its stop, or turn it round in two legs."""
        desk = self.desk
        held = desk.books.context(strategy, symbol).position.quantity
        if not held or self.is_halted or (how == "flip" and (self.unrecorded or symbol in desk.reconciler.blocked)):
            return
        number, side = f"tg-{len(self.decided)}", Side.SELL if held > 0 else Side.BUY
        terms = {"strategy_id": strategy, "decided_at": self.clock.wall(), "decision_hash": number}
        stop = {"order_type": OrderType.STOP, "stop_price": Decimal(90)} if how == "protect" else {}
        intent = self._intent(number, symbol, side, abs(held), purpose=Purpose.EXIT, **terms, **stop)
        self.decided.append(intent)
        if desk.audit.is_known(ACCOUNT, number):
            return
        second = [self._intent(f"{number}-2", symbol, side, Decimal(5), **terms)] if how == "flip" else []
        desk.send(intent, *second, is_close=how == "close")

    def trade_position_by_hand(self, symbol, units):
        """A person buys or sells what we hold."""
        self.venue.held[symbol] = self.venue.held.get(symbol, Decimal(0)) + units
        self.touched.add(symbol)

    def decide_again(self, back):
        """Make an earlier decision again: the same signal came twice."""
        if len(self.decided) > back:
            self._decide(self.decided[-1 - back])

    def _decide(self, intent):
        desk = self.desk
        if self.is_halted or desk.audit.is_known(ACCOUNT, intent.client_order_id):
            return
        if desk.books.find(intent.client_order_id):  # taken in from the venue
            return
        desk.send(intent)

    def hear(self):
        self.desk.gateway.apply_updates()
        self.commit()

    def work(self, times):
        """Let the executor do so many tasks that are due."""
        for _ in range(times):
            run_one(self.desk.executor)

    def see(self):
        """Take a snapshot of the venue, which is settled some time later."""
        desk = self.desk
        try:
            self.looked = desk.look()
        except VenueError:
            self.looked = None

    def settle(self):
        if self.looked is not None:
            self.desk.reconciler.reconcile(self.looked)
            self.looked = None
            self.commit()

    def cancel(self, strategy, symbol):
        books, gateway = self.desk.books, self.desk.gateway
        gateway.cancel(strategy, symbol)
        waiting = set(gateway.outbox)
        self.withdrawn |= waiting - books.working.keys()
        for number in waiting & books.working.keys():
            context = books.working[number].context
            assert (context.strategy_id, context.symbol) != (strategy, symbol), "it still waits to be sent"

    def hand_over(self, symbol):
        self.desk.books.hand_over("one", "two", symbol)
        self.commit()

    def halt(self):
        self.is_halted = True
        self.desk.executor.cancel_all()

    def apply_control(self):
        """Do what the loop does while it is halted."""
        if self.is_halted:
            self.desk.gateway.cancel()

    def release(self):
        self.is_halted = False

    def pass_time(self, seconds):
        """Advance the clock; a request that is under way arrives within `LANDS_WITHIN`, or never."""
        until = self.clock.now + round(seconds * SECOND)
        if self.venue.under_way and not self.is_slow:
            self.clock.now = min(until, self.clock.now + round(LANDS_WITHIN * SECOND))
            self.venue.land()
        self.clock.now = max(self.clock.now, until)

    def land(self):
        self.venue.land()

    def crash(self):
        raise Crash

    def arm(self, fuse):
        """Kill the process after `fuse` more points."""
        self.fuse = fuse

    def fault(self, kind, outcome):
        """Script the outcome of a next request of this kind."""
        harmless = ("accepted", "refused", "throttled", 7, "not_sent", "taken", "lost", "broken", "broken_after")
        if not self.is_strict or outcome in harmless:
            self.venue.script[kind].append(outcome)

    def break_database(self, how):
        if not self.is_strict:
            self.is_down, self.is_answer_lost = how == "down", how == "answer"

    # What happens at the venue.

    def _ours(self, which, states):
        numbers = [number for number, order in self.venue.book.items() if order.state in states]
        return numbers[which % len(numbers)] if numbers else None

    def fill(self, which, quantity):
        number = self._ours(which, (S.ACCEPTED, S.PARTIALLY_FILLED))
        if number is not None:
            self.venue.fill(number, quantity)

    def fill_late(self, which):
        """Fill a part of an order that is canceled or expired: the reports crossed."""
        number = self._ours(which, (S.CANCELED, S.EXPIRED))
        if number is not None:
            self.venue.fill(number, 3)
            self.excused.add(self.venue.book[number].intent.symbol)

    def end(self, which, state):
        number = self._ours(which, (S.ACCEPTED,) if state is S.REJECTED else (S.ACCEPTED, S.PARTIALLY_FILLED))
        if number is not None:
            self.venue.end(number, state)

    def trade_by_hand(self):
        """Place a foreign order on the account."""
        self.venue.script["submit"].clear()
        self.venue.before, before = lambda _kind, _number: None, self.venue.before
        self.venue.after, after = lambda _kind, _number: None, self.venue.after
        number = f"x-{len(self.venue.book)}"
        if number not in self.venue.book:
            self.venue.submit(self._intent(number, "GC"))
        self.venue.before, self.venue.after = before, after

    def disturb(self, how):
        """Lose, repeat, reverse or delay the updates of the stream."""
        news = self.venue.news
        if how == "lose" and news:
            news.pop()
        elif how == "lose all":
            news.clear()
        elif how == "repeat":
            news.extend(list(news))
        elif how == "reverse":
            news.reverse()
        elif how == "hold up":
            self.late.extend(news)
            news.clear()
        elif how == "deliver":
            news.extend(self.late)
            self.late.clear()

    # The end.

    def come_to_rest(self):
        """End all faults and let time pass until nothing changes any more."""
        self.fuse = None
        self.is_down = self.is_answer_lost = False
        for script in self.venue.script.values():
            script.clear()
        self.venue.land()
        self.venue.news.extend(self.late)
        quiet = 0
        for _ in range(40):
            calls = len(self.venue.calls)
            self.desk.gateway.apply_updates()
            self.commit()
            self.desk.run()
            asked = len(self.venue.calls) - calls
            done = self.desk.settle()
            self.commit()
            quiet = 0 if done.changes or done.suspects or asked or self.desk.executor.unresolved else quiet + 1
            if quiet > 1:
                return
            self.pass_time(SETTLING / SECOND + 1)
        raise AssertionError("it does not come to rest")

    def check(self):
        """Assert everything that has to hold at rest."""
        desk, venue = self.desk, self.venue
        assert self.illegal + desk.totals.illegal_reports == 0, "illegal reports"
        assert all(count == 1 for count in venue.placed.values()), "an order was doubled"
        assert not self.left_after_halt
        assert not self.withdrawn & venue.placed.keys(), "an order left that had been canceled before"
        theirs = {number: order for number, order in venue.book.items() if number.startswith("tg-")}
        ours = {row["client_order_id"]: row for row in desk.audit.orders(ACCOUNT)}
        fills = {number: Decimal(0) for number in ours}
        seen = set()
        for fill in desk.audit.fills(ACCOUNT):
            fills[fill["client_order_id"]] += fill["quantity"]
            assert (fill["client_order_id"], fill["fill_id"]) not in seen
            seen.add((fill["client_order_id"], fill["fill_id"]))
        lost = set(self.excused)
        for number, order in theirs.items():
            if number not in ours:  # it was sent without a database, and was done before the next snapshot
                assert number in self.unwritten, f"{number} is not written down"
                assert is_done(order.state), f"{number} was not taken in"
                lost.add(order.intent.symbol)
        for number, row in ours.items():
            order = theirs.get(number)
            state = S(row["state"])
            assert fills[number] == row["filled_quantity"]
            if order is None and number in desk.gateway.outbox:
                continue  # a second leg whose first is open
            if order is None:
                assert state in (S.CANCELED, S.REJECTED), f"{number} never arrived, and is {state}"
                assert not row["filled_quantity"]
                continue
            assert self.is_slow or not row["reason"].startswith("not sent"), f"{number} was sent"
            assert is_done(state) == is_done(order.state), f"{number} is {state} here and {order.state} there"
            if row["filled_quantity"] != order.filled_quantity:
                assert row["symbol"] in self.excused
                assert row["filled_quantity"] < order.filled_quantity
        held = {symbol: quantity for symbol, quantity in venue.held.items() if quantity}
        nets = desk.books.nets
        differ = {symbol for symbol in held.keys() | nets.keys() if held.get(symbol) != nets.get(symbol)}
        assert set(desk.reconciler.blocked) == differ
        assert differ <= lost | self.touched | {"GC"}, f"{differ} differ"
        for context in desk.books.held:
            for working in desk.books.orders_of(context):
                if working.order.intent.is_protection:
                    assert working.order.remaining <= abs(context.position.quantity), "it protects more than is held"
        assert not [call for call in venue.calls if call[0] == "cancel" and call[1].startswith("x-")]
        positions = {key: each for key, each in desk.books.positions.items() if each != Position()}
        assert {key: each for key, each in desk.audit.positions(ACCOUNT).items() if each != Position()} == positions
        assert {order.intent.client_order_id for order in desk.audit.recent_orders(ACCOUNT, 2**62)} == set(
            desk.books.working
        )

    def close(self):
        self.database.close()


STRATEGIES, SYMBOLS = ("one", "two"), ("ES", "CL")
OUTCOMES = ("refused", "throttled", 7, "not_sent", "taken", "lost", "late", "broken", "broken_after", "unseen")
WHICH = (0, 1, 2)
STEPS = {
    # how often; what it chooses from
    "decide": (12, STRATEGIES, SYMBOLS, tuple(Side), (Purpose.ENTRY, Purpose.ENTRY, Purpose.EXIT)),
    "exit_as": (6, ("protect", "protect", "close", "flip"), STRATEGIES, SYMBOLS),
    "trade_position_by_hand": (1, SYMBOLS, (-10, -4, 5)),
    "decide_again": (2, (0, 1)),
    "commit": (10,),
    "work": (16, (1, 1, 1, 5)),
    "hear": (10,),
    "see": (3,),
    "settle": (4,),
    "cancel": (2, STRATEGIES, SYMBOLS),
    "hand_over": (1, SYMBOLS),
    "halt": (1,),
    "apply_control": (2,),
    "release": (2,),
    "pass_time": (8, (0.1, 1, 4, 11)),
    "land": (1,),
    "crash": (1,),
    "arm": (2, tuple(range(12))),
    "fault": (8, ("submit", "submit", "find", "cancel"), OUTCOMES),
    "break_database": (2, ("down", "answer", "fixed")),
    "fill": (12, WHICH, (3, 10)),
    "fill_late": (1, WHICH),
    "end": (2, WHICH, (S.CANCELED, S.EXPIRED, S.REJECTED)),
    "trade_by_hand": (1,),
    "disturb": (4, ("lose", "lose all", "repeat", "reverse", "hold up", "deliver")),
}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A function that returns an audit database without rows."""
    folder = tmp_path_factory.mktemp("chaos")
    template = folder / "template.db"
    SqlAuditStore(template).close()
    numbers = iter(range(1_000_000))

    def fresh():
        place = folder / str(next(numbers))
        place.mkdir()
        for file in folder.glob("template.*"):
            shutil.copy(file, place / file.name.replace("template", "audit"))
        return place / "audit.db"

    return fresh


@pytest.fixture
def make_world(venue_type, clock, desk_type, intent, empty_database, monkeypatch):
    """A function that makes a world; `on_disk` with SQLite."""
    for level in ("info", "warning", "error"):
        monkeypatch.setattr(logs, level, lambda *_told, **_fields: None)  # there is a lot to tell

    def make(*, on_disk=False, **kind):
        path = empty_database() if on_disk else None
        database = (lambda world: SqliteDatabase(world, path)) if on_disk else MemoryDatabase
        return World(venue_type(), clock, desk_type, intent, database, **kind)

    return make


STORY = (
    ("decide", "one", "ES", Side.BUY, Purpose.ENTRY),
    ("commit",),
    ("work", 1),
    ("hear",),
    ("pass_time", 1),
    ("work", 5),
    ("see",),
    ("hear",),
    ("fill", 0, 3),
    ("settle",),
    ("hear",),
    ("decide", "one", "ES", Side.SELL, Purpose.EXIT),
    ("commit",),
    ("work", 1),
    ("cancel", "one", "ES"),
    ("pass_time", 1),
    ("work", 5),
    ("hear",),
    ("fill", 0, 10),
    ("see",),
    ("settle",),
)
"""An entry that fills in part, an exit, and both are canceled; with two snapshots of the venue."""


@pytest.mark.parametrize("outcome", ["accepted", *OUTCOMES])
@pytest.mark.parametrize("kind", ["submit", "find", "cancel", "orders"])
def test_killed_at_every_point_with_every_fault(make_world, kind, outcome):
    """One story, killed at its first point, at its second, and so on, with each fault on the way, ends well."""
    for fuse in range(1_000):
        world = make_world()
        world.do("fault", kind, outcome)
        if not live_through(world, [(name, choices) for name, *choices in (("arm", fuse), *STORY)]):
            break
    assert fuse > 20


def steps_of(rng, length):
    """A random story."""
    names = list(STEPS)
    weights = [STEPS[name][0] for name in names]
    for name in rng.choices(names, weights, k=length):
        yield name, [rng.choice(choices) for choices in STEPS[name][1:]]


def live_through(world, steps):
    """Run a story and check its end; an error lists the steps."""
    told = []
    try:
        for name, choices in steps:
            told.append((name, *choices))
            world.do(name, *choices)
        world.come_to_rest()
        world.check()
    except BaseException as error:
        error.add_note("\n".join(str(step) for step in told))
        raise
    finally:
        world.close()
    return world.crashes


KINDS = ({}, {"is_strict": True}, {"is_slow": True})


@pytest.mark.parametrize("kind", KINDS, ids=["usual", "strict", "slow"])
def test_any_story_ends_well(make_world, kind):
    """Whatever fails: each intent is one order or none, fills count once, positions agree or are blocked."""
    steps = st.one_of(
        *(
            st.tuples(st.just(name), *(st.sampled_from(choices) for choices in spec[1:]))
            for name, spec in STEPS.items()
            for _ in range(spec[0])
        )
    )

    class Story(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.world = make_world(**kind)

        @rule(step=steps)
        def go_on(self, step):
            self.world.do(*step)

        @precondition(lambda self: self.world.desk is not None)
        @invariant()
        def nothing_is_doubled(self):
            assert all(count == 1 for count in self.world.venue.placed.values())
            assert self.world.desk.totals.illegal_reports == 0

        def teardown(self):
            try:
                self.world.come_to_rest()
                self.world.check()
            finally:
                self.world.close()

    run_state_machine_as_test(Story, settings=examples(1_000, quick=50, stateful_step_count=50))


@pytest.mark.examples
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "sqlite"])
def test_random_stories_end_well(make_world, on_disk):
    """The promise of `test_any_story_ends_well` for many seeds, in memory and on disk."""
    cases = many(200, quick=10) if on_disk else many(10_000, quick=300)
    crashes = 0
    for seed in range(cases):
        rng = random.Random(seed)
        world = make_world(on_disk=on_disk, **KINDS[seed % 3])
        try:
            crashes += live_through(world, steps_of(rng, rng.choice((20, 80, 240))))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert crashes > cases / 2

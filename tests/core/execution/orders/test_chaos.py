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
from torghut_core.model.trading import Bracket, Decision, OrderState, OrderType, Purpose
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE, SECOND

S = OrderState
ACCOUNT = "test"
LANDS_WITHIN = 5.0
"""Seconds within which a request that the executor has given up reaches the venue, or never does."""


BRACKETS = {
    "none": {},
    "stop": {"stop_loss": 90},
    "profit": {"take_profit": 110},
    "both": {"stop_loss": 90, "take_profit": 110},
    "trail": {"trail": 5},
    "trail and profit": {"trail": 5, "take_profit": 110},
}
"""Of an entry that buys; one that sells has the mirror image."""

KIND_OF = {"stop_loss": OrderType.STOP, "take_profit": OrderType.LIMIT, "trail": OrderType.TRAILING_STOP}

GONE_WITHIN = 1
"""Rounds of hearing the venue and asking it, without faults, after which no leg is open whose position is gone."""


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
    reconciler has taken its order for lost. `is_linked`: the venue itself takes from one leg of a pair what the other has
    filled. `is_tidy`: no strategy enters against its own position or orders, nor protects it by stops beside its brackets;
    so that exits can be told from what is held.
    """

    def __init__(
        self,
        venue,
        clock,
        desk_type,
        intent,
        database,
        *,
        is_strict=False,
        is_slow=False,
        is_linked=False,
        is_tidy=False,
    ):
        self.venue, self.clock, self._desk_type, self._intent = venue, clock, desk_type, intent
        self.is_strict, self.is_slow, self.is_linked, self.is_tidy = is_strict, is_slow, is_linked, is_tidy
        self.watched = {}
        """Entries with a bracket, since when their strategy has let nothing go: view by client order id."""
        self.handed = set()
        """Symbols in which a position was handed over."""
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
        self.rounds_with_orphans = 0
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
        working = [order for order in orders if not is_done(order.state)]
        since = max((order.updated_at for order in orders), default=now) - MINUTE
        looked = desk.look(since)
        desk.executor.resume(working)
        desk.gateway.resume(working)
        desk.reconciler.reconcile(looked, is_start=True)
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
        self.check_exits()

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

    def decide(self, strategy, symbol, side, purpose, bracket="none"):
        """Make a new decision; an exit closes the position."""
        desk = self.desk
        context = desk.books.context(strategy, symbol)
        quantity = Decimal(10)
        entries = [each for each in context.open_orders.values() if each.intent.purpose is Purpose.ENTRY]
        is_against = context.position.quantity * (1 if side is Side.BUY else -1) < 0
        if (
            self.is_tidy
            and purpose is Purpose.ENTRY
            and (is_against or any(e.intent.side is not side for e in entries))
        ):
            return
        if purpose is Purpose.EXIT:
            held = context.position.quantity
            if not held:
                return
            side, quantity, bracket = Side.SELL if held > 0 else Side.BUY, abs(held), "none"
            self.let_go(strategy, symbol)
        elif self.unrecorded or symbol in desk.reconciler.blocked:
            return
        number = f"tg-{len(self.decided)}"
        terms = {"strategy_id": strategy, "decided_at": self.clock.wall(), "purpose": purpose}
        terms["bracket"] = self._bracket(number, strategy, symbol, side, bracket)
        self.decided.append(self._intent(number, symbol, side, quantity, **terms))
        self._decide(self.decided[-1])

    def _bracket(self, number, strategy, symbol, side, name):
        """The bracket of an entry, which is watched from now on; not where an exit is open, for which its legs would make room."""
        given = {
            kind: Decimal(price if side is Side.BUY or kind == "trail" else 200 - price)
            for kind, price in BRACKETS[name].items()
        }
        orders = self.desk.books.context(strategy, symbol).open_orders.values()
        if given and not any(each.intent.is_exit and not each.intent.is_protection for each in orders):
            self.watched[number] = strategy, symbol
        return Bracket(**given) if given else None

    def let_go(self, strategy=None, symbol=None):
        """A strategy, or everybody, takes back what it holds or what protects that."""
        self.watched = {
            number: (owner, name)
            for number, (owner, name) in self.watched.items()
            if strategy not in (None, owner) or symbol not in (None, name)
        }

    def move(self, strategy, symbol, which, terms):
        """Replace an open exit of a strategy that waits for its price."""
        gateway = self.desk.gateway
        context = self.desk.books.context(strategy, symbol)
        numbers = [number for number, order in context.open_orders.items() if order.intent.is_protection]
        working = gateway.replaceable(numbers[which % len(numbers)], context) if numbers else None
        if working is None:
            return
        intent, quantity = working.order.intent, working.order.remaining
        if terms == "half":
            quantity /= 2
            self.let_go(strategy, symbol)
        prices = {
            name: None if price is None else price + 1
            for name, price in (("limit_price", intent.limit_price), ("stop_price", intent.stop_price))
        }
        decision = Decision(
            account=ACCOUNT,
            strategy_id=strategy,
            symbol=symbol,
            event_ts=0,
            decided_at=0,
            action=intent.side,
            quantity=quantity,
            because="",
            **prices,
        )
        gateway.replace(working, decision, quantity)

    def exit_as(self, how, strategy, symbol, bracket="none"):
        """Protect what is held by a stop, close it past its stop, or turn it round in two legs."""
        desk = self.desk
        held = desk.books.context(strategy, symbol).position.quantity
        if not held or self.is_halted or (how == "flip" and (self.unrecorded or symbol in desk.reconciler.blocked)):
            return
        if self.is_tidy and how == "protect":
            return
        number, side = f"tg-{len(self.decided)}", Side.SELL if held > 0 else Side.BUY
        terms = {"strategy_id": strategy, "decided_at": self.clock.wall(), "decision_hash": number}
        self.let_go(strategy, symbol)
        stop = {"order_type": OrderType.STOP, "stop_price": Decimal(90)} if how == "protect" else {}
        intent = self._intent(number, symbol, side, abs(held), purpose=Purpose.EXIT, **terms, **stop)
        self.decided.append(intent)
        if desk.audit.is_known(ACCOUNT, number):
            return
        second = []
        if how == "flip":
            terms["bracket"] = self._bracket(f"{number}-2", strategy, symbol, side, bracket)
            second = [self._intent(f"{number}-2", symbol, side, Decimal(5), **terms)]
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
        self.let_go(strategy, symbol)
        waiting = set(gateway.outbox)
        gateway.cancel(strategy, symbol)
        self.withdrawn |= waiting - books.working.keys()
        for number in waiting & books.working.keys():
            context = books.working[number].context
            assert (context.strategy_id, context.symbol) != (strategy, symbol), "it still waits to be sent"

    def hand_over(self, symbol):
        self.handed.add(symbol)
        self.desk.books.hand_over("one", "two", symbol)
        self.commit()

    def halt(self):
        self.is_halted = True
        self.desk.executor.cancel_all()

    def apply_control(self):
        """Do what the loop does while it is halted."""
        if self.is_halted:
            self.let_go()
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
        if number is None:
            return
        order, others = self.venue.book[number], self._others(number)
        if any(other.filled_quantity for other in others) and order.remaining > self._left(order.intent):
            return  # the price does not come from one leg to the other before the process has answered
        before, filled = self._held_by(order.intent), min(Decimal(quantity), order.remaining)
        self.venue.fill(number, quantity)
        if self.is_linked:
            for other in others:
                self._take_from(other, filled)
        if order.intent.is_exit and self._is_sound(order.intent.symbol):
            assert before * self._held_by(order.intent) >= 0, f"{number} turns the position round"

    def _others(self, number):
        """The other legs of a leg's pair, as the venue has them."""
        intent = self.venue.book[number].intent
        return [
            order
            for name, order in self.venue.book.items()
            if intent.parent and name != number and order.intent.pair == intent.pair
        ]

    def _left(self, leg):
        """Units of a fill that its legs have not sold; of several fills, where they came as one."""
        legs = [order for order in self.venue.book.values() if order.intent.pair == leg.pair]
        return max(o.intent.quantity for o in legs) - sum(o.filled_quantity for o in legs)

    def _take_from(self, leg, filled):
        """The venue takes from a leg what the other has filled."""
        number, left = leg.intent.client_order_id, leg.remaining - filled
        if is_done(leg.state):
            return
        if left > 0:
            self.venue.restate(number, {"quantity": leg.filled_quantity + left})
        else:
            self.venue.end(number, S.CANCELED)

    def _held_by(self, intent):
        """What the fills at the venue give a strategy."""
        return sum(
            order.filled_quantity * (1 if order.intent.side is Side.BUY else -1)
            for order in self.venue.book.values()
            if (order.intent.strategy_id, order.intent.symbol) == (intent.strategy_id, intent.symbol)
        )

    def _is_sound(self, symbol):
        """Whether exits in a symbol can be told from what is held in it."""
        return self.is_tidy and symbol not in self.excused | self.touched | self.handed

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
            self.rounds_with_orphans += bool(self.orphans())
            asked = len(self.venue.calls) - calls
            done = self.desk.settle()
            self.commit()
            quiet = 0 if done.changes or done.suspects or asked or self.desk.executor.unresolved else quiet + 1
            if quiet > 1:
                assert self.rounds_with_orphans <= GONE_WITHIN, "legs outlive their position"
                return
            self.pass_time(SETTLING / SECOND + 1)
        raise AssertionError("it does not come to rest")

    def orphans(self):
        """Open legs whose strategy holds nothing."""
        return [
            number
            for number, order in self.venue.book.items()
            if order.intent.parent
            and not is_done(order.state)
            and self._is_sound(order.intent.symbol)
            and not self._held_by(order.intent)
        ]

    def is_quiet(self):
        """Whether nothing is under way: the books know of each order what the venue knows."""
        desk, venue = self.desk, self.venue
        if venue.news or self.late or venue.under_way or desk.gateway.outbox or not desk.executor.is_idle:
            return False
        theirs = {number: order for number, order in venue.book.items() if number.startswith("tg-")}
        for number in theirs.keys() | desk.books.working.keys():
            here, there = desk.books.find(number), theirs.get(number)
            if here is None or there is None:
                if here is None and is_done(there.state):
                    continue
                return False
            pending = (S.PENDING, S.SUBMITTED, S.PENDING_CANCEL, S.PENDING_REPLACE)
            seen = [(o.filled_quantity, o.intent.quantity, is_done(o.state)) for o in (here.order, there)]
            if here.order.state in pending or seen[0] != seen[1]:
                return False
        return not desk.books.misfit_protection

    def check_exits(self):
        """Assert that no strategy has more exits open than it holds, of a pair one, while nothing is under way."""
        if not self.is_tidy or not self.is_quiet():
            return
        exits, pairs = {}, {}
        for order in self.venue.book.values():
            intent = order.intent
            if not is_done(order.state) and intent.is_exit and self._is_sound(intent.symbol):
                key = (intent.strategy_id, intent.symbol, intent.side)
                pair = pairs.setdefault(key, {})
                name = intent.pair if intent.parent else intent.client_order_id
                pair[name] = max(order.remaining, pair.get(name, Decimal(0)))
                exits[key] = intent
        for key, intent in exits.items():
            held = self._held_by(intent) * (1 if intent.side is Side.SELL else -1)
            assert sum(pairs[key].values()) <= held, f"{key} has exits for more than {held}: {pairs[key]}"

    def check_protection(self):
        """Assert that each unit of an entry with a bracket is protected, or said not to be."""
        venue, said = self.venue, self.desk.books.brackets.unprotected
        for number, (strategy, symbol) in self.watched.items():
            entry = venue.book.get(number)
            if entry is None or not self._is_sound(symbol) or self.is_halted:
                continue
            legs = [order for order in venue.book.values() if order.intent.parent == number]
            left = entry.filled_quantity - sum(leg.filled_quantity for leg in legs)
            for name in entry.intent.bracket.given:
                kind = KIND_OF[name]
                there = sum(o.remaining for o in legs if o.intent.order_type is kind and not is_done(o.state))
                line = f"{strategy} holds {symbol} without its {str(kind).replace('_', ' ')} order"
                if there < left and not any(each.startswith(line) for each in said):
                    raise AssertionError(f"{number}: {left} held, {there} protected by its {kind}; said is {said}")

    def check(self):
        """Assert everything that has to hold at rest."""
        self.check_exits()
        self.check_protection()
        assert not self.orphans()
        assert not [intent for intent in self.desk.gateway.outbox.values() if intent.is_exit], "an exit waits for ever"
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
            may_be_late = self.is_slow or number in self.unwritten or (self.crashes and row["parent"])
            assert may_be_late or not row["reason"].startswith("not sent"), f"{number} was sent"
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
    "decide": (12, STRATEGIES, SYMBOLS, tuple(Side), (Purpose.ENTRY, Purpose.ENTRY, Purpose.EXIT), tuple(BRACKETS)),
    "exit_as": (6, ("protect", "protect", "close", "flip"), STRATEGIES, SYMBOLS, tuple(BRACKETS)),
    "move": (4, STRATEGIES, SYMBOLS, (0, 1, 2), ("price", "price", "half")),
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
    "fault": (8, ("submit", "submit", "find", "cancel", "replace"), OUTCOMES),
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
    ("decide", "one", "ES", Side.BUY, Purpose.ENTRY, "both"),
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
    ("work", 5),
    ("move", "one", "ES", 0, "price"),
    ("work", 1),
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
"""An entry with a bracket that fills in part, a stop that is moved, an exit, and all are canceled; with two snapshots of the venue."""


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


KINDS = {
    "usual": {},
    "strict": {"is_strict": True},
    "slow": {"is_slow": True},
    "tidy": {"is_tidy": True},
    "tidy and strict": {"is_tidy": True, "is_strict": True},
    "tidy and linked": {"is_tidy": True, "is_linked": True},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
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
        world = make_world(on_disk=on_disk, **list(KINDS.values())[seed % len(KINDS)])
        try:
            crashes += live_through(world, steps_of(rng, rng.choice((20, 80, 240))))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert crashes > cases / 2

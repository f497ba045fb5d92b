"""Makes our books and the venue's agree: the broker is the truth about orders, the database about what was intended.

A look at the venue (`look`) waits for it, and so happens in a thread; what it came to is settled in the loop's thread
(`Reconciler.settle`), between two batches:

- an order of ours takes the state in which the venue shows it, with fills that were missed;
- one that the venue does not list any more is asked for by its client order id; one that it never had, and that nobody
  sends any more, is canceled: it never reached the venue;
- an order under an id of ours that is not written down is taken in (at the start, also one that is done by now): it left
  when nothing could be written;
- an order of somebody else is told of, and left alone;
- units that are missing after a purchase where the venue keeps its fee in kind are that fee;
- a symbol whose position differs, twice in a row with nothing moving, takes no entries until it agrees again, or an
  operator accepts the difference as somebody else's doing. Nothing is ever bought or sold to make positions agree.

To settle the same look twice changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal

import msgspec

from torghut_core.audit import Records
from torghut_core.errors import InputError, StateError, Unanswered, VenueError, reason_of
from torghut_core.execution.executor import Executor
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import (
    ZERO,
    Account,
    Order,
    OrderEvent,
    OrderState,
    OrderStatus,
    Position,
    Report,
    Side,
)
from torghut_core.ports import Broker
from torghut_core.telemetry import logs
from torghut_core.timestamps import SECOND
from torghut_core.trading.gateway import Gateway

OURS = "tg-"
"""How the client order ids begin that torghut makes, see `client_order_id`."""

SETTLING = 10 * SECOND
"""An order that was sent so long ago and that the venue does not have never reached it, ns."""


class Look(msgspec.Struct, kw_only=True):
    """What the venue showed at one moment.

    `orders`: its open orders. `done`: those that were done lately, where that was asked for. `found`: what it said of
    ours that are not among them, by client order id. `moves`: how often each of our positions had changed before, `spent`
    what our fills had cost by then. `began_at`, `seconds`: wall time, ns, and how long it took.
    """

    orders: list[Order]
    done: list[Order] = []
    found: dict[str, OrderStatus | None] = {}
    positions: dict[str, Position]
    account: Account
    moves: dict[str, int] = {}
    spent: Decimal = ZERO
    began_at: int = 0
    seconds: float = 0.0


class Settled(msgspec.Struct, kw_only=True):
    """What a look came to: `news`, how much was not known before; `differences` by symbol; `foreign` orders by id."""

    at: int = 0
    news: int = 0
    adopted: list[str] = []
    lost: list[str] = []
    """Orders that never reached the venue."""
    foreign: list[str] = []
    differences: dict[str, str] = {}
    suspects: dict[str, str] = {}
    """Differences that were seen once; they count when the next look sees them again."""
    cash_difference: Decimal = ZERO
    """What cash has changed by since the look before, beyond what fills explain: fees, dividends, transfers."""


def look(
    broker: Broker, ours: Collection[str], moves: dict[str, int], spent: Decimal = ZERO, since: int | None = None
) -> Look:
    """Ask the venue for everything; with `since`, ns, also for orders that were done after that.

    `ours` are the client order ids of our orders that are not done, `moves` a copy of `Books.moves`, `spent` what
    `Books.spent` is: all as they were before.

    Raises
    ------
    VenueError : it does not answer.
    """
    began_at, began = time.time_ns(), time.monotonic()
    try:
        orders = list(broker.orders())
        done = [] if since is None else list(broker.done_since(since))
        listed = {order.intent.client_order_id for order in orders}
        found = {number: broker.find(number) for number in ours if number not in listed}
        positions = {symbol: position for symbol, position in broker.positions().items() if position.quantity}
        account = broker.account()
    except VenueError:
        raise
    except Exception as error:  # a plugin may raise anything
        logs.error("broker failed", request="look", error=reason_of(error), exc_info=error)
        raise Unanswered(reason_of(error)) from error
    return Look(
        orders=orders,
        done=done,
        found=found,
        positions=positions,
        account=account,
        moves=moves,
        spent=spent,
        began_at=began_at,
        seconds=time.monotonic() - began,
    )


class Reconciler:
    """Settles looks at the venue in the books of one account.

    Parameters
    ----------
    gateway : our way to the venue, with our books.
    executor : knows what is under way.
    audit, account : where it is written down, and under which label.

    Attributes
    ----------
    last : what the last look came to.
    blocked : by symbol, how the books differ: entries in it wait.
    """

    def __init__(self, gateway: Gateway, executor: Executor, audit: Records, account: str) -> None:
        self.last = Settled()
        self.blocked: dict[str, str] = {}
        self._gateway = gateway
        self._books = gateway.books
        self._executor = executor
        self._audit = audit
        self._account = account
        self._suspects: dict[str, str] = {}
        self._gaps: dict[str, Decimal] = {}
        """Signed units that the venue holds more than we, by symbol, when nothing moved."""
        self._gone: list[str] = []
        """Our orders that the venue once had, and does not know any more."""
        self._cash: Decimal | None = None
        self._spent = ZERO

    @property
    def ours(self) -> list[str]:
        """Client order ids of our orders that are not done."""
        return list(self._books.working)

    def settle(self, seen: Look, *, is_start: bool = False) -> Settled:
        """Take in what the venue showed; at the start, when nothing moves, a difference counts at once."""
        done = Settled(at=seen.began_at)
        if seen.began_at == self.last.at:
            self._suspects = {}  # the same look does not see anything again
        self._gone = []
        self._executor.note(seen.account, seen.positions)
        self._books.spent_before = seen.spent
        for order in seen.orders:
            with self._readable(order):
                self._see(order, done)
        for order in seen.done:
            with self._readable(order):
                if not self._take_in(order, done) and self._books.find(order.intent.client_order_id) is not None:
                    done.news += self._learn(OrderStatus(order=order))
        for number, status in seen.found.items():
            if status is not None:
                done.news += self._learn(status)
            else:
                self._miss(number, seen, done, is_start=is_start)
        listed = {order.intent.client_order_id for order in seen.orders}
        for number in [number for number in self._books.foreign if number not in listed]:
            del self._books.foreign[number]
        done.foreign = sorted(number for number in self._books.foreign if not number.startswith(OURS))
        self._compare(seen, done, is_start=is_start)
        self.last = done
        return done

    def accept(self, symbol: str, reason: str, actor: str) -> Decimal:
        """Take a difference in a symbol as what somebody else did: it is ours from now on, in no strategy's name.

        Returns
        -------
        The signed units that were added.

        Raises
        ------
        InputError : there is no difference in this symbol.
        """
        if symbol not in self.blocked:
            raise InputError(f"{symbol}: our books and the venue's do not differ (see `torghut reconcile`)")
        quantity = self._gaps.pop(symbol, ZERO)
        told = f"accepted by {actor}: {reason}"
        if quantity:
            self._books.adjust("", symbol, quantity, told)
        for number in self._gone:
            working = self._books.working.get(number)
            if working is not None and working.order.intent.symbol == symbol:
                self._lose(number, self.last.at, told)
        self.blocked = {name: said for name, said in self.blocked.items() if name != symbol}
        return quantity

    @contextmanager
    def _readable(self, order: Order) -> Iterator[None]:
        """Leave an order that only the database knows to a later look, where it cannot be read."""
        try:
            yield
        except StateError as error:
            logs.warning("order not looked up", client_order_id=order.intent.client_order_id, error=str(error))

    def _see(self, order: Order, done: Settled) -> None:
        """One of the venue's open orders."""
        number = order.intent.client_order_id
        books = self._books
        if books.find(number) is not None or self._recall(number):
            done.news += self._learn(OrderStatus(order=order))
            working = books.working.get(number)
            is_unwanted = (
                books.was_given_up(number) if working is None else working.order.state is OrderState.PENDING_CANCEL
            )
            if is_unwanted and not self._executor.is_under_way(order.intent.symbol):
                logs.warning("order works that should not: canceling it", client_order_id=number)
                self._executor.cancel(number)
        elif self._take_in(order, done):
            self._executor.resume([order])
        else:
            if number not in books.foreign:
                logs.warning("order of somebody else", client_order_id=number, symbol=order.intent.symbol)
            books.apply_status(OrderStatus(order=order))

    def _learn(self, status: OrderStatus) -> int:
        """What the venue says of an order of ours."""
        number = status.order.intent.client_order_id
        if is_done(status.order.state):
            self._executor.forget(number)
        else:
            self._executor.unresolved.pop(number, None)
        return self._books.apply_status(status)

    def _recall(self, number: str) -> bool:
        """Whether an order is written down here; then it is known again."""
        found = self._audit.find_order(self._account, number) if number.startswith(OURS) else None
        if found is not None:
            self._books.restore({}, [found])
        return found is not None

    def _take_in(self, order: Order, done: Settled) -> bool:
        """Take in an order under an id of ours, where it is not written down; whether it was."""
        number, books = order.intent.client_order_id, self._books
        if not number.startswith(OURS) or books.find(number) is not None or self._recall(number):
            return False
        books.adopt(order, self._owner(order))
        logs.error("order taken in that was not written down", client_order_id=number, symbol=order.intent.symbol)
        done.adopted.append(number)
        done.news += 1
        return True

    def _owner(self, order: Order) -> str:
        """The strategy whose position an order takes off the book; "" where that is none, or several."""
        intent = order.intent
        holders = [
            context.strategy_id
            for context in self._books.held
            if context.symbol == intent.symbol and (context.position.quantity > 0) == (intent.side is Side.SELL)
        ]
        return holders[0] if len(holders) == 1 else ""

    def _miss(self, number: str, seen: Look, done: Settled, *, is_start: bool) -> None:
        """One of our orders that the venue does not have."""
        working = self._books.working.get(number)
        if working is None:
            return
        intent, unresolved = working.order.intent, self._executor.unresolved
        if number not in unresolved and self._executor.is_under_way(intent.symbol):
            return
        self._gateway.apply_updates()  # what came of it may be told already
        if number not in self._books.working:
            return
        if working.order.venue_order_id:
            self._gone.append(number)
            self._differ(intent.symbol, f"order {number} is gone from the venue", done, is_start=is_start)
        elif seen.began_at - unresolved.get(number, intent.decided_at) >= SETTLING:
            done.news += self._lose(number, seen.began_at, "not sent: it never reached the venue")
            done.lost.append(number)

    def _lose(self, number: str, at: int, reason: str) -> int:
        self._executor.forget(number)
        return self._books.apply_report(
            Report(client_order_id=number, event=OrderEvent.CANCELED, event_ts=at, reason=reason)
        )

    def _differ(self, symbol: str, told: str, done: Settled, *, is_start: bool) -> None:
        """A difference counts when it is seen again."""
        if is_start or symbol in self.blocked or self._suspects.get(symbol) == told:
            done.differences[symbol] = told
        else:
            done.suspects[symbol] = told

    def _is_fee(self, symbol: str, missing: Decimal) -> bool:
        """Whether units are missing that the venue kept as its fee for what was bought; then they are taken off."""
        bought = sum(self._books.bought.get(symbol, {}).values(), ZERO)
        rate = self._executor.fee_in_kind(symbol)
        if not ZERO < missing <= bought * rate:
            return False
        self._books.charge(symbol, missing, rate)
        return True

    def _compare(self, seen: Look, done: Settled, *, is_start: bool) -> None:
        """Hold positions and cash against the venue's."""
        books = self._books
        ours, gaps = books.nets, {}
        for symbol in sorted(ours.keys() | seen.positions.keys()):
            if books.moves.get(symbol, 0) != seen.moves.get(symbol, 0) or self._executor.is_under_way(symbol):
                if symbol in self.blocked:
                    done.differences.setdefault(symbol, self.blocked[symbol])
                    gaps[symbol] = self._gaps.get(symbol, ZERO)
                continue  # it moved meanwhile: the next look will tell
            here, there = ours.get(symbol, ZERO), seen.positions.get(symbol, Position()).quantity
            if here == there or self._is_fee(symbol, here - there):
                continue
            gaps[symbol] = there - here
            self._differ(symbol, f"{here} here, {there} at the venue", done, is_start=is_start)
        self._suspects, self._gaps = done.suspects, gaps
        for symbol in done.differences.keys() - self.blocked.keys():
            logs.error("books differ, entries wait", symbol=symbol, difference=done.differences[symbol])
        self.blocked = dict(done.differences)
        before, self._cash = self._cash, seen.account.cash
        spent, self._spent = self._spent, books.spent
        if before is not None:
            done.cash_difference = seen.account.cash - before + (books.spent - spent)

"""Makes our books and the venue's agree: the broker is the truth about orders, the database about what was intended.

Taking a snapshot of the venue waits for it, and so happens in a thread (`take_snapshot`); the snapshot is applied in the
loop's thread, between two batches (`Reconciler.reconcile`):

- an order of ours takes the state in which the venue shows it, with fills that were missed;
- one that the venue no longer lists is looked up by its client order id; one that it never had, and that is no longer
  being sent, is canceled: it never reached the venue. A leg of a bracket that was not sent is recorded and sent anew;
- an order under an id of ours that is not written down is adopted (at the start, also one that is done by now): it was
  sent when nothing could be written;
- a foreign order, made by a person or another program, is reported and left alone;
- units that are missing after a purchase where the venue keeps its fee in kind are that fee;
- a symbol whose position differs, twice in a row with nothing moving, takes no entries until it agrees again, or an
  operator accepts the difference as an outside trade. Nothing is ever bought or sold to make positions agree.

Reconciling the same snapshot twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal

import msgspec

from torghut_core.audit import Records
from torghut_core.boundary import from_plugins
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
from torghut_core.timestamps import SECOND, SYSTEM_CLOCK, Clock
from torghut_core.trading.gateway import Gateway

OURS = "tg-"
"""How client order ids of torghut begin, see `client_order_id`."""

SETTLING = 10 * SECOND
"""How long after it was sent an order that the venue does not have is taken as never arrived, ns."""


class VenueSnapshot(msgspec.Struct, kw_only=True):
    """What the venue showed at one moment.

    `orders`: its open orders. `done`: those that were done lately, where that was requested. `found`: the status of ours
    that are not among them, by client order id. `moves`: how often each of our positions had changed before, `spent`
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


class Reconciliation(msgspec.Struct, kw_only=True):
    """The result of one: `changes`, how much was not known before; `differences` by symbol; `foreign` orders by id."""

    at: int = 0
    changes: int = 0
    adopted: list[str] = []
    lost: list[str] = []
    """Orders that never reached the venue."""
    foreign: list[str] = []
    differences: dict[str, str] = {}
    suspects: dict[str, str] = {}
    """Differences that were seen once; they count when the next snapshot has them again."""
    cash_difference: Decimal = ZERO
    """Change of cash since the snapshot before, beyond what fills explain: fees, dividends, transfers."""


def take_snapshot(
    broker: Broker,
    open_ids: Collection[str],
    moves: dict[str, int],
    spent: Decimal = ZERO,
    since: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> VenueSnapshot:
    """Ask the venue for everything; with `since`, ns, also for orders that were done after that.

    `open_ids` are the client order ids of our orders that are not done, `moves` a copy of `Books.moves`, `spent` that of
    `Books.spent`: all as they were before.

    Raises
    ------
    VenueError : it does not answer.
    """
    began_at, began = clock.wall(), clock.monotonic()
    try:
        orders = list(broker.orders())
        done = [] if since is None else list(broker.done_since(since))
        listed = {order.intent.client_order_id for order in orders}
        found = {each: broker.find(each) for each in open_ids if each not in listed}
        positions = {symbol: position for symbol, position in broker.positions().items() if position.quantity}
        account = broker.account()
    except VenueError:
        raise
    except from_plugins() as error:  # a plugin may raise anything
        logs.error("broker failed", request="snapshot", error=reason_of(error), exc_info=error)
        raise Unanswered(reason_of(error)) from error
    return VenueSnapshot(
        orders=orders,
        done=done,
        found=found,
        positions=positions,
        account=account,
        moves=moves,
        spent=spent,
        began_at=began_at,
        seconds=clock.monotonic() - began,
    )


class Reconciler:
    """Applies snapshots of the venue to the books of one account.

    Parameters
    ----------
    gateway : our way to the venue, with our books.
    executor : knows which requests are under way.
    audit, account_label : where it is written down, and under which label.

    Attributes
    ----------
    last : the result of the last reconciliation.
    blocked : by symbol, how the books differ: entries in it wait.
    """

    def __init__(self, gateway: Gateway, executor: Executor, audit: Records, account_label: str) -> None:
        self.last = Reconciliation()
        self.blocked: dict[str, str] = {}
        self._gateway = gateway
        self._books = gateway.books
        self._executor = executor
        self._audit = audit
        self._label = account_label
        self._suspects: dict[str, str] = {}
        self._gone: list[str] = []
        """Our orders that the venue once had, and no longer knows."""
        self._cash: Decimal | None = None
        self._spent = ZERO

    @property
    def open_ids(self) -> list[str]:
        """Client order ids of our orders that are not done, and that do not wait to be sent."""
        waiting = set(self._gateway.outbox)
        return [client_order_id for client_order_id in self._books.working if client_order_id not in waiting]

    @property
    def differences(self) -> dict[str, str]:
        """Symbols in which entries wait, with the reason: books that differ, and unresolved orders."""
        found = dict(self.blocked)
        for client_order_id, symbol in self._executor.unresolved_symbols.items():
            found.setdefault(symbol, f"it is unknown whether the venue has order {client_order_id}")
        return found

    def reconcile(self, snapshot: VenueSnapshot, *, is_start: bool = False) -> Reconciliation:
        """Apply what the venue showed; at the start, when nothing moves, a difference counts at once."""
        result = Reconciliation(at=snapshot.began_at)
        if snapshot.began_at == self.last.at:
            self._suspects = {}  # the same snapshot does not confirm anything
        self._gone = []
        self._executor.keep_snapshot(snapshot.account, snapshot.positions)
        self._books.spent_before = snapshot.spent
        for status in snapshot.found.values():  # first: the legs of a fill are known with it
            if status is not None:
                result.changes += self._apply_status(status)
        for order in snapshot.orders:
            with self._readable(order):
                self._apply_open_order(order, result)
        for order in snapshot.done:
            with self._readable(order):
                if not self._adopt(order, result) and self._books.find(order.intent.client_order_id):
                    result.changes += self._apply_status(OrderStatus(order=order))
        for client_order_id, status in snapshot.found.items():
            if status is None:
                self._apply_missing(client_order_id, snapshot, result, is_start=is_start)
        listed = {order.intent.client_order_id for order in snapshot.orders}
        for client_order_id in [each for each in self._books.foreign if each not in listed]:
            del self._books.foreign[client_order_id]
        result.foreign = sorted(each for each in self._books.foreign if not each.startswith(OURS))
        self._compare(snapshot, result, is_start=is_start)
        self._gateway.renew_legs(self._executor.refusal)
        self.last = result
        return result

    def accept(self, symbol: str, reason: str, actor: str) -> Decimal:
        """Accept a difference in a symbol as an outside trade: it is ours from now on, in no strategy's name.

        Returns
        -------
        The signed units that were added.

        Raises
        ------
        InputError : there is no difference in this symbol.
        """
        if symbol not in self.blocked:
            raise InputError(f"{symbol}: our books and the venue's do not differ (see `torghut reconcile`)")
        quantity = self._books.differences.pop(symbol, ZERO)
        because = f"accepted by {actor}: {reason}"
        if quantity:
            self._books.adjust("", symbol, quantity, because)
        for client_order_id in self._gone:
            working = self._books.working.get(client_order_id)
            if working is not None and working.order.intent.symbol == symbol:
                self._cancel_lost(client_order_id, self.last.at, because)
        self.blocked = {name: difference for name, difference in self.blocked.items() if name != symbol}
        return quantity

    @contextmanager
    def _readable(self, order: Order) -> Iterator[None]:
        """Leave an order that only the database knows to a later snapshot, where it cannot be read."""
        try:
            yield
        except StateError as error:
            logs.warning("order not looked up", client_order_id=order.intent.client_order_id, error=str(error))

    def _apply_open_order(self, order: Order, result: Reconciliation) -> None:
        """Apply one of the venue's open orders: ours, ours that was not written down, or a foreign one."""
        client_order_id = order.intent.client_order_id
        books = self._books
        if books.find(client_order_id) or self._restore(client_order_id):
            result.changes += self._apply_status(OrderStatus(order=order))
            working = books.working.get(client_order_id)
            is_unwanted = (
                books.was_given_up(client_order_id)
                if working is None
                else working.order.state is OrderState.PENDING_CANCEL
            )
            if is_unwanted and not self._executor.is_under_way(order.intent.symbol):
                logs.warning("order is open that should not be: canceling it", client_order_id=client_order_id)
                self._executor.cancel(client_order_id)
        elif self._adopt(order, result):
            self._executor.resume([order])
        else:
            if client_order_id not in books.foreign:
                logs.warning("foreign order", client_order_id=client_order_id, symbol=order.intent.symbol)
            books.apply_status(OrderStatus(order=order))

    def _apply_status(self, status: OrderStatus) -> int:
        """Apply the venue's status of an order of ours; how much of it was not known before."""
        client_order_id = status.order.intent.client_order_id
        if is_done(status.order.state):
            self._executor.forget(client_order_id)
        else:
            self._executor.unresolved.pop(client_order_id, None)
            working = self._books.working.get(client_order_id)
            if working is not None and client_order_id in self._gateway.outbox:
                self._executor.take_over(working.order.intent)
        return self._books.apply_status(status)

    def _restore(self, client_order_id: str) -> bool:
        """Whether an order is written down here; then the books know it again."""
        if not client_order_id.startswith(OURS):
            return False
        found = self._audit.find_order(self._label, client_order_id)
        if found is not None:
            self._books.restore({}, [found])
        return found is not None

    def _adopt(self, order: Order, result: Reconciliation) -> bool:
        """Adopt an order under an id of ours that is not written down; whether it was one."""
        client_order_id, books = order.intent.client_order_id, self._books
        if not client_order_id.startswith(OURS) or books.find(client_order_id) or self._restore(client_order_id):
            return False
        books.adopt(order, self._owner(order))
        logs.error(
            "order adopted that was not written down", client_order_id=client_order_id, symbol=order.intent.symbol
        )
        result.adopted.append(client_order_id)
        result.changes += 1
        return True

    def _owner(self, order: Order) -> str:
        """The strategy whose position an order reduces; "" where that is none, or several."""
        intent = order.intent
        holders = [
            context.strategy_id
            for context in self._books.held
            if context.symbol == intent.symbol and (context.position.quantity > 0) == (intent.side is Side.SELL)
        ]
        return holders[0] if len(holders) == 1 else ""

    def _apply_missing(
        self, client_order_id: str, snapshot: VenueSnapshot, result: Reconciliation, *, is_start: bool
    ) -> None:
        """Cancel one of our orders that the venue does not have, or report that it is gone."""
        working = self._books.working.get(client_order_id)
        if working is None or client_order_id in self._gateway.outbox:
            return
        intent, unresolved = working.order.intent, self._executor.unresolved
        if client_order_id not in unresolved and self._executor.is_under_way(intent.symbol):
            return
        self._gateway.apply_updates()  # its result may be waiting there
        if client_order_id not in self._books.working:
            return
        if working.order.venue_order_id:
            self._gone.append(client_order_id)
            self._add_difference(
                intent.symbol, f"order {client_order_id} is gone from the venue", result, is_start=is_start
            )
        elif snapshot.began_at - unresolved.get(client_order_id, intent.decided_at) >= SETTLING:
            result.changes += self._cancel_lost(
                client_order_id, snapshot.began_at, "not sent: it never reached the venue"
            )
            result.lost.append(client_order_id)

    def _cancel_lost(self, client_order_id: str, at: int, reason: str) -> int:
        self._executor.forget(client_order_id)
        return self._books.apply_report(
            Report(client_order_id=client_order_id, event=OrderEvent.CANCELED, event_ts=at, reason=reason)
        )

    def _add_difference(self, symbol: str, difference: str, result: Reconciliation, *, is_start: bool) -> None:
        """Add a difference to the result: a suspect, until the next snapshot has it again."""
        if is_start or symbol in self.blocked or self._suspects.get(symbol) == difference:
            result.differences[symbol] = difference
        else:
            result.suspects[symbol] = difference

    def _charge_fee(self, symbol: str, missing: Decimal) -> bool:
        """Take off units that the venue kept as its fee for what was bought; whether the missing ones are that."""
        bought = sum(self._books.bought.get(symbol, {}).values(), ZERO)
        rate = self._executor.fee_in_kind(symbol)
        held = sum((each.position.quantity for each in self._books.holders(symbol)), ZERO)
        if not ZERO < missing <= min(bought * rate, held):
            return False
        self._books.charge_in_kind(symbol, missing, rate)
        return True

    def _compare(self, snapshot: VenueSnapshot, result: Reconciliation, *, is_start: bool) -> None:
        """Compare positions and cash with the venue's."""
        books = self._books
        ours, found = books.nets, {}
        for symbol in sorted(ours.keys() | snapshot.positions.keys()):
            if books.moves.get(symbol, 0) != snapshot.moves.get(symbol, 0) or self._executor.is_under_way(symbol):
                if symbol in self.blocked:
                    result.differences.setdefault(symbol, self.blocked[symbol])
                if symbol in books.differences:
                    found[symbol] = books.differences[symbol]
                continue  # it moved meanwhile: the next snapshot decides
            books.bought_since_snapshot.discard(symbol)
            books.compared_at[symbol] = snapshot.began_at
            here, there = ours.get(symbol, ZERO), snapshot.positions.get(symbol, Position()).quantity
            if here == there or self._charge_fee(symbol, here - there):
                continue
            found[symbol] = there - here
            self._add_difference(symbol, f"{here} here, {there} at the venue", result, is_start=is_start)
        self._suspects, books.differences = result.suspects, found
        for symbol in result.differences.keys() - self.blocked.keys():
            logs.error("books differ, entries wait", symbol=symbol, difference=result.differences[symbol])
        self.blocked = dict(result.differences)
        before, self._cash = self._cash, snapshot.account.cash
        spent, self._spent = self._spent, books.spent
        if before is not None:
            result.cash_difference = snapshot.account.cash - before + (books.spent - spent)

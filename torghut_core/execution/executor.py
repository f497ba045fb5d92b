"""Orders to a real venue: sent once each, whatever happens to the request that carries them.

The loop never waits for a network. It hands over intents that are durable already; threads of the executor send them,
and the results return through `updates`, like the venue's own reports.

Rule 1. Permission is asked right before the call, at every attempt: an order is sent only while `permits` gives no reason
against it. An order that was never sent and may not be is reported as canceled, "not sent".

Rule 2. What is certain not to have been done (`NotSent`, `Throttled`) may be tried again. What may have been done
(`Unanswered`) is looked up by its client order id first, and sent again only where the venue does not have it. The venue
refuses a second order of the same id, so that even a look-up that came too early doubles nothing.

Rule 3. Tries are bounded, in number and in time: an order is meant for its moment. After that, one that was never sent
is canceled; one that may be at the venue is *unresolved*: no longer sent, and left to the reconciler, which keeps asking.

Rule 4. A cancel waits for the order that it cancels, and needs no permission. An order that is canceled before it was
sent never is.

Rule 5. Requests about one order are made by one thread at a time. Orders of one symbol may overtake each other.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any, Literal, TypeVar

import msgspec

from torghut_core.boundary import from_plugins, new_context, use_decimal_context
from torghut_core.errors import DuplicateOrder, NotSent, OrderRefused, Throttled, Unanswered, VenueError, reason_of
from torghut_core.model.instruments import Instrument
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import (
    Account,
    Charge,
    Intent,
    Order,
    OrderEvent,
    OrderStatus,
    Position,
    Report,
    TimeInForce,
)
from torghut_core.ports import Broker, OrderEntry
from torghut_core.telemetry import logs
from torghut_core.timestamps import SYSTEM_CLOCK, Clock

ATTEMPTS = 6
"""How often one order is sent, or one cancel requested, at most."""

DEADLINE = 30.0
"""How long after it was handed over an order may still be sent, seconds."""

THREADS = 4
"""How many requests are under way at a time."""

T = TypeVar("T")


class Task(msgspec.Struct):
    """A request about one order; `may_be_there`: an attempt was sent and not answered."""

    kind: Literal["submit", "cancel", "replace"]
    client_order_id: str
    symbol: str
    began: float
    intent: Intent | None = None
    terms: tuple[Decimal | None, Decimal | None, Decimal | None] = (None, None, None)
    """Quantity, limit price and stop price of a replace."""
    attempts: int = 0
    may_be_there: bool = False
    is_reported: bool = False
    """Whether the order was reported as sent."""


class Executor(OrderEntry):
    """Sends orders to the broker of a real venue without making the loop wait.

    Parameters
    ----------
    broker : connected to its venue.
    permits : why an order may not be sent now, "" when it may. Called from several threads.
    on_update : called, from any thread, when `updates` has something new.
    attempts, backoff : how often, and with which first pause (seconds, doubled each time).
    threads : how many requests at a time.
    clock : where it asks for the time.

    Attributes
    ----------
    refusal : the `permits` that were given.
    unresolved : orders that may be at the venue or not, by client order id, each with the time of its last attempt, ns.
    counts : what happened, by name: sent, retried, looked_up, refused, held_back, cancels, replaces.
    """

    def __init__(
        self,
        broker: Broker,
        permits: Callable[[Intent], str],
        on_update: Callable[[], None] = lambda: None,
        *,
        attempts: int = ATTEMPTS,
        backoff: float = 0.1,
        threads: int = THREADS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.day_zone = broker.day_zone
        self.unresolved: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.on_update = on_update
        self._broker = broker
        self.refusal = permits
        self._attempts = attempts
        self._backoff = backoff
        self._clock = clock
        self._account = broker.account()
        self._last_failure = ""
        self._positions = broker.positions()
        self._updates: deque[Report | OrderStatus] = deque()
        self._queue: list[tuple[float, int, Task]] = []
        self._order = itertools.count()
        self._busy: set[str] = set()
        self._open: dict[str, Intent] = {}
        """By client order id, every order that may be open."""
        self._unsure: set[str] = set()
        """Legs that an earlier process may have sent: they are looked up before they are."""
        self._changed = threading.Condition()
        self._is_closed = False
        self._random = Random()
        self._threads = [
            threading.Thread(target=self._work, name=f"executor-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    # For the loop; nothing here waits.

    def usual_time_in_force(self, symbol: str) -> TimeInForce:
        """See `OrderEntry.usual_time_in_force`."""
        return self._broker.usual_time_in_force(symbol)

    def instrument(self, symbol: str, stated: Instrument) -> Instrument:
        """See `OrderEntry.instrument`."""
        return self._broker.instrument(symbol, stated)

    def fee_in_kind(self, symbol: str) -> Decimal:
        """See `Broker.fee_in_kind`."""
        return self._broker.fee_in_kind(symbol)

    def holds_pair(self, stop: Intent, profit: Intent) -> bool:
        """See `OrderEntry.holds_pair`."""
        return self._broker.holds_pair(stop, profit)

    def submit(self, intent: Intent) -> None:
        """Send an order whose intent is durable; the same client order id again does nothing."""
        client_order_id = intent.client_order_id
        with self._changed:
            if client_order_id in self._open:
                return
            self._open[client_order_id] = intent
        task = Task("submit", client_order_id, intent.symbol, self._clock.monotonic(), intent)
        task.may_be_there = client_order_id in self._unsure
        self._put(task)

    def cancel(self, client_order_id: str) -> None:
        """Request that an order be canceled."""
        symbol = self._symbol_of(client_order_id)
        self._put(Task("cancel", client_order_id, symbol, self._clock.monotonic()))

    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Request that an open order be changed."""
        terms = (quantity, limit_price, stop_price)
        symbol = self._symbol_of(client_order_id)
        self._put(Task("replace", client_order_id, symbol, self._clock.monotonic(), terms=terms))

    def _symbol_of(self, client_order_id: str) -> str:
        intent = self._open.get(client_order_id)
        return "" if intent is None else intent.symbol

    def cancel_all(self) -> None:
        """Request that every order that may be open be canceled, but protection; from any thread, so that it needs no loop."""
        # Other threads change it meanwhile. A copy of the keys alone is made at once.
        for client_order_id in list(self._open):
            intent = self._open.get(client_order_id)
            if intent is not None and not intent.is_protection:
                self.cancel(client_order_id)

    def resume(self, orders: Collection[Order]) -> None:
        """Take over orders that an earlier process sent, or was about to: they are looked up, and never sent again.

        But for legs that the venue has not reported: they protect what is held, and are still to be sent (`submit`).
        """
        now = self._clock.wall()
        for order in orders:
            client_order_id = order.intent.client_order_id
            if order.is_unsent_leg:
                self._unsure.add(client_order_id)
                continue
            self._open[client_order_id] = order.intent
            if not order.venue_order_id:
                self.unresolved[client_order_id] = now

    def take_over(self, intent: Intent) -> None:
        """Take over an order that the venue has, and that waited here to be sent."""
        with self._changed:
            self._open[intent.client_order_id] = intent

    def forget(self, client_order_id: str) -> None:
        """Drop an order that is done."""
        with self._changed:
            self._open.pop(client_order_id, None)
            self.unresolved.pop(client_order_id, None)

    def keep_snapshot(self, account: Account, positions: dict[str, Position]) -> None:
        """Keep the venue's account and positions: what `account` and `positions` give from now on."""
        self._account, self._positions = account, positions

    def account(self) -> Account:
        """The account when the venue was last asked."""
        return self._account

    def positions(self) -> dict[str, Position]:
        """Positions when the venue was last asked."""
        return self._positions

    def updates(self) -> list[Report | OrderStatus | Charge]:
        """What became known since the last call: of our own requests first, since they came before the venue's reports."""
        theirs = self._broker_updates()
        found: list[Report | OrderStatus | Charge] = []
        while self._updates:
            found.append(self._updates.popleft())
        found += theirs
        for each in theirs:
            if type(each) is OrderStatus and is_done(each.order.state):
                self.forget(each.order.intent.client_order_id)
        return found

    def _broker_updates(self) -> Sequence[Report | OrderStatus | Charge]:
        """What the broker reports; nothing where it raises: reconciliations find what it holds back."""
        try:
            return new_context().run(self._broker.updates)
        except from_plugins() as error:
            reason = reason_of(error)
            if reason != self._last_failure:
                logs.error("broker failed", request="updates", error=reason, exc_info=error)
            self._last_failure = reason
            return ()

    @property
    def unresolved_symbols(self) -> dict[str, str]:
        """Symbols of the unresolved orders, by client order id."""
        return {each: self._symbol_of(each) for each in list(self.unresolved)}

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way or queued."""
        with self._changed:
            return not self._queue and not self._busy

    def is_under_way(self, symbol: str) -> bool:
        """Whether a request about an order in a symbol is under way, or one is unresolved."""
        with self._changed:
            symbols = {task.symbol for _, _, task in self._queue} | {self._symbol_of(each) for each in self._busy}
            return symbol in symbols or symbol in self.unresolved_symbols.values()

    def close(self) -> None:
        """Send nothing more, and end when the requests that are under way have ended."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # The threads.

    def _put(self, task: Task, delay: float = 0.0) -> None:
        with self._changed:
            heapq.heappush(self._queue, (self._clock.monotonic() + delay, next(self._order), task))
            self._changed.notify()

    def _work(self) -> None:
        use_decimal_context()
        while (task := self._next()) is not None:
            self._handle(task)

    def _next(self) -> Task | None:
        """The next task that is due, once there is one; None once the executor is closed."""
        with self._changed:
            while not self._is_closed:
                task = self._due()
                if task is not None:
                    return task
                now = self._clock.monotonic()
                self._changed.wait(max(0.0, self._queue[0][0] - now) or 0.01 if self._queue else None)
            return None

    def _due(self) -> Task | None:
        """Take the first task that is due and whose order no thread is busy with."""
        now = self._clock.monotonic()
        passed = []
        found = None
        while found is None and self._queue and self._queue[0][0] <= now:
            entry = heapq.heappop(self._queue)
            if entry[2].client_order_id in self._busy:
                passed.append(entry)
            else:
                found = entry[2]
                self._busy.add(found.client_order_id)
        for entry in passed:
            heapq.heappush(self._queue, entry)
        return found

    def _handle(self, task: Task) -> None:
        try:
            delay = self._submit(task) if task.kind == "submit" else self._cancel_or_replace(task)
        except Exception as error:  # a defect of ours: it may or may not have been sent
            logs.error(
                "order request failed", client_order_id=task.client_order_id, error=reason_of(error), exc_info=error
            )
            delay = self._retry_delay(task, Unanswered(reason_of(error)))
        with self._changed:  # at once: what is neither waiting nor under way seems to be settled
            self._busy.discard(task.client_order_id)
            if delay is not None:
                self._put(task, delay)
            self._changed.notify()

    def _call(self, request: Callable[..., T], *terms: Any) -> T:
        """Ask the broker; whatever it raises is a `VenueError`."""
        try:
            return new_context().run(request, *terms)
        except VenueError:
            raise
        except from_plugins() as error:  # a defect of the plugin's: it may or may not have been sent
            logs.error("broker failed", request=request.__name__, error=reason_of(error), exc_info=error)
            raise Unanswered(reason_of(error)) from error

    def _submit(self, task: Task) -> float | None:
        """Send an order, or look it up; the seconds until the next attempt, None when that is settled."""
        intent = task.intent
        assert intent is not None
        try:
            if task.may_be_there and self._look_up(task):
                return None
            is_late = self._clock.monotonic() - task.began >= DEADLINE
            if task.attempts >= self._attempts and task.may_be_there and not is_late:
                return self._pause(task)  # it was looked up in vain just now, and is not sent again
            if is_late or task.attempts >= self._attempts:
                self._give_up(task, "the venue does not answer")
                return None
            reason = self.refusal(intent)
            if reason:
                self.counts["held_back"] += 1
                self._give_up(task, reason)
                return None
            if not task.is_reported:
                task.is_reported = True
                self._report(task, OrderEvent.SUBMIT)
            task.attempts += 1
            self.counts["sent" if task.attempts == 1 else "retried"] += 1
            status = self._call(self._broker.submit, intent)
        except DuplicateOrder as error:
            task.may_be_there = True
            return 0.0 if task.attempts == 1 else self._retry_delay(task, error)
        except OrderRefused as error:
            self._reject(task, error)
            return None
        except VenueError as error:
            return self._retry_delay(task, error)
        if status is not None:
            self._report_status(status)
        return None

    def _look_up(self, task: Task) -> bool:
        """Whether the venue has the order; then its status is reported."""
        self.counts["looked_up"] += 1
        status = self._call(self._broker.find, task.client_order_id)
        if status is None:
            return False
        self.unresolved.pop(task.client_order_id, None)
        self._report_status(status)
        return True

    def _reject(self, task: Task, error: OrderRefused) -> None:
        """The venue refused: a first attempt for good, a later one perhaps because an earlier one took the money."""
        self.counts["refused"] += 1
        reason = f"{error.code}: {error}"
        if task.may_be_there:
            with suppress(VenueError):
                if self._look_up(task):
                    return
            self._give_up(task, reason)
            return
        self._open.pop(task.client_order_id, None)
        self._report(task, OrderEvent.REJECTED, reason)

    def _retry_delay(self, task: Task, error: VenueError) -> float | None:
        """Seconds until the next attempt after an error; None when it was the last one."""
        if task.kind == "submit" and not isinstance(error, NotSent | Throttled):
            task.may_be_there = True
        is_over = self._clock.monotonic() - task.began > DEADLINE or (
            task.attempts >= self._attempts and not task.may_be_there
        )
        if is_over:
            if task.kind == "submit":
                self._give_up(task, f"{error.code}: {error}")
            return None
        logs.info(
            "order request did not succeed",
            client_order_id=task.client_order_id,
            error=str(error),
            attempt=task.attempts,
        )
        asked = error.retry_after if isinstance(error, Throttled) else None
        return min(max(self._pause(task), asked or 0.0), DEADLINE)

    def _pause(self, task: Task) -> float:
        return self._backoff * float(2 ** min(task.attempts, 5)) * self._random.uniform(0.75, 1.25)

    def _give_up(self, task: Task, reason: str) -> None:
        """Send no more: what was never sent is canceled, what may be at the venue is left to the reconciler."""
        if task.may_be_there:
            with self._changed:
                if task.client_order_id not in self._open:
                    return  # it is done: the venue has reported so by another way
                self.unresolved[task.client_order_id] = self._clock.wall()
            logs.error("order unresolved", client_order_id=task.client_order_id, reason=reason)
            self.on_update()
            return
        self._open.pop(task.client_order_id, None)
        self._report(task, OrderEvent.CANCELED, f"not sent: {reason}")

    def _cancel_or_replace(self, task: Task) -> float | None:
        """Request a cancel or a replace; the seconds until the next attempt, None when that is settled."""
        is_cancel = task.kind == "cancel"
        if self._is_queued(task.client_order_id):  # the order itself comes first
            queued = self._unqueue(task.client_order_id) if is_cancel else None
            if queued is None or queued.may_be_there:
                return self._backoff
            self._give_up(queued, "canceled before it was sent")
            return None
        task.attempts += 1
        self.counts[f"{task.kind}s"] += 1
        try:
            if is_cancel:
                self._call(self._broker.cancel, task.client_order_id)
            else:
                self._call(self._broker.replace, task.client_order_id, *task.terms)
        except OrderRefused as error:
            reason = f"{error.code}: {error}"
        except VenueError as error:
            reason = f"{error.code}: {error}"
            delay = self._retry_delay(task, error)
            if delay is not None:
                return delay
        else:
            return None
        self._report(task, OrderEvent.CANCEL_REJECTED if is_cancel else OrderEvent.REPLACE_REJECTED, reason)
        return None

    def _is_queued(self, client_order_id: str) -> bool:
        with self._changed:
            return any(task.kind == "submit" and task.client_order_id == client_order_id for _, _, task in self._queue)

    def _unqueue(self, client_order_id: str) -> Task | None:
        """The queued submit of an order; taken out of the queue where it was certainly not sent yet."""
        with self._changed:
            for entry in self._queue:
                task = entry[2]
                if task.kind == "submit" and task.client_order_id == client_order_id:
                    if not task.may_be_there:
                        self._queue.remove(entry)
                        heapq.heapify(self._queue)
                    return task
        return None

    def _report_status(self, status: OrderStatus) -> None:
        if is_done(status.order.state):
            self._open.pop(status.order.intent.client_order_id, None)
        self._publish(status)

    def _report(self, task: Task, event: OrderEvent, reason: str = "") -> None:
        at = self._clock.wall()
        self._publish(Report(client_order_id=task.client_order_id, event=event, event_ts=at, reason=reason))

    def _publish(self, update: Report | OrderStatus) -> None:
        self._updates.append(update)
        self.on_update()

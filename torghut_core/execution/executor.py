"""Orders to a real venue: sent once each, whatever happens to the request that carries them.

The loop never waits for a network. It hands over intents that are durable already; threads of the executor send them,
and what comes of it returns through `updates`, like the venue's own news.

Rule 1. The last look is right before the call: an order leaves only while `permits` gives no reason against it, at every
attempt. An order that was never sent and may not leave is reported as canceled, "not sent".

Rule 2. What is certain not to have been done (`NotSent`, `Throttled`) may be tried again. What may have been done
(`Unanswered`) is looked up by its client order id first, and sent again only where the venue does not have it. The venue
refuses a second order of the same id, so that even a look-up that came too early doubles nothing.

Rule 3. Tries are bounded, in number and in time: an order is a wish of its moment. After that, one that was never sent
is canceled; one that may be at the venue is *unresolved*: no longer sent, and left to the reconciler, who goes on asking.

Rule 4. A cancel waits for the order that it cancels, and needs no permission. An order that is canceled before it was
sent never is.

Rule 5. What is asked of one order is asked by one thread at a time. Orders of one symbol may overtake each other.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any, Literal, TypeVar

import msgspec

from torghut_core.errors import DuplicateOrder, NotSent, OrderRefused, Throttled, Unanswered, VenueError, reason_of
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import (
    Account,
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

ATTEMPTS = 6
"""So often one order is sent, or one cancel asked for, at most."""

DEADLINE = 30.0
"""So long after it was handed over an order may still be sent, seconds."""

THREADS = 4
"""Requests at a time."""

T = TypeVar("T")


class Task(msgspec.Struct):
    """One order on its way, or what is asked of it; `may_be_there`: an attempt went out and was not answered."""

    kind: Literal["submit", "cancel", "replace"]
    number: str
    symbol: str
    began: float
    intent: Intent | None = None
    terms: tuple[Decimal | None, Decimal | None, Decimal | None] = (None, None, None)
    """Quantity, limit price and stop price of a replace."""
    attempts: int = 0
    may_be_there: bool = False
    was_told: bool = False


class Executor(OrderEntry):
    """Stands before the broker of a real venue, and does not wait.

    Parameters
    ----------
    broker : connected to its venue.
    permits : the last look: why an order may not leave now, "" when it may. Called from several threads.
    on_news : called, from any thread, when there is something to hear.
    attempts, deadline, backoff : how often, how long (seconds) and with which first pause (seconds, doubled each time).

    Attributes
    ----------
    unresolved : orders that may be at the venue or not, by client order id, each with the time of its last attempt, ns.
    counts : what happened, by name: sent, retried, looked_up, refused, held_back, cancels, replaces.
    """

    def __init__(
        self,
        broker: Broker,
        permits: Callable[[Intent], str],
        on_news: Callable[[], None] = lambda: None,
        *,
        attempts: int = ATTEMPTS,
        deadline: float = DEADLINE,
        backoff: float = 0.1,
        threads: int = THREADS,
    ) -> None:
        self.day_zone = broker.day_zone
        self.unresolved: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.on_news = on_news
        self._broker = broker
        self._permits = permits
        self._attempts = attempts
        self._deadline = deadline
        self._backoff = backoff
        self._account = broker.account()
        self._positions = broker.positions()
        self._news: deque[Report | OrderStatus] = deque()
        self._queue: list[tuple[float, int, Task]] = []
        self._order = itertools.count()
        self._busy: set[str] = set()
        self._out: dict[str, str] = {}
        """Symbol by client order id, of every order that may work."""
        self._changed = threading.Condition()
        self._is_closed = False
        self._random = Random()
        self._threads = [
            threading.Thread(target=self._work, name=f"executor-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    # What the loop asks; nothing here waits.

    def usual_time_in_force(self, symbol: str) -> TimeInForce:
        """See `OrderEntry.usual_time_in_force`."""
        return self._broker.usual_time_in_force(symbol)

    def fee_in_kind(self, symbol: str) -> Decimal:
        """See `Broker.fee_in_kind`."""
        return self._broker.fee_in_kind(symbol)

    def submit(self, intent: Intent) -> None:
        """Send an order whose intent is durable; the same client order id again does nothing."""
        number = intent.client_order_id
        with self._changed:
            if number in self._out:
                return
            self._out[number] = intent.symbol
        self._put(Task("submit", number, intent.symbol, time.monotonic(), intent))

    def cancel(self, client_order_id: str) -> None:
        """Ask that an order be canceled."""
        self._put(Task("cancel", client_order_id, self._out.get(client_order_id, ""), time.monotonic()))

    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Ask that a working order be changed."""
        terms = (quantity, limit_price, stop_price)
        symbol = self._out.get(client_order_id, "")
        self._put(Task("replace", client_order_id, symbol, time.monotonic(), terms=terms))

    def cancel_all(self) -> None:
        """Ask that everything that may work be canceled; from any thread, so that it needs no loop."""
        with self._changed:
            numbers = list(self._out)
        for number in numbers:
            self.cancel(number)

    def resume(self, orders: Collection[Order]) -> None:
        """Know of orders that an earlier process sent, or was about to: they are looked up, and never sent again."""
        now = time.time_ns()
        for order in orders:
            number = order.intent.client_order_id
            self._out[number] = order.intent.symbol
            if not order.venue_order_id:
                self.unresolved[number] = now

    def forget(self, client_order_id: str) -> None:
        """An order is done."""
        with self._changed:
            self._out.pop(client_order_id, None)
            self.unresolved.pop(client_order_id, None)

    def note(self, account: Account, positions: dict[str, Position]) -> None:
        """Keep what the venue said of account and positions: what `account` and `positions` give from now on."""
        self._account, self._positions = account, positions

    def account(self) -> Account:
        """The account when the venue was last asked."""
        return self._account

    def positions(self) -> dict[str, Position]:
        """Positions when the venue was last asked."""
        return self._positions

    def updates(self) -> list[Report | OrderStatus]:
        """What became known since the last call: of our own requests first, since they came before the venue's news."""
        theirs = self._broker.updates()
        news: list[Report | OrderStatus] = []
        while self._news:
            news.append(self._news.popleft())
        news += theirs
        for each in theirs:
            if type(each) is OrderStatus and is_done(each.order.state):
                self.forget(each.order.intent.client_order_id)
        return news

    @property
    def unresolved_symbols(self) -> dict[str, str]:
        """Symbols of the unresolved orders, by client order id."""
        return {number: self._out.get(number, "") for number in list(self.unresolved)}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        with self._changed:
            return not self._queue and not self._busy

    def is_under_way(self, symbol: str) -> bool:
        """Whether a request about an order in a symbol is under way, or one is unresolved."""
        with self._changed:
            symbols = {task.symbol for _, _, task in self._queue} | {self._out.get(number, "") for number in self._busy}
            return symbol in symbols or symbol in self.unresolved_symbols.values()

    def close(self) -> None:
        """Send nothing more, and end when the requests that are out have ended."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # The threads.

    def _put(self, task: Task, delay: float = 0.0) -> None:
        with self._changed:
            heapq.heappush(self._queue, (time.monotonic() + delay, next(self._order), task))
            self._changed.notify()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            self._do(task)

    def run_one(self) -> bool:
        """Do one thing that is due in the caller's thread, for an executor without threads; whether there was any."""
        with self._changed:
            task = None if self._is_closed else self._due()
        if task is not None:
            self._do(task)
        return task is not None

    def _next(self) -> Task | None:
        """The next task that is due, once there is one; None when it is over."""
        with self._changed:
            while not self._is_closed:
                task = self._due()
                if task is not None:
                    return task
                self._changed.wait(max(0.0, self._queue[0][0] - time.monotonic()) or 0.01 if self._queue else None)
            return None

    def _due(self) -> Task | None:
        """Take the first task that is due and whose order nobody is busy with."""
        now = time.monotonic()
        passed = []
        found = None
        while found is None and self._queue and self._queue[0][0] <= now:
            entry = heapq.heappop(self._queue)
            if entry[2].number in self._busy:
                passed.append(entry)
            else:
                found = entry[2]
                self._busy.add(found.number)
        for entry in passed:
            heapq.heappush(self._queue, entry)
        return found

    def _do(self, task: Task) -> None:
        try:
            delay = self._place(task) if task.kind == "submit" else self._ask(task)
        except Exception as error:  # a defect of ours: nobody knows what it did
            logs.error("order request failed", client_order_id=task.number, error=reason_of(error), exc_info=error)
            delay = self._later(task, Unanswered(reason_of(error)))
        with self._changed:  # at once: what is neither waiting nor under way seems to be settled
            self._busy.discard(task.number)
            if delay is not None:
                self._put(task, delay)
            self._changed.notify()

    def _call(self, request: Callable[..., T], *terms: Any) -> T:
        """Ask the broker; whatever it raises is a `VenueError`."""
        try:
            return request(*terms)
        except VenueError:
            raise
        except Exception as error:  # a defect of the plugin's: nobody knows what it did
            logs.error("broker failed", request=request.__name__, error=reason_of(error), exc_info=error)
            raise Unanswered(reason_of(error)) from error

    def _place(self, task: Task) -> float | None:
        """Send an order, or find out what became of it; the seconds until the next attempt, None when that is settled."""
        intent = task.intent
        assert intent is not None
        try:
            if task.may_be_there and self._is_found(task):
                return None
            is_late = time.monotonic() - task.began >= self._deadline
            if task.attempts >= self._attempts and task.may_be_there and not is_late:
                return self._pause(task)  # it was looked up in vain just now; sent it is no more
            if is_late or task.attempts >= self._attempts:
                self._give_up(task, "the venue does not answer")
                return None
            reason = self._permits(intent)
            if reason:
                self.counts["held_back"] += 1
                self._give_up(task, reason)
                return None
            if not task.was_told:
                task.was_told = True
                self._tell(Report(client_order_id=task.number, event=OrderEvent.SUBMIT, event_ts=time.time_ns()))
            task.attempts += 1
            self.counts["sent" if task.attempts == 1 else "retried"] += 1
            status = self._call(self._broker.submit, intent)
        except DuplicateOrder as error:
            task.may_be_there = True
            return 0.0 if task.attempts == 1 else self._later(task, error)
        except OrderRefused as error:
            self._refused(task, error)
            return None
        except VenueError as error:
            return self._later(task, error)
        if status is not None:
            self._show(status)
        return None

    def _is_found(self, task: Task) -> bool:
        """Whether the venue has the order; then it is told how it stands."""
        self.counts["looked_up"] += 1
        status = self._call(self._broker.find, task.number)
        if status is None:
            return False
        self.unresolved.pop(task.number, None)
        self._show(status)
        return True

    def _refused(self, task: Task, error: OrderRefused) -> None:
        """The venue said no: to a first attempt for good, to a later one perhaps because an earlier one took the money."""
        self.counts["refused"] += 1
        reason = f"{error.code}: {error}"
        if task.may_be_there:
            with suppress(VenueError):
                if self._is_found(task):
                    return
            self._give_up(task, reason)
            return
        self._out.pop(task.number, None)
        self._tell(
            Report(client_order_id=task.number, event=OrderEvent.REJECTED, event_ts=time.time_ns(), reason=reason)
        )

    def _later(self, task: Task, error: VenueError) -> float | None:
        """When to try again, after an error; None when it was the last time."""
        if task.kind == "submit" and not isinstance(error, NotSent | Throttled):
            task.may_be_there = True
        is_over = time.monotonic() - task.began > self._deadline or (
            task.attempts >= self._attempts and not task.may_be_there
        )
        if is_over:
            if task.kind == "submit":
                self._give_up(task, f"{error.code}: {error}")
            return None
        logs.info("order request did not succeed", client_order_id=task.number, error=str(error), attempt=task.attempts)
        asked = error.retry_after if isinstance(error, Throttled) else None
        return min(max(self._pause(task), asked or 0.0), self._deadline)

    def _pause(self, task: Task) -> float:
        return self._backoff * float(2 ** min(task.attempts, 5)) * self._random.uniform(0.75, 1.25)

    def _give_up(self, task: Task, reason: str) -> None:
        """Send no more: what never left is canceled, what may be there is for the reconciler."""
        if task.may_be_there:
            with self._changed:
                if task.number not in self._out:
                    return  # it is done: the venue said so by other ways
                self.unresolved[task.number] = time.time_ns()
            logs.error("order unresolved", client_order_id=task.number, reason=reason)
            self.on_news()
            return
        self._out.pop(task.number, None)
        self._tell(
            Report(
                client_order_id=task.number,
                event=OrderEvent.CANCELED,
                event_ts=time.time_ns(),
                reason=f"not sent: {reason}",
            )
        )

    def _ask(self, task: Task) -> float | None:
        """Ask for a cancel or replace; the seconds until the next attempt, None when that is settled."""
        is_cancel = task.kind == "cancel"
        if self._is_waiting(task.number):  # the order itself comes first
            waiting = self._withdraw(task.number) if is_cancel else None
            if waiting is None or waiting.may_be_there:
                return self._backoff
            self._give_up(waiting, "canceled before it left")
            return None
        task.attempts += 1
        self.counts[f"{task.kind}s"] += 1
        try:
            if is_cancel:
                self._call(self._broker.cancel, task.number)
            else:
                self._call(self._broker.replace, task.number, *task.terms)
        except OrderRefused as error:
            reason = f"{error.code}: {error}"
        except VenueError as error:
            reason = f"{error.code}: {error}"
            delay = self._later(task, error)
            if delay is not None:
                return delay
        else:
            return None
        event = OrderEvent.CANCEL_REJECTED if is_cancel else OrderEvent.REPLACE_REJECTED
        self._tell(Report(client_order_id=task.number, event=event, event_ts=time.time_ns(), reason=reason))
        return None

    def _is_waiting(self, number: str) -> bool:
        with self._changed:
            return any(task.kind == "submit" and task.number == number for _, _, task in self._queue)

    def _withdraw(self, number: str) -> Task | None:
        """Take an order that was certainly not sent out of the queue; give what waits, also where it stays there."""
        with self._changed:
            for entry in self._queue:
                task = entry[2]
                if task.kind == "submit" and task.number == number:
                    if not task.may_be_there:
                        self._queue.remove(entry)
                        heapq.heapify(self._queue)
                    return task
        return None

    def _show(self, status: OrderStatus) -> None:
        if is_done(status.order.state):
            self._out.pop(status.order.intent.client_order_id, None)
        self._tell(status)

    def _tell(self, news: Report | OrderStatus) -> None:
        self._news.append(news)
        self.on_news()

"""A real venue, as a run deals with it: connected, reconciled again and again, its lease watched; or a simulated one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torghut_core.audit import AuditStore
from torghut_core.boundary import new_room
from torghut_core.concurrency import wait_for
from torghut_core.environment import secret
from torghut_core.errors import InputError, SettingsError, VenueError
from torghut_core.execution.controls import Control, Controls
from torghut_core.execution.executor import Executor
from torghut_core.execution.lease import open_lease
from torghut_core.execution.permit import Permit
from torghut_core.execution.reconciler import Reconciler, Reconciliation, VenueSnapshot, take_snapshot
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import Position
from torghut_core.ports import Broker, Connection
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import DAY, MINUTE, SECOND, SYSTEM_CLOCK, Clock, format_timestamp
from torghut_core.trading.gateway import Gateway

RECENT = DAY
"""How long ago an order may have been done to be remembered at a start, ns."""

SECOND_SNAPSHOT_S = 1.0
"""Pause before a difference that was seen once is checked again, seconds."""

RECONCILE_PAUSE_S = 5.0
"""Least pause between two snapshots of a venue where orders change, seconds; a snapshot takes three requests."""

FLATTEN_WAIT = 10 * SECOND
"""How long flattening waits for a look at the venue, ns."""

LEASE_POLL_S = 0.25
"""Seconds between two checks of the lease."""


def connect(broker: Broker, *, is_live: bool, live_account: str) -> str:
    """Connect to the venue, and give the label under which its account is written down.

    Parameters
    ----------
    is_live : trade real money.
    live_account : the account that was acknowledged for that.

    Raises
    ------
    SettingsError : a key is missing, or the account is not the one that was acknowledged for real money.
    VenueError : the venue cannot be reached, or refuses the keys.
    """
    broker.connect(Connection(is_live, secret))
    number = broker.account().number
    if is_live and number != live_account:
        broker.close()
        raise SettingsError(
            f"TRADING_LIVE_ACCOUNT={live_account} is not the account of these keys, {number}"
            " (nothing was sent; set it to the account that you mean, or use the other keys)"
        )
    return f"{'live' if is_live else 'paper'}-{number}"


class Access(NamedTuple):
    """A real venue's account, connected and leased: what an engine needs to send orders there."""

    account_label: str
    permit: Permit
    executor: Executor


@contextmanager
def open_access(
    broker: Broker,
    *,
    is_live: bool,
    live_account: str,
    database: str,
    state: Path,
    controls: Controls,
    on_update: Callable[[], None],
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[Access]:
    """Connect to a real venue as the only process that trades its account, and give that back at the end.

    Parameters
    ----------
    is_live, live_account : see `connect`.
    database, state : see `open_lease`.
    controls : the operator's control.
    on_update : called, from any thread, when the executor has updates.

    Raises
    ------
    SettingsError, VenueError : see `connect`.
    StateError : another process trades the account.
    """
    label = connect(broker, is_live=is_live, live_account=live_account)
    with ExitStack() as stack:
        stack.callback(broker.close)
        permit = Permit(label, controls, open_lease(database, label, state), clock)
        executor = Executor(broker, permit.refusal, on_update, clock=clock)
        stack.callback(permit.lease.release)
        stack.callback(executor.close)
        permit.take_lease()
        yield Access(label, permit, executor)


class Venue:
    """A real venue whose account a run trades.

    Parameters
    ----------
    broker, access : connected, see `open_access`.
    gateway, reconciler : apply the updates of orders, and compare the books with the venue's.
    audit : where it is written down.
    commit : makes durable what was recorded.
    reconcile_s : seconds between two reconciliations at most.
    clock : where it asks for the time.

    Attributes
    ----------
    problem : why the venue cannot be compared with now, "" where it can.
    """

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("reconcile_updates_total", "Updates found by reconciliation that the stream had missed."),
        MetricSpec("reconcile_age_seconds", "Seconds since our books were last compared with the venue's."),
        MetricSpec("reconcile_lag_seconds", "Seconds that the venue took to answer the last comparison."),
        MetricSpec("reconcile_differences", "Symbols in which entries wait because our books and the venue's differ."),
        MetricSpec("orders_foreign", "Open orders at the venue that are not ours."),
        MetricSpec("orders_unresolved", "Orders of which it is unknown whether the venue has them."),
        MetricSpec("order_requests_total", "Requests to the venue, by outcome.", "name"),
        MetricSpec("lease_held", "1 while this process holds the lease on the account."),
    )

    is_simulated = False

    def __init__(
        self,
        broker: Broker,
        access: Access,
        gateway: Gateway,
        reconciler: Reconciler,
        audit: AuditStore,
        *,
        commit: Callable[[], None],
        reconcile_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.problem = "the books were not reconciled with the venue's yet"
        self._broker = broker
        self._label, self._permit, self._executor = access
        self._gateway = gateway
        self._reconciler = reconciler
        self._audit = audit
        self._commit = commit
        self._reconcile_s = reconcile_s
        self._clock = clock
        self._soon = asyncio.Event()
        self._at_once = asyncio.Event()
        self._seen_for: tuple[Control, int] | None = None
        """The control that asked for a look at the venue, and when, ns."""
        self._snapshots = threading.Lock()
        self._reconciled_at = 0
        self._took_s = 0.0
        self._changes = 0

    def start(self) -> None:
        """Continue where the process before stopped, and reconcile before anything is traded.

        Raises
        ------
        VenueError : the venue does not answer.
        """
        now, books = self._clock.wall(), self._gateway.books
        orders = self._audit.recent_orders(self._label, now - RECENT)
        books.restore(self._audit.positions(self._label), orders)
        self._executor.resume([order for order in orders if not is_done(order.state)])
        last = max((order.updated_at for order in orders), default=now)
        snapshot = self._take_snapshot(self._reconciler.open_ids, dict(books.moves), books.spent, last - MINUTE)
        self._apply(snapshot, is_start=True)

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run in the loop, until it is canceled."""
        return [self._keep_reconciled(), self._keep_lease()]

    def reconcile_soon(self) -> None:
        """Reconcile soon: orders have changed, and with them the account."""
        self._soon.set()

    def was_seen_for(self, control: Control) -> bool:
        """Whether the books were reconciled with the venue's since a control was first asked about; if not, that is done.

        Also True where the venue has not answered for `FLATTEN_WAIT`: then what is known has to do.
        """
        now = self._clock.wall()
        if self._seen_for is None or self._seen_for[0] != control:
            self._seen_for = control, now
        asked = self._seen_for[1]
        if self._reconciled_at > asked or now - asked > FLATTEN_WAIT:
            return True
        self._at_once.set()
        self._soon.set()
        return False

    async def reconcile(self) -> None:
        """Take a snapshot of the venue and apply it; what differs is checked twice.

        Raises
        ------
        VenueError : the venue does not answer.
        """
        for _ in range(2):
            books = self._gateway.books
            open_ids, moves, spent = self._reconciler.open_ids, dict(books.moves), books.spent
            result = self._apply(await asyncio.to_thread(self._take_snapshot, open_ids, moves, spent))
            if not result.suspects:
                return
            await asyncio.sleep(SECOND_SNAPSHOT_S)

    async def reconcile_now(self, accept: Sequence[str], reason: str, actor: str) -> dict[str, Any]:
        """Reconcile for an operator, and accept the differences in these symbols as outside trades; the `status` then.

        Raises
        ------
        InputError : there is no such difference.
        VenueError : the venue does not answer.
        """
        await self.reconcile()
        for symbol in accept:
            quantity = self._reconciler.accept(symbol, reason, actor)
            logs.warning("difference accepted", symbol=symbol, quantity=str(quantity), actor=actor, reason=reason)
        self._commit()
        return self.status()

    def cancel_all(self) -> None:
        """Request that every order that may be open be canceled; any thread."""
        self._executor.cancel_all()

    def finish(self) -> dict[str, Position]:
        """Send nothing more; what the account holds then, as the venue reported it last. Open orders stay open there."""
        self._executor.close()
        self._gateway.apply_updates()
        return self._executor.positions()

    async def _keep_reconciled(self) -> None:
        while True:
            pause = min(RECONCILE_PAUSE_S, self._reconcile_s)
            await wait_for(self._at_once, pause)
            await wait_for(self._soon, self._reconcile_s - pause)
            with suppress(VenueError):  # `problem` says so, until it answers again
                await self.reconcile()

    async def _keep_lease(self) -> None:
        """Try to get a lost lease back, and reconcile before anything is sent again."""
        while True:
            await asyncio.sleep(LEASE_POLL_S)
            if not self._permit.lease.is_held:
                await asyncio.to_thread(self._permit.regain_lease)
                if self._permit.lease.is_held:
                    with suppress(VenueError):
                        await self.reconcile()

    def _take_snapshot(
        self, open_ids: list[str], moves: dict[str, int], spent: Decimal, since: int | None = None
    ) -> VenueSnapshot:
        """See `reconciler.take_snapshot`; one at a time, from any thread.

        Raises
        ------
        VenueError : the venue does not answer; `problem` says so until it does.
        """
        with self._snapshots:
            try:
                return new_room().run(take_snapshot, self._broker, open_ids, moves, spent, since, self._clock)
            except VenueError as error:
                self.problem = f"the venue does not answer: {error}"
                raise

    def _apply(self, snapshot: VenueSnapshot, *, is_start: bool = False) -> Reconciliation:
        """Apply a snapshot, in the loop's thread, and write down what it changed."""
        result = self._reconciler.reconcile(snapshot, is_start=is_start)
        self.problem = ""
        self._reconciled_at, self._took_s = snapshot.began_at, snapshot.seconds
        self._changes += result.changes
        self._permit.confirm(snapshot.began_at)
        if result.changes or result.foreign or result.differences:
            logs.info("reconciled", changes=result.changes, foreign=len(result.foreign), differences=result.differences)
        if result.changes or result.cash_difference:
            account, positions = self._executor.account(), self._executor.positions()
            self._audit.record_account(self._label, account, positions, result.at)
        self._commit()
        return result

    # What the admin API shows; any thread.

    @property
    def problems(self) -> list[str]:
        """Why this is not ready to trade."""
        reasons = list(self._broker.health())
        lease = self._permit.lease
        if not lease.is_held:
            holder = f", {lease.holder} has it" if lease.holder else ""
            sent = "only exits are sent" if self._permit.is_cut_off else "no order is sent"
            reasons.append(f"the lease on {self._label} is lost{holder}: {sent} ({lease.problem})")
        if self.problem:
            reasons.append(self.problem)
        elif self.age_s > 3 * self._reconcile_s + 5:
            reasons.append(f"the books were last reconciled with the venue's {self.age_s:.0f} s ago")
        return reasons

    @property
    def differences(self) -> dict[str, str]:
        """See `Reconciler.differences`."""
        return self._reconciler.differences

    @property
    def age_s(self) -> float:
        """Seconds since the last snapshot."""
        return max(0.0, (self._clock.wall() - self._reconciled_at) / SECOND)

    def status(self) -> dict[str, Any]:
        """How our books and the venue's compare, as JSON values."""
        last = self._reconciler.last
        return {
            "at": format_timestamp(self._reconciled_at),
            "age_seconds": round(self.age_s, 3),
            "took_seconds": round(self._took_s, 3),
            "changes": last.changes,
            "adopted": last.adopted,
            "lost": last.lost,
            "foreign": last.foreign,
            "differences": self.differences,
            "unresolved": sorted(self._executor.unresolved),
            "cash_difference": str(last.cash_difference),
            "problem": self.problem,
        }

    def metrics(self) -> Mapping[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        return {
            "reconcile_updates_total": self._changes,
            "reconcile_age_seconds": self.age_s,
            "reconcile_lag_seconds": self._took_s,
            "reconcile_differences": len(self.differences),
            "orders_foreign": len(self._reconciler.last.foreign),
            "orders_unresolved": len(self._executor.unresolved),
            "order_requests_total": dict(self._executor.counts),
            "lease_held": float(self._permit.lease.is_held),
        }


class SimulatedVenue:
    """Stands for a venue where the broker is simulated: there is no lease, and nothing to reconcile with."""

    is_simulated = True
    metric_specs: ClassVar[tuple[MetricSpec, ...]] = ()
    problems: Sequence[str] = ()
    differences: Mapping[str, str] = {}

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def start(self) -> None:
        """Nothing to continue: each run of a simulated broker is an account of its own."""

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Nothing has to run."""
        return []

    def reconcile_soon(self) -> None:
        """Nothing to reconcile with."""

    def was_seen_for(self, control: Control) -> bool:
        """See `Venue.was_seen_for`: always, since it is seen all the time."""
        del control
        return True

    async def reconcile_now(self, accept: Sequence[str], reason: str, actor: str) -> dict[str, Any]:
        """See `Venue.reconcile_now`.

        Raises
        ------
        InputError : always.
        """
        del accept, reason, actor
        raise InputError("the broker is simulated: there is nothing to reconcile with")

    def cancel_all(self) -> None:
        """Nothing: only the loop's thread may touch a simulated broker, and the loop obeys the control itself."""

    def finish(self) -> dict[str, Position]:
        """See `Venue.finish`."""
        return self._broker.positions()

    def status(self) -> None:
        """See `Venue.status`: None."""

    def metrics(self) -> Mapping[str, Metric]:
        """See `Venue.metrics`: none."""
        return {}

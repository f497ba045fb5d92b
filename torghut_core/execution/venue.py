"""A venue, as a run deals with it: connected, its account leased, its books kept in step; a real one or a simulated one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec

from torghut_core.audit import AuditStore
from torghut_core.boundary import call_method, call_plugin, from_plugins, new_context
from torghut_core.concurrency import wait_for
from torghut_core.environment import secret
from torghut_core.errors import InputError, SettingsError, StateError, VenueError, reason_of, without_secrets
from torghut_core.execution.controls import Control, Controls
from torghut_core.execution.executor import Executor
from torghut_core.execution.lease import open_lease
from torghut_core.execution.permit import Permit
from torghut_core.execution.reconciler import Reconciler, Reconciliation, VenueSnapshot, take_snapshot
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import ZERO, Account, OrderEvent, Position, Report
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
"""How long flattening waits for a snapshot of the venue, ns."""

LEASE_POLL_S = 0.25
"""Seconds between two checks of the lease."""

SIMULATED = "simulated"
"""Number of a simulated account whose broker gives none."""

STATE = "broker"
"""Source of the cursor that keeps the state of a simulated broker."""


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
    """An account at a venue, connected: what an engine needs to send orders there. Its lease is not taken yet.

    `executor` is None where the broker is simulated: the loop itself sends.
    """

    account_label: str
    permit: Permit
    executor: Executor | None


@contextmanager
def open_access(
    broker: Broker,
    *,
    is_live: bool,
    live_account: str,
    audit: AuditStore,
    database: str,
    state: Path,
    controls: Controls,
    on_update: Callable[[], None],
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[Access]:
    """Connect to a venue's account; at the end disconnect, and give its lease back where it was taken.

    Parameters
    ----------
    broker : of a real venue, or a simulated one.
    is_live, live_account : see `connect`.
    audit : gives a label to the account of a simulated broker that saves no state: it lives as long as the process.
    database, state : see `open_lease`.
    controls : the operator's control.
    on_update : called, from any thread, when the executor has updates.

    Raises
    ------
    SettingsError, VenueError : see `connect`.
    """
    with ExitStack() as stack:
        if broker.capabilities.simulated:
            is_kept = bool(_called(broker, "save_state"))
            label = f"paper-{broker.account().number or SIMULATED}" if is_kept else audit.new_account("paper")
        else:
            label = connect(broker, is_live=is_live, live_account=live_account)
            stack.callback(broker.close)
        permit = Permit(label, controls, open_lease(database, label, state), clock)
        stack.callback(permit.lease.release)
        executor = None
        if not broker.capabilities.simulated:
            executor = Executor(broker, permit.refusal, on_update, clock=clock)
            stack.callback(executor.close)
        yield Access(label, permit, executor)


async def keep_lease(permit: Permit) -> AsyncGenerator[None, None]:
    """Watch a lease that was taken, try to get it back where it was lost, and yield when it is held again.

    Raises
    ------
    Superseded : another process has it, or has had it.
    """
    while True:
        await asyncio.sleep(LEASE_POLL_S)
        if not permit.lease.is_held:
            await asyncio.to_thread(permit.regain_lease)
            if permit.lease.is_held:
                yield


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
        if access.executor is None:
            raise ValueError("a real venue needs an executor")
        self._broker = broker
        self._label, self._permit, self._executor = access.account_label, access.permit, access.executor
        self._gateway = gateway
        self._reconciler = reconciler
        self._audit = audit
        self._commit = commit
        self._reconcile_s = reconcile_s
        self._clock = clock
        self._soon = asyncio.Event()
        self._at_once = asyncio.Event()
        gateway.request_snapshot = self._snapshot_at_once
        self._reconciling_for: tuple[Control, int] | None = None
        """The control that asked for a snapshot of the venue, and when, ns."""
        self._snapshots = threading.Lock()
        self._reconciled_at = 0
        self._took_s = 0.0
        self._changes = 0

    def start(self) -> None:
        """Continue where the process before stopped, and reconcile before anything is traded; the caller commits.

        Raises
        ------
        VenueError : the venue does not answer; nothing has changed.
        """
        now, books = self._clock.wall(), self._gateway.books
        orders = self._audit.recent_orders(self._label, now - RECENT)
        working = [order for order in orders if not is_done(order.state)]
        last = max((order.updated_at for order in orders), default=now)
        open_ids = [order.intent.client_order_id for order in working]
        snapshot = self._take_snapshot(open_ids, {}, books.spent, last - MINUTE)
        books.foreign.clear()  # what the process before did while this one stood by
        books.restore(self._audit.positions(self._label), orders)
        self._executor.resume(working)
        self._gateway.resume(working)
        self._apply(msgspec.structs.replace(snapshot, moves=dict(books.moves)), is_start=True)
        self._gateway.begin_day()

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run in the loop, until it is canceled."""
        return [self._keep_reconciled(), self._keep_lease()]

    def reconcile_soon(self) -> None:
        """Reconcile soon: orders have changed, and with them the account."""
        self._soon.set()

    def is_reconciled_for(self, control: Control) -> bool:
        """Whether the books were reconciled with the venue's since a control was first asked about; if not, that is done.

        Also True where the venue has not answered for `FLATTEN_WAIT`: then what is known has to do.
        """
        now = self._clock.wall()
        if self._reconciling_for is None or self._reconciling_for[0] != control:
            self._reconciling_for = control, now
        asked = self._reconciling_for[1]
        if self._reconciled_at > asked or now - asked > FLATTEN_WAIT:
            return True
        self._snapshot_at_once()
        return False

    def _snapshot_at_once(self) -> None:
        self._at_once.set()
        self._soon.set()

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
            self._commit()
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

    def snapshot(self) -> tuple[Account, Mapping[str, Position]] | None:
        """Account and positions as the venue reported them last; None while it does not answer."""
        return None if self.problem else (self._executor.account(), self._executor.positions())

    async def _keep_reconciled(self) -> None:
        while True:
            pause = min(RECONCILE_PAUSE_S, self._reconcile_s)
            await wait_for(self._at_once, pause)
            await wait_for(self._soon, self._reconcile_s - pause)
            with suppress(VenueError):  # `problem` says so, until it answers again
                await self.reconcile()

    async def _keep_lease(self) -> None:
        """Try to get a lost lease back, and reconcile before anything is sent again."""
        async with aclosing(keep_lease(self._permit)) as regained:
            async for _ in regained:
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
                return new_context().run(take_snapshot, self._broker, open_ids, moves, spent, since, self._clock)
            except VenueError as error:
                self.problem = f"the venue does not answer: {error}"
                raise

    def _apply(self, snapshot: VenueSnapshot, *, is_start: bool = False) -> Reconciliation:
        """Apply a snapshot, in the loop's thread, and record what it changed."""
        before = self._reconciler.last
        result = self._reconciler.reconcile(snapshot, is_start=is_start)
        self.problem = ""
        self._reconciled_at, self._took_s = snapshot.began_at, snapshot.seconds
        self._changes += result.changes
        self._permit.confirm(snapshot.began_at)
        if result.changes or (result.foreign, result.differences) != (before.foreign, before.differences):
            logs.info("reconciled", changes=result.changes, foreign=len(result.foreign), differences=result.differences)
        if result.changes or result.cash_difference:
            account, positions = self._executor.account(), self._executor.positions()
            self._audit.record_account(self._label, account, positions, result.at)
        return result

    # What the admin API shows; any thread.

    @property
    def problems(self) -> list[str]:
        """Why this is not ready to trade."""
        reasons = [without_secrets(each) for each in self._broker.health()]
        lease = self._permit.lease
        reasons += self._gateway.books.brackets.unprotected
        if not lease.is_held:
            holder = f", {lease.holder} has it" if lease.holder else ""
            sent = "only exits are sent" if self._permit.is_cut_off else "no order is sent"
            reasons.append(f"the lease on {self._label} is lost{holder}: {sent} ({lease.problem})")
        if self.problem:
            reasons.append(self.problem)
        elif lease.is_held and not self._permit.is_reconciled:
            reasons.append("the books were not reconciled with the venue's since the lease was taken: no order is sent")
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


def _called(broker: Broker, method: str) -> Any:
    return call_plugin(type(broker).__name__, call_method, broker, method)


class SimulatedVenue:
    """A simulated broker's account: kept over restarts as a venue's is, in the same commits as what is written down of it.

    Parameters
    ----------
    broker, access : see `open_access`.
    gateway : the way to the broker, with our books.
    audit : where it is kept.

    Attributes
    ----------
    differences : by symbol, how the books and the broker's positions differed at the start: entries in it wait.
    """

    is_simulated = True
    metric_specs: ClassVar[tuple[MetricSpec, ...]] = ()
    problems: Sequence[str] = ()

    def __init__(self, broker: Broker, access: Access, gateway: Gateway, audit: AuditStore) -> None:
        self.differences: Mapping[str, str] = {}
        self._broker = broker
        self._label, self._permit = access.account_label, access.permit
        self._gateway = gateway
        self._audit = audit
        self._saved_reports = 0

    def start(self) -> None:
        """Continue with the account as it was written down last; a new one begins with the broker's cash.

        Raises
        ------
        StateError : the broker cannot read it.
        """
        kept = self._audit.cursor(self._label, STATE)
        if kept is None:
            return
        broker, books = self._broker, self._gateway.books
        try:
            call_method(broker, "load_state", kept["state"], kept["version"])
        except from_plugins() as error:  # a plugin may raise anything
            raise StateError(
                f"account {self._label} cannot be continued: {reason_of(error)} (install the broker that wrote it,"
                " or start a new account: give `account` of the broker another name)"
            ) from error
        now = kept["now"]
        books.restore(self._audit.positions(self._label), self._audit.recent_orders(self._label, now - RECENT))
        theirs = {order.intent.client_order_id for order in broker.orders()}
        for client_order_id in theirs - books.working.keys():
            broker.cancel(client_order_id)
        for client_order_id in books.working.keys() - theirs:
            lost = "not sent: it never reached the broker"
            books.apply_report(
                Report(client_order_id=client_order_id, event=OrderEvent.CANCELED, event_ts=now, reason=lost)
            )
        held = {symbol: position.quantity for symbol, position in broker.positions().items() if position.quantity}
        self.differences = {
            symbol: f"{books.net(symbol)} here, {held.get(symbol, ZERO)} at the broker"
            for symbol in sorted(held.keys() | books.nets.keys())
            if held.get(symbol, ZERO) != books.net(symbol)
        }
        self._saved_reports = books.reports
        self._gateway.begin_day()

    def save(self) -> None:
        """Record the broker's state where an order has changed since it was recorded last.

        Raises
        ------
        PluginError : the broker raised; the account cannot be kept.
        """
        broker, books = self._broker, self._gateway.books
        if books.reports != self._saved_reports:
            self._saved_reports = books.reports
            kept = {"now": books.now, "version": broker.state_version, "state": _called(broker, "save_state")}
            self._audit.record_cursor(self._label, STATE, kept)

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run in the loop, until it is canceled."""
        return [self._keep_lease()]

    async def _keep_lease(self) -> None:
        async with aclosing(keep_lease(self._permit)) as regained:
            async for _ in regained:
                pass

    def reconcile_soon(self) -> None:
        """Nothing to reconcile with."""

    def is_reconciled_for(self, control: Control) -> bool:
        """See `Venue.is_reconciled_for`: always."""
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
        return _called(self._broker, "positions")  # type: ignore[no-any-return]

    def snapshot(self) -> tuple[Account, Mapping[str, Position]]:
        """See `Venue.snapshot`: as they are after the last event."""
        self._gateway.refresh()
        return self._gateway.last_account, self.finish()

    def status(self) -> None:
        """See `Venue.status`: None."""

    def metrics(self) -> Mapping[str, Metric]:
        """See `Venue.metrics`: none."""
        return {}

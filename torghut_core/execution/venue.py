"""A real venue, as a run deals with it: connection, lease, executor, reconciler.

What has to hold before an order leaves is asked in one place, `Venue.permits`, right before the call: the operator's
control, the lease, and that the books were held against the venue's since the lease was taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

from torghut_core.audit import Records
from torghut_core.environment import secret
from torghut_core.errors import SettingsError, StateError, Superseded, VenueError
from torghut_core.execution.controls import Controls
from torghut_core.execution.executor import Executor
from torghut_core.execution.lease import Lease
from torghut_core.execution.reconciler import Reconciler, Reconciliation, Snapshot, take_snapshot
from torghut_core.installation.settings import Settings
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import Intent, Purpose
from torghut_core.ports import Broker, Connection
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import DAY, MINUTE, SECOND, format_timestamp
from torghut_core.trading.engine import Engine

STAND_BY = 30.0
"""How long a start waits for another trader of the account to end, seconds."""

RECENT = DAY
"""Orders that were done so lately are remembered at a start, ns."""

CLOSE_LOOK = 1.0
"""Pause before a difference that was seen once is looked at again, seconds."""


def connect(broker: Broker, settings: Settings) -> str:
    """Reach the venue, and give the label under which its account is written down.

    Raises
    ------
    SettingsError : a key is missing, or the account is not the one that was acknowledged for real money.
    VenueError : the venue cannot be reached, or refuses the keys.
    """
    broker.connect(Connection(settings.is_live, secret))
    number = broker.account().number
    if settings.is_live and number != settings.trading_live_account:
        broker.close()
        raise SettingsError(
            f"TRADING_LIVE_ACCOUNT={settings.trading_live_account} is not the account of these keys, {number}"
            " (nothing was sent; set it to the account that you mean, or use the other keys)"
        )
    return f"{'live' if settings.is_live else 'paper'}-{number}"


class Venue:
    """What stands between a run and its venue.

    Parameters
    ----------
    broker : connected.
    account : its label.
    controls : the operator's control.
    lease : taken before `open` returns.
    on_news : called, from any thread, when there is something to hear.
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

    def __init__(
        self, broker: Broker, account: str, controls: Controls, lease: Lease, on_news: Callable[[], None]
    ) -> None:
        self.account = account
        self.lease = lease
        self.problem = "the books were not held against the venue's yet"
        self._broker = broker
        self._controls = controls
        self._is_checked = False
        self._is_cut_off = False
        self._held_since = 0
        self._looked_at = 0
        self._took = 0.0
        self._news = 0
        self._looking = threading.Lock()
        self.executor = Executor(broker, self.permits, on_news)
        self.reconciler: Reconciler

    def begin(self, engine: Engine, audit: Records) -> Reconciliation:
        """Go on where the process before was, and hold the books against the venue's before anything is traded.

        Raises
        ------
        VenueError : the venue does not answer.
        """
        now = time.time_ns()
        orders = audit.recent_orders(self.account, now - RECENT)
        engine.books.restore(audit.positions(self.account), orders)
        self.executor.resume([order for order in orders if not is_done(order.state)])
        self.reconciler = Reconciler(engine.gateway, self.executor, audit, self.account)
        last = max((order.updated_at for order in orders), default=now)
        return self.settle(
            self.ask(self.reconciler.open_ids, dict(engine.books.moves), engine.books.spent, last - MINUTE),
            is_start=True,
        )

    def take_lease(self, wait: float = STAND_BY) -> None:
        """Become the one who trades this account; wait for another one to end.

        Raises
        ------
        StateError : another one goes on trading it.
        """
        until = time.monotonic() + wait
        while True:
            problem = StateError(
                f"account {self.account} is traded by {self.lease.holder}"
                " (only one may; stop that one, and start this one again)"
            )
            try:
                if self.lease.acquire():
                    return
            except StateError as error:
                problem = error
            if time.monotonic() > until:
                raise problem
            time.sleep(0.25)

    def permits(self, intent: Intent) -> str:
        """The last look: why an order may not leave now, "" when it may.

        Where the lease is lost because its database cannot be reached, exits leave all the same: to be locked into a
        position is worse than what two traders can do who both only close. Where another one has it, nothing leaves.
        """
        is_exit = intent.purpose is not Purpose.ENTRY
        if not (self._is_cut_off and is_exit):
            if not self.lease.is_held:
                return "the lease on the account is lost"
            if not self._is_checked:
                return "the books were not held against the venue's yet"
        return self._controls.refusal(is_exit, intent.purpose is Purpose.FLATTEN)

    def ask(self, ours: list[str], moves: dict[str, int], spent: Decimal, since: int | None = None) -> Snapshot:
        """See how the venue stands, see `reconciler.look`; one at a time, from any thread.

        Raises
        ------
        VenueError : it does not answer; `problem` says so until it does.
        """
        with self._looking:
            try:
                return take_snapshot(self._broker, ours, moves, spent, since)
            except VenueError as error:
                self.problem = f"the venue does not answer: {error}"
                raise

    def settle(self, seen: Snapshot, *, is_start: bool = False) -> Reconciliation:
        """Take in what a look showed, in the loop's thread."""
        done = self.reconciler.reconcile(seen, is_start=is_start)
        self.problem = ""
        self._looked_at, self._took = seen.began_at, seen.seconds
        self._news += done.changes
        self._is_checked = self.lease.is_held and seen.began_at >= self._held_since
        if done.changes or done.foreign or done.differences:
            logs.info("reconciled", changes=done.changes, foreign=len(done.foreign), differences=done.differences)
        return done

    def regain_lease(self) -> None:
        """Try to get a lost lease back; nothing leaves until the next look is settled.

        Raises
        ------
        Superseded : another one has it, or has had it: what is known here is old.
        """
        self._is_checked = False
        try:
            is_held = self.lease.acquire()
        except Superseded:
            raise
        except StateError:  # the lease says why
            self._is_cut_off = True
            return
        self._is_cut_off = False
        self._held_since = time.time_ns()
        if not is_held:
            raise Superseded(f"account {self.account} is traded by {self.lease.holder} now (this one ends)")

    def problems(self, stale_seconds: float) -> list[str]:
        """Why this is not ready to trade."""
        reasons = list(self._broker.health())
        if not self.lease.is_held:
            holder = f", {self.lease.holder} has it" if self.lease.holder else ""
            leaves = "only exits leave" if self._is_cut_off else "no order leaves"
            reasons.append(f"the lease on {self.account} is lost{holder}: {leaves} ({self.lease.problem})")
        if self.problem:
            reasons.append(self.problem)
        elif self.age > stale_seconds:
            reasons.append(f"the books were held against the venue's {self.age:.0f} s ago")
        return reasons

    @property
    def differences(self) -> dict[str, str]:
        """Symbols in which entries wait, with the reason: books that differ, and orders that nobody knows of."""
        return self.reconciler.differences

    @property
    def age(self) -> float:
        """Seconds since the venue was looked at last."""
        return max(0.0, (time.time_ns() - self._looked_at) / SECOND)

    def status(self) -> dict[str, Any]:
        """How our books and the venue's stand to each other, as JSON values."""
        last = self.reconciler.last
        return {
            "at": format_timestamp(self._looked_at),
            "age_seconds": round(self.age, 3),
            "took_seconds": round(self._took, 3),
            "changes": last.changes,
            "adopted": last.adopted,
            "lost": last.lost,
            "foreign": last.foreign,
            "differences": self.differences,
            "unresolved": sorted(self.executor.unresolved),
            "cash_difference": str(last.cash_difference),
            "problem": self.problem,
        }

    def metrics(self) -> Mapping[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        return {
            "reconcile_updates_total": self._news,
            "reconcile_age_seconds": self.age,
            "reconcile_lag_seconds": self._took,
            "reconcile_differences": len(self.differences),
            "orders_foreign": len(self.reconciler.last.foreign),
            "orders_unresolved": len(self.executor.unresolved),
            "order_requests_total": dict(self.executor.counts),
            "lease_held": float(self.lease.is_held),
        }

    def close(self) -> None:
        """Let the requests that are out end, give the lease back, and leave the venue. Orders go on working there."""
        self.executor.close()
        self.lease.release()
        self._broker.close()

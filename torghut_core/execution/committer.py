"""Writes before it acts: makes durable what was recorded, and only then sends the orders that wait for it.

While the audit database cannot be written, entries wait and exits are sent; a commit is tried again once a probe says
that it can. Where another process has traded the account meanwhile, nothing is written any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from torghut_core.audit import AuditStore
from torghut_core.errors import StateError, Superseded
from torghut_core.execution.standby import Standby
from torghut_core.execution.trading_log import TradingLog
from torghut_core.model.trading import Account, Intent, Position
from torghut_core.ports import Source
from torghut_core.telemetry import logs
from torghut_core.timestamps import SECOND, SYSTEM_CLOCK, Clock
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

CURSOR = "trading"
"""Source of the cursor that says how far an account was traded."""

CURSOR_S = 1.0
"""Seconds between two cursors at most while nothing is decided."""


class Committer:
    """Commits what a run recorded, and sends its orders after that.

    Parameters
    ----------
    engine, audit, gates : of the run.
    account_label : under which it is written down.
    standby : says whether this process trades; while it does not, nothing is written down.
    unreconciled : gives the symbols in which entries wait, with the reason.
    before_commit : records what else has to be in the same commit.
    log : is shown what was committed.
    source : whose cursor is kept, so that the next process resumes there.
    snapshot : gives account and positions, None while they are not known.
    snapshot_s : loop time between two records of them, seconds; 0: none is made but at the end.
    clock : where it asks for the time.
    """

    def __init__(
        self,
        engine: Engine,
        audit: AuditStore,
        gates: Gates,
        account_label: str,
        *,
        standby: Standby,
        unreconciled: Callable[[], Mapping[str, str]],
        log: TradingLog,
        source: Source,
        snapshot: Callable[[], tuple[Account, Mapping[str, Position]] | None] = lambda: None,
        snapshot_s: int = 0,
        before_commit: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._engine = engine
        self._audit = audit
        self._gates = gates
        self._label = account_label
        self._standby = standby
        self._unreconciled = unreconciled
        self._log = log
        self._source = source
        self._snapshot = snapshot
        self._snapshot_ns = snapshot_s * SECOND
        self._snapshot_due = 0
        """Loop time from which the next snapshot is recorded, ns."""
        self._before_commit = before_commit
        self._clock = clock
        self._recorded_to = 0
        self._decisions = 0
        self._cursor_at = 0.0
        self._probed = ""
        """Why the last probe could not write, "" where it could."""

    def commit(self) -> None:
        """Make durable what was recorded, then send orders; without the database only exits. In the loop's thread.

        Raises
        ------
        Superseded : another process has traded the account meanwhile.
        """
        if not self._standby.is_trading:
            self._audit.drop()
            return
        gates = self._gates
        if gates.unrecorded and self._probed:
            gates.unrecorded = self._probed
        else:
            try:
                self._record_cursor()
                self._record_snapshot()
                self._before_commit()
                recorded = self._audit.recorded
                self._audit.commit()
                self._log.add(recorded)
                if gates.unrecorded:
                    logs.warning("the audit database can be written again")
                gates.unrecorded = ""
            except Superseded:
                self._audit.drop()
                raise
            except StateError as error:
                if not gates.unrecorded:
                    logs.error("the audit database cannot be written: entries wait", error=str(error))
                gates.unrecorded = self._probed = str(error)
        gates.unreconciled = self._unreconciled()
        self._engine.gateway.dispatch(self._refusal)

    def _refusal(self, intent: Intent) -> str:
        """Why an order that was recorded may not be sent now; "" where it may, as exits always may."""
        closed = [] if intent.is_exit else self._gates.exits_only(intent.symbol)
        return "; ".join(f"{code}: {reason}" for code, reason in closed)

    def poll_database(self) -> None:
        """Tidy the database, and probe whether it can be written again; from a thread that may wait."""
        with suppress(StateError):  # the next commit reports it
            self._audit.tidy()
        if self._gates.unrecorded:
            self._probed = self._audit.probe()

    def close(self, positions: Mapping[str, Position]) -> None:
        """Write down the account and what it holds at the end, where this process has traded it.

        Raises
        ------
        StateError : the database cannot be written.
        """
        if not self._standby.is_trading:
            self._audit.drop()
            return
        self._record_account(self._engine.account(), positions)
        self._record_cursor()
        self._before_commit()
        recorded = self._audit.recorded
        self._audit.commit()
        self._log.add(recorded)

    def _record_snapshot(self) -> None:
        """Record account and positions where a new interval of the loop's time has begun."""
        now = self._engine.market_time
        if not self._snapshot_ns or now < self._snapshot_due or now <= self._engine.traded_to:
            return
        if (known := self._snapshot()) is not None:
            self._record_account(*known)
            self._snapshot_due = (now // self._snapshot_ns + 1) * self._snapshot_ns

    def _record_account(self, account: Account, positions: Mapping[str, Position]) -> None:
        held = {symbol: position for symbol, position in positions.items() if position.quantity}
        self._audit.record_account(self._label, account, held, self._engine.books.now)

    def _record_cursor(self) -> None:
        """Record how far the account was traded: with every decision, and now and then."""
        engine = self._engine
        now, decisions = engine.market_time, engine.totals.decisions
        if now <= max(self._recorded_to, engine.traded_to):
            return
        if decisions == self._decisions and self._clock.monotonic() - self._cursor_at < CURSOR_S:
            return
        self._recorded_to, self._decisions, self._cursor_at = now, decisions, self._clock.monotonic()
        cursor = {"now": now} | ({"source": self._source.cursor()} if self._source.gates() else {})
        self._audit.record_cursor(self._label, CURSOR, cursor)

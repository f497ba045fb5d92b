"""What both audit stores share: how everything is recorded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from torghut_core.audit.records import Records
from torghut_core.audit.rows import Record
from torghut_core.audit.values import plain
from torghut_core.errors import InputError, StateError
from torghut_core.model.trading import (
    Account,
    Charge,
    Decision,
    Intent,
    Order,
    Position,
    Report,
    Verdict,
    client_order_id,
)
from torghut_core.ports import Journal
from torghut_core.timestamps import SECOND, SYSTEM_CLOCK, Clock

_SCALARS: frozenset[type] = frozenset({float, int, str, bool, type(None)})
_MONEY: frozenset[type] = frozenset({Decimal, type(None)})


class AuditStore(Journal, Records):
    """A journal that can be read, and that keeps what a process needs to resume: cursors, controls, leases.

    To record is to append to a list: what is recorded becomes rows (see `rows`) at `commit`, or when a memory store is
    read. The objects that are handed over are kept, so they must not be changed afterwards; an order may be, its state
    is copied. A value that JSON cannot hold is refused when it is recorded, with `InputError`.

    Recording and `commit` belong to one thread; what is in `Records` may be asked from any, at any time, and so may
    `probe` and `tidy`.

    Parameters
    ----------
    clock : for the columns that say when a row was written.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._now = clock.wall
        self._pending: list[Record] = []
        self._known: dict[str, set[str]] = {}
        self._adopted: dict[str, set[str]] = {}
        self._labels: set[str] = set()
        self._generations: int | None = None
        self.guard: Callable[[Any], None] | None = None
        """Called in the transaction of each commit, with its connection, while no other process can write; where it raises,
        nothing is written. A store that only one process can reach has no use for it."""

    def new_account(self, prefix: str) -> str:
        """A label ``prefix-N`` that no row uses yet: each replay is an account of its own."""
        used, free = 0, 1
        while self._is_used(f"{prefix}-{free}"):
            used, free = free, free * 2
        while free - used > 1:
            middle = (used + free) // 2
            if self._is_used(f"{prefix}-{middle}"):
                used = middle
            else:
                free = middle
        label = f"{prefix}-{free}"
        self._labels.add(label)
        return label

    def is_known(self, account_label: str, decision_hash: str) -> bool:
        """See `Journal.is_known`; also true where only its order was recorded, which the reconciler adopted."""
        if decision_hash in self._hashes(account_label):
            return True
        adopted = self._adopted[account_label]
        return bool(adopted) and client_order_id(decision_hash) in adopted

    def _hashes(self, account_label: str) -> set[str]:
        known = self._known.get(account_label)
        if known is None:
            known = self._known[account_label] = self._stored_hashes(account_label)
            self._adopted.setdefault(account_label, set()).update(self._stored_orphans(account_label))
        return known

    def record_strategies(self, entries: Sequence[dict[str, Any]], mode: str) -> None:
        """See `Journal.record_strategies`; keys of an entry that have no column of their own are kept in `limits`."""
        self._pending.append(("strategies", self._now(), plain(entries, "strategies"), mode))

    def record_generation(self, generation: dict[str, Any], actor: str, outcome: str) -> int:
        """See `Journal.record_generation`: `digest` and `diff` in columns, everything else in `content`.

        `explain.find_decision` shows ``content["plugins"]`` (`kind`, `name`, `distribution`, `version`, `code_digest`),
        and of ``content["strategies"]`` the one whose `name` is the decision's `strategy_id`.
        """
        content = plain(generation, "generation")
        if self._generations is None:
            self._generations = self._last_generation()
        self._generations += 1
        self._pending.append(("generation", self._now(), self._generations, content, actor, outcome))
        return self._generations

    def record_decision(
        self,
        decision: Decision,
        signal: dict[str, Any],
        verdicts: Sequence[Verdict],
        intent: Intent | None,
        inputs: msgspec.Struct | None = None,
    ) -> None:
        """See `Journal.record_decision`.

        `explain.find_decision` gives `inputs` as JSON values, money and enums as text, from which `msgspec.convert`
        makes them again.
        """
        account = decision.account
        known = self._hashes(account)
        if decision.decision_hash in known:
            raise StateError(
                f"decision {decision.decision_hash} of account {account} was recorded before"
                " (ask `is_known` first, and send nothing for it)"
            )
        _check_money("decision of ", decision.strategy_id, decision.price)
        if intent is not None:
            _check_order(intent)
        if not _SCALARS.issuperset(map(type, signal.values())):
            signal = plain(signal, "signal")
        self._labels.add(account)
        known.add(decision.decision_hash)
        self._pending.append(("decision", self._now(), decision, signal, verdicts, intent, inputs))

    def record_leg(self, intent: Intent) -> None:
        """See `Journal.record_leg`."""
        _check_order(intent)
        self._labels.add(intent.account)
        self._pending.append(("leg", intent))

    def record_owner(self, account_label: str, client_order_id: str, strategy_id: str) -> None:
        """See `Journal.record_owner`."""
        self._labels.add(account_label)
        self._pending.append(("owner", account_label, client_order_id, strategy_id))

    def record_report(
        self, account_label: str, order: Order, report: Report, position: Position, strategy_id: str | None = None
    ) -> None:
        """See `Journal.record_report`."""
        fill = report.fill
        if fill is not None:  # an order's amounts are made of its fills, and change with them alone
            amounts = fill.quantity, fill.price, fill.fee, fill.slippage
            _check_money("report of ", report.client_order_id, *amounts, order.average_price, order.fees)
        known = self._known.get(account_label)  # not loaded: a report is recorded even while the database is away
        if known is None or order.intent.decision_hash not in known:
            self._adopted.setdefault(account_label, set()).add(report.client_order_id)
        self._labels.add(account_label)
        self._pending.append(("report", account_label, msgspec.structs.replace(order), report, position, strategy_id))

    def record_position(
        self, account_label: str, strategy_id: str, symbol: str, position: Position, at: int, reason: str
    ) -> None:
        """See `Journal.record_position`."""
        _check_position(symbol, position)
        self._labels.add(account_label)
        self._pending.append(("position", account_label, strategy_id, symbol, position, at, reason))

    def record_charge(self, account_label: str, charge: Charge) -> None:
        """See `Journal.record_charge`."""
        _check_money("interest of ", account_label, charge.amount)
        self._labels.add(account_label)
        self._pending.append(("charge", account_label, charge))

    def record_review(
        self, account_label: str, decision_hash: str, advisor: str, verdict: Verdict, details: dict[str, Any]
    ) -> None:
        """Record what an advisor said to a decision; `details` has JSON values (model, prompt version, reply)."""
        _check_money("review by ", advisor, verdict.quantity)
        row = plain(details, "details")
        self._labels.add(account_label)
        self._pending.append(("review", self._now(), account_label, decision_hash, advisor, verdict, row))

    def record_account(self, account_label: str, account: Account, positions: dict[str, Position], at: int) -> None:
        """See `Journal.record_account`."""
        _check_money("account ", account_label, account.cash, account.equity, account.buying_power)
        for symbol, held in positions.items():
            _check_position(symbol, held)
        self._labels.add(account_label)
        self._pending.append(("account", account_label, account, dict(positions), at))

    def record_cursor(self, account_label: str, source: str, cursor: dict[str, Any]) -> None:
        """Record from where a source resumes, in the same commit as what its events so far led to."""
        row = plain(cursor, "cursor")
        self._labels.add(account_label)
        self._pending.append(("cursor", self._now(), account_label, source, row))

    def record_control(self, name: str, value: Any, actor: str) -> None:
        """Record the value of a control, such as the kill switch, and who set it.

        Raises
        ------
        InputError : a name that begins with ``audit.``, which is the audit's own.
        """
        if name.startswith("audit."):
            raise InputError(f"{name!r} is reserved for the audit itself (give the control another name)")
        self._pending.append(("control", self._now(), name, plain(value, name), actor))

    def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a lease for some seconds from now, and commit; 0 releases it.

        Returns
        -------
        Whether `holder` has it now: False while another one holds it.
        """
        now = self._now()
        self._pending.append(("lease", now, name, holder, now + round(seconds * SECOND)))
        self.commit()
        (lease,) = self.rows("leases", name=name)
        return bool(lease["holder"] == holder and lease["expires_at"] > now)

    @abstractmethod
    def _is_used(self, account_label: str) -> bool:
        """Whether a row, recorded or committed, has this account label."""

    @abstractmethod
    def _stored_hashes(self, account_label: str) -> set[str]:
        """The decision hashes of an account that were committed."""

    @abstractmethod
    def _stored_orphans(self, account_label: str) -> set[str]:
        """Client order ids of an account's orders that were committed and have no decision."""

    @abstractmethod
    def _last_generation(self) -> int:
        """The greatest generation number that was committed; 0 where there is none."""

    @property
    def recorded(self) -> Sequence[Record]:
        """What was recorded since the last commit."""
        return tuple(self._pending)

    def drop(self) -> None:
        """Forget what was recorded since the last commit."""
        self._pending = []
        self._generations = None

    def tidy(self) -> None:
        """Do now, from any thread, what would make a later commit slow; does nothing where there is no such thing."""

    def probe(self) -> str:
        """Why nothing could be written now; "" when it could. Answers within 3 s, and leaves what is recorded alone."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Commit and let go; closing twice is harmless."""


def _check_money(what: str, name: str, *values: Decimal | None) -> None:
    if not _MONEY.issuperset(map(type, values)):
        (first, *_) = (value for value in values if type(value) not in _MONEY)
        raise InputError(f"{what}{name}: {first!r} is a {type(first).__name__}, and money is written down as Decimal")


def _check_order(intent: Intent) -> None:
    amounts: tuple[Decimal | None, ...]
    amounts = intent.quantity, intent.limit_price, intent.stop_price, intent.trail_price, intent.trail_pct
    if intent.bracket is not None:
        amounts += intent.bracket.stop_loss, intent.bracket.take_profit, intent.bracket.trail
    _check_money("order of ", intent.strategy_id, *amounts)


def _check_position(symbol: str, held: Position) -> None:
    _check_money("position in ", symbol, held.quantity, held.average_price, held.realized_pnl, held.fees)

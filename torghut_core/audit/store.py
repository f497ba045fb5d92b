"""What both audit stores share: recording, and the questions that are asked of what was recorded."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from torghut_core.audit.rows import NUMBERED, Record, Row
from torghut_core.audit.values import plain
from torghut_core.errors import InputError, StateError
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import (
    Account,
    Decision,
    Intent,
    Order,
    OrderState,
    OrderType,
    Outcome,
    Position,
    Purpose,
    Report,
    Side,
    TimeInForce,
    Verdict,
    client_order_id,
)
from torghut_core.ports import AuditStore
from torghut_core.timestamps import SECOND

_SCALARS: frozenset[type] = frozenset({float, int, str, bool, type(None)})
DONE = tuple(str(state) for state in OrderState if is_done(state))
"""States from which an order does not come back."""

_MONEY: frozenset[type] = frozenset({Decimal, type(None)})


class AuditRecords(AuditStore):
    """An audit store that can be read.

    To record is to append to a list: what is recorded becomes rows (see `rows`) at `commit`, or when a memory store is
    read. The objects that are handed over are kept, so they must not be changed afterwards; an order may be, its state
    is copied. A value that JSON cannot hold is refused when it is recorded, with `InputError`.

    Reading sees what was committed, and nothing else. Rows come as dicts by column, times in nanoseconds, money as
    `Decimal`; `rows.as_json` makes text of both.

    Recording and `commit` belong to one thread; what is under "Reading" may be asked from any, at any time, and so may
    `probe`.

    Parameters
    ----------
    clock : wall time, ns: for the columns that say when a row was written.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._pending: list[Record] = []
        self._known: dict[str, set[str]] = {}
        self._adopted: dict[str, set[str]] = {}
        self._labels: set[str] = set()
        self._generations: int | None = None

    # Recording

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

    def is_known(self, account: str, decision_hash: str) -> bool:
        """Whether the decision was recorded before (committed or not): then nothing may be sent for it again.

        So it is when only its order was, which the venue had and the reconciler wrote down.
        """
        if decision_hash in self._hashes(account):
            return True
        adopted = self._adopted[account]
        return bool(adopted) and client_order_id(decision_hash) in adopted

    def _hashes(self, account: str) -> set[str]:
        known = self._known.get(account)
        if known is None:
            known = self._known[account] = self._stored_hashes(account)
            self._adopted.setdefault(account, set()).update(self._stored_orphans(account))
        return known

    def record_strategies(self, entries: Sequence[dict[str, Any]], mode: str) -> None:
        """Upsert the catalog's strategies (JSON values); mode ``sync`` disables those that are not listed.

        An entry has the keys of a catalog entry; those that have no column of their own are kept in `limits`.
        """
        self._pending.append(("strategies", self._clock(), plain(entries, "strategies"), mode))

    def record_generation(self, generation: dict[str, Any], actor: str, outcome: str) -> int:
        """Write down a generation: `digest` and `diff` in columns, everything else in `content`.

        `explain.find_decision` shows ``content["plugins"]`` (`kind`, `name`, `distribution`, `version`, `code_digest`), and of
        ``content["strategies"]`` the one whose `name` is the decision's `strategy_id`.

        Returns
        -------
        Its number: 1 for the first that this database has seen, then counting up.
        """
        content = plain(generation, "generation")
        if self._generations is None:
            self._generations = self._last_generation()
        self._generations += 1
        self._pending.append(("generation", self._clock(), self._generations, content, actor, outcome))
        return self._generations

    def record_decision(
        self,
        decision: Decision,
        signal: dict[str, Any],
        verdicts: Sequence[Verdict],
        intent: Intent | None,
        inputs: msgspec.Struct | None = None,
    ) -> None:
        """Write down a decision with the signal row and all verdicts; with an intent when it was allowed.

        `inputs` is what risk judged it by: `explain.find_decision` gives it as JSON values, money and enums as text, from which
        `msgspec.convert` makes it again.

        Raises
        ------
        StateError : the decision is known already (see `is_known`).
        InputError : a price or quantity that is no `Decimal`, a value that JSON cannot hold.
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
            _check_money(
                "order of ",
                decision.strategy_id,
                intent.quantity,
                intent.limit_price,
                intent.stop_price,
                intent.trail_price,
                intent.trail_pct,
            )
        if not _SCALARS.issuperset(map(type, signal.values())):
            signal = plain(signal, "signal")
        self._labels.add(account)
        known.add(decision.decision_hash)
        self._pending.append(("decision", self._clock(), decision, signal, verdicts, intent, inputs))

    def record_report(
        self, account: str, order: Order, report: Report, position: Position, strategy_id: str | None = None
    ) -> None:
        """Write down a report, with the order and the strategy's position as they are after it.

        `strategy_id` is whose position it is, where that is not the order's strategy: it was handed over.

        Raises
        ------
        InputError : a price, quantity or fee that is no `Decimal`.
        """
        fill = report.fill
        if fill is not None:  # an order's amounts are made of its fills, and change with them alone
            amounts = fill.quantity, fill.price, fill.fee, fill.slippage
            _check_money("report of ", report.client_order_id, *amounts, order.average_price, order.fees)
        known = self._known.get(
            account
        )  # not loaded for this: a report is taken down whether or not the database is there
        if known is None or order.intent.decision_hash not in known:
            self._adopted.setdefault(account, set()).add(report.client_order_id)
        self._labels.add(account)
        self._pending.append(("report", account, msgspec.structs.replace(order), report, position, strategy_id))

    def record_position(
        self, account: str, strategy_id: str, symbol: str, position: Position, at: int, reason: str
    ) -> None:
        """Write down a strategy's position that changed otherwise than by a fill: handed over, or adjusted.

        Raises
        ------
        InputError : a quantity, price or amount that is no `Decimal`.
        """
        _check_position(symbol, position)
        self._labels.add(account)
        self._pending.append(("position", account, strategy_id, symbol, position, at, reason))

    def record_review(
        self, account: str, decision_hash: str, advisor: str, verdict: Verdict, details: dict[str, Any]
    ) -> None:
        """Write down what an advisor said to a decision; `details` has JSON values (model, prompt version, reply)."""
        _check_money("review by ", advisor, verdict.quantity)
        row = plain(details, "details")
        self._labels.add(account)
        self._pending.append(("review", self._clock(), account, decision_hash, advisor, verdict, row))

    def record_account(self, account: str, account_state: Account, positions: dict[str, Position], at: int) -> None:
        """Write down the books at a moment of loop time: a position snapshot per symbol, and cash and equity."""
        _check_money("books of ", account, account_state.cash, account_state.equity, account_state.buying_power)
        for symbol, held in positions.items():
            _check_position(symbol, held)
        self._labels.add(account)
        self._pending.append(("books", account, account_state, dict(positions), at))

    def record_cursor(self, account: str, source: str, cursor: dict[str, Any]) -> None:
        """Write down where a source goes on, in the same commit as what was made of its events so far."""
        row = plain(cursor, "cursor")
        self._labels.add(account)
        self._pending.append(("cursor", self._clock(), account, source, row))

    def record_control(self, name: str, value: Any, actor: str) -> None:
        """Write down a switch, such as the kill switch, and who turned it.

        Raises
        ------
        InputError : a name that begins with ``audit.``, which is the audit's own.
        """
        if name.startswith("audit."):
            raise InputError(f"{name!r} is the audit's own (give the control another name)")
        self._pending.append(("control", self._clock(), name, plain(value, name), actor))

    def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a lease for some seconds from now, and commit; 0 gives it back.

        Returns
        -------
        Whether `holder` has it now: False when another one holds it still.
        """
        now = self._clock()
        self._pending.append(("lease", now, name, holder, now + round(seconds * SECOND)))
        self.commit()
        (lease,) = self.rows("leases", name=name)
        return bool(lease["holder"] == holder and lease["expires_at"] > now)

    @abstractmethod
    def _is_used(self, account: str) -> bool:
        """Whether a row, recorded or committed, has this account label."""

    @abstractmethod
    def _stored_hashes(self, account: str) -> set[str]:
        """The decision hashes of an account that were committed."""

    @abstractmethod
    def _stored_orphans(self, account: str) -> set[str]:
        """Client order ids of an account's orders that were committed and have no decision."""

    @abstractmethod
    def _last_generation(self) -> int:
        """The greatest generation number that was committed; 0 where there is none."""

    # Reading

    @abstractmethod
    def rows(
        self,
        table: str,
        *,
        since: int | None = None,
        after: int = 0,
        limit: int | None = None,
        newest_first: bool = False,
        **equal: Any,
    ) -> list[Row]:
        """Rows of a table, in the order in which they were first written.

        Parameters
        ----------
        table : a name of `rows.KEYS`.
        since : only rows whose time (`rows.MOMENTS`) is not before this, ns.
        after : `id` of the last row of the page before this one; 0 for the first page.
        limit : at most so many rows.
        newest_first : the other way round; `after` then goes towards older rows.
        equal : only rows with these values, by column.

        Raises
        ------
        StateError : the database cannot be read.
        """

    def decisions(self, account: str | None = None, **choice: Any) -> list[Row]:
        """Decisions of an account, or of all; `choice` as in `rows`."""
        return self.rows("trade_decisions", **_of(account), **choice)

    def orders(self, account: str | None = None, **choice: Any) -> list[Row]:
        """Orders of an account, or of all, as they are now; `choice` as in `rows`."""
        return self.rows("executions", **_of(account), **choice)

    def executions(self, account: str | None = None, **choice: Any) -> list[Row]:
        """What `orders` gives, each with the number of its fills as `fills`."""
        return [row | {"fills": len(fills)} for row, fills in self._orders(**_of(account), **choice)]

    def open_orders(self, account: str) -> list[Order]:
        """Orders of an account that are not done, oldest first: what to ask the venue about after a restart."""
        return [_order(row, fills) for row, fills in self._orders(account=account, is_working=True)]

    def recent_orders(self, account: str, since: int) -> list[Order]:
        """Orders of an account that are not done, or were updated at or after `since` (ns), oldest first."""
        found = self._orders(account=account, is_working=True, or_updated_since=since)
        return [_order(row, fills) for row, fills in found]

    def find_order(self, account: str, client_order_id: str) -> Order | None:
        """The order of an account that has this id, as it is now; None where there is none."""
        found = self._orders(account=account, client_order_id=client_order_id)
        return _order(*found[0]) if found else None

    @abstractmethod
    def _orders(
        self, *, is_working: bool = False, or_updated_since: int | None = None, **choice: Any
    ) -> list[tuple[Row, list[str]]]:
        """Orders, each with the ids of its fills, oldest first; `choice` as in `rows`.

        With `is_working` only those that are not done, or were updated at or after `or_updated_since`.
        """

    @abstractmethod
    def positions(self, account: str) -> dict[tuple[str, str], Position]:
        """What each strategy holds in each symbol, flat ones too, by (strategy, symbol).

        It is what was written down last: by `record_report` with a fill, or by `record_position`.

        Raises
        ------
        StateError : the database cannot be read.
        """

    def fills(self, account: str | None = None, **choice: Any) -> list[Row]:
        """Fills of an account, or of all, in order; `choice` as in `rows`.

        Each is a row of ``execution_events`` with `decision_hash`, `strategy_id`, `symbol` and `side` of its order.
        """
        fills = self.rows("execution_events", event="fill", **_of(account), **choice)
        orders = (
            {(order["account"], order["client_order_id"]): order for order in self.orders(account)} if fills else {}
        )
        names = ("decision_hash", "strategy_id", "symbol", "side")
        return [
            fill | {name: orders[fill["account"], fill["client_order_id"]][name] for name in names} for fill in fills
        ]

    def denials(self, account: str | None = None) -> dict[str, int]:
        """How often each verdict code denied a decision, the most frequent first."""
        codes = Counter(
            verdict["code"]
            for decision in self.decisions(account, status="denied")
            for verdict in decision["verdicts"]
            if verdict["outcome"] == Outcome.DENY
        )
        return dict(sorted(codes.items(), key=lambda item: (-item[1], item[0])))

    def last_account(self) -> str | None:
        """The label of the account that was written last; None where there is none."""
        last = [row for table in NUMBERED for row in self.rows(table, newest_first=True, limit=1)]
        return max(last, key=lambda row: int(row["id"]))["account"] if last else None

    def control(self, name: str, default: Any = None) -> Any:
        """The value of a switch; `default` where it was never turned."""
        found = self.rows("controls", name=name)
        return found[0]["value"] if found else default

    def cursor(self, account: str, source: str) -> dict[str, Any] | None:
        """Where a source goes on; None where it begins."""
        found = self.rows("trade_cursor", account=account, source=source)
        return found[0]["cursor"] if found else None

    def probe(self) -> str:
        """Why nothing could be written now; "" when it could. Answers within 3 s, and leaves what is recorded alone."""
        return ""

    @abstractmethod
    def decisions_called(self, text: str, limit: int) -> list[tuple[str, str]]:
        """Account and hash of decisions whose hash, or whose order's id, begins with `text`; at most `limit`."""


def _check_money(what: str, name: str, *values: Decimal | None) -> None:
    if not _MONEY.issuperset(map(type, values)):
        (first, *_) = (value for value in values if type(value) not in _MONEY)
        raise InputError(f"{what}{name}: {first!r} is a {type(first).__name__}, and money is written down as Decimal")


def _check_position(symbol: str, held: Position) -> None:
    _check_money("position in ", symbol, held.quantity, held.average_price, held.realized_pnl, held.fees)


def _of(account: str | None) -> dict[str, Any]:
    return {} if account is None else {"account": account}


def position_of(row: Row) -> Position:
    """The position of a row of ``position_snapshots``."""
    return Position(row["quantity"], row["average_price"], row["realized_pnl"], row["fees"])


def _order(row: Row, fill_ids: list[str]) -> Order:
    intent = Intent(
        client_order_id=row["client_order_id"],
        decision_hash=row["decision_hash"],
        account=row["account"],
        strategy_id=row["strategy_id"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        quantity=row["quantity"],
        decided_at=row["decided_at"],
        order_type=OrderType(row["order_type"]),
        limit_price=row["limit_price"],
        stop_price=row["stop_price"],
        trail_price=row["trail_price"],
        trail_pct=row["trail_pct"],
        time_in_force=TimeInForce(row["time_in_force"]),
        purpose=Purpose(row["purpose"] or Purpose.ENTRY),  # older rows do not say
    )
    return Order(
        intent=intent,
        state=OrderState(row["state"]),
        venue_order_id=row["venue_order_id"],
        filled_quantity=row["filled_quantity"],
        average_price=row["average_price"],
        fees=row["fees"],
        fill_ids=fill_ids,
        updated_at=row["last_update_at"],
        reason=row["reason"],
    )

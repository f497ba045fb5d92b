"""What the trading loop writes to: the journal of decisions and orders, and the signal store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from torghut_core.model.market import Batch
from torghut_core.model.trading import Account, Charge, Decision, Intent, Order, Position, Report, Verdict


class Journal(ABC):
    """Where decisions, orders and fills are recorded as they happen; `commit` is the only thing that waits.

    What is recorded is kept in the order of the calls and becomes durable, all or nothing, at `commit`. The kernel's
    discipline: decision, verdicts and intent are committed before the order is sent to a real venue; a report is
    recorded before anything is decided on it. All rows of one run have one account label.
    """

    @abstractmethod
    def is_known(self, account_label: str, decision_hash: str) -> bool:
        """Whether the decision was recorded before (committed or not): then nothing may be sent for it again."""

    @abstractmethod
    def record_strategies(self, entries: Sequence[dict[str, Any]], mode: str) -> None:
        """Upsert the catalog's strategies (JSON values); mode ``sync`` disables those that are not listed."""

    @abstractmethod
    def record_generation(self, generation: dict[str, Any], actor: str, outcome: str) -> int:
        """Record a generation (catalog digest, diff, plugins with versions and code digests, as JSON values).

        Returns
        -------
        Its number: 1 for the first that this database has seen, then counting up.
        """

    @abstractmethod
    def record_decision(
        self,
        decision: Decision,
        signal: dict[str, Any],
        verdicts: Sequence[Verdict],
        intent: Intent | None,
        inputs: msgspec.Struct | None = None,
    ) -> None:
        """Record a decision with the signal row and all verdicts; with an intent when it was allowed.

        `inputs` is what risk judged it by, from which the verdicts can be computed again.

        Raises
        ------
        StateError : the decision is known already (see `is_known`).
        InputError : a price or quantity that is no `Decimal`, a value that JSON cannot hold.
        """

    @abstractmethod
    def record_leg(self, intent: Intent) -> None:
        """Record a further order of a decision that was recorded with its first one.

        Raises
        ------
        InputError : a price or quantity that is no `Decimal`.
        """

    @abstractmethod
    def record_owner(self, account_label: str, client_order_id: str, strategy_id: str) -> None:
        """Record that an order was handed over to another strategy."""

    @abstractmethod
    def record_report(
        self, account_label: str, order: Order, report: Report, position: Position, strategy_id: str | None = None
    ) -> None:
        """Record a report, with the order and the strategy's position as they are after it.

        `strategy_id` is whose position that is; the order's strategy where None.

        Raises
        ------
        InputError : a price, quantity or fee that is no `Decimal`.
        """

    @abstractmethod
    def record_position(
        self, account_label: str, strategy_id: str, symbol: str, position: Position, at: int, reason: str
    ) -> None:
        """Record a strategy's position that changed otherwise than by a fill: handed over, or adjusted.

        Raises
        ------
        InputError : a quantity, price or amount that is no `Decimal`.
        """

    @abstractmethod
    def record_charge(self, account_label: str, charge: Charge) -> None:
        """Record interest that a venue has charged to the account.

        Raises
        ------
        InputError : an amount that is no `Decimal`.
        """

    @abstractmethod
    def record_account(self, account_label: str, account: Account, positions: dict[str, Position], at: int) -> None:
        """Record the books at a moment of loop time, ns: a position snapshot per symbol, and cash and equity."""

    @abstractmethod
    def commit(self) -> None:
        """Store for good what was recorded since the last commit.

        Raises
        ------
        StateError : disk full, database locked or gone; nothing of this commit was written, and what was is readable.
        """


class SignalStore(ABC):
    """Microbars and signals, written in batches and read without duplicates."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Take the derived rows of a batch; they are stored at the next `flush` at the latest."""

    def mark(self, token: str) -> None:
        """Begin a new block here; `token` names the place, such as the offsets of a checkpoint.

        The same rows after the same mark are sent in the same blocks, so that a store which remembers its last blocks stores
        them once, also when another process sends them again after a crash. Call it at the start and after each
        checkpoint: after a mark rows wait for a full block, for the next mark, or for `flush`.

        Raises
        ------
        StateError : as `write`.
        """
        del token

    @abstractmethod
    def flush(self) -> None:
        """Wait until every row that was taken is stored; may be called from another thread than the one that writes.

        Raises
        ------
        StateError : disk full, server gone; what was stored before is readable.
        """

    @abstractmethod
    def export(self, table: str, path: str) -> int:
        """Write ``microbars`` or ``signals`` to a Parquet file, without duplicates, in order; return the rows."""

    @abstractmethod
    def close(self) -> None:
        """Flush and close the connection; closing twice is harmless."""

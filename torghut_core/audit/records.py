"""What can be asked of an audit store: the rows that were committed, and what is made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from torghut_core.audit.rows import INTEREST, KEYS, Row
from torghut_core.errors import InputError
from torghut_core.model.trading import (
    Bracket,
    Intent,
    Order,
    OrderState,
    OrderType,
    Position,
    Purpose,
    Side,
    TimeInForce,
)

OF_ORDER = ("decision_hash", "strategy_id", "symbol", "side")
"""What a fill shows of its order."""


class RowsQuery(msgspec.Struct, frozen=True):
    """Which rows of a table are wanted; see `Records.rows`."""

    table: str
    since: int | None = None
    after: int = 0
    limit: int | None = None
    newest_first: bool = False
    equal: dict[str, Any] = {}


class Records(ABC):
    """The rows of an audit store: what was committed, and nothing else.

    Rows come as dicts by column, times in nanoseconds, money as `Decimal`; `rows.as_json` makes text of both. Any thread
    may ask, at any time.
    """

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
        InputError : there is no such table.
        StateError : the database cannot be read.
        """
        if table not in KEYS:
            raise InputError(f"no table is called {table!r} (there are {', '.join(KEYS)})")
        return self._read(RowsQuery(table, since, after, limit, newest_first, equal))

    @abstractmethod
    def _read(self, query: RowsQuery) -> list[Row]:
        """The rows that a query asks for: copies, which the caller may change."""

    def decisions(self, account_label: str | None = None, **choice: Any) -> list[Row]:
        """Decisions of an account, or of all; `choice` as in `rows`."""
        return self.rows("trade_decisions", **_of(account_label), **choice)

    def orders(self, account_label: str | None = None, **choice: Any) -> list[Row]:
        """Orders of an account, or of all, as they are now; `choice` as in `rows`."""
        return self.rows("executions", **_of(account_label), **choice)

    def recent_orders(self, account_label: str, since: int) -> list[Order]:
        """Orders of an account that are not done, or were updated at or after `since` (ns), oldest first."""
        found = self._orders(open_or_since=since, account=account_label)
        return [_order(row, fills) for row, fills in found]

    def find_order(self, account_label: str, client_order_id: str) -> Order | None:
        """The order of an account that has this id, as it is now; None where there is none."""
        found = self._orders(account=account_label, client_order_id=client_order_id)
        return _order(*found[0]) if found else None

    @abstractmethod
    def _orders(self, *, open_or_since: int | None = None, **equal: Any) -> list[tuple[Row, list[str]]]:
        """Orders with these values, each with the ids of its fills, oldest first.

        With `open_or_since` (ns) only those that are not done, or were updated at or after that time.
        """

    @abstractmethod
    def positions(self, account_label: str) -> dict[tuple[str, str], Position]:
        """What each strategy holds in each symbol, flat ones too, by (strategy, symbol).

        It is what was recorded last: by `record_report` with a fill, or by `record_position`.

        Raises
        ------
        StateError : the database cannot be read.
        """

    def fills(
        self,
        account_label: str | None = None,
        *,
        symbol: str | None = None,
        strategy_id: str | None = None,
        since: int | None = None,
        after: int = 0,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Row]:
        """Fills of an account, or of all, in order; of one symbol or strategy where given; the rest as in `rows`.

        Each is a row of ``execution_events`` with `decision_hash`, `strategy_id`, `symbol` and `side` of its order.
        """
        equal = {"event": "fill", **_of(account_label)}
        of_order = {"symbol": symbol, "strategy_id": strategy_id}
        return self._fills(
            RowsQuery("execution_events", since, after, limit, newest_first, equal),
            {name: value for name, value in of_order.items() if value is not None},
        )

    @abstractmethod
    def _fills(self, query: RowsQuery, of_order: dict[str, str]) -> list[Row]:
        """The fills that a query asks for, with `OF_ORDER` of their orders, which have these values."""

    def charges(self, account_label: str) -> list[Row]:
        """The interest that an account was charged, in order: `at`, `symbol` ("" for borrowed money) and the amount, `fees`."""
        return self.rows("position_snapshots", account=account_label, reason=INTEREST)

    def control(self, name: str, default: Any = None) -> Any:
        """The value of a control; `default` where it was never set."""
        found = self.rows("controls", name=name)
        return found[0]["value"] if found else default

    def cursor(self, account_label: str, source: str) -> dict[str, Any] | None:
        """From where a source resumes; None where it starts from its beginning."""
        found = self.rows("trade_cursor", account=account_label, source=source)
        return found[0]["cursor"] if found else None

    @abstractmethod
    def decisions_called(self, text: str, limit: int) -> list[tuple[str, str]]:
        """Account and hash of decisions whose hash, or whose order's id, begins with `text`; at most `limit`."""

    @abstractmethod
    def rationales(self, account_label: str) -> dict[str, str]:
        """Why each decision of an account was made, by its hash."""

    @abstractmethod
    def replacements(self, account_label: str, client_order_id: str) -> list[Row]:
        """Decisions to give an order other terms, denied ones too, in order."""


def _of(account_label: str | None) -> dict[str, Any]:
    return {} if account_label is None else {"account": account_label}


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
        bracket=None if row["bracket"] is None else msgspec.convert(row["bracket"], Bracket),
        parent=row["parent"] or "",
        parent_fill=row["parent_fill"] or "",
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

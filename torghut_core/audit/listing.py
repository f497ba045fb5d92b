"""Decisions, orders and fills as lists: newest first, filtered, a page at a time, as JSON values."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torghut_core.audit.records import Records
from torghut_core.audit.rows import Row, as_json
from torghut_core.errors import InputError
from torghut_core.timestamps import format_timestamp, parse_timestamp

Kind: TypeAlias = Literal["trade_decisions", "executions", "fills"]


def list_rows(
    records: Records,
    kind: Kind,
    *,
    account: str | None = None,
    symbol: str | None = None,
    strategy: str | None = None,
    since: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[Row]:
    """At most `limit` rows, newest first, whose `id` is less than `before`.

    Parameters
    ----------
    kind : a table of the audit, or ``fills``, see `Records.fills`.
    account, symbol, strategy : only of these; of all where None.
    since : only what happened since then, RFC 3339: decisions by `event_ts`, orders by `last_update_at`, fills by `event_ts`.

    Raises
    ------
    InputError : `since` is not a time.
    StateError : the database cannot be read.
    """
    try:
        moment = None if since is None else parse_timestamp(since)
        format_timestamp(moment or 0)  # its zone may take it out of the calendar
    except (ValueError, OverflowError) as error:
        raise InputError(f"since={since}: {error} (write it as 2026-01-05T14:30:00Z)") from None
    choice: dict[str, Any] = {"since": moment, "after": before or 0, "limit": limit, "newest_first": True}
    equal: dict[str, Any] = {"symbol": symbol, "strategy_id": strategy}
    equal = {name: value for name, value in equal.items() if value is not None}
    if kind == "fills":
        found = records.fills(account, **choice, **equal)
    else:
        found = records.rows(kind, **choice, **equal | ({} if account is None else {"account": account}))
    return [as_json(row) for row in found]

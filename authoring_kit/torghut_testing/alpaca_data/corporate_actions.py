"""The corporate actions that REST returns, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import parse_qs

from torghut_testing.alpaca_data.history import BadRequest

KINDS = {"forward_split": "forward_splits", "reverse_split": "reverse_splits", "cash_dividend": "cash_dividends"}
"""The list of a page that has the actions of each type."""
MOST_ACTIONS = 1000


class CorporateActions:
    """Splits and cash dividends, as Alpaca prints them, in order of the day on which they were processed."""

    def __init__(self) -> None:
        self._actions: list[tuple[str, dict[str, Any]]] = []

    def add(self, kind: str, action: Mapping[str, Any]) -> None:
        """Add an action of a type of `KINDS`; without a `process_date` it is processed on its `ex_date`."""
        self._actions.append((KINDS[kind], {"process_date": action["ex_date"], **action}))
        self._actions.sort(key=lambda each: str(each[1]["process_date"]))

    def page(self, query: str) -> dict[str, Any]:
        """The page for a query: ``{"corporate_actions": {list: actions}, "next_page_token": ...}``.

        Raises
        ------
        BadRequest : a parameter that Alpaca would refuse.
        """
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        symbols = {name for name in asked.get("symbols", "").split(",") if name}
        types = [name for name in asked.get("types", ",".join(KINDS)).split(",") if name]
        unknown = [name for name in types if name not in KINDS]
        if unknown:
            raise BadRequest(400, f"invalid type: {unknown[0]}")
        limit, first = asked.get("limit", "100"), asked.get("page_token", "0")
        if not (limit.isdecimal() and 1 <= int(limit) <= MOST_ACTIONS and first.isdecimal()):
            raise BadRequest(400, f"invalid limit or page_token: {limit}, {first}")
        start, end = _day(asked, "start"), _day(asked, "end")
        lists = {KINDS[name] for name in types}
        found = [
            (kind, action)
            for kind, action in self._actions
            if kind in lists and start <= str(action["process_date"]) <= end and action["symbol"] in symbols
        ]
        stop = int(first) + int(limit)
        page: dict[str, list[dict[str, Any]]] = {}
        for kind, action in found[int(first) : stop]:
            page.setdefault(kind, []).append(action)
        return {"corporate_actions": page, "next_page_token": str(stop) if stop < len(found) else None}


def _day(asked: Mapping[str, str], name: str) -> str:
    """A day of the query; today where there is none."""
    text = asked.get(name) or date.today().isoformat()  # noqa: DTZ011 - as the venue does
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise BadRequest(400, f"invalid {name}: {text}") from None

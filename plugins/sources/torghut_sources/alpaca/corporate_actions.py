"""Alpaca's corporate actions: what a page of ``/v1/corporate-actions`` says of splits and cash dividends.

The venue selects by the day on which it has processed an action: the ex date of a split, of a dividend mostly the day on which it is
paid. So later days are asked for too, and actions are selected by their ex date here. Source: https://docs.alpaca.markets/reference/corporateactions-1
and the models of alpaca-data 0.29.0, read 2026-11-30.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

import msgspec

from torghut_core import CorporateAction, Unanswered

PAID_WITHIN = timedelta(days=120)
"""A dividend is paid at most so long after its ex date."""

LARGEST_PAGE = 1000
"""Actions of one page at most."""

LONGEST_TEXT = 300
"""Characters of an answer that an error shows."""


class _Split(msgspec.Struct):
    symbol: str
    new_rate: Decimal
    old_rate: Decimal
    ex_date: date
    payable_date: date | None = None


class _Dividend(msgspec.Struct):
    symbol: str
    rate: Decimal
    ex_date: date
    payable_date: date | None = None


class _Actions(msgspec.Struct):
    forward_splits: list[_Split] = []
    reverse_splits: list[_Split] = []
    cash_dividends: list[_Dividend] = []


class _Page(msgspec.Struct):
    corporate_actions: _Actions
    next_page_token: str | None = None


_PAGE = msgspec.json.Decoder(_Page)


def actions_query(symbols: Sequence[str], since: date, until: date) -> dict[str, str]:
    """Return the query for what has an ex date from `since` up to, not including, `until`, and more."""
    return {
        "symbols": ",".join(symbols),
        "types": "forward_split,reverse_split,cash_dividend",
        "start": since.isoformat(),
        "end": (until + PAID_WITHIN).isoformat(),
        "limit": str(LARGEST_PAGE),
        "sort": "asc",
    }


def read_actions(body: bytes) -> tuple[list[CorporateAction], str | None]:
    """Return the actions of a page, and the token of the next one.

    Raises
    ------
    Unanswered : it is no such page.
    """
    try:
        page = _PAGE.decode(body)
    except msgspec.MsgspecError as error:
        raise Unanswered(f"no page of corporate actions: {error}: {body[:LONGEST_TEXT]!r}") from None
    found = page.corporate_actions
    splits = [
        CorporateAction(
            symbol=each.symbol,
            ex_date=each.ex_date,
            new=each.new_rate,
            old=each.old_rate,
            payable_date=each.payable_date,
        )
        for each in (*found.forward_splits, *found.reverse_splits)
        if each.new_rate > 0 < each.old_rate != each.new_rate
    ]
    dividends = [
        CorporateAction(symbol=each.symbol, ex_date=each.ex_date, dividend=each.rate, payable_date=each.payable_date)
        for each in found.cash_dividends
        if each.rate > 0
    ]
    return splits + dividends, page.next_page_token or None

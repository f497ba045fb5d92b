"""Tapes of corporate actions: CSV with the columns of `COLUMNS`, or JSONL with an object of these keys in each line.

A row is one split or one cash dividend. Rows are in any order.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torghut_core import SYMBOL_PATTERN, CorporateAction, TapeError
from torghut_sources.tape.tapes import HINTS

COLUMNS = ("symbol", "ex_date", "kind", "ratio", "amount", "payable_date")
KINDS = ("split", "cash_dividend")
LARGEST = Decimal(10**9)
"""More than any ratio or dividend."""


class _Wrong(Exception):
    """What is wrong with a row, and how it should be written."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def read_actions(path: Path) -> list[CorporateAction]:
    """Return the actions of a tape, in its order.

    Raises
    ------
    TapeError : it cannot be read, or a row is wrong.
    """
    if not path.name.lower().endswith((".csv", ".jsonl")):
        raise TapeError(path, "is of an unknown format", "use a file of corporate actions that ends in .csv or .jsonl")
    found: dict[tuple[str, date, bool], int] = {}
    actions = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _objects(path, file) if path.name.lower().endswith(".jsonl") else _rows(path, file)
            for line, row in lines:
                try:
                    action = _action(row)
                except _Wrong as wrong:
                    raise TapeError(path, wrong.message, wrong.hint, line, "line") from None
                first = found.setdefault((action.symbol, action.ex_date, action.is_split), line)
                if first != line and action.is_split:
                    message = f"{action.symbol} has a split on {action.ex_date} in line {first} already"
                    raise TapeError(path, message, "remove one of the two", line, "line")
                actions.append(action)
    except OSError as error:
        hint = HINTS.get(type(error), "check the file")
        raise TapeError(path, f"cannot be read: {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise TapeError(path, "is not text in UTF-8", "write it as UTF-8") from error
    return actions


def _rows(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(file, strict=True)
    try:
        names = next(reader, [])
        if missing := [name for name in COLUMNS[:3] if name not in names]:
            hint = f"its first line names the columns: {', '.join(COLUMNS)}"
            raise TapeError(path, f"column {missing[0]!r} is missing", hint, 1, "line")
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                hint = "write one value for each column, nothing between two commas where there is none"
                raise TapeError(
                    path, f"has {len(values)} values for {len(names)} columns", hint, reader.line_num, "line"
                )
            yield reader.line_num, dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise TapeError(
            path, f"is no CSV: {error}", "check the quotes of this line", reader.line_num, "line"
        ) from error


def _objects(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_float=Decimal)
        except ValueError as error:
            raise TapeError(path, f"is no JSON: {error}", "write one JSON object in a line", number, "line") from error
        if not isinstance(row, dict):
            raise TapeError(path, "is no JSON object", f"write the keys {', '.join(COLUMNS)}", number, "line")
        yield number, row


def _action(row: Mapping[str, Any]) -> CorporateAction:
    """Return the action of a row."""
    for name in row:
        if name not in COLUMNS:
            near = get_close_matches(name, COLUMNS, 1, 0)
            raise _Wrong(f"{name!r} is no column", f"the nearest is {near[0]!r}" if near else ", ".join(COLUMNS))
    given = {name: _text(row.get(name)) for name in COLUMNS}
    symbol, kind = given["symbol"], given["kind"]
    if not SYMBOL_PATTERN.fullmatch(symbol):
        raise _Wrong(f"symbol {symbol!r:.80} is not a symbol", "use A-Z, 0-9 and . _ / -, at most 32")
    ex_date = _date("ex_date", given["ex_date"])
    payable = _date("payable_date", given["payable_date"]) if given["payable_date"] else None
    if kind not in KINDS:
        raise _Wrong(f"kind {kind!r:.80} is unknown", f"use {' or '.join(KINDS)}")
    unused = "amount" if kind == "split" else "ratio"
    if given[unused]:
        raise _Wrong(f"a {kind} has no {unused}", f"leave {unused} empty")
    if kind == "cash_dividend":
        amount = _number("amount", given["amount"], "money for each unit, like 0.47")
        return CorporateAction(symbol=symbol, ex_date=ex_date, dividend=amount, payable_date=payable)
    new, old = _ratio(given["ratio"])
    return CorporateAction(symbol=symbol, ex_date=ex_date, new=new, old=old, payable_date=payable)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _date(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text if text.count("-") == 2 else "")  # no other form of ISO 8601
    except ValueError:
        raise _Wrong(f"{name} {text!r:.80} is no date", "write it like 2014-06-09") from None


def _number(name: str, text: str, hint: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise _Wrong(f"{name} {text!r:.80} is no number", f"write {hint}") from None
    if not number.is_finite() or not 0 < number <= LARGEST:
        raise _Wrong(f"{name} {text!r:.80} is not above 0 and below a billion", f"write {hint}")
    return number


def _ratio(text: str) -> tuple[Decimal, Decimal]:
    """Return the units after a split, and the units before it that they are made of."""
    hint = "new units:old units, like 7:1, or 1:20 for a reverse split"
    new, colon, old = text.partition(":")
    first = _number("ratio", new, hint)
    second = _number("ratio", old, hint) if colon else Decimal(1)
    if first == second:
        raise _Wrong(f"ratio {text!r:.80} changes nothing", f"write {hint}")
    return first, second

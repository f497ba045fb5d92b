"""Fixtures: rows of the signal store as lines of JSON, for a replay without a store.

A line is a row of ``ta_signals`` or ``ta_microbars`` as ClickHouse prints it (``FORMAT JSONEachRow``), or an envelope from the
bus; either may have its key before it, ``BTC/USD:{...}``, as ``kcat -K:`` prints and takes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from torghut_core.bus.envelope import Window
from torghut_core.errors import InputError, TapeError
from torghut_core.model.market import SIGNAL_COLUMNS, Bars, Batch, Signals, SymbolTable
from torghut_core.signals import MemorySignalStore
from torghut_core.signals.schema import BAR_VALUES, PAYLOAD_PATHS
from torghut_core.signals.shape import OTHER_NAMES
from torghut_core.timestamps import parse_timestamp

_KEYED = re.compile(r"(?P<key>[^{\"\s]{1,32}):(?P<value>\{.*\})")
_CLICKHOUSE_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,9})?", re.ASCII)
_HINT = "a line is a row of ta_signals or ta_microbars as JSON, or an envelope, each perhaps after SYMBOL:"


def read_fixtures(paths: Sequence[Path], store: MemorySignalStore) -> None:
    """Read files of rows into a store; the rows of all of them may be in any order.

    Raises
    ------
    TapeError : a file cannot be read, or a line is no such row.
    """
    symbols = SymbolTable()
    for path in paths:
        for number, line in _lines(path):
            try:
                store.write(_batch(symbols, _row(line)))
            except (KeyError, TypeError, ValueError, InputError) as error:
                what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                raise TapeError(path, what, _HINT, number, "line") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not empty, numbered from 1."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if text := line.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise TapeError(path, f"cannot be read: {error}", "give a file of JSON lines") from error


def _row(line: str) -> dict[str, Any]:
    """A line as a flat row, under the names of the tables."""
    keyed = _KEYED.fullmatch(line)
    row = msgspec.json.decode(keyed["value"] if keyed else line)
    if not isinstance(row, dict):
        raise TypeError("it is no JSON object")
    payload, window = (_nested(row.pop(name, None)) for name in ("payload", "window"))
    values = {name: _at(payload, path) for name, path in PAYLOAD_PATHS.items()}
    row |= {name: value for name, value in values.items() if value is not None}
    row |= {name: payload[name] for name in (*BAR_VALUES, "count") if name in payload}
    row |= {f"window_{name}": value for name, value in window.items()}
    for name, others in OTHER_NAMES.items():
        found = [row[other] for other in others if name not in row and other in row]
        row |= {name: found[0]} if found else {}
    return ({"symbol": keyed["key"]} if keyed else {}) | row


def _nested(value: Any) -> Mapping[str, Any]:
    """A column of JSON: a value, or the text of one."""
    value = msgspec.json.decode(value) if isinstance(value, str) else value
    return value if isinstance(value, dict) else {}


def _at(payload: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = payload
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return None if isinstance(value, dict) else value


def _batch(symbols: SymbolTable, row: Mapping[str, Any]) -> Batch:
    """A row as the batch that it is stored from."""
    size = row.get("window_size") or "PT1S"
    step = Window(size=size, step=size, start=0, end=0).length
    event_ts = _time(row["event_ts"])
    end = _time(row["window_end"]) if row.get("window_end") else event_ts + step
    number = symbols.number(row["symbol"])
    head = {
        "event_ts": [event_ts],
        "symbol": [number],
        "seq": [int(row.get("seq") or 0)],
        "step": [step],
        "series": [symbols.series(number, step)],
        "end": [end],
    }
    batch = Batch.of(symbols, 0, np.array([_time(row["ingest_ts"]) if row.get("ingest_ts") else end], np.int64))
    if row.get("c") is not None:
        values = {name: [_number(row.get(column))] for column, name in BAR_VALUES.items()}
        batch.microbars = Bars.from_columns(**head, count=[int(row.get("count") or 0)], **values)
    if any(name in row for name in SIGNAL_COLUMNS):
        batch.signals = Signals.from_columns(**head, **{name: [_number(row.get(name))] for name in SIGNAL_COLUMNS})
    if not len(batch.microbars) and not len(batch.signals):
        raise ValueError("it has neither prices (o, h, l, c) nor a column of ta_signals")
    return batch


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _time(text: Any) -> int:
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is not a time (write 2026-01-05T14:30:00Z)")
    return parse_timestamp(f"{text}Z" if _CLICKHOUSE_TIME.fullmatch(text) else text)

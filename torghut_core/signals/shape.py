"""Reads tables of other shapes as if they were ours: other names for the columns, or the values in a JSON text.

A table that another program writes may have ``ts`` for ``event_ts``, no ``window_size``, or the envelope's ``payload`` and
``window`` as JSON. `readable` gives the SQL to read it by our names; what it does not have is null, or follows from the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from torghut_core.errors import SettingsError
from torghut_core.model.market import TIMEFRAMES, window_size
from torghut_core.signals.schema import HEAD, PAYLOAD_PATHS, table_columns
from torghut_core.timestamps import SECOND

OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "event_ts": ("ts",),
    "rsi14": ("rsi",),
    "macd_signal": ("signal",),
    "macd_hist": ("hist",),
}
"""Names that a flat table may have for a column, besides ours."""


class Shape(StrEnum):
    """How a signal table has its values."""

    FLAT = "flat"
    """A column for each."""
    ENVELOPE = "envelope"
    """Nested in the JSON of ``payload``."""


def shape_of(columns: Mapping[str, str], name: str, setting: str) -> Shape:
    """The shape of the signal table `name`, as ``TRADING_SIGNAL_SCHEMA`` says or as it is found.

    Parameters
    ----------
    columns : types by name.
    setting : ``auto``, ``flat`` or ``envelope``.

    Raises
    ------
    SettingsError : the table has not that shape, or it is none.
    """
    if setting == "auto":
        return Shape.ENVELOPE if "payload" in columns and "macd" not in columns else Shape.FLAT
    if setting not in list(Shape):
        raise SettingsError(f"TRADING_SIGNAL_SCHEMA={setting!r} is not a table shape (use auto, envelope or flat)")
    shape = Shape(setting)
    needed = "payload" if shape is Shape.ENVELOPE else "macd"
    if needed not in columns:
        raise SettingsError(
            f"TRADING_SIGNAL_SCHEMA={setting}, but {name} has no column {needed} "
            "(use the other shape, or set TRADING_SIGNAL_TABLE)"
        )
    return shape


def missing(table: str, columns: Mapping[str, str]) -> list[str]:
    """Columns of ``microbars`` or ``signals`` that a table does not have: then torghut reads it, and writes nothing there."""
    return [column.name for column in table_columns(table) if column.name not in columns]


def readable(table: str, name: str, columns: Mapping[str, str], shape: Shape = Shape.FLAT) -> str:
    """What stands behind FROM to read the table `name` with the columns of ``microbars`` or ``signals``.

    Raises
    ------
    SettingsError : it has no symbol or no time.
    """
    setting = "TRADING_PRICE_TABLE" if table == "microbars" else "TRADING_SIGNAL_TABLE"
    read = {column.name: _expression(column.name, columns, shape) for column in table_columns(table)}
    for needed in ("symbol", "event_ts"):
        if read[needed] == "NULL":
            also = "".join(f" or {other}" for other in OTHER_NAMES.get(needed, ()))
            raise SettingsError(f"{setting}: {name} has no column {needed}{also} (set {setting} to a table that has)")
    if all(value == f"own.{column}" for column, value in read.items()):
        return name
    return f"(SELECT {', '.join(f'{value} AS {column}' for column, value in read.items())} FROM {name} AS own)"  # noqa: S608 - names are ours or checked


def _expression(column: str, columns: Mapping[str, str], shape: Shape) -> str:
    """SQL that gives one of our columns; NULL where the table does not have it."""
    if shape is Shape.ENVELOPE and column in PAYLOAD_PATHS:
        path = ", ".join(f"'{key}'" for key in PAYLOAD_PATHS[column])
        return f"JSONExtract({_text('payload', columns)}, {path}, 'Nullable(Float64)')"
    found = next((each for each in (column, *OTHER_NAMES.get(column, ())) if each in columns), None)
    if found is None:
        return _derived(column, columns)
    if column.endswith("_ts") or column in ("window_start", "window_end"):
        return _time(found, columns[found])
    return f"toInt64(own.{found})" if column == "seq" and columns[found] != "Int64" else f"own.{found}"


def _derived(column: str, columns: Mapping[str, str]) -> str:
    """What a column follows from where there is none."""
    if column not in {each.name for each in HEAD}:
        return "CAST(NULL AS Nullable(Float64))"
    match column:
        case "symbol" | "event_ts":
            return "NULL"
        case "window_size" | "window_step":
            key = column.removeprefix("window_")
            return f"JSONExtractString({_text('window', columns)}, '{key}')" if "window" in columns else "'PT1S'"
        case "ingest_ts" | "window_start":
            return _expression("event_ts", columns, Shape.FLAT)
        case "window_end":
            size, start = (_expression(each, columns, Shape.FLAT) for each in ("window_size", "event_ts"))
            sizes = ", ".join(f"'{window_size(step)}'" for step in TIMEFRAMES.values())
            steps = ", ".join(str(step) for step in TIMEFRAMES.values())
            return f"fromUnixTimestamp64Nano(toUnixTimestamp64Nano({start}) + transform({size}, [{sizes}], [{steps}], {SECOND}), 'UTC')"
        case "is_final":
            return "true"
        case "source":
            return "''"
        case "version":
            return "1"
    return "toInt64(0)"  # seq


def _time(name: str, kind: str) -> str:
    kind = kind.removeprefix("LowCardinality(").removeprefix("Nullable(")
    if kind.startswith("String"):
        return f"parseDateTime64BestEffort(own.{name}, 9, 'UTC')"
    return f"own.{name}" if kind.startswith("DateTime64") else f"toDateTime64(own.{name}, 9, 'UTC')"


def _text(name: str, columns: Mapping[str, str]) -> str:
    """A column that holds JSON, as a text."""
    return f"own.{name}" if columns[name] in ("String", "Nullable(String)") else f"toJSONString(own.{name})"

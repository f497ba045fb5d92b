"""Files of a simulation's folder: each appears whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from torghut_core.errors import StateError

_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic", enc_hook=str)


def write_json(path: Path, value: Any) -> Path:
    """Write a value as JSON, money as numbers.

    Raises
    ------
    StateError : the file cannot be written.
    """
    return write_text(path, msgspec.json.format(_ENCODER.encode(value), indent=2).decode() + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write rows under their names; what is not known is empty. Raises as `write_json`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> Path:
    """Write a text. Raises as `write_json`."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise StateError(
            f"{path}: {error.strerror or error} (free some space, or choose another output_root)"
        ) from error
    return path


def read_json(path: Path) -> Any:
    """The value in a file; None where there is none, or it is not whole."""
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def sha256_of(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

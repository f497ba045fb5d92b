"""HTML files that need nothing but a browser: no network, no other file, no server.

A document is a template of ``templates/`` with its style and scripts written into it: all documents of research are made
here, so that they look alike and nothing in one of them is trusted more than in another. A content security policy names
them by their digests and forbids all else, so that text of a plugin can neither run nor load anything. What the
scripts draw comes as one block of packed numbers and texts (`pack`), in base64: no text of it stands in the HTML.

The charts are TradingView's Lightweight Charts (Apache License 2.0), whose script comes with the wheel of torghut and,
in a checkout, out of the distribution ``lightweight-charts`` (``requirements/charts.txt``).
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import numpy as np
from markupsafe import Markup

from torghut_core.errors import StateError
from torghut_core.model.market import FloatArray, IntArray

CHARTS = "lightweight-charts.js"
_TEMPLATES = files("torghut_core.research.pages") / "templates"
_INTEGERS = (np.int8, np.int16, np.int32)
_MOST_DECIMALS = 8
_EXACT = 2.0**53
"""Integers up to here are exact as float64, which is what a browser counts with."""


class Card(msgspec.Struct, frozen=True):
    """One figure of the summary; `tone` colours it (``good``, ``bad`` or neither)."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


def write_document(
    path: Path, template: str, *, scripts: Sequence[str] = (), data: Any = None, subtitle: str = "", **values: Any
) -> Path:
    """Write a document and return its path.

    Parameters
    ----------
    path : of the HTML file; its folder is made where it is missing.
    template : its name in ``templates/``; it extends ``document.html``.
    scripts : names of scripts in ``templates/``, or `CHARTS`, in the order in which they run, after ``document.js``.
    data : for the scripts, see `pack`.
    subtitle : a line under the title.
    values : for the template, ``title`` among them; text in them is escaped.

    Raises
    ------
    StateError : the file cannot be written, or the script of the charts is not installed.
    """
    names = ("theme.js", "document.js", *scripts)
    sources = [charts_script() if name == CHARTS else _text(name) for name in names]
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_text),
    )
    style = _text("document.css")
    page = environment.get_template(template).render(
        style=Markup(style),  # noqa: S704 - our own file
        scripts=[Markup(source) for source in sources],  # noqa: S704 - our own files, and TradingView's out of its wheel
        digests={"style": _digest(style), "scripts": [_digest(source) for source in sources]},
        data="" if data is None else pack(data),
        subtitle=subtitle,
        **values,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StateError(f"{path}: {error.strerror or error} (give another path, or make room)") from error
    return path


@cache
def charts_script() -> str:
    """The script of the charts: of this wheel, else of the distribution that carries it.

    Raises
    ------
    StateError : it is not installed.
    """
    if (_TEMPLATES / CHARTS).is_file():
        return _text(CHARTS)
    try:
        carried = distribution("lightweight-charts").files or ()
        return next(file.read_text() for file in carried if file.name == CHARTS)
    except (PackageNotFoundError, StopIteration):
        raise StateError(
            "the script of the charts is not installed, so no page can be written: run `make demo` in the checkout, or "
            "`pip install --no-deps lightweight-charts==2.1`"
        ) from None


def pack(data: Any) -> str:
    """JSON values with arrays of numbers among them, as base64 of a deflated block.

    The block is the length of the JSON (4 bytes, little-endian), the JSON, and the arrays, each at a multiple of 8 from
    the end of the JSON. In the JSON stands for an array ``{"$": [type, at, length, first, divisor]}``: an integer is
    the difference to the number before it, times `divisor`, which keeps decimals exact; the least integer of the type
    stands for NaN. Type ``f8`` has the values themselves.
    """
    blocks: list[bytes] = []
    end = 0

    def place(array: Any) -> Any:
        nonlocal end
        if isinstance(array, np.ndarray):
            kind, content, first, divisor = _packed(array)
            content += bytes(-len(content) % 8)
            blocks.append(content)
            end += len(content)
            return {"$": [kind, end - len(content), len(array), first, divisor]}
        raise TypeError(f"cannot be written into a page: {type(array).__name__}")

    text = msgspec.json.encode(data, enc_hook=place)
    block = len(text).to_bytes(4, "little") + text + b"".join(blocks)
    return base64.b64encode(zlib.compress(block, 5)).decode()


def _packed(values: FloatArray | IntArray) -> tuple[str, bytes, float, int]:
    """Type, bytes, first value and divisor of an array."""
    numbers = values.astype(np.float64)
    numbers[np.isinf(numbers)] = np.nan
    known = np.flatnonzero(np.isfinite(numbers))
    if len(known):
        own = numbers[known]
        divisor = _divisor(own)
        if divisor:
            whole = np.rint(own * divisor)
            steps = np.diff(whole, prepend=whole[0])
            most = float(np.abs(steps).max())
            for kind in _INTEGERS:
                if most <= np.iinfo(kind).max:
                    stored = np.full(len(numbers), np.iinfo(kind).min, kind)
                    stored[known] = steps
                    return (
                        f"i{stored.itemsize}",
                        stored.astype(stored.dtype.newbyteorder("<")).tobytes(),
                        float(whole[0]),
                        divisor,
                    )
    return "f8", numbers.astype("<f8").tobytes(), 0.0, 1


def _divisor(values: FloatArray) -> int:
    """The least power of ten that makes whole numbers of all values, 0 if none does."""
    highest = float(np.abs(values).max())
    for decimals in range(_MOST_DECIMALS + 1):
        power = int(10**decimals)
        if highest * power >= _EXACT:
            return 0
        if _is_whole(values[:64] * power) and _is_whole(values * power):  # a few tell most
            return power
    return 0


def _is_whole(values: FloatArray) -> bool:
    """Whether all are integers, as far as float64 can say."""
    return bool((np.abs(values - np.rint(values)) <= 1e-12 * np.abs(values)).all())


@cache
def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()

"""What is varied in a sweep, and in which order its parameter sets are tried."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from torghut_core.catalog import Catalog, StrategyEntry, did_you_mean
from torghut_core.catalog.marked_yaml import Node, parse
from torghut_core.errors import CatalogError, InputError, NotFoundError
from torghut_core.plugin_host import PluginHost

ParameterSet: TypeAlias = Mapping[str, Any]
"""A value for each path: ``{"params.fast": 12}``; see `Axis`."""

MOST_VALUES = 100_000
"""Values of an axis at most."""

_RANGE = re.compile(r"([^:]+):([^:]+):([^:]+)")
_FIXED = ("name", "use", "version", "enabled")


class Axis(msgspec.Struct, frozen=True):
    """One field of one strategy's entry, and the values that are tried.

    Attributes
    ----------
    path : ``params.fast``; with several strategies ``strategies.NAME.params.fast``.
    strategy : the name of its entry.
    keys : where in the entry: ``("params", "fast")``.
    values : as a catalog would have them: whole numbers, `Decimal`, text, booleans, lists.
    """

    path: str
    strategy: str
    keys: tuple[str, ...]
    values: tuple[Any, ...]


def parse_axis(text: str, catalog: Catalog, host: PluginHost) -> Axis:
    """Make an axis of ``params.fast=5:50:5`` or ``params.slow=20,50,100``.

    Parameters
    ----------
    text : path and values. A range is ``from:to:step``, both ends included; others are written as in a list of the catalog.
    catalog : its strategies are those that are traded; of one alone the name may be left out.

    Raises
    ------
    InputError : no such strategy or field (with those that there are), or values that cannot be read.

    Examples
    --------
    >>> _values("0.1:0.3:0.1, 5")
    (Decimal('0.1'), Decimal('0.2'), Decimal('0.3'), 5)
    """
    path, equals, values = text.partition("=")
    path = path.strip()
    if not equals or not path:
        raise InputError(f"--set {text}: is not of the form PATH=VALUES (as in params.fast=5:50:5)")
    try:
        entry, keys = _field(path, catalog, host)
        return Axis(path, entry.name, keys, _values(values))
    except InputError as error:
        raise InputError(f"--set {text}: {error}") from None


def one_strategy(catalog: Catalog, name: str) -> Catalog:
    """The catalog with one of its strategies alone, enabled.

    Raises
    ------
    NotFoundError : it has none of this name.
    """
    for entry in catalog.strategies:
        if entry.name == name:
            return catalog.with_(strategies=(entry.model_copy(update={"enabled": True}).moved(entry.place),))
    names = [entry.name for entry in catalog.strategies]
    raise NotFoundError(f"the catalog has no strategy {name!r} ({did_you_mean(name, names) or 'it has none at all'})")


def _field(path: str, catalog: Catalog, host: PluginHost) -> tuple[StrategyEntry, tuple[str, ...]]:
    """The entry and the place in it that a path names."""
    entries = {entry.name: entry for entry in catalog.strategies}
    names = ", ".join(sorted(entries)) or "none"
    inside = path
    if path.startswith("strategies."):
        rest = path.removeprefix("strategies.")
        name = max((name for name in entries if rest.startswith(f"{name}.")), key=len, default=None)
        if name is None:
            raise InputError(f"names no strategy of the catalog (there are: {names})")
        inside = rest.removeprefix(f"{name}.")
    elif len(entries) == 1:
        name = next(iter(entries))
    else:
        raise InputError(
            f"the catalog has {len(entries)} strategies ({names}): choose one with --strategy NAME, "
            f"or write strategies.NAME.{path}"
        )
    entry = entries[name]
    keys = tuple(inside.split("."))
    fields = [field for field in StrategyEntry.model_fields if field not in (*_FIXED, "params")]
    plugin = host.registry["strategy"].get(entry.use)
    params = list(plugin.cls.Params.model_fields) if plugin else []
    if keys[0] == "params" and len(keys) > 1 and (keys[1] in params or plugin is None):
        return entry, keys
    if len(keys) == 1 and keys[0] in fields:
        return entry, keys
    there_is = [*(f"params.{name}" for name in params), *fields]
    raise InputError(f"strategy {name!r} has nothing to vary of that name (there is: {', '.join(there_is)})")


def _values(text: str) -> tuple[Any, ...]:
    """The values that a text lists.

    Examples
    --------
    >>> _values("5:15:5"), _values("1Min, 5Min"), _values("[ES], [ES, NQ]"), _values("true")
    ((5, 10, 15), ('1Min', '5Min'), (['ES'], ['ES', 'NQ']), (True,))
    """
    try:
        nodes: list[Node] = parse("--set", f"[{text}]").value
    except CatalogError as error:
        raise InputError(f"{error.problems[0].message} ({error.problems[0].hint})") from None
    found: list[Any] = []
    for node in nodes:
        raw = node.text or node.value
        if isinstance(raw, str) and (match := _RANGE.fullmatch(raw)):
            found += _range(*match.groups())
        else:
            found.append(_plain(node))
    if not found:
        raise InputError("has no values")
    for place, value in enumerate(found):
        if value in found[:place] and len(found) < 1_000:
            raise InputError(f"has the value {value} twice")
    return tuple(found)


def _plain(node: Node) -> Any:
    if node.complaint:
        raise InputError(f"{node.complaint[0]} ({node.complaint[1]})")
    if isinstance(node.value, list):
        return [_plain(inner) for inner in node.value]
    if isinstance(node.value, dict):
        return {key: _plain(inner) for key, inner in node.value.items()}
    return node.value


def _range(*ends: str) -> Iterator[Any]:
    """The values from `first` to `last`, both included, `step` apart; whole numbers where all three are."""
    try:
        first, last, step = map(Decimal, ends)
        is_fine = all(number.is_finite() for number in (first, last, step))
    except ArithmeticError:
        is_fine = False
    if not is_fine:
        raise InputError(f"{':'.join(ends)} is not a range FROM:TO:STEP of numbers (quote it if it is text)")
    if step <= 0 or last < first:
        raise InputError(
            f"{':'.join(ends)} is a range without values (its step is above 0, and its end not below its start)"
        )
    count = int((last - first) / step) + 1
    if count > MOST_VALUES:
        raise InputError(f"{':'.join(ends)} has {count:,} values (an axis has at most {MOST_VALUES:,})")
    is_whole = not any("." in end or "e" in end.lower() for end in ends)
    for number in range(count):
        value = first + number * step
        yield int(value) if is_whole else value

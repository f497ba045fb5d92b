"""What is varied in a sweep, and in which order its parameter sets are tried."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from torghut_core.audit.values import plain
from torghut_core.catalog import Catalog, StrategyEntry, did_you_mean
from torghut_core.catalog.marked_yaml import Node, parse
from torghut_core.errors import CatalogError, InputError, NotFoundError
from torghut_core.plugin_host import PluginHost

ParameterSet: TypeAlias = Mapping[str, Any]
"""A value for each path: ``{"params.fast": 12}``; see `Axis`."""

MOST_VALUES = 100_000
"""Values of an axis at most."""

ROUND = 8
"""Sets that a search which learns asks for at once: so many whatever the number of workers, which so changes nothing."""

LARGE_ROUND = 4_096
"""The same of a search that does not learn."""

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


def value_text(value: Any) -> str:
    """A value of a set, as a person writes it."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value if isinstance(value, str) else json.dumps(plain(value))


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


class Search(ABC):
    """Gives the sets of a sweep, round by round; the same for the same axes, seed and values.

    Attributes
    ----------
    total : how many sets it gives in all.
    """

    total: int

    @abstractmethod
    def ask(self) -> Sequence[ParameterSet]:
        """Give the next round; an empty one at the end."""

    @abstractmethod
    def tell(self, values: Sequence[float]) -> None:
        """Take the values of the round, the higher the better; NaN for a set without one."""


def new_search(name: str, axes: Sequence[Axis], trials: int | None, seed: int) -> Search:
    """Make the search of a name: ``grid``, ``random`` or ``tpe``.

    Raises
    ------
    InputError : there is no such search, nothing is varied, or optuna is missing.
    """
    if not axes:
        raise InputError("nothing is varied: name what is, as in --set 'params.fast=5:50:5'")
    if name == "grid":
        if trials is not None:
            raise InputError("--trials: a grid tries every set (choose --search random or tpe, or leave it out)")
        return Listed(axes, range(_size(axes)))
    if name == "random":
        return Listed(axes, _drawn(_size(axes), 100 if trials is None else trials, seed))
    if name == "tpe":
        return Tpe(axes, 100 if trials is None else trials, seed)
    raise InputError(f"there is no search {name!r} (use one of grid, random, tpe)")


def first_sets(axes: Sequence[Axis]) -> Iterator[ParameterSet]:
    """Yield the first sets of the grid, so many that one of them should be valid."""
    return (_set(axes, number) for number in range(min(_size(axes), LARGE_ROUND)))


def _size(axes: Sequence[Axis]) -> int:
    return math.prod(len(axis.values) for axis in axes)


def _drawn(size: int, count: int, seed: int) -> Sequence[int]:
    """So many different numbers below `size`, or all of them; more for the same seed begin with the fewer."""
    if count >= size:
        return range(size)
    chance = random.Random(seed)
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[chance.randrange(size)] = None
    return list(drawn)


class Listed(Search):
    """Sets that are known from the start, by their numbers in the grid of all; the last axis changes first."""

    def __init__(self, axes: Sequence[Axis], numbers: Sequence[int]) -> None:
        self.total = len(numbers)
        self._axes = axes
        self._numbers = numbers
        self._given = 0

    def ask(self) -> Sequence[ParameterSet]:
        """See `Search.ask`."""
        numbers = self._numbers[self._given : self._given + LARGE_ROUND]
        self._given += len(numbers)
        return [_set(self._axes, number) for number in numbers]

    def tell(self, values: Sequence[float]) -> None:
        """Learn nothing."""


def _set(axes: Sequence[Axis], number: int) -> ParameterSet:
    chosen = {}
    for axis in reversed(axes):
        number, place = divmod(number, len(axis.values))
        chosen[axis.path] = axis.values[place]
    return {axis.path: chosen[axis.path] for axis in axes}


class Tpe(Search):
    """Optuna's tree-structured Parzen estimator: tries more where the values were good; no set twice.

    Of an axis of numbers it knows the order, of another one only which value was taken. Bergstra et al., Algorithms for
    Hyper-Parameter Optimization, 2011.
    """

    def __init__(self, axes: Sequence[Axis], trials: int, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise InputError("--search tpe needs optuna (pip install 'torghut[research]')") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.total = min(trials, _size(axes))
        self._axes = axes
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self._ints = optuna.distributions.IntDistribution
        self._kinds = optuna.distributions.CategoricalDistribution
        self._failed = optuna.trial.TrialState.FAIL
        self._values: dict[tuple[int, ...], float] = {}
        self._round: list[tuple[Any, tuple[int, ...]]] = []
        self._rest = (tuple(places) for places in itertools.product(*(range(len(axis.values)) for axis in axes)))

    def ask(self) -> Sequence[ParameterSet]:
        """See `Search.ask`."""
        for _ in range(min(ROUND, self.total - len(self._values))):
            self._round.append(self._new())
        return [
            {axis.path: axis.values[place] for axis, place in zip(self._axes, places, strict=True)}
            for _, places in self._round
        ]

    def tell(self, values: Sequence[float]) -> None:
        """See `Search.tell`."""
        for (trial, places), value in zip(self._round, values, strict=True):
            self._values[places] = value
            self._tell(trial, value)
        self._round.clear()

    def _new(self) -> tuple[Any, tuple[int, ...]]:
        """A set that was not asked for before; the next of the grid where the estimator has no new one."""
        asked = {places for _, places in self._round}
        spaces = {axis.path: self._space(axis) for axis in self._axes}
        for _ in range(4 * ROUND):
            trial = self._study.ask(spaces)
            places = tuple(trial.params[axis.path] for axis in self._axes)
            if places in self._values:
                self._tell(trial, self._values[places])
            elif places in asked:
                self._study.tell(trial, state=self._failed)
            else:
                return trial, places
        places = next(places for places in self._rest if places not in self._values and places not in asked)
        self._study.enqueue_trial({axis.path: place for axis, place in zip(self._axes, places, strict=True)})
        return self._study.ask(spaces), places

    def _space(self, axis: Axis) -> Any:
        """What optuna chooses from: the places of the values."""
        count = len(axis.values)
        is_ordered = all(isinstance(value, int | Decimal) and not isinstance(value, bool) for value in axis.values)
        return self._ints(0, count - 1) if is_ordered else self._kinds(range(count))

    def _tell(self, trial: Any, value: float) -> None:
        if math.isnan(value):
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, value)

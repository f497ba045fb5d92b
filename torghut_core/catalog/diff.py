"""What differs between two catalogs, and when a running kernel can apply each difference.

Two catalogs are laid out as entries (a strategy, a risk rule, a pipeline) of fields, and compared field by field as
their digests compare them: there is no difference exactly where the digests are equal. `FIELDS` has the answer for every
field; it is stated nowhere else, and the documentation is made from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, NamedTuple

from pydantic_core import to_jsonable_python

from torghut_core.catalog.digest import content_digest
from torghut_core.catalog.entries import Catalog, InstrumentEntry, OnRemove, StrategyEntry, Use

MAX_SHOWN = 60
"""Characters of a value that the text of a difference shows."""


class Timing(StrEnum):
    """When a change takes effect in a running kernel: at the next swap, once a position is closed, at the next start."""

    HOT = "hot"
    WHEN_FLAT = "when_flat"
    RESTART = "restart"


class Absent(Enum):
    """The value of a missing field."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return self.name


ABSENT = Absent.ABSENT


class Action(StrEnum):
    """What happened to an entry."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Rule(NamedTuple):
    """When a change of a field takes effect, and how."""

    timing: Timing
    effect: str


ON_REMOVE: Mapping[OnRemove, str] = {
    "freeze": "kept, and nothing trades it",
    "flatten": "closed",
    "handover": "given to another strategy",
}
"""What happens to a position when its strategy is no longer listed, or no longer trades the symbol."""

_MODE = Rule(Timing.HOT, "holds from this reload on")
_SOURCE = Rule(Timing.RESTART, "the source is opened when the process starts")
_STAGE = Rule(Timing.RESTART, "a stage holds open windows and averages that another one cannot continue")
_BROKER = Rule(Timing.RESTART, "the broker never changes under open orders")
_INSTANCE = Rule(Timing.HOT, "a new instance is warmed up, and takes over the position")
_LIMIT = Rule(Timing.HOT, "holds from the next decision on")
_RULES = Rule(Timing.HOT, "the list, in its order, holds from the next decision on")
_RISK = Rule(Timing.HOT, "a new instance checks the next decision")
_INSTRUMENT = Rule(Timing.RESTART, "source, stages, broker and rules have the terms of their symbols from the start")
_SINK = Rule(Timing.RESTART, "a sink is opened when its process starts")
_ADVISOR = Rule(Timing.HOT, "a new instance reviews the next decision")
_OBSERVER = Rule(Timing.HOT, "the listed observers are notified from now on")

FIELDS: Mapping[str, Rule] = {
    "version": Rule(Timing.RESTART, "another format needs another version of torghut"),
    "mode": _MODE,
    "on_invalid": _MODE,
    "plugins.allow": Rule(Timing.HOT, "plugins are looked up again"),
    "pipelines.NAME": Rule(Timing.RESTART, "a pipeline starts and ends with its process"),
    "pipelines.NAME.source.use": _SOURCE,
    "pipelines.NAME.source.version": _SOURCE,
    "pipelines.NAME.source.params": _SOURCE,
    "pipelines.NAME.stages[]": _STAGE,
    "pipelines.NAME.stages[].use": _STAGE,
    "pipelines.NAME.stages[].version": _STAGE,
    "pipelines.NAME.stages[].params": _STAGE,
    "pipelines.NAME.broker.use": _BROKER,
    "pipelines.NAME.broker.version": _BROKER,
    "pipelines.NAME.broker.params": _BROKER,
    "pipelines.NAME.sink.use": _SINK,
    "pipelines.NAME.sink.version": _SINK,
    "pipelines.NAME.sink.params": _SINK,
    "instruments.NAME": _INSTRUMENT,
    **{f"instruments.NAME.{key}": _INSTRUMENT for key in InstrumentEntry.model_fields},
    "strategies[]": Rule(Timing.HOT, "added, it is warmed up and trades; removed, its positions follow `on_remove`"),
    "strategies[].use": _INSTANCE,
    "strategies[].version": _INSTANCE,
    "strategies[].params": _INSTANCE,
    "strategies[].name": Rule(Timing.HOT, "another name is another strategy: one is removed, one added"),
    "strategies[].enabled": Rule(Timing.HOT, "disabled, it makes no decisions and keeps its positions"),
    "strategies[].base_timeframe": Rule(Timing.WHEN_FLAT, "a position is closed on the bars that it was opened on"),
    "strategies[].symbols": Rule(Timing.HOT, "added, they are traded; removed, a position there follows `on_remove`"),
    "strategies[].max_notional_per_trade": _LIMIT,
    "strategies[].max_position_pct_equity": _LIMIT,
    "strategies[].cooldown_seconds": _LIMIT,
    "strategies[].on_remove": Rule(Timing.HOT, "holds when the strategy is removed later"),
    "risk[]": _RULES,
    "risk[].use": _RISK,
    "risk[].version": _RISK,
    "risk[].params": _RISK,
    "advisors[]": _RULES,
    "advisors[].use": _ADVISOR,
    "advisors[].version": _ADVISOR,
    "advisors[].params": _ADVISOR,
    "observers[]": _OBSERVER,
    "observers[].use": _OBSERVER,
    "observers[].version": _OBSERVER,
    "observers[].params": _OBSERVER,
}
"""Every field of the catalog and when it may change; ``[]`` and ``NAME`` are an entry as a whole."""


_SIGNS = {Action.ADDED: "+", Action.REMOVED: "-", Action.CHANGED: "~"}


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of an entry that has another value.

    `key` is relative to the entry (``params.rsi_buy``); `old` and `new` are the catalog's values, `ABSENT` where there is
    none; `effect` says in words how the change takes effect.
    """

    key: str
    old: Any
    new: Any
    timing: Timing
    effect: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the catalog that was added, removed or changed.

    Attributes
    ----------
    kind : ``catalog`` (its own keys), ``pipeline``, ``instrument``, ``strategy``, ``risk rule``, ``advisor`` or ``observer``.
    name : its name; of a rule, advisor or observer that of its plugin, with a number where it is listed more than once.
    action : what happened to it.
    timing : when that takes effect; of a changed entry, when the last of its fields does.
    effect : how, in words; "" for a changed entry, whose fields say it.
    fields : the changed fields of a changed entry.
    """

    kind: str
    name: str
    action: Action
    timing: Timing
    effect: str = ""
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class CatalogDiff:
    """What differs between the catalogs with the digests `old` and `new`."""

    old: str
    new: str
    changes: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs; then the digests are equal."""
        return not self.changes

    @property
    def timing(self) -> Timing | None:
        """When all of it will have taken effect; None if nothing differs."""
        return _latest(change.timing for change in self.changes) if self.changes else None

    def to_json(self) -> dict[str, Any]:
        """The difference as JSON values; a missing field has no `old` or no `new`."""
        return {
            "old": self.old,
            "new": self.new,
            "timing": self.timing.value if self.timing else None,
            "changes": [
                {
                    "kind": change.kind,
                    "name": change.name,
                    "action": change.action.value,
                    "timing": change.timing.value,
                    "effect": change.effect,
                    "fields": [_json(field) for field in change.fields],
                }
                for change in self.changes
            ],
        }

    def to_text(self) -> str:
        """The difference for an operator: a summary line, then a line for each entry or field, with when and how.

        Examples
        --------
        >>> old = Catalog(version=1, risk=[Use(use="stale-price", params={"max_age_ms": 60000})])
        >>> new = Catalog(version=1, risk=[Use(use="stale-price", params={"max_age_ms": 500}), Use(use="no-shorts")])
        >>> print(diff(old, new).to_text())
        2 changes: 1 added, 1 changed; 2 hot
        ~ risk rule stale-price params.max_age_ms: 60000 -> 500; hot: a new instance checks the next decision
        + risk rule no-shorts; hot: the list, in its order, holds from the next decision on
        """
        if self.is_empty:
            return "no difference"
        lines = [line for change in self.changes for line in _lines(change)]
        actions = Counter(action for action, _, _ in lines)
        timings = Counter(timing for _, timing, _ in lines)
        by_action = ", ".join(f"{actions[action]} {action}" for action in _SIGNS if actions[action])
        by_timing = ", ".join(f"{timings[timing]} {timing}" for timing in Timing if timings[timing])
        total = f"{len(lines)} change{'s' if len(lines) > 1 else ''}: {by_action}; {by_timing}"
        return "\n".join([total, *(line for _, _, line in lines)])


def diff(old: Catalog, new: Catalog) -> CatalogDiff:
    """Compare two catalogs; nothing differs exactly where their digests are equal.

    Comments, order of keys and of strategies, quotes around numbers and the split into files make no difference.
    Strategies and pipelines are compared by name; rules, advisors, observers and stages by plugin, the first of a plugin
    with the first, the second with the second.
    """
    changes: list[Change] = []
    fields = [
        *_field_change("version", "version", old.version, new.version),
        *_field_change("mode", "mode", old.mode, new.mode),
        *_field_change("on_invalid", "on_invalid", old.on_invalid, new.on_invalid),
        *_field_change("plugins.allow", "plugins.allow", old.plugins.allow, new.plugins.allow),
    ]
    for key in ("risk", "advisors", "observers"):
        fields += _order(key, f"{key}[]", getattr(old, key), getattr(new, key))
    if fields:
        changes.append(_changed("catalog", "", fields))

    for name in sorted({*old.pipelines, *new.pipelines}):
        one, other = old.pipelines.get(name), new.pipelines.get(name)
        if one and other:
            fields = [*_use("source.", "pipelines.NAME.source", one.source, other.source)]
            fields += _stages(one.stages, other.stages)
            fields += _use("broker.", "pipelines.NAME.broker", one.broker, other.broker)
            fields += _use("sink.", "pipelines.NAME.sink", one.sink, other.sink)
            changes += [_changed("pipeline", name, fields)] if fields else []
        else:
            changes.append(
                Change("pipeline", name, Action.ADDED if other else Action.REMOVED, *FIELDS["pipelines.NAME"])
            )

    for name in sorted({*old.instruments, *new.instruments}):
        was, now = old.instruments.get(name), new.instruments.get(name)
        if was and now:
            fields = []
            for key in InstrumentEntry.model_fields:
                values = (ABSENT if value is None else value for value in (getattr(was, key), getattr(now, key)))
                fields += _field_change(key, f"instruments.NAME.{key}", *values)
            changes += [_changed("instrument", name, fields)] if fields else []
        else:
            changes.append(
                Change("instrument", name, Action.ADDED if now else Action.REMOVED, *FIELDS["instruments.NAME"])
            )

    old_strategies = {entry.name: entry for entry in old.strategies}
    new_strategies = {entry.name: entry for entry in new.strategies}
    for name in sorted({*old_strategies, *new_strategies}):
        changes += _strategy(name, old_strategies.get(name), new_strategies.get(name), new.mode)

    for kind, key in (("risk rule", "risk"), ("advisor", "advisors"), ("observer", "observers")):
        ones, others = _numbered(getattr(old, key)), _numbered(getattr(new, key))
        for use in {**others, **ones}:
            name = _numbered_name(use)
            if use in ones and use in others:
                fields = [*_use("", f"{key}[]", ones[use], others[use])]
                changes += [_changed(kind, name, fields)] if fields else []
            else:
                changes.append(
                    Change(kind, name, Action.ADDED if use in others else Action.REMOVED, *FIELDS[f"{key}[]"])
                )
    return CatalogDiff(old.digest, new.digest, tuple(changes))


def _strategy(name: str, old: StrategyEntry | None, new: StrategyEntry | None, mode: str) -> Iterator[Change]:
    timing = FIELDS["strategies[]"].timing
    if old and new:
        fields = list(_use("", "strategies[]", old, new))
        for key in StrategyEntry.model_fields:
            if key not in Use.model_fields:
                fields += _field_change(key, f"strategies[].{key}", _given(old, key), _given(new, key))
        fields = [_symbols_change(field, new.on_remove) if field.key == "symbols" else field for field in fields]
        if fields:
            yield _changed("strategy", name, fields)
    elif new:
        yield Change("strategy", name, Action.ADDED, timing, "warmed up, then it trades")
    elif old:
        effect = f"its positions are {ON_REMOVE[old.on_remove]} (on_remove: {old.on_remove})"
        if mode == "merge":
            effect = "left as it was (mode: merge)"
        yield Change("strategy", name, Action.REMOVED, timing, effect)


def _symbols_change(change: FieldChange, on_remove: OnRemove) -> FieldChange:
    added = [symbol for symbol in change.new if symbol not in change.old]
    removed = [symbol for symbol in change.old if symbol not in change.new]
    effects = [f"{', '.join(added)} traded from now on"] if added else []
    if removed:
        effects.append(f"a position in {', '.join(removed)} is {ON_REMOVE[on_remove]} (on_remove: {on_remove})")
    return replace(change, effect="; ".join(effects) or "the same in another order")


def _use(prefix: str, pattern: str, old: Use | None, new: Use | None) -> Iterator[FieldChange]:
    """The changed fields of one use of a plugin, parameters one by one."""
    for key in ("use", "version"):
        yield from _field_change(f"{prefix}{key}", f"{pattern}.{key}", _given(old, key), _given(new, key))
    ones, others = (dict(_leaves(use.params)) if use else {} for use in (old, new))
    for path in {**others, **ones}:
        key = ".".join(("params", *path))
        yield from _field_change(
            f"{prefix}{key}", f"{pattern}.params", ones.get(path, ABSENT), others.get(path, ABSENT)
        )


def _given(entry: Use | None, key: str) -> Any:
    value = getattr(entry, key, None)
    return ABSENT if value is None else value


def _leaves(params: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _stages(old: Sequence[Use], new: Sequence[Use]) -> Iterator[FieldChange]:
    pattern = "pipelines.NAME.stages[]"
    ones, others = _numbered(old), _numbered(new)
    yield from _order("stages", pattern, old, new)
    for use in {**others, **ones}:
        key = f"stages[{_numbered_name(use)}]"
        if use in ones and use in others:
            yield from _use(f"{key}.", pattern, ones[use], others[use])
        else:
            one, other = (each[use].model_dump() if use in each else ABSENT for each in (ones, others))
            yield from _field_change(key, pattern, one, other)


def _numbered(uses: Sequence[Use]) -> dict[tuple[str, int], Use]:
    seen: Counter[str] = Counter()
    numbered = {}
    for use in uses:
        seen[use.use] += 1
        numbered[use.use, seen[use.use]] = use
    return numbered


def _numbered_name(use: tuple[str, int]) -> str:
    name, number = use
    return name if number == 1 else f"{name} ({number})"


def _order(key: str, pattern: str, old: Sequence[Use], new: Sequence[Use]) -> Iterator[FieldChange]:
    """A change where the entries in both lists are in another order."""
    ones, others = _numbered(old), _numbered(new)
    yield from _field_change(
        key,
        pattern,
        tuple(_numbered_name(use) for use in ones if use in others),
        tuple(_numbered_name(use) for use in others if use in ones),
    )


def _field_change(key: str, pattern: str, old: Any, new: Any) -> Iterator[FieldChange]:
    is_in_both = old is not ABSENT and new is not ABSENT
    if old is not new and not (is_in_both and content_digest(old) == content_digest(new)):
        yield FieldChange(key, old, new, *FIELDS[pattern])


def _changed(kind: str, name: str, fields: Sequence[FieldChange]) -> Change:
    return Change(kind, name, Action.CHANGED, _latest(field.timing for field in fields), fields=tuple(fields))


def _latest(timings: Iterable[Timing]) -> Timing:
    return max(timings, key=list(Timing).index)


def _json(field: FieldChange) -> dict[str, Any]:
    values = {key: _plain(value) for key, value in (("old", field.old), ("new", field.new)) if value is not ABSENT}
    return {"key": field.key, **values, "timing": field.timing.value, "effect": field.effect}


def _lines(change: Change) -> Iterator[tuple[Action, Timing, str]]:
    """A line for the entry, or for each field of it that changed."""
    entry = f"{_SIGNS[change.action]} {change.kind} {change.name}".rstrip()
    if change.action is not Action.CHANGED:
        yield change.action, change.timing, f"{entry}; {change.timing}: {change.effect}"
    for field in change.fields:
        values = f"{_shown(field.old)} -> {_shown(field.new)}"
        yield change.action, field.timing, f"{entry} {field.key}: {values}; {field.timing}: {field.effect}"


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, fallback=dict)  # a catalog's maps are read-only ones, which pydantic does not know


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "not given"
    shown = str(value) if isinstance(value, Decimal) else json.dumps(_plain(value))
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."

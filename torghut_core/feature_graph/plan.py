"""The graph of a generation's features: which nodes there are, made of what, in the order in which they are updated.

Equal values share a node: nodes are kept by a text that says what they compute, with the names of parameters, their defaults,
and the digest of the indicator's code. So a node of the generation before with the same text has the same value, and resumes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import chain
from keyword import iskeyword
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pydantic

from torghut_core.boundary import context_of
from torghut_core.errors import InputError, PluginError, Problem
from torghut_core.feature_graph.history import bars_of
from torghut_core.feature_graph.nodes import (
    AsOf,
    Column,
    CompiledIndicator,
    Constant,
    Elementwise,
    Node,
    Output,
    PlainIndicator,
    Rank,
    Shift,
)
from torghut_core.features import values as said
from torghut_core.features.values import BAR_COLUMNS
from torghut_core.model.market import SIGNAL_COLUMNS, TIMEFRAMES
from torghut_core.plugin_host import Registered
from torghut_core.plugin_host.process_state import restoring
from torghut_core.ports import Indicator

RESERVED = ("symbol", "event_ts", "open", "high", "low", "close", "volume", "bars", "row", "to_record")
"""Names that every row has."""


LONGEST_KEY = 400
"""Of a longer text that says what a node computes its beginning and its digest are the key."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII)


class Frame(NamedTuple):
    """Rows that are updated together: the bars of a timeframe, as they come or in slices.

    A slice are the rows that became known at one time; it is complete at the first event that is known later.
    """

    step: int
    is_sliced: bool


class Place(NamedTuple):
    """Whose value a node has: a symbol, "" for the row's own, and the bars of which timeframe."""

    symbol: str
    step: int


@dataclass(frozen=True)
class Planned:
    """A node with what it depends on.

    Attributes
    ----------
    make : makes the node, without any state.
    source : the frame of the inputs, where it is another one.
    warmup : rows of the frame until it has a value, and `memory` rows that it depends on.
    plugin : the indicator that it calls, "" for none.
    named : the symbol whose value it has, where that is not the row's own.
    """

    key: str
    frame: Frame
    make: Callable[[], Node]
    inputs: tuple[str, ...] = ()
    source: Frame | None = None
    warmup: int = 1
    memory: int = 1
    plugin: str = ""
    named: str = ""


NO_BARS: Mapping[int, int] = MappingProxyType({})


class Wanted(NamedTuple):
    """The features of one strategy.

    Attributes
    ----------
    names : of the values, as fields of its rows.
    nodes : key of the node of each.
    optional : those that a row may lack.
    frame : the rows that it is shown.
    memory : rows of its own timeframe that the values depend on.
    history : bars that it looks back, by step.
    """

    names: tuple[str, ...]
    nodes: tuple[str, ...]
    optional: frozenset[str]
    frame: Frame
    memory: int
    history: Mapping[int, int] = NO_BARS


@dataclass
class FeaturePlan:
    """All nodes, each after its inputs; and the symbols whose rows they need, by timeframe.

    Attributes
    ----------
    wanted : the features of each strategy, by its name.
    kept : those of code that may have to go on.
    """

    nodes: dict[str, Planned] = field(default_factory=dict)
    symbols: dict[Frame, set[str]] = field(default_factory=dict)
    wanted: dict[str, Wanted] = field(default_factory=dict)
    kept: list[Wanted] = field(default_factory=list)

    def other_steps(self, strategy: str) -> set[int]:
        """Steps of the bars that a strategy's features need, but for those of its own timeframe, ns."""
        wanted = self.wanted[strategy]
        needed, steps = {*wanted.nodes}, set()
        for key, node in reversed(self.nodes.items()):
            if key in needed:
                needed.update(node.inputs)
                steps.add(node.frame.step)
        return {*steps, *wanted.history} - {wanted.frame.step}

    @property
    def history(self) -> dict[int, int]:
        """How many bars strategies look back at most, by step."""
        bars: dict[int, int] = {}
        for step, most in chain.from_iterable(each.history.items() for each in (*self.wanted.values(), *self.kept)):
            bars[step] = max(most, bars.get(step, 0))
        return bars

    def saved_in(self, saved: Mapping[str, Any]) -> FeaturePlan:
        """The part of the plan that resumes from what `FeatureGraph.save` gave, with the symbols of that time."""
        frames = {Frame(step, is_sliced): set(symbols) for step, is_sliced, symbols in saved["frames"]}
        nodes = {key: node for key, node in self.nodes.items() if key in saved["nodes"] and node.frame in frames}
        history = {step: bars for step, bars in saved["bars"] if step in self.history}
        kept = [
            Wanted((), (), frozenset(), Frame(step, is_sliced=False), 1, {step: bars}) for step, bars in history.items()
        ]
        return FeaturePlan(nodes, frames, {}, kept)

    def keep(self, before: FeaturePlan, wanted: Wanted) -> None:
        """Take in what a strategy of the plan before wants, and what that needs."""
        self.kept.append(wanted)
        for step in wanted.history:
            frame = Frame(step, is_sliced=False)
            self.symbols.setdefault(frame, set()).update(before.symbols[frame])
        needed = set(wanted.nodes)
        for key, node in reversed(before.nodes.items()):
            if key in needed:
                needed.update(node.inputs)
                self.symbols.setdefault(node.frame, set()).update(before.symbols[node.frame])
        self.nodes = {**{key: node for key, node in before.nodes.items() if key in needed}, **self.nodes}


class Planner:
    """Adds the features of one strategy after the other.

    Parameters
    ----------
    find : gives the indicator plugin of a name, or what is wrong with the name.

    Attributes
    ----------
    used : the indicators that are needed.
    """

    def __init__(self, find: Callable[[str], Registered | Problem]) -> None:
        self.plan = FeaturePlan()
        self.used: list[Registered] = []
        self._find = find

    def add(
        self,
        strategy: str,
        features: Mapping[str, Any],
        step: int,
        symbols: Collection[str],
        *,
        is_sliced: bool = False,
        history: Any = 0,
    ) -> None:
        """Add what a strategy asks for.

        Parameters
        ----------
        features : a `Feature`, or an optional one, by name.
        step : its own timeframe, ns.
        symbols : of its entry.
        is_sliced : it is shown whole slices, also where no feature needs them.
        history : bars that it looks back, as `Strategy.history` has them.

        Raises
        ------
        InputError : a value cannot be computed; the message says which, and why.
        """
        plain = {name: value.value if isinstance(value, said.Optional) else value for name, value in features.items()}
        for name, value in plain.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED or iskeyword(name):
                raise InputError(
                    f"feature {name!r:.80}: a name is an identifier of at most 63 letters that does not begin with _, and none"
                    f" of {', '.join(RESERVED)}"
                )
            if not isinstance(value, said.Feature):
                raise InputError(f"feature {name!r} is {value!r:.80}, and not a value of torghut_core.features")
        frame = Frame(step, is_sliced or any(map(_needs_slices, plain.values())))
        resolver = _Resolver(self, frame, frozenset(symbols))
        nodes, memory = [], 0
        for name, value in plain.items():
            try:
                key, place = resolver.resolve(value)
                key = resolver.joined(key, place)
            except InputError as error:
                raise InputError(f"feature {name!r}: {error}") from error
            except RecursionError:
                raise InputError(f"feature {name!r} is made of too many values, one in the other") from None
            nodes.append(key)
            memory = max(memory, self.rows(key, frame))
        self.plan.symbols.setdefault(frame, set()).update(symbols)
        is_optional = frozenset(name for name, value in features.items() if isinstance(value, said.Optional))
        bars = bars_of(history, step)
        for each in bars:
            self.plan.symbols.setdefault(Frame(each, is_sliced=False), set()).update(symbols)
        self.plan.wanted[strategy] = Wanted(tuple(plain), tuple(nodes), is_optional, frame, memory, bars)

    def rows(self, key: str, frame: Frame) -> int:
        """How many rows of a frame a node depends on."""
        node = self.plan.nodes[key]
        return -(-node.memory * node.frame.step // frame.step)


class _Resolver:
    """Makes the nodes of one strategy's values."""

    def __init__(self, planner: Planner, frame: Frame, symbols: frozenset[str]) -> None:
        self._planner = planner
        self._nodes = planner.plan.nodes
        self._frame = frame
        self._symbols = symbols
        self._resolved: dict[int, tuple[said.Feature, str, Place]] = {}
        """By its id, each value with its node: one that is used many times is resolved once."""

    def resolve(self, value: said.Feature) -> tuple[str, Place]:
        """Make the node of a value; returns its key and whose value it is."""
        if id(value) not in self._resolved:
            self._resolved[id(value)] = value, *self._resolve(value)
        _, key, place = self._resolved[id(value)]
        return key, place

    def _resolve(self, value: said.Feature) -> tuple[str, Place]:
        if isinstance(value, said.Leaf):
            return self._leaf(value)
        if isinstance(value, said.Shift):
            key, place = self.resolve(value.value)
            before = self._nodes[key]
            bars = value.bars
            text = f"{before.key}.shift({bars})"
            made = self._add(
                text, before.frame, partial(Shift, bars), (key,), before.warmup + bars, before.memory + bars
            )
            return made, place
        if isinstance(value, said.Elementwise):
            keys, place = self._inputs(value.values)
            text = f"{value.operation}({', '.join(keys)})"
            return self._add(text, self._nodes[keys[0]].frame, partial(Elementwise, value.operation), keys), place
        if isinstance(value, said.Rank):
            key = self.joined(*self.resolve(value.value))
            self._wants(self._frame, self._symbols)
            text = f"rank({key}, {', '.join(sorted(self._symbols))})"
            return self._add(text, self._frame, partial(Rank, self._symbols), (key,)), Place("", self._frame.step)
        if isinstance(value, said.IndicatorCall):
            return self._indicator(value)
        raise InputError(f"{value} is a number, which is the same at every bar (write it where it is used)")

    def joined(self, key: str, place: Place) -> str:
        """The value as of each of the strategy's own rows."""
        node, frame = self._nodes[key], self._frame
        if not place.symbol and node.frame == frame:
            return key
        text = f"{key} of {place.symbol or 'the symbol'}"
        made = partial(AsOf, place.symbol)
        return self._add(text, frame, made, (key,), node.warmup, node.memory, source=node.frame, named=place.symbol)

    def _leaf(self, leaf: said.Leaf) -> tuple[str, Place]:
        if leaf.name not in BAR_COLUMNS and leaf.name not in SIGNAL_COLUMNS:
            raise InputError(f"there is no column {leaf.name!r} (use one of {', '.join(BAR_COLUMNS)})")
        step = TIMEFRAMES[leaf.timeframe] if leaf.timeframe else self._frame.step
        if step < self._frame.step:
            raise InputError(f"{leaf} is of a smaller timeframe than the strategy's own")
        frame = self._frame_of(step)
        self._wants(frame, {leaf.symbol} if leaf.symbol else self._symbols)
        return self._add(leaf.name, frame, partial(Column, leaf.name)), Place(leaf.symbol, step)

    def _frame_of(self, step: int) -> Frame:
        return Frame(step, self._frame.is_sliced and step == self._frame.step)

    def _inputs(self, values: tuple[said.Feature, ...]) -> tuple[tuple[str, ...], Place]:
        """The nodes of several values in one frame: their common one, or the strategy's own."""
        found = [None if isinstance(value, said.Constant) else self.resolve(value) for value in values]
        known = [each for each in found if each is not None]
        if not known:
            raise InputError(f"{', '.join(map(str, values))}: a value of numbers alone (write the number)")
        place, frame = known[0][1], self._nodes[known[0][0]].frame
        if any(each != place for _, each in known):
            place, frame = Place("", self._frame.step), self._frame
            found = [each and (self.joined(*each), place) for each in found]
        keys = [
            self._number(value, frame) if each is None else each[0] for each, value in zip(found, values, strict=True)
        ]
        return tuple(keys), place

    def _number(self, value: said.Feature, frame: Frame) -> str:
        assert isinstance(value, said.Constant)
        return self._add(str(value), frame, partial(Constant, value.number))

    def _indicator(self, call: said.IndicatorCall) -> tuple[str, Place]:
        plugin = self._planner._find(call.name)  # noqa: SLF001 - its own
        if isinstance(plugin, Problem):
            raise InputError(f"{plugin.message} ({plugin.hint})")
        self._planner.used.append(plugin)
        cls: type[Indicator] = plugin.cls  # type: ignore[assignment]  # an indicator's
        params = _params_of(plugin, call)
        inputs = list(call.inputs)
        if len(inputs) > len(cls.inputs):
            raise InputError(f"{call.name} has the inputs {', '.join(cls.inputs)}, and {len(inputs)} are given")
        for name in cls.inputs[len(inputs) :]:
            if name not in BAR_COLUMNS and name not in SIGNAL_COLUMNS:
                raise InputError(f"{call.name} needs its input {name!r}, as in {call.name}({', '.join(cls.inputs)})")
            inputs.append(said.Leaf(name, call.symbol, call.timeframe))
        if call.output and call.output not in cls.outputs:
            raise InputError(f"{call.name} has no output {call.output!r} (use one of {', '.join(cls.outputs)})")
        if not call.output and len(cls.outputs) > 1:
            picks = " or ".join(f'["{output}"]' for output in cls.outputs)
            raise InputError(f"{call.name} has several outputs: write {call} followed by {picks}")
        keys, place = self._inputs(tuple(inputs))
        try:
            made: Indicator = plugin.create(params)
        except PluginError as error:
            raise InputError(str(error)) from error
        with restoring(plugin.name):
            warmup, memory, make = context_of(made).run(_made_of, plugin, made, params)
        nodes = [self._nodes[key] for key in keys]
        before = max(node.warmup for node in nodes) - 1, max(node.memory for node in nodes) - 1
        values = ", ".join(f"{name}={value}" for name, value in plugin.plain(params).items())
        text = f"{call.name}({', '.join([*keys, values] if values else keys)}; {plugin.code_digest[:12]})"
        frame = nodes[0].frame
        key = self._add(
            text,
            frame,
            make,
            keys,
            before[0] + warmup,
            before[1] + max(memory, warmup),
            plugin=call.name,
        )
        if len(cls.outputs) == 1:
            return key, place
        number = cls.outputs.index(call.output)
        return self._add(f"{text}[{number}]", frame, partial(Output, number), (key,)), place

    def _wants(self, frame: Frame, symbols: Collection[str]) -> None:
        self._planner.plan.symbols.setdefault(frame, set()).update(symbols)

    def _add(
        self,
        text: str,
        frame: Frame,
        make: Callable[[], Node],
        inputs: tuple[str, ...] = (),
        warmup: int = 0,
        memory: int = 0,
        *,
        source: Frame | None = None,
        plugin: str = "",
        named: str = "",
    ) -> str:
        if len(text) > LONGEST_KEY:
            text = f"{text[:LONGEST_KEY]}... {sha256(text.encode()).hexdigest()[:16]}"
        key = text if inputs else f"{text}@{frame.step}{'s' if frame.is_sliced else ''}"
        if source is not None:
            key += f" in {frame.step}{'s' if frame.is_sliced else ''}"
        if key not in self._nodes:
            rows = [self._nodes[each] for each in inputs]
            warmup = warmup or max((row.warmup for row in rows), default=1)
            memory = memory or max((row.memory for row in rows), default=1)
            if source is not None:  # in rows of this frame
                warmup, memory = (-(-number * source.step // frame.step) for number in (warmup, memory))
            self._nodes[key] = Planned(key, frame, make, inputs, source, warmup, memory, plugin, named)
        return key


def with_columns(columns: Sequence[str], features: Mapping[str, Any]) -> dict[str, Any]:
    """The features of a strategy that also names columns of ``ta_signals``.

    Raises
    ------
    InputError : a name means both, or `features` is no mapping.
    """
    if not isinstance(features, Mapping):
        raise InputError(f"it gave {features!r:.80}, and not a dict of names and values")
    if both := sorted(features.keys() & set(columns)):
        raise InputError(f"{', '.join(both)}: named in `columns` too")
    return {**{column: said.Leaf(column) for column in columns}, **features}


def _params_of(plugin: Registered, call: said.IndicatorCall) -> Any:
    """The validated parameters of a call.

    Raises
    ------
    InputError : it does not take them.
    """
    names = list(plugin.cls.Params.model_fields)
    if len(call.numbers) > len(names):
        raise InputError(f"{call.name} has the parameters {', '.join(names) or 'none'}, and {call} gives more")
    given = dict(zip(names, call.numbers, strict=False))
    twice = given.keys() & dict(call.keywords)
    if twice:
        raise InputError(f"{call} gives {', '.join(sorted(twice))} twice")
    try:
        return plugin.parameters(given | dict(call.keywords))
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False)[0]
        place = ".".join(map(str, details["loc"]))
        raise InputError(f"{call}: {place}: {details['msg']} (parameters: {', '.join(names) or 'none'})") from error
    except PluginError as error:
        raise InputError(str(error)) from error


def _made_of(plugin: Registered, made: Indicator, params: Any) -> tuple[int, int, Callable[[], Node]]:
    """What an indicator says of itself: `warmup`, `memory`, and how its node is made. It may raise anything."""
    warmup, memory = int(made.warmup), int(made.memory)
    if type(made).kernel is None:
        return warmup, memory, partial(PlainIndicator, plugin, params)
    make = partial(CompiledIndicator, plugin, np.dtype(made.row()), tuple(made.numbers()))
    make()  # it is compiled, if it can be
    return warmup, memory, make


def _needs_slices(value: said.Feature) -> bool:
    """Whether a value is of other symbols too."""
    seen: dict[int, said.Feature] = {}
    is_needed = False

    def visit(each: said.Feature) -> said.Feature:
        nonlocal is_needed
        if id(each) not in seen:
            seen[id(each)] = each
            is_needed |= isinstance(each, said.Rank) or bool(getattr(each, "symbol", ""))
            if not isinstance(each, said.Leaf):
                each.with_parts(visit)
        return each

    visit(value)
    return is_needed

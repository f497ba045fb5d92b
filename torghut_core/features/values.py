"""Features as values, which say what to compute, and compute nothing.

A value is a tree of columns of the bars, indicators, arithmetic and comparisons. It is immutable, and equal to any other value
that says the same. The names of indicators are looked up when a generation is built: see `torghut_core.feature_graph.plan`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeAlias, cast

from torghut_core.model.market import SYMBOL_PATTERN, TIMEFRAMES

Number: TypeAlias = "int | float"

BAR_COLUMNS = (
    "open", "high", "low", "close", "volume", "vwap", "trade_count", "bid", "ask", "bid_size", "ask_size",
)  # fmt: skip
"""The leaves that are no columns of ``ta_signals``."""

MOST_BARS = 10_000
"""So many bars a value may be shifted at most."""

OPTIONAL_LAST = "`.optional` is of the whole value: write it last"
"""The error where a value is made of one that is optional."""


def as_feature(value: Feature | Number) -> Feature:
    """A value as a feature: itself, or a number that is the same at every bar."""
    if isinstance(value, Feature):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return Constant(float(value))
    if isinstance(value, IndicatorName):
        value.misuse()
    if isinstance(value, Optional):
        raise TypeError(OPTIONAL_LAST)
    raise TypeError(f"{value!r:.80} is no feature and no number")


class Feature:
    """A value of each bar of a symbol.

    ``+ - * /``, ``-x``, ``abs(x)``, ``< <= > >=`` and, between comparisons, ``& | ~`` make further values, bar by bar; a
    comparison is 1.0 or 0.0. NaN, which stands for "not known", stays NaN through all of them.
    """

    __slots__ = ()

    def shift(self, bars: int) -> Feature:
        """The value of so many bars before, of its own timeframe.

        Raises
        ------
        ValueError : `bars` is no number of bars, or negative: no value can be of a later bar.
        """
        if type(bars) is int and bars < 0:
            raise ValueError(f"shift({bars}) would look ahead: give a number of bars, 0 or more")
        if type(bars) is not int or bars > MOST_BARS:
            raise ValueError(f"shift({bars!r:.20}): give a whole number of bars from 0 to {MOST_BARS:,}")
        return Shift(self, bars) if bars else self

    def of(self, symbol: str) -> Feature:
        """The same of another symbol, as it is known at the bar's end.

        Raises
        ------
        ValueError : it is no symbol; or the value is a rank, or of another symbol already.
        """
        if not isinstance(symbol, str) or not SYMBOL_PATTERN.fullmatch(symbol):
            raise ValueError(f"{symbol!r:.80} is not a symbol")
        return self._with_leaves(
            lambda leaf: None if leaf.symbol else replace(leaf, symbol=symbol),
            "of another symbol already: `.of` is written once",
        )

    def on(self, timeframe: str) -> Feature:
        """The same on bars of a timeframe, such as ``1Hour``: the value of the last one that is complete.

        Raises
        ------
        ValueError : it is no timeframe, or the value is on one already.
        """
        if timeframe not in TIMEFRAMES:
            raise ValueError(f"{timeframe!r:.80} is not a timeframe: use one of {', '.join(TIMEFRAMES)}")
        return self._with_leaves(
            lambda leaf: None if leaf.timeframe else replace(leaf, timeframe=timeframe),
            "on bars of a timeframe already: `.on` is written once",
        )

    @property
    def optional(self) -> Optional:
        """The same, but rows come without it too: it is NaN there."""
        return Optional(self)

    def with_parts(self, change: Callable[[Feature], Feature]) -> Feature:
        """The same made of other parts: what `change` gives for each value that it is directly made of."""
        raise NotImplementedError

    def _with_leaves(self, change: Callable[[Leaf], Leaf | None], otherwise: str) -> Feature:
        """The same with other leaves; a leaf stays where `change` gives None.

        A part that is used many times is changed once.

        Raises
        ------
        ValueError : no leaf was changed; `otherwise` says why.
        """
        done: dict[int, tuple[Feature, Feature]] = {}
        is_changed = False

        def visit(value: Feature) -> Feature:
            nonlocal is_changed
            if id(value) in done:
                return done[id(value)][1]
            if isinstance(value, Leaf):
                found = change(value)
                is_changed |= found is not None and value.name != ""
                made: Feature = value if found is None else found
            else:
                made = value.with_parts(visit)
            done[id(value)] = value, made
            return made

        made = visit(self)
        if not is_changed:
            raise ValueError(f"this value is {otherwise}")
        return made

    def __add__(self, other: Feature | Number) -> Feature:
        return Elementwise("+", (self, as_feature(other)))

    def __radd__(self, other: Number) -> Feature:
        return Elementwise("+", (as_feature(other), self))

    def __sub__(self, other: Feature | Number) -> Feature:
        return Elementwise("-", (self, as_feature(other)))

    def __rsub__(self, other: Number) -> Feature:
        return Elementwise("-", (as_feature(other), self))

    def __mul__(self, other: Feature | Number) -> Feature:
        return Elementwise("*", (self, as_feature(other)))

    def __rmul__(self, other: Number) -> Feature:
        return Elementwise("*", (as_feature(other), self))

    def __truediv__(self, other: Feature | Number) -> Feature:
        return Elementwise("/", (self, as_feature(other)))

    def __rtruediv__(self, other: Number) -> Feature:
        return Elementwise("/", (as_feature(other), self))

    def __neg__(self) -> Feature:
        return Elementwise("-", (Constant(0.0), self))

    def __abs__(self) -> Feature:
        return Elementwise("abs", (self,))

    def __lt__(self, other: Feature | Number) -> Feature:
        return Elementwise("<", (self, as_feature(other)))

    def __le__(self, other: Feature | Number) -> Feature:
        return Elementwise("<=", (self, as_feature(other)))

    def __gt__(self, other: Feature | Number) -> Feature:
        return Elementwise(">", (self, as_feature(other)))

    def __ge__(self, other: Feature | Number) -> Feature:
        return Elementwise(">=", (self, as_feature(other)))

    def __and__(self, other: Feature) -> Feature:
        return Elementwise("&", (self, as_feature(other)))

    def __or__(self, other: Feature) -> Feature:
        return Elementwise("|", (self, as_feature(other)))

    def __invert__(self) -> Feature:
        return Elementwise("~", (self,))

    def __bool__(self) -> bool:
        raise TypeError("a feature has a value for each bar: use & | ~ between comparisons, and not and, or, not, if")


@dataclass(frozen=True, slots=True)
class Leaf(Feature):
    """A column of the bars, or of ``ta_signals``.

    `symbol` is "" for the symbol of the row, `timeframe` for the strategy's own.
    """

    name: str
    symbol: str = ""
    timeframe: str = ""

    def __str__(self) -> str:
        of = f".of({self.symbol!r})" if self.symbol else ""
        on = f".on({self.timeframe!r})" if self.timeframe else ""
        return f"{self.name}{of}{on}"


@dataclass(frozen=True, slots=True)
class Constant(Feature):
    """A number."""

    number: float

    def shift(self, bars: int) -> Feature:
        """See `Feature.shift`: a number is always the same."""
        Feature.shift(self, bars)
        return self

    def with_parts(self, change: Callable[[Feature], Feature]) -> Feature:  # noqa: ARG002 - it has none
        """See `Feature.with_parts`."""
        return self

    def __str__(self) -> str:
        return f"{self.number:g}" if float(f"{self.number:g}") == self.number else repr(self.number)


@dataclass(frozen=True, slots=True)
class Shift(Feature):
    """A value of some bars before."""

    value: Feature
    bars: int

    def with_parts(self, change: Callable[[Feature], Feature]) -> Feature:
        """See `Feature.with_parts`."""
        return Shift(change(self.value), self.bars)

    def __str__(self) -> str:
        return f"{self.value}.shift({self.bars})"


@dataclass(frozen=True, slots=True)
class Elementwise(Feature):
    """An operation on the values of one bar."""

    operation: str
    values: tuple[Feature, ...]

    def with_parts(self, change: Callable[[Feature], Feature]) -> Feature:
        """See `Feature.with_parts`."""
        return Elementwise(self.operation, tuple(map(change, self.values)))

    def __str__(self) -> str:
        if self.operation.isalpha():
            return f"{self.operation}({', '.join(map(str, self.values))})"
        return (
            f"({f' {self.operation} '.join(map(str, self.values))})" if len(self.values) > 1 else f"~{self.values[0]}"
        )


@dataclass(frozen=True, slots=True)
class Rank(Feature):
    """The place of a value among those of the entry's symbols in one slice: from 0 for the lowest to 1 for the highest."""

    value: Feature

    def of(self, symbol: str) -> Feature:
        """See `Feature.of`: a rank is the row's own."""
        raise ValueError(f"a rank is among the symbols of the entry: rank(...).of({symbol!r}) is not computed")

    def with_parts(self, change: Callable[[Feature], Feature]) -> Feature:
        """See `Feature.with_parts`."""
        return Rank(change(self.value))

    def __str__(self) -> str:
        return f"rank({self.value})"


@dataclass(frozen=True, slots=True)
class IndicatorCall(Feature):
    """What an indicator plugin computes.

    `arguments` are its inputs and then its parameters, as they were given; `keywords` the parameters given by name.
    `output` is "" for an indicator with only one. `timeframe` and `symbol` are those of inputs that are not given.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()
    output: str = ""
    symbol: str = ""
    timeframe: str = ""

    def __getitem__(self, output: str) -> IndicatorCall:
        """One of several outputs."""
        return replace(self, output=output)

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """The inputs that were given."""
        return tuple(value for value in self.arguments if isinstance(value, Feature))

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The parameters that were given without a name."""
        return tuple(value for value in self.arguments if not isinstance(value, Feature))

    def with_parts(self, change: Callable[[Feature], Feature]) -> Feature:
        """See `Feature.with_parts`; the inputs that are not given are one part, a leaf that has their symbol and timeframe.

        Its name is "" where any input is given.
        """
        own = cast("Leaf", change(Leaf("" if self.inputs else self.name, self.symbol, self.timeframe)))
        arguments = tuple(change(value) if isinstance(value, Feature) else value for value in self.arguments)
        return replace(self, arguments=arguments, symbol=own.symbol, timeframe=own.timeframe)

    def __str__(self) -> str:
        given = [str(value) for value in self.arguments] + [f"{name}={value}" for name, value in self.keywords]
        of = f".of({self.symbol!r})" if self.symbol and not self.inputs else ""
        on = f".on({self.timeframe!r})" if self.timeframe and not self.inputs else ""
        output = f"[{self.output!r}]" if self.output else ""
        return f"{self.name}({', '.join(given)}){output}{of}{on}"


class IndicatorName:
    """The name of an indicator, such as ``ema`` in ``ema(close, 20)``: called, it gives a value, and is none itself."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__doc__ = f"What the indicator {name.replace('_', '-')!r} computes."

    def __call__(self, *arguments: Any, timeframe: str = "", **parameters: Any) -> IndicatorCall:
        """The indicator of these inputs and parameters."""
        for value in (*arguments, *parameters.values()):
            if isinstance(value, IndicatorName):
                value.misuse()
            if isinstance(value, Optional):
                raise TypeError(OPTIONAL_LAST)
        name = self.__name__.replace("_", "-")
        made = IndicatorCall(name, arguments, tuple(sorted(parameters.items())))
        return cast("IndicatorCall", made.on(timeframe)) if timeframe else made

    def misuse(self, *_others: Any) -> NoReturn:
        """Say that it is no value.

        Raises
        ------
        TypeError : always.
        """
        columns = ", ".join(BAR_COLUMNS)
        name = self.__name__
        raise TypeError(
            f"{name} is no column of the bars (use one of {columns}), and an indicator is called: {name}(...)"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self.misuse()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = misuse
    __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __invert__ = __neg__ = __abs__ = __getitem__ = misuse


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that a row may lack; see `Feature.optional`."""

    value: Feature

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(name if name.startswith("__") else OPTIONAL_LAST)

"""Features as values: what to compute, said without computing it. Equal values are computed once.

A value is a tree: leaves (a column of the bars), indicators, arithmetic, comparisons. It is immutable, and equal to any other
value that says the same. Nothing here knows how anything is computed; a generation resolves the names when it is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeAlias, cast

from torghut_core.model.market import SYMBOL_PATTERN, TIMEFRAMES

Number: TypeAlias = "int | float"

BAR_COLUMNS = (
    "open", "high", "low", "close", "volume", "vwap", "trade_count", "bid", "ask", "bid_size", "ask_size",
)  # fmt: skip
"""The leaves that are no columns of ``ta_signals``."""


def as_feature(value: Feature | Number) -> Feature:
    """A value as a feature: itself, or a number that is the same at every bar."""
    if isinstance(value, Feature):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Constant(float(value))
    if isinstance(value, IndicatorName):
        value.misuse()
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
        ValueError : `bars` is negative: no value can be of a later bar.
        """
        if type(bars) is not int or bars < 0:
            raise ValueError(f"shift({bars!r}) would look ahead: give a number of bars, 0 or more")
        return Shift(self, bars) if bars else self

    def of(self, symbol: str) -> Feature:
        """The same of another symbol, as it is known at the bar's end."""
        if not isinstance(symbol, str) or not SYMBOL_PATTERN.fullmatch(symbol):
            raise ValueError(f"{symbol!r:.80} is not a symbol")
        return self.with_leaves(lambda leaf: leaf if leaf.symbol else replace(leaf, symbol=symbol))

    def on(self, timeframe: str) -> Feature:
        """The same on bars of a timeframe, such as ``1Hour``: the value of the last one that is complete."""
        if timeframe not in TIMEFRAMES:
            raise ValueError(f"{timeframe!r:.80} is not a timeframe: use one of {', '.join(TIMEFRAMES)}")
        return self.with_leaves(lambda leaf: leaf if leaf.timeframe else replace(leaf, timeframe=timeframe))

    @property
    def optional(self) -> Optional:
        """The value, without which rows come nevertheless: it is NaN in those."""
        return Optional(self)

    def with_leaves(self, change: Callable[[Leaf], Leaf]) -> Feature:
        """The same value with other leaves."""
        raise NotImplementedError

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

    def with_leaves(self, change: Callable[[Leaf], Leaf]) -> Feature:
        """See `Feature.with_leaves`."""
        return change(self)

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

    def with_leaves(self, change: Callable[[Leaf], Leaf]) -> Feature:  # noqa: ARG002 - it has none
        """See `Feature.with_leaves`."""
        return self

    def __str__(self) -> str:
        return f"{self.number:g}" if float(f"{self.number:g}") == self.number else repr(self.number)


@dataclass(frozen=True, slots=True)
class Shift(Feature):
    """A value of some bars before."""

    value: Feature
    bars: int

    def with_leaves(self, change: Callable[[Leaf], Leaf]) -> Feature:
        """See `Feature.with_leaves`."""
        return Shift(self.value.with_leaves(change), self.bars)

    def __str__(self) -> str:
        return f"{self.value}.shift({self.bars})"


@dataclass(frozen=True, slots=True)
class Elementwise(Feature):
    """An operation on the values of one bar."""

    operation: str
    values: tuple[Feature, ...]

    def with_leaves(self, change: Callable[[Leaf], Leaf]) -> Feature:
        """See `Feature.with_leaves`."""
        return Elementwise(self.operation, tuple(value.with_leaves(change) for value in self.values))

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

    def with_leaves(self, change: Callable[[Leaf], Leaf]) -> Feature:
        """See `Feature.with_leaves`."""
        return Rank(self.value.with_leaves(change))

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

    def with_leaves(self, change: Callable[[Leaf], Leaf]) -> Feature:
        """See `Feature.with_leaves`."""
        own = change(Leaf("", self.symbol, self.timeframe))
        arguments = tuple(
            value.with_leaves(change) if isinstance(value, Feature) else value for value in self.arguments
        )
        return replace(self, arguments=arguments, symbol=own.symbol, timeframe=own.timeframe)

    def __str__(self) -> str:
        given = [str(value) for value in self.arguments] + [f"{name}={value}" for name, value in self.keywords]
        of = f".of({self.symbol!r})" if self.symbol and not self.inputs else ""
        on = f".on({self.timeframe!r})" if self.timeframe and not self.inputs else ""
        output = f"[{self.output!r}]" if self.output else ""
        return f"{self.name}({', '.join(given)}){output}{of}{on}"


class IndicatorName:
    """What makes values of the indicator of a name, ``ema`` of ``ema(close, 20)``; it is no value itself."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__doc__ = f"What the indicator {name.replace('_', '-')!r} computes."

    def __call__(self, *arguments: Any, timeframe: str = "", **parameters: Any) -> IndicatorCall:
        """The indicator of these inputs and parameters."""
        for value in (*arguments, *parameters.values()):
            if isinstance(value, IndicatorName):
                value.misuse()
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

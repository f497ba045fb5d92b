"""What a strategy can want computed; a public door. Nothing is computed here.

``from torghut_core.features import close, ema``: a column of the bars is a value, and an indicator is a function that makes a
value. It takes its inputs, which may be left out, then its parameters, then ``timeframe=``. A name that is not defined here is
that of an indicator plugin, with ``_`` for ``-``. Whether there is such a plugin, and whether it takes these parameters, is
checked when a generation is built.
"""

from __future__ import annotations

from typing import Any

from torghut_core.features.values import (
    Elementwise,
    Feature,
    IndicatorCall,
    IndicatorName,
    Leaf,
    Number,
    Optional,
    Rank,
    Shift,
    as_feature,
)
from torghut_core.model.market import SIGNAL_COLUMNS

open = Leaf("open")  # noqa: A001 - the field's word
high = Leaf("high")
low = Leaf("low")
close = Leaf("close")
volume = Leaf("volume")
vwap = Leaf("vwap")
trade_count = Leaf("trade_count")
bid = Leaf("bid")
ask = Leaf("ask")
bid_size = Leaf("bid_size")
ask_size = Leaf("ask_size")


def column(name: str) -> Feature:
    """A column of ``ta_signals``.

    Raises
    ------
    ValueError : there is none of that name.
    """
    if name not in SIGNAL_COLUMNS:
        raise ValueError(f"{name!r:.80} is no column of ta_signals: use one of {', '.join(SIGNAL_COLUMNS)}")
    return Leaf(name)


def where(condition: Feature, then: Feature | Number, otherwise: Feature | Number) -> Feature:
    """`then` where a condition holds, `otherwise` where it does not."""
    return Elementwise("where", (condition, as_feature(then), as_feature(otherwise)))


def smaller(first: Feature | Number, second: Feature | Number) -> Feature:
    """The smaller of two values of one bar."""
    return Elementwise("smaller", (as_feature(first), as_feature(second)))


def larger(first: Feature | Number, second: Feature | Number) -> Feature:
    """The larger of two values of one bar."""
    return Elementwise("larger", (as_feature(first), as_feature(second)))


def log(value: Feature) -> Feature:
    """The natural logarithm; NaN of what is not positive."""
    return Elementwise("log", (value,))


def sqrt(value: Feature) -> Feature:
    """The square root; NaN of what is negative."""
    return Elementwise("sqrt", (value,))


def cross_above(first: Feature, second: Feature | Number) -> Feature:
    """Whether a value is above another one at this bar, and was not at the bar before."""
    other = as_feature(second)
    return (first > other) & (first <= other).shift(1)


def cross_below(first: Feature, second: Feature | Number) -> Feature:
    """Whether a value is below another one at this bar, and was not at the bar before."""
    other = as_feature(second)
    return (first < other) & (first >= other).shift(1)


def rank(value: Feature) -> Feature:
    """The place of a value among those of all symbols of the catalog entry: 0 for the lowest, 1 for the highest."""
    return Rank(value)


def indicator(name: str, *arguments: Any, timeframe: str = "", **parameters: Any) -> IndicatorCall:
    """What an indicator plugin computes, by its name as text: ``indicator("acme-gap", close, 3)``, also where the name is a word of Python."""
    return IndicatorName(name)(*arguments, timeframe=timeframe, **parameters)


def __getattr__(name: str) -> IndicatorName:
    if name.startswith("_"):
        raise AttributeError(name)
    return IndicatorName(name)


__all__ = [
    "Feature",
    "Optional",
    "Shift",
    "ask",
    "ask_size",
    "bid",
    "bid_size",
    "close",
    "column",
    "cross_above",
    "cross_below",
    "high",
    "indicator",
    "larger",
    "log",
    "low",
    "rank",
    "smaller",
    "sqrt",
    "trade_count",
    "volume",
    "vwap",
    "where",
]

"""What a row of market data must be to be traded on: one definition, for tapes that are read and tapes that are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from torghut_core.model.market import Bars, FloatArray, Quotes, Table, Trades

BoolArray: TypeAlias = NDArray[np.bool_]
Rule: TypeAlias = tuple[BoolArray, str, str]

_LATEST = 2**63 - 1
_POSITIVE = "must be a positive number"
_NOT_NEGATIVE = "must be zero or a positive number"


def row_rules(table: Table) -> Iterator[Rule]:
    """Yield the rules of a table's rows: which rows keep one, shape (n,), its column, and what that must be.

    What vendors print where there is no value, such as a price and size of 0 on the missing side of a quote, is made NaN first.
    """
    if isinstance(table, Trades):
        yield _is_positive(table.price), "price", _POSITIVE
        yield _is_positive(table.size), "size", _POSITIVE
    elif isinstance(table, Quotes):
        yield from _of_quotes(table)
    elif isinstance(table, Bars):
        yield from _of_bars(table)


def _of_quotes(quotes: Quotes) -> Iterator[Rule]:
    """Yield the rules of quotes; a side may be missing, which some venues print as price 0 and size 0."""
    for side, price, size in (("bid", quotes.bid_price, quotes.bid_size), ("ask", quotes.ask_price, quotes.ask_size)):
        price[(price == 0) & ~(size > 0)] = np.nan
        size[np.isnan(price)] = np.nan
        yield _is_positive(price) | np.isnan(price), f"{side}_price", _POSITIVE
        yield _is_not_negative(size) | np.isnan(size), f"{side}_size", _NOT_NEGATIVE


def _of_bars(bars: Bars) -> Iterator[Rule]:
    """Yield the rules of bars; an interval without trades may have a volume and vwap of 0."""
    yield (
        (bars.step > 0) & (bars.event_ts <= _LATEST - bars.step),
        "event_ts",
        "must be the start of a bar that ends by 2262",
    )
    for name in ("open", "high", "low", "close"):
        yield _is_positive(getattr(bars, name)), name, _POSITIVE
    yield bars.high >= bars.low, "high", "must not be below low"
    for name, price in (("open", bars.open), ("close", bars.close)):
        yield (bars.low <= price) & (price <= bars.high), name, "must be between low and high"
    yield _is_not_negative(bars.volume), "volume", _NOT_NEGATIVE
    bars.vwap[(bars.vwap == 0) & (bars.volume == 0)] = np.nan
    yield _is_positive(bars.vwap) | np.isnan(bars.vwap), "vwap", _POSITIVE


def _is_positive(values: FloatArray) -> BoolArray:
    return (values > 0) & (values < np.inf)


def _is_not_negative(values: FloatArray) -> BoolArray:
    return (values >= 0) & (values < np.inf)

"""The conformance suite of an indicator."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from torghut_core import SIGNAL_COLUMNS, TIMEFRAMES, Batch, FloatArray, Indicator
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.generators import SYMBOLS, random_bars
from torghut_testing.plain import plain_copy

if TYPE_CHECKING:  # importing it loads the compiler, which other suites do not need
    from torghut_core.features import Feature
    from torghut_core.research import FeatureRows

NAME = "under-test"
TIMEFRAME = "1Min"
STEP = TIMEFRAMES[TIMEFRAME]
COLUMNS = (
    "open", "high", "low", "close", "volume", "vwap", "trade_count", "bid", "ask", "bid_size", "ask_size",
)  # fmt: skip
"""Columns of a bar, and of the last quote."""
MARKETS: Mapping[str, Any] = {
    "flat": {"volatility": 0.0},
    "jumping": {"volatility": 0.2},
    "tiny": {"price": 1e-6},
    "huge": {"price": 1e7},
}
"""What `random_bars` makes of each kind of market."""


class IndicatorConformance(PluginConformance):
    """Laws of an indicator, compiled or in plain Python, on random bars; it is run as in trading.

    Attributes
    ----------
    indicator : the class under test.
    params : its parameters where the defaults do not work, or take many bars to be warm.
    waits : whether a value may be missing also when it is warm, as of one that waits for prices to turn.

    Examples
    --------
    A whole test file::

        class TestGap(IndicatorConformance):
            indicator = Gap
    """

    indicator: ClassVar[type[Indicator]]
    waits: ClassVar[bool] = False

    @property
    def subject(self) -> type[Indicator]:
        """The class under test."""
        return self.indicator

    def inputs(self) -> Sequence[Feature]:
        """What it is made of: columns of the bar by their names, and close, high and low in turn for other names."""
        from torghut_core import features

        others = cycle((features.close, features.high, features.low))
        return [
            getattr(features, name)
            if name in COLUMNS
            else features.column(name)
            if name in SIGNAL_COLUMNS
            else next(others)
            for name in self.indicator.inputs
        ]

    @property
    def count(self) -> int:
        """Bars of each symbol in the checks."""
        return int(self.make().warmup) + 60

    # What it says.

    def test_inputs_and_outputs_are_named(self) -> None:
        """Inputs and outputs are tuples of names, each once."""
        for what in ("inputs", "outputs"):
            names = getattr(self.indicator, what)
            assert isinstance(names, tuple), f"`{what}` is a {type(names).__name__}: make it a tuple of names"
            assert names, f"`{what}` is empty"
            assert len(set(names)) == len(names), f"a name of `{what}` is there twice"
            assert all(isinstance(name, str) and name.isidentifier() for name in names), (
                f"`{what}`: names are identifiers"
            )

    def test_warmup_and_memory_are_numbers_of_bars(self) -> None:
        """`warmup` is at least 1, and `memory` at least `warmup`."""
        made = self.make()
        assert type(made.warmup) is int, f"`warmup` is {made.warmup!r}: give a number of bars"
        assert type(made.memory) is int, f"`memory` is {made.memory!r}: give a number of bars"
        assert made.memory >= made.warmup >= 1, (
            f"`warmup` {made.warmup} and `memory` {made.memory}: 1 or more, in this order"
        )

    # The laws.

    @pytest.mark.parametrize("seed", range(2))
    def test_chunking_changes_nothing(self, seed: int) -> None:
        """However the bars are cut into batches, one by one too, every value is the same, to the bit."""
        batch = self._bars(seed)
        whole = self._values([batch])
        for size in (1, 7, 97):
            _assert_same(whole, self._values(_chunks(batch, size)), f"in batches of {size}")

    @pytest.mark.parametrize("seed", range(2))
    def test_saved_state_carries_on(self, seed: int) -> None:
        """One that loads the saved state, at any bar, gives the values that the old one would have given."""
        batch = self._bars(seed)
        whole = self._values([batch])
        n = len(batch)
        for cut in sorted({1, 2, len(SYMBOLS) * self.make().warmup - 1, n // 2, n - 2}):
            first, second = _chunks(batch, cut)[0], _rest(batch, cut)
            rows = self._rows()
            values = self._values([first], rows)
            successor = self._rows()
            successor.load(_copied(rows.save()))
            more = self._values([second], successor)
            both = {symbol: np.hstack([values[symbol], more[symbol]]) for symbol in SYMBOLS}
            _assert_same(whole, both, f"after it was saved and loaded at bar {cut}: is all state saved?")

    @pytest.mark.parametrize("seed", range(2))
    def test_nothing_looks_ahead(self, seed: int) -> None:
        """Values up to a bar are the same whatever comes after it."""
        batch, other = self._bars(seed), self._bars(seed + 1000)
        kept = self.count // 2
        cut = kept * len(SYMBOLS)
        other.signals.floats[:, :cut] = batch.signals.floats[:, :cut]
        before, after = self._values([batch]), self._values([other])
        for values in (before, after):
            values |= {symbol: column[:, :kept] for symbol, column in values.items()}
        _assert_same(before, after, "with other bars after it: it looks ahead")

    @pytest.mark.parametrize("seed", range(2))
    def test_it_is_warm_when_it_says(self, seed: int) -> None:
        """All outputs are known from bar number `warmup` on, and not before."""
        warmup = self.make().warmup
        for symbol, values in self._values([self._bars(seed)]).items():
            known: NDArray[np.bool_] = np.atleast_1d(~np.isnan(values).any(axis=0))
            early = np.flatnonzero(known[: warmup - 1])
            assert not len(early), f"{symbol}: known at bar {early[:1] + 1}, before `warmup` {warmup}: NaN until then"
            if self.waits:
                assert known.any(), f"{symbol}: never known"
            else:
                assert known[warmup - 1 :].all(), f"{symbol}: not known at every bar from `warmup` {warmup} on"

    @pytest.mark.parametrize("seed", range(2))
    def test_symbols_do_not_affect_each_other(self, seed: int) -> None:
        """The values of a symbol are the same when its bars come alone."""
        batch = self._bars(seed)
        together = self._values([batch])
        for number, symbol in enumerate(SYMBOLS):
            alone = Batch.of(batch.symbols, 0, batch.now)
            alone.signals = batch.signals.take(batch.signals.symbol == number)
            own = self._values([alone])[symbol]
            _assert_same({symbol: together[symbol]}, {symbol: own}, "without the other symbol: is state kept for each?")

    @pytest.mark.parametrize("market", MARKETS)
    def test_wild_markets_are_survived(self, market: str) -> None:
        """Prices that never move or jump, tiny or huge, give numbers or NaN: nothing is raised, and nothing is infinite."""
        for symbol, values in self._values([self._bars(0, **MARKETS[market])]).items():
            assert not np.isinf(values).any(), f"{symbol}: an infinite value in a market that is {market}"

    def test_missing_input_changes_nothing(self) -> None:
        """A bar without one of the inputs has no value, and the values of all others are as if it had not come."""
        batch = self._bars(0)
        rng = np.random.default_rng(0)
        gaps = rng.random(len(batch.signals)) < 0.2
        batch.signals.floats[:, gaps] = np.nan
        without = Batch.of(batch.symbols, 0, batch.now)
        without.signals = batch.signals.take(~gaps)
        found, wanted = self._values([batch]), self._values([without])
        for number, symbol in enumerate(SYMBOLS):
            own = gaps[batch.signals.symbol == number]
            if {*self.indicator.inputs} - {"trade_count"}:  # a count is never missing
                assert np.isnan(found[symbol][:, own]).all(), f"{symbol}: a value without its input"
                _assert_same({symbol: wanted[symbol]}, {symbol: found[symbol][:, ~own]}, "where bars were missing")

    # How it is run.

    def _bars(self, seed: int, **market: Any) -> Batch:
        return random_bars(seed, self.count, {TIMEFRAME: SYMBOLS}, timeframe=TIMEFRAME, **market)

    def _rows(self) -> FeatureRows:
        from torghut_core.features import indicator
        from torghut_core.research import FeatureRows

        call = indicator(NAME, *self.inputs(), **self.params)
        outputs = {f"output_{number}": call[name].optional for number, name in enumerate(self.indicator.outputs)}
        return FeatureRows(outputs, SYMBOLS, TIMEFRAME, indicators={NAME: self.indicator})

    def _values(self, batches: Sequence[Batch], rows: FeatureRows | None = None) -> dict[str, FloatArray]:
        """Its values by symbol, shape (outputs, bars)."""
        rows = rows or self._rows()
        outputs = [f"output_{number}" for number in range(len(self.indicator.outputs))]
        found: dict[str, list[list[float]]] = {symbol: [] for symbol in SYMBOLS}
        for batch in batches:
            for row in rows.update(batch):
                found[row.symbol].append([getattr(row, name) for name in outputs])
        return {symbol: np.array(values).reshape(-1, len(outputs)).T for symbol, values in found.items()}


def _chunks(batch: Batch, size: int) -> list[Batch]:
    return [_part(batch, first, stop) for first, stop in pairwise([*range(0, len(batch), size), len(batch)])]


def _rest(batch: Batch, cut: int) -> Batch:
    return _part(batch, cut, len(batch))


def _part(batch: Batch, first: int, stop: int) -> Batch:
    part = Batch.of(batch.symbols, first, batch.now[first:stop])
    part.signals = batch.signals.take((batch.signals.at >= first) & (batch.signals.at < stop))
    return part


def _copied(saved: Any) -> Any:
    """A copy; of what an indicator in plain Python saves, of plain values alone."""
    for states in saved["nodes"].values():
        if isinstance(states, Mapping):
            for state in states.values():
                if isinstance(state, Mapping):
                    plain_copy(state)
    return copy.deepcopy(saved)


def _assert_same(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray], when: str) -> None:
    for symbol, values in first.items():
        np.testing.assert_array_equal(second[symbol], values, err_msg=f"other values of {symbol} {when}", strict=True)

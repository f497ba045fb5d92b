"""The conformance suite of a stage."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from torghut_core import Batch
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.generators import SYMBOLS, random_batch
from torghut_testing.plain import plain_copy

if TYPE_CHECKING:  # importing it loads the stage compiler, which a strategy's test does not need
    from torghut_core.stages import Stage

TABLES = ("trades", "quotes", "bars", "microbars", "signals")
COUNTS = ("late", "duplicates", "excluded")
Derived = dict[tuple[str, str], Any]


class StageConformance(PluginConformance):
    """Laws of a stage on random event streams.

    Attributes
    ----------
    stage : the class under test.
    params : its parameters where the defaults do not work.
    """

    stage: ClassVar[type[Stage]]

    @property
    def subject(self) -> type[Stage]:
        """The class under test."""
        return self.stage

    def batch(self, seed: int) -> Batch:
        """The event stream; override it where the stage needs other events."""
        return random_batch(seed)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("size", [1, 20, 97])
    def test_chunking_changes_nothing(self, seed: int, size: int) -> None:
        """However the stream is cut into batches, every output is the same, to the bit."""
        whole = _collect([self.make().update(self.batch(seed))])
        stage = self.make()
        cut = _collect([stage.update(chunk) for chunk in _chunks(self.batch(seed), size)])
        _assert_same(whole, cut)

    @pytest.mark.parametrize("seed", range(3))
    def test_saved_state_carries_on(self, seed: int) -> None:
        """A new instance that loads the saved state gives the output that the old one would have given."""
        whole = _collect([self.make().update(self.batch(seed))])
        stage, parts = self.make(), []
        for chunk in _chunks(self.batch(seed), 97):
            parts.append(stage.update(chunk))
            successor = self.make()
            successor.load_state(plain_copy(stage.save_state()), stage.state_version)
            stage = successor
        _assert_same(whole, _collect(parts))

    @pytest.mark.parametrize("seed", range(3))
    def test_symbols_do_not_affect_each_other(self, seed: int) -> None:
        """A symbol's rows have the same values when its events come alone; windows that are still open may differ."""
        together = self.make().update(random_batch(seed, late=False))
        for symbol in SYMBOLS:
            alone = self.make().update(random_batch(seed, symbols=[symbol], late=False))
            for table in ("microbars", "signals"):
                theirs = _values(alone, table, symbol)
                for column, ours in _values(together, table, symbol).items():
                    rows = min(len(ours), len(theirs[column]))
                    place = f"{table} {column} of {symbol}"
                    np.testing.assert_array_equal(ours[:rows], theirs[column][:rows], err_msg=place)

    @pytest.mark.parametrize("seed", range(3))
    def test_rows_are_in_order_and_in_the_batch(self, seed: int) -> None:
        """`at` of derived rows never falls, and lies within the batch that they came with."""
        stage = self.make()
        for chunk in _chunks(self.batch(seed), 20):
            out = stage.update(chunk)
            for table in (out.microbars, out.signals):
                assert (np.diff(table.at) >= 0).all(), "`at` of derived rows falls"
                inside = (table.at >= chunk.start) & (table.at < chunk.stop)
                assert inside.all(), "`at` of a derived row is outside of its batch"


def _chunks(batch: Batch, size: int) -> Iterator[Batch]:
    rest = batch
    for _, stop in pairwise([*range(batch.start, batch.stop, size), batch.stop]):
        chunk, rest = rest.split(stop)
        yield chunk


def _collect(batches: list[Batch]) -> Derived:
    """Every column of every table over all parts, and the counts; not the numbers of series, which a stage may choose."""
    derived: Derived = {("", name): sum(getattr(batch, name) for batch in batches) for name in COUNTS}
    for table in TABLES:
        joined = type(getattr(batches[0], table)).concatenate([getattr(batch, table) for batch in batches])
        for column in (*joined.INT_COLUMNS, *joined.FLOAT_COLUMNS):
            if column != "series":
                derived[table, column] = getattr(joined, column)
    return derived


def _assert_same(first: Derived, second: Derived) -> None:
    for (table, column), values in first.items():
        np.testing.assert_array_equal(second[table, column], values, err_msg=f"{table} {column}", strict=True)


def _values(batch: Batch, table: str, symbol: str) -> dict[str, Any]:
    """The columns of a symbol's rows, without positions and the numbers of symbols and series."""
    rows = getattr(batch, table)
    mine = rows.take(rows.symbol == batch.symbols.find(symbol))
    columns = {*mine.INT_COLUMNS, *mine.FLOAT_COLUMNS} - {"at", "symbol", "series"}
    return {column: getattr(mine, column) for column in sorted(columns)}

"""What every source of events promises."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import numpy as np
import pytest

from torghut_core import Bars, Batch, Quotes, Source, Trades
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.plain import plain_copy


class SourceConformance(PluginConformance):
    """Checks of a source that comes to an end. For one that does not, override `make` to give one on recorded data.

    Attributes
    ----------
    source : the class under test.
    params : its parameters, where the defaults will not do.
    """

    source: ClassVar[type[Source]]

    @property
    def subject(self) -> type[Source]:
        """The class under test."""
        return self.source

    @pytest.mark.parametrize("size", [1, 7, 1_000])
    def test_positions_follow_each_other(self, size: int) -> None:
        """Batches join without a gap, hold at most `size` events, and their time never falls."""
        batches = _read(self.make(), size)
        assert batches, "the source gave nothing: give it something to read in `params`"
        assert [batch.start for batch in batches] == [0, *(batch.stop for batch in batches[:-1])]
        assert all(0 < len(batch) <= size for batch in batches)
        assert (np.diff(np.concatenate([batch.now for batch in batches])) >= 0).all()
        assert len({id(batch.symbols) for batch in batches}) == 1
        for batch in batches:
            for table in (batch.trades, batch.quotes, batch.bars):
                assert (np.diff(table.at) > 0).all()
                assert ((table.at >= batch.start) & (table.at < batch.stop)).all()

    @pytest.mark.parametrize("size", [1, 7])
    def test_batch_size_changes_nothing(self, size: int) -> None:
        """The events are the same, however many are taken at a time."""
        _assert_same(_events(_read(self.make(), size)), _events(_read(self.make(), 1_000)))

    def test_total_is_kept(self) -> None:
        """A source that says how much is to come gives that much."""
        source = self.make()
        total = source.total
        if total is None:
            pytest.skip("the source does not say how many events are to come")
        assert sum(len(batch) for batch in _read(source, 1_000)) == total

    def test_source_resumes_at_its_cursor(self) -> None:
        """A new instance that seeks a cursor goes on after the batch at which it was taken."""
        size = 7
        batches, cursors = asyncio.run(_collect(self.make(), size))
        if not cursors[0]:
            pytest.skip("the source has no cursor: it cannot resume")
        for taken in {0, len(batches) // 2}:
            successor = self.make()
            successor.seek(plain_copy(cursors[taken], "cursor"))
            rest = _read(successor, size)
            assert [batch.start for batch in rest] == [batch.start for batch in batches[taken + 1 :]]
            _assert_same(_events(rest), _events(batches[taken + 1 :]))


class LiveSourceConformance(PluginConformance):
    """Checks of a source that reaches out and has no end. What it does with its venue is for its own tests.

    Attributes
    ----------
    source : the class under test.
    """

    source: ClassVar[type[Source]]

    @property
    def subject(self) -> type[Source]:
        """The class under test."""
        return self.source

    def test_it_can_be_made_and_closed_without_a_connection(self) -> None:
        """A catalog can be checked where the venue cannot be reached."""
        source = self.make()
        source.close()
        source.close()

    def test_it_is_not_ready_before_it_is_connected(self) -> None:
        """Nobody trades on a source that has not said yet that it makes progress."""
        closed = [gate for gate in self.make().gates().values() if gate is not None]
        assert closed
        assert all(gate.reason and gate.error_class for gate in closed)

    def test_metrics_are_numbers(self) -> None:
        """What it counts can be shown."""
        for name, value in self.make().metrics().items():
            numbers = [value] if isinstance(value, (int, float)) else list(value.values())
            assert name == name.lower()
            assert all(isinstance(number, (int, float)) for number in numbers), name


async def _collect(source: Source, size: int) -> tuple[list[Batch], list[dict[str, Any]]]:
    """All batches, and the cursor after each."""
    batches, cursors = [], []
    async for batch in source.batches(size):
        batches.append(batch)
        cursors.append(source.cursor())
    return batches, cursors


def _read(source: Source, size: int) -> list[Batch]:
    return asyncio.run(_collect(source, size))[0]


def _events(batches: list[Batch]) -> dict[str, Any]:
    """Every column of the events, symbols by name."""
    events: dict[str, Any] = {"now": [moment for batch in batches for moment in batch.now.tolist()]}
    for name, cls in (("trades", Trades), ("quotes", Quotes), ("bars", Bars)):
        tables: list[Any] = [getattr(batch, name) for batch in batches]
        table = cls.concatenate(tables)
        for column in (*table.INT_COLUMNS, *table.FLOAT_COLUMNS):
            events[f"{name} {column}"] = getattr(table, column)
        names = batches[0].symbols.names if batches else []
        events[f"{name} symbol"] = [names[number] for number in table.symbol.tolist()]
    return events


def _assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    for name, values in first.items():
        if name.endswith((" series", " conditions")):
            continue  # numbers of the source's own symbol table
        np.testing.assert_array_equal(second[name], values, err_msg=name)

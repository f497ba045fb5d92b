"""The conformance suites of a source: of recorded data, and of a live feed."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import numpy as np
import pytest

from torghut_core import Bars, Batch, Quotes, Source, Trades
from torghut_testing.conformance.metrics import check_metrics
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.plain import plain_copy


class SourceConformance(PluginConformance):
    """Checks of a source that ends. For one that does not, override `make` to return one on recorded data.

    Attributes
    ----------
    source : the class under test.
    params : its parameters where the defaults do not work.
    """

    source: ClassVar[type[Source]]

    @property
    def subject(self) -> type[Source]:
        """The class under test."""
        return self.source

    @pytest.mark.parametrize("size", [1, 7, 1_000])
    def test_positions_follow_each_other(self, size: int) -> None:
        """Batches follow each other without a gap, hold at most `size` events, and their time never falls."""
        batches = _read(self.make(), size)
        assert batches, "the source delivered nothing (give it something to read in `params`)"
        starts, stops = [batch.start for batch in batches], [0, *(batch.stop for batch in batches[:-1])]
        assert starts == stops, "a batch does not start where the one before it stops"
        assert all(0 < len(batch) <= size for batch in batches), f"a batch is empty, or larger than {size} events"
        now = np.concatenate([batch.now for batch in batches])
        assert (np.diff(now) >= 0).all(), "`now` falls: it is the largest time known so far"
        assert len({id(batch.symbols) for batch in batches}) == 1, "the batches have different symbol tables"
        for batch in batches:
            for table in (batch.trades, batch.quotes, batch.bars):
                assert (np.diff(table.at) > 0).all(), "`at` does not rise within a table"
                inside = (table.at >= batch.start) & (table.at < batch.stop)
                assert inside.all(), "`at` is outside of the batch's start and stop"

    @pytest.mark.parametrize("size", [1, 7])
    def test_batch_size_changes_nothing(self, size: int) -> None:
        """The events are the same, whatever the batch size."""
        _assert_same(_events(_read(self.make(), size)), _events(_read(self.make(), 1_000)))

    def test_total_is_kept(self) -> None:
        """A source that states its total delivers that many events."""
        source = self.make()
        total = source.total
        if total is None:
            pytest.skip("the source states no total")
        assert sum(len(batch) for batch in _read(source, 1_000)) == total

    def test_source_resumes_at_its_cursor(self) -> None:
        """A new instance that seeks a cursor resumes after the batch at which the cursor was taken."""
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
    """Checks of a source of a live feed, which never ends. How it talks to its venue is for its own tests.

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
        """Making and closing it needs no connection, so that a catalog can be validated anywhere."""
        source = self.make()
        source.close()
        source.close()

    def test_it_is_not_ready_before_it_is_connected(self) -> None:
        """Before it is connected `gates` says that it is not ready, and why, so that nothing trades on it."""
        closed = [gate for gate in self.make().gates().values() if gate is not None]
        assert closed, "`gates` of a source that is not connected says that all is well"
        assert all(gate.reason and gate.error_class for gate in closed), "a closed gate has no reason or error class"

    def test_metrics_are_declared_numbers(self) -> None:
        """What it counts can be shown, each with its meaning and the label that tells its numbers apart."""
        check_metrics(self.make())


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

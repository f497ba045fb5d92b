"""The signal store as a source passes the kit's suite, on a store that does not grow."""

from collections.abc import AsyncIterator

from torghut_sources.signal_store import ClickHouseSignals
from torghut_testing import SourceConformance

from tests.plugins.signal_store.conftest import Stored, Wanted, store_rows
from torghut_core import Batch, Connection
from torghut_core.signals import MemorySignalStore


class Ending(ClickHouseSignals):
    """Ends where the next poll would be waited for."""

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """As the source's own, up to there."""
        try:
            async for batch in super().batches(size):
                yield batch
        except EOFError:
            return


async def end(_seconds: float) -> None:
    """Instead of a pause."""
    raise EOFError


class TestClickHouseSignals(SourceConformance):
    source = ClickHouseSignals

    def make(self):
        store = MemorySignalStore()
        store_rows(store, [Stored(symbol, start) for start in range(10) for symbol in ("ES", "NQ")])
        source = Ending(ClickHouseSignals.Params(start="earliest", batch=8), sleep=end)
        source.connect(Connection(False, lambda _name: None, Wanted("ES", "NQ"), store))
        return source

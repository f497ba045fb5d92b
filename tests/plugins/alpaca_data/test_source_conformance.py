"""The source keeps the kit's promises, on a simulated venue."""

import asyncio

import pytest
from torghut_sources.alpaca.source import Alpaca
from torghut_testing.conformance import SourceConformance

from support.waiting import PATIENCE


class TestAlpaca(SourceConformance):
    source = Alpaca

    @pytest.fixture(autouse=True)
    def _venue(self, simulated):
        self.simulated = simulated

    def make(self):
        return self.simulated.recorded()

    def test_source_resumes_at_its_cursor(self):
        """A new instance continues numbers and positions, and gives everything later; events of the same time may be repeated."""

        async def main():
            batches, cursors = [], []
            first = self.make()
            async for batch in first.batches(7):
                batches.append(batch)
                cursors.append(first.cursor())
            half = len(batches) // 2
            successor = self.make()
            successor.seek(cursors[half])
            rest = [batch async for batch in successor.batches(7)]
            assert rest[0].start == batches[half].stop
            later = {int(now) for batch in batches[half + 1 :] for now in batch.now}
            assert later <= {int(now) for batch in rest for now in batch.now}
            assert min(int(batch.now[0]) for batch in rest) >= cursors[half]["now"]

        async def limited():
            async with asyncio.timeout(PATIENCE):
                await main()

        asyncio.run(limited())

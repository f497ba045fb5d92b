"""What this source promises; the checks of every source run by themselves."""

import asyncio

from acme_alpha import START, AcmeAlpha
from torghut_core import SECOND


async def trades_of(source):
    """Time and size of every trade."""
    found = []
    async for batch in source.batches(7):
        found += zip(batch.trades.event_ts.tolist(), batch.trades.size.tolist(), strict=True)
    return found


def test_one_unit_trades_each_second():
    source = AcmeAlpha(AcmeAlpha.Params(count=10))
    assert asyncio.run(trades_of(source)) == [(START + number * SECOND, 1.0) for number in range(10)]

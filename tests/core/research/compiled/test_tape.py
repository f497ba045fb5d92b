"""What a compiled backtest keeps of a tape."""

import asyncio
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.model.market import Signals
from torghut_core.research import load_catalog, tape_generation
from torghut_core.research.compiled.tape import PRICES, read_tape
from torghut_core.timestamps import MINUTE

BARS = 90
COLUMNS = ["ema12", "rsi14"]


@pytest.fixture
def generation(tmp_path):
    """Makes a generation anew: reading uses it up."""
    close = 100 + np.arange(BARS) % 7 * 0.5
    table = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": np.ones(BARS)}
    times = pa.array(1_767_654_000_000_000_000 + np.arange(BARS) // 2 * MINUTE).cast(pa.timestamp("ns", "UTC"))
    symbols = pa.array(["ES", "NQ"] * (BARS // 2))
    pq.write_table(pa.table({"symbol": symbols, "event_ts": times, **table}), tmp_path / "tape.parquet")
    trading = {
        "source": {"use": "replay", "params": {"paths": [str(tmp_path / "tape.parquet")]}},
        "stages": [{"use": "indicators", "params": {"columns": COLUMNS}}],
        "broker": {"use": "simulated", "params": {"cash": "1000"}},
    }
    catalog = json.dumps({"version": 1, "pipelines": {"trading": trading}, "strategies": []})
    return lambda: tape_generation(load_catalog({"tape.json": catalog}))


def test_columns_that_nobody_asked_for_are_not_kept(generation):
    """Of the indicators, memory is used for those that the stage was asked for alone, and integers are the bars' own."""
    tape = read_tape(generation(), 16, lambda _events: None)
    assert {*tape.floats} == {*PRICES, *COLUMNS}
    assert tape.ints is tape.bars.ints


@pytest.mark.parametrize("size", [1, 16, 1000])
def test_its_batches_are_those_of_the_stages(generation, size):
    """Whatever the size of the batches, each comes back as the stages made it, columns without a value too."""
    tape = read_tape(generation(), size, lambda _events: None)
    (stage,) = generation().stages
    made = [stage.update(batch) for batch in _played(generation(), size)]
    kept = list(tape.batches())
    assert [len(batch) for batch in kept] == [*(len(batch) for batch in made), 1]  # the last one is a clock tick
    for ours, theirs in zip(kept, made, strict=False):
        assert ours.now.tobytes() == theirs.now.tobytes()
        for name in (*Signals.INT_COLUMNS, *Signals.FLOAT_COLUMNS):
            assert np.array_equal(
                getattr(ours.signals, name), getattr(theirs.signals, name), equal_nan=name in Signals.FLOAT_COLUMNS
            )


def _played(generation, size):
    async def read():
        return [batch async for batch in generation.source.batches(size)]

    return asyncio.run(read())

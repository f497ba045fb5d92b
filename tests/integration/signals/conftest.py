"""Batches with derived rows, and a store of each kind to put them in."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from torghut_core.model.market import SIGNAL_COLUMNS, Bars, Batch, Signals, SymbolTable
from torghut_core.signals import SignalDatabase, open_signal_store
from torghut_core.timestamps import SECOND

T0 = 1_767_623_400_000_000_001
"""A time that a double cannot hold: 2026-01-05T14:30:00.000000001Z."""


def derived(closes: Sequence[float], symbol: str = "ES", first: int = T0, step: int = SECOND, delay: int = 0) -> Batch:
    """A microbar and a signal per close, `step` apart, each known `delay` after its end.

    Bars go from `close - 2` to `close + 1`; the signal column number k is `close + k / 100`, NaN where the close is.
    """
    symbols = SymbolTable()
    number = symbols.number(symbol)
    n = len(closes)
    close = np.array(closes, np.float64)
    event_ts = first + np.arange(n) * step
    batch = Batch.of(symbols, 0, event_ts + step + delay)
    head = {
        "at": np.arange(n),
        "event_ts": event_ts,
        "symbol": np.full(n, number),
        "seq": event_ts // step,
        "step": np.full(n, step),
        "series": np.full(n, symbols.series(number, step)),
    }
    batch.microbars = Bars.from_columns(
        **head, count=np.arange(n), open=close, high=close + 1, low=close - 2, close=close, volume=close / 2, vwap=close
    )
    values = {column: close + k / 100 for k, column in enumerate(SIGNAL_COLUMNS)}
    batch.signals = Signals.from_columns(**head, **values, close=close)
    return batch


@pytest.fixture
def derived_batch() -> Callable[..., Batch]:
    """The function `derived`."""
    return derived


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[SignalDatabase]:
    """An embedded ClickHouse, as a replay opens it."""
    pytest.importorskip("chdb", reason="the embedded ClickHouse is torghut[embedded]")
    store = open_signal_store(tmp_path / "signals", microbars_ttl_days=None, signals_ttl_days=None)
    yield store
    store.close()


@pytest.fixture(params=["memory", "embedded"])
def store(request: pytest.FixtureRequest) -> SignalDatabase:
    """A store of each kind: they keep the same promises."""
    return open_signal_store() if request.param == "memory" else request.getfixturevalue("embedded")

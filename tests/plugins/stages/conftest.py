"""Random event streams, and what stages make of them however they are cut."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st

from torghut_core import Bars, Batch, Quotes, SymbolTable, Trades

SECOND = 1_000_000_000
T0 = 1_767_623_400 * SECOND
"""2026-01-05T14:30:00Z, the open of a session in New York."""

SYMBOLS = ("ES", "BTC/USD", "AAPL", "ZZZ")
CONDITIONS = (("", False), ("100000", False), ("20000001", False), ("1", True), ("@,T,I", False), ("M", False))


@dataclass(frozen=True)
class Event:
    """A trade, quote, bar or tick; fields that its kind does not have are ignored."""

    kind: str
    wait: int = 0
    """How much later than the event before, ns."""
    lag: int = 0
    """How much earlier it happened than it was known, ns."""
    symbol: str = "ES"
    price: float = 100.0
    size: float = 1.0
    other: float = 1.0
    """Distance of the second price: ask less bid, high less low."""
    key: int = 0
    seq: int = 0
    conditions: tuple = ("", False)
    step: int = SECOND


@dataclass
class Outcome:
    """What came out, free of symbol and series numbers."""

    bars: list = field(default_factory=list)
    signals: list = field(default_factory=list)
    late: int = 0
    duplicates: int = 0
    excluded: int = 0

    def add(self, batch):
        names = batch.symbols.names
        for table, rows in ((batch.microbars, self.bars), (batch.signals, self.signals)):
            columns = [table.at, table.event_ts, table.seq, table.step]
            if isinstance(table, Bars):
                columns.append(table.count)
            for row in range(len(table)):
                assert names[table.symbol[row]] == names[batch.symbols.series_symbol[table.series[row]]]
                assert table.step[row] == batch.symbols.series_step[table.series[row]]
                values = np.ascontiguousarray(table.floats[:, row])
                rows.append((names[table.symbol[row]], *(int(c[row]) for c in columns), values.tobytes()))
        self.late += batch.late
        self.duplicates += batch.duplicates
        self.excluded += batch.excluded

    def of(self, symbol):
        return [[row for row in rows if row[0] == symbol] for rows in (self.bars, self.signals)]

    def until(self, position):
        return [[row for row in rows if row[1] < position] for rows in (self.bars, self.signals)]


class Stream:
    """Events with their times, to be given out in any batches.

    `drain` adds a clock tick so far after the last event.
    """

    def __init__(self, events, drain=None, first=T0):
        now, known = first, []
        for event in events:
            now += event.wait
            known.append(now)
        self.events = list(events)
        if drain is not None:
            self.events.append(Event("tick"))
            known.append(now + drain)
        self.now = np.array(known, np.int64)

    def __len__(self):
        return len(self.events)

    def batch(self, symbols, start, stop):
        """The events of some positions; symbols enter the table at their first event."""
        trades, quotes, bars = [], [], []
        for at in range(start, stop):
            e = self.events[at]
            if e.kind == "tick":
                continue
            head = {"at": at, "symbol": symbols.number(e.symbol), "seq": e.seq, "event_ts": self.now[at] - e.lag}
            if e.kind == "trade":
                condition = symbols.condition(*e.conditions)
                trades.append(head | {"trade_key": e.key, "conditions": condition, "price": e.price, "size": e.size})
            elif e.kind == "quote":
                quotes.append(
                    head
                    | {"bid_price": e.price, "bid_size": e.size, "ask_price": e.price + e.other, "ask_size": e.size + 1}
                )
            else:
                ts = (self.now[at] - e.step) // e.step * e.step
                bars.append(
                    head
                    | {"event_ts": ts, "step": e.step, "series": symbols.series(head["symbol"], e.step), "count": 3}
                    | {"open": e.price, "high": e.price + e.other, "low": e.price - e.other, "close": e.price}
                    | {"volume": e.size, "vwap": e.price + e.other / 4 if e.key else np.nan}
                )

        def table(cls, rows):
            return cls.from_columns(**{name: [row[name] for row in rows] for name in (rows[0] if rows else ())})

        return Batch.of(
            symbols, start, self.now[start:stop], table(Trades, trades), table(Quotes, quotes), table(Bars, bars)
        )

    def run(self, stages, cuts=(), between=None):
        """What `stages` make of the stream cut at `cuts`; `between(stages, symbols)` may replace them at each cut."""
        symbols, outcome = SymbolTable(), Outcome()
        edges = [0, *sorted(cuts), len(self)]
        for start, stop in pairwise(edges):
            batch = self.batch(symbols, start, stop)
            for stage in stages:
                batch = stage.update(batch)
            outcome.add(batch)
            if between is not None:
                stages, symbols = between(stages, symbols)
        return outcome


WAITS = st.sampled_from(
    [0, 0, 0, 1, 1_000_000, 300_000_000, SECOND, 7 * SECOND, 61 * SECOND, 3600 * SECOND, 90_000 * SECOND]
)
LAGS = st.sampled_from([0, 0, 0, 1, 400_000_000, SECOND, 1_999_999_999, 2 * SECOND, 3 * SECOND, 400 * SECOND])
PRICES = st.sampled_from([100.0, 100.0, 100.25, 99.5, 101.0, 1e-3, 7.5e4])


def events(symbols=SYMBOLS):
    """Lists of events in which all that may go wrong does: ties, late ones, duplicates, gaps, exclusions."""
    return st.lists(
        st.builds(
            Event,
            kind=st.sampled_from(["trade", "trade", "trade", "quote", "bar", "tick"]),
            wait=WAITS,
            lag=LAGS,
            symbol=st.sampled_from(symbols),
            price=PRICES,
            size=st.sampled_from([1.0, 0.1, 2.5, 1e4, 0.0]),
            other=st.sampled_from([0.0, 0.5, np.nan]),
            key=st.sampled_from([0, 0, 1, 2, 3]),
            seq=st.integers(0, 3),
            conditions=st.sampled_from(CONDITIONS),
            step=st.sampled_from([SECOND, 10 * SECOND, 60 * SECOND, 7 * SECOND]),
        ),
        max_size=60,
    )


def bursts():
    """Lists of trades of two symbols within a few seconds: ties, late ones and duplicates next to each other."""
    return st.lists(
        st.builds(
            Event,
            kind=st.just("trade"),
            wait=st.sampled_from([0, 0, 0, 1_000_000, 400_000_000, SECOND]),
            lag=st.sampled_from([0, 0, 1_000_000, 400_000_000, SECOND, 2 * SECOND]),
            symbol=st.sampled_from(SYMBOLS[:2]),
            price=st.integers(1, 1000).map(float),
            size=st.integers(1, 9).map(float),
            key=st.integers(0, 2),
            seq=st.integers(0, 1),
            conditions=st.sampled_from([("", False), *CONDITIONS]),
        ),
        max_size=40,
    )


class Tape:
    """The names above, for tests."""

    SECOND, T0, SYMBOLS = SECOND, T0, SYMBOLS
    Event, Stream, replace = Event, Stream, staticmethod(replace)
    events, bursts = staticmethod(events), staticmethod(bursts)


@pytest.fixture(scope="session")
def tape():
    return Tape

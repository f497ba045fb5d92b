"""The `microbars` stage against polars' group_by on truncated time.

Usage: python benchmarks/microbars.py [--repeats 7]

One JSON line per case: trades per second and nanoseconds per trade, of `repeats` runs the median (and all of them), and
`ratio`, ours over polars' of the same run (the median of the ratios run by run). polars gets all trades as one frame and
may use every core; the stage gets them in batches, on one core, and also keeps watermark, order and counts.
"""

import argparse
import json
import statistics
import time

import numpy as np
from torghut_sources.stages.microbars import Microbars

from torghut_core import Batch, Quotes, SymbolTable, Trades

TRADES, SYMBOLS, SPAN, CHUNK = 2_000_000, 100, 2_000, 65_536
SECOND = 1_000_000_000
T0 = 1_770_000_000 * SECOND


def ticks():
    """Time, symbol, price, size of each trade, in order of time."""
    rng = np.random.default_rng(7)
    ts = T0 + np.sort(rng.integers(0, SPAN * SECOND, TRADES))
    symbol = rng.integers(0, SYMBOLS, TRADES)
    price = np.empty(TRADES)
    price[np.argsort(symbol, kind="stable")] = np.cumsum(rng.choice([-0.01, 0.0, 0.01], TRADES)) % 50 + 75
    return ts, symbol, price.round(2), rng.integers(1, 100, TRADES).astype(float)


def batches(data, size=CHUNK, quotes=0, keys=False, limit=TRADES):
    """The trades in batches of `size` events, `quotes` quotes after each, closed by a clock tick."""
    ts, symbol, price, amount = (column[:limit] for column in data)
    table = SymbolTable()
    for number in range(SYMBOLS):
        table.number(f"S{number}")
    at = np.arange(len(ts)) * (1 + quotes)
    trades = Trades.from_columns(
        at=at, event_ts=ts, symbol=symbol, seq=np.arange(len(ts)), price=price, size=amount,
        trade_key=np.arange(len(ts)) * 7919 + 1 if keys else np.zeros(len(ts), np.int64),
    )  # fmt: skip
    now = np.append(np.repeat(ts, 1 + quotes), ts[-1] + 3600 * SECOND)
    quoted = Quotes.from_columns(
        at=np.delete(np.arange(len(now) - 1), at), event_ts=np.repeat(ts, quotes), symbol=np.repeat(symbol, quotes)
    )
    batch = Batch.of(table, 0, now, trades, quoted)
    whole = []
    while len(batch) > size:
        head, batch = batch.split(batch.start + size)
        whole.append(head)
    return [*whole, batch]


def run_stage(some):
    stage = Microbars(Microbars.Params())
    fresh = [Batch.of(batch.symbols, batch.start, batch.now, batch.trades, batch.quotes) for batch in some]
    update, bars = stage.update, []
    began = time.perf_counter()
    bars.extend(update(batch).microbars for batch in fresh)
    return time.perf_counter() - began, bars


def polars_frame(data):
    import polars as pl

    ts, symbol, price, amount = data
    frame = pl.DataFrame({"ts": ts, "symbol": symbol, "p": price, "q": amount})
    return frame.with_columns(pl.col("ts").cast(pl.Datetime("ns")))


def run_polars(frame):
    import polars as pl

    p, q = pl.col("p"), pl.col("q")
    bar = [
        p.first().alias("o"), p.max().alias("h"), p.min().alias("l"), p.last().alias("c"), q.sum().alias("v"),
        ((p * q).sum() / q.sum()).alias("vwap"), pl.len().alias("n"),
    ]  # fmt: skip
    began = time.perf_counter()
    bars = frame.lazy().group_by("symbol", pl.col("ts").dt.truncate("1s")).agg(bar).collect()
    return time.perf_counter() - began, bars


def check(bars, frame):
    """Both sides compute the same bars."""
    ours = type(bars[0]).concatenate(bars)
    theirs = frame.sort("ts", "symbol")
    ours = ours.take(np.lexsort((ours.symbol, ours.event_ts)))
    assert len(ours) == len(theirs)
    for name, column in (("open", "o"), ("high", "h"), ("low", "l"), ("close", "c"), ("volume", "v"), ("count", "n")):
        np.testing.assert_array_equal(getattr(ours, name), theirs[column].to_numpy(), err_msg=name)
    np.testing.assert_allclose(ours.vwap, theirs["vwap"].to_numpy(), rtol=1e-12)


def line(case, trades, seconds, **more):
    median = statistics.median(seconds)
    figures = {"trades_per_second": round(trades / median), "ns_per_trade": round(median / trades * 1e9, 2)}
    print(json.dumps({"case": case, **figures, **more, "seconds": [round(s, 5) for s in seconds]}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    data = ticks()
    frame, chunks = polars_frame(data), batches(data)
    check(run_stage(chunks)[1], run_polars(frame)[1])
    turns = [(run_stage(chunks)[0], run_polars(frame)[0]) for _ in range(repeats)]
    rival = "polars group_by"
    line(rival, TRADES, [theirs for _, theirs in turns])
    ratio = round(statistics.median(theirs / mine for mine, theirs in turns), 2)
    line(f"batches of {CHUNK}", TRADES, [mine for mine, _ in turns], rival=rival, ratio=ratio)
    cases = {
        f"batches of {CHUNK}, every trade with an identity": batches(data, keys=True),
        f"batches of {CHUNK}, three quotes after each trade": batches(data, quotes=3, limit=TRADES // 4),
        "batches of 20": batches(data, size=20, limit=TRADES // 4),
        "batches of 1": batches(data, size=1, limit=TRADES // 20),
    }
    for case, some in cases.items():
        trades = sum(len(batch.trades) for batch in some)
        line(case, trades, [run_stage(some)[0] for _ in range(repeats)])


if __name__ == "__main__":
    main()

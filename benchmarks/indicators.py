"""The `indicators` stage against TA-Lib's whole-array functions and nautilus_trader's incremental indicators.

Usage: python benchmarks/indicators.py [--repeats 7] [--nautilus-python PATH]

One JSON line per case: bars per second and nanoseconds per bar, of `repeats` runs the median (and all of them), and
`ratio`, ours over the rival's of the same run (the median of the ratios run by run). PATH is the interpreter of an
environment with nautilus_trader (python -m venv X; X/bin/pip install nautilus_trader==1.221.0 numpy pandas==2.3.3);
without it that comparison is left out.

The ten values of both comparisons: EMA12, EMA26, MACD(12, 26, 9) with signal and histogram, RSI14, Bollinger(20, 2).
TA-Lib's are not incremental: it gets each symbol's whole history as one array.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

BARS, CHUNK, SINGLE, DISTINCT = 1_000_000, 65_536, 200_000, 1_000
SECOND = 1_000_000_000
T0 = 1_767_623_400 * SECOND
TEN = ["ema", "macd", "rsi14", "boll"]


def closes(symbols, bars=BARS):
    """A random walk per symbol: shape (bars / symbols, symbols)."""
    steps = np.random.default_rng(7).normal(0, 2e-4, (bars // symbols, symbols))
    return np.ascontiguousarray(100 * np.exp(np.cumsum(steps, axis=0)))


def batches(symbols, size, bars=BARS):
    """The symbols' bars of a second, interleaved, in batches of `size`."""
    from torghut_core import Bars, Batch, SymbolTable

    table = SymbolTable()
    for number in range(symbols):
        table.series(table.number(f"S{number}/USD"), SECOND)
    price = closes(symbols, bars).ravel()
    number = np.tile(np.arange(symbols), bars // symbols)
    ts = T0 + np.repeat(np.arange(bars // symbols), symbols) * SECOND
    ones = np.ones(bars)
    whole = Bars.from_columns(
        at=np.arange(len(price)), event_ts=ts, symbol=number, seq=ts // SECOND, series=number, step=ones * SECOND,
        count=ones, open=price, high=price, low=price, close=price, volume=ones, vwap=price,
    )  # fmt: skip
    edges = range(0, len(price), size)
    return [
        Batch.of(
            table,
            start,
            ts[start : start + size] + SECOND,
            bars=whole.take(np.arange(start, min(start + size, len(price)))),
        )
        for start in edges
    ]


def run_stage(some, columns, rounds=1):
    """Seconds for `some` batches, `rounds` times over; a batch goes when it is done, as in a pipeline."""
    from torghut_sources.stages.indicators import Indicators

    from torghut_core import Batch

    stage = Indicators(Indicators.Params(columns=columns) if columns else Indicators.Params())
    fresh = [Batch.of(b.symbols, b.start, b.now, bars=b.bars) for _ in range(rounds) for b in reversed(some)]
    update, take = stage.update, fresh.pop
    began = time.perf_counter()
    while fresh:
        update(take())
    return time.perf_counter() - began


def run_talib(series):
    import talib

    began = time.perf_counter()
    for x in series:
        talib.EMA(x, 12)
        talib.EMA(x, 26)
        talib.MACD(x, 12, 26, 9)
        talib.RSI(x, 14)
        talib.BBANDS(x, 20, 2.0, 2.0)
    return time.perf_counter() - began


def run_nautilus(symbols, bars):
    from nautilus_trader.indicators import (
        BollingerBands,
        ExponentialMovingAverage,
        MovingAverageConvergenceDivergence,
        MovingAverageType,
        RelativeStrengthIndex,
    )

    price = closes(symbols, bars).ravel().tolist()
    number = np.tile(np.arange(symbols), bars // symbols).tolist()
    states = [
        (
            ExponentialMovingAverage(12),
            ExponentialMovingAverage(26),
            MovingAverageConvergenceDivergence(12, 26),
            ExponentialMovingAverage(9),
            RelativeStrengthIndex(14, MovingAverageType.WILDER),
            BollingerBands(20, 2.0),
        )
        for _ in range(symbols)
    ]
    began = time.perf_counter()
    for s, x in zip(number, price, strict=True):
        ema12, ema26, macd, signal, rsi, boll = states[s]
        ema12.update_raw(x)
        ema26.update_raw(x)
        macd.update_raw(x)
        line = macd.value
        signal.update_raw(line)
        rsi.update_raw(x)
        boll.update_raw(x, x, x)
        _ = (
            ema12.value,
            ema26.value,
            line,
            signal.value,
            line - signal.value,
            rsi.value,
            boll.upper,
            boll.middle,
            boll.lower,
        )
    return time.perf_counter() - began


def check():
    """Both sides compute the same: ours in batches against TA-Lib's arrays."""
    import talib
    from torghut_sources.stages.indicators import Indicators

    stage = Indicators(Indicators.Params(columns=TEN))
    got = [stage.update(batch).signals for batch in batches(10, 4096, 10_000)]
    signals = type(got[0]).concatenate(got)
    for number, walk in enumerate(closes(10, 10_000).T):
        x = np.ascontiguousarray(walk)
        upper, mid, lower = talib.BBANDS(x, 20, 2.0, 2.0)
        macd, line, hist = talib.MACD(x, 12, 26, 9)
        expected = {
            "ema12": talib.EMA(x, 12), "ema26": talib.EMA(x, 26), "macd": macd, "macd_signal": line, "macd_hist": hist,
            "rsi14": talib.RSI(x, 14), "boll_mid": mid, "boll_upper": upper, "boll_lower": lower,
        }  # fmt: skip
        for name, values in expected.items():
            ours = getattr(signals, name)[signals.symbol == number]
            np.testing.assert_allclose(ours[500:], values[500:], atol=1e-8, err_msg=name)


def line(case, bars, seconds, **more):
    median = statistics.median(seconds)
    figures = {"bars_per_second": round(bars / median), "ns_per_bar": round(median / bars * 1e9, 2)}
    print(json.dumps({"case": case, **figures, **more, "seconds": [round(s, 5) for s in seconds]}), flush=True)


def compare(case, bars, ours, rival, repeats):
    """Both by turns, ours first; the first turn, which also fills caches, does not count."""
    turns = [(ours(), rival()) for _ in range(repeats + 1)][1:]
    name, rival_name = case
    ratio = round(statistics.median(theirs / mine for mine, theirs in turns), 2)
    line(rival_name, bars, [theirs for _, theirs in turns])
    line(name, bars, [mine for mine, _ in turns], rival=rival_name, ratio=ratio)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--nautilus-python", help="interpreter of an environment with nautilus_trader")
    parser.add_argument("--as-nautilus", type=int, metavar="SYMBOLS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.as_nautilus:
        print(run_nautilus(args.as_nautilus, SINGLE))
        return
    check()
    for symbols in (500, 10, 1):
        chunks = batches(symbols, CHUNK)
        series = [np.ascontiguousarray(x) for x in closes(symbols).T]
        case = (
            f"batches of {CHUNK}, {symbols} symbols, ten values",
            f"TA-Lib whole arrays, {symbols} symbols, ten values",
        )
        compare(case, BARS, lambda c=chunks: run_stage(c, TEN), lambda s=series: run_talib(s), args.repeats)
        seconds = [run_stage(chunks, None) for _ in range(args.repeats)]
        line(f"batches of {CHUNK}, {symbols} symbols, all columns", BARS, seconds)
    for symbols in (500, 1):
        singles, rounds = batches(symbols, 1, DISTINCT), SINGLE // DISTINCT

        def rival(symbols=symbols):
            command = [args.nautilus_python, __file__, "--as-nautilus", str(symbols)]
            return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        case = f"batches of 1, {symbols} symbols, ten values", f"nautilus_trader, {symbols} symbols, ten values"
        if args.nautilus_python:
            compare(case, SINGLE, lambda s=singles, r=rounds: run_stage(s, TEN, r), rival, args.repeats)
        else:
            print("nautilus_trader left out: no --nautilus-python", file=sys.stderr)
            line(case[0], SINGLE, [run_stage(singles, TEN, rounds) for _ in range(args.repeats)])
        seconds = [run_stage(singles, None, rounds) for _ in range(args.repeats)]
        line(f"batches of 1, {symbols} symbols, all columns", SINGLE, seconds)


if __name__ == "__main__":
    main()

"""A hundred features of 500 symbols, bar by bar through the graph, against TA-Lib's whole arrays; and the start with them.

    .venv/bin/python benchmarks/features.py [--bars 400] [--repeats 3] [--tape 100000]

Features are averages (EMA, SMA, WMA), RSI and ATR of 20 spans each. The graph gets the bars of a minute of all symbols at a time, as
a live one would, and larger batches as in a replay; TA-Lib gets each symbol's whole history as arrays. Seconds are the processor's,
the least of the repeats; both sides are checked to give the same values. `start` is what a process with these features takes from
its first import to the end of the planning, with compiled kernels in the cache.

Last, `ema-cross` on the first bars of the tape of `backtest.py`: with two features in place of its columns, by turns with itself.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

SYMBOLS, MINUTE = 500, 60_000_000_000
START = 29_460_390 * MINUTE
SPANS = range(5, 45, 2)


def asked():
    from torghut_core.features import atr, close, ema, rsi, sma, wma

    of_close = {f"{make.__name__}{span}": make(close, span) for make in (ema, sma, wma, rsi) for span in SPANS}
    return of_close | {f"atr{span}": atr(span) for span in SPANS}


def planned():
    from torghut_core.feature_graph import Planner
    from torghut_core.plugin_host import PluginHost

    host = PluginHost.load()
    planner = Planner(lambda name: host.resolve("indicator", name))
    planner.add("all", asked(), MINUTE, names())
    return planner.plan


def names():
    return [f"S{number}" for number in range(SYMBOLS)]


def prices(bars):
    rng = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 4e-4, (bars, SYMBOLS)), axis=0))
    wick = np.abs(rng.normal(0, 3e-4, (2, bars, SYMBOLS)))
    return close * (1 + wick[0]), close * (1 - wick[1]), close


def batches(bars, minutes):
    """Bars of all symbols in batches of some minutes, with signals that have prices alone."""
    from torghut_core import Batch, SymbolTable
    from torghut_core.model.market import Signals

    table = SymbolTable()
    number = np.tile(table.numbers(names()), minutes)
    high, low, close = (each.ravel() for each in prices(bars))
    made = []
    for first in range(0, bars, minutes):
        rows = slice(first * SYMBOLS, (first + minutes) * SYMBOLS)
        times = START + np.repeat(np.arange(first, first + minutes), SYMBOLS) * MINUTE
        at = np.arange(rows.start, rows.stop)
        batch = Batch.of(table, rows.start, times + MINUTE)
        batch.signals = Signals.from_columns(
            at=at,
            event_ts=times,
            symbol=number,
            step=np.full(len(at), MINUTE),
            high=high[rows],
            low=low[rows],
            close=close[rows],
        )
        made.append(batch)
    return made


def cpu():
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def ours(plan, some, kept=None):
    from torghut_core.feature_graph import FeatureGraph

    graph = FeatureGraph(plan)
    began = cpu()
    for batch in some:
        graph.update(batch)
        if kept is not None:
            kept.append([graph.values[node] for node in plan.wanted["all"].nodes])
    return cpu() - began


def talibs(bars, kept=None):
    import talib

    high, low, close = (np.ascontiguousarray(each.T) for each in prices(bars))
    began = cpu()
    for symbol in range(SYMBOLS):
        x = close[symbol]
        found = [make(x, span) for make in (talib.EMA, talib.SMA, talib.WMA, talib.RSI) for span in SPANS]
        found += [talib.ATR(high[symbol], low[symbol], x, span) for span in SPANS]
        if kept is not None:
            kept.append(found)
    return cpu() - began


def check(plan, bars):
    """Both give the same values, at the same places."""
    mine, theirs = [], []
    ours(plan, batches(bars, 1), mine)
    talibs(bars, theirs)
    got = np.array(mine).reshape(bars, len(asked()), SYMBOLS)
    for symbol in (0, SYMBOLS - 1):
        np.testing.assert_allclose(got[:, :, symbol].T, np.array(theirs[symbol]), rtol=1e-7, atol=1e-7)


def cross(tape_bars, repeats):
    """CPU seconds of `ema-cross` with columns and with features in place of them, the least of the repeats, and their orders."""
    from backtest import CATALOG, walk, write_tape
    from torghut_strategies.ema_cross import EmaCross

    from torghut_core import hookimpl
    from torghut_core.features import close, ema
    from torghut_core.plugin_host import PluginHost
    from torghut_core.research import load_catalog, run_backtest, tape_generation

    class WithFeatures(EmaCross):
        """The same rule."""

        columns = ()

        def features(self):
            return {"ema12": ema(close, 12), "ema26": ema(close, 26)}

    module = ModuleType("cross")

    @hookimpl
    def register_strategies(register):
        register("ema-cross-with-features", WithFeatures)

    module.register_strategies = register_strategies
    with tempfile.TemporaryDirectory() as folder:
        tape = Path(folder) / "walk.parquet"
        write_tape(tape, walk()[:tape_bars])
        with_columns = CATALOG % json.dumps(str(tape))
        with_features = with_columns.replace("ema-cross", "ema-cross-with-features").replace("ema12, ema26", "")
        found = {"columns": [], "features": []}
        for case, text in [*zip(found, (with_columns, with_features), strict=True)] * repeats:
            catalog = load_catalog({"bench.yaml": text})
            host = PluginHost.load(catalog.plugins.allow, extra=[("benchmark", module)])
            generation = tape_generation(catalog, host=host)
            began = cpu()
            result = run_backtest(generation).result
            found[case].append((cpu() - began, result.orders))
    return {case: min(runs) for case, runs in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=400, help="of each symbol")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tape", type=int, default=100_000, help="bars of `ema-cross`")
    parser.add_argument("--start", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    plan = planned()
    if args.start:
        print(cpu())
        return
    check(plan, 60)
    values = len(asked()) * SYMBOLS * args.bars
    rival = min(talibs(args.bars) for _ in range(args.repeats))
    print(
        json.dumps(
            {"case": "TA-Lib, whole arrays", "seconds": round(rival, 3), "ns_per_value": round(rival / values * 1e9, 2)}
        )
    )
    for minutes in (1, 100):
        some = batches(args.bars, minutes)
        taken = min(ours(plan, some) for _ in range(args.repeats))
        figures = {"seconds": round(taken, 3), "ns_per_value": round(taken / values * 1e9, 2)}
        print(json.dumps({"case": f"batches of {minutes} minutes", **figures, "ratio": round(rival / taken, 2)}))
    one = batches(1, 1)[0]
    rows = [row for number in range(200) for row in [_row_of(one, number)]]
    taken = min(ours(plan, rows) for _ in range(args.repeats))
    print(json.dumps({"case": "batches of one row", "us_per_row": round(taken / len(rows) * 1e6, 1)}))
    done = subprocess.run([sys.executable, __file__, "--start"], capture_output=True, text=True, check=True)
    print(json.dumps({"case": "start with a hundred features", "seconds": round(float(done.stdout), 2)}))
    found = cross(args.tape, args.repeats)
    for case, (seconds, orders) in found.items():
        figures = {"seconds": round(seconds, 3), "orders": orders, "ratio": round(seconds / found["columns"][0], 2)}
        print(json.dumps({"case": f"ema-cross with {case}", **figures}))


def _row_of(batch, number):
    """One row of a batch, as a batch."""
    from torghut_core import Batch

    made = Batch.of(batch.symbols, number, batch.now[number : number + 1])
    made.signals = batch.signals.rows(number, number + 1)
    return made


if __name__ == "__main__":
    main()

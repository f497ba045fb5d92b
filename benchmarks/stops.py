"""Twenty strategies, each on 25 symbols of its own, that keep protective stops out, against the same without open orders.

    .venv/bin/python benchmarks/stops.py [--symbols 500] [--bars 8000] [--strategies 20] [--many 2000]

One-minute bars of random walks (seed 7), the symbols' bars of each minute one after the other. A strategy buys a unit of
each of its symbols and places a stop 2 % below; when that was hit, it buys again. "The same without open orders" watches
the close instead and sells at the market. Times are of this process's CPU, from the first batch on: reading the tape,
indicators, strategies, gates, fills, positions. nautilus_trader gets the same bars, as objects made before its clock
starts, and the same rule with stops, in `.venv-rivals` (`make bench` makes it), and is timed in the same way.

The last case is of one symbol with so many open orders that no bar reaches: what a row with a decision costs there.
"""

import argparse
import json
import resource
import subprocess
import tempfile
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from torghut_core import OrderType, Strategy, TimeInForce, hookimpl, param
from torghut_core.plugin_host import PluginHost
from torghut_core.research import load_catalog, run_backtest, tape_generation

RIVALS = Path(__file__).parent.parent / ".venv-rivals" / "bin" / "python"
SHARE = 0.98
"""The stop's price, as a share of the price of the entry."""


class Stops(Strategy):
    """Holds a unit of each symbol, until it has fallen by 2 %."""

    class Params(Strategy.Params):
        stops: bool = param(True, help="a stop at the venue; else it watches the close")

    columns = ("ema12",)

    def __init__(self, params):
        super().__init__(params)
        self._has_stops = params.stops

    def on_signal(self, signal, context):  # noqa: ARG002 - every row will do
        if context.is_flat:
            return context.buy(1, because="flat")
        if not context.is_long:
            return None
        if self._has_stops:
            if context.protecting:
                return None
            stop = round(float(context.position.average_price) * SHARE, 2)
            return context.sell(
                1,
                because="protect it",
                order_type=OrderType.STOP,
                stop_price=Decimal(str(stop)),
                time_in_force=TimeInForce.GTC,
            )
        if context.price <= float(context.position.average_price) * SHARE:
            return context.close(because="it has fallen")
        return None


class Crowd(Strategy):
    """Makes so many bids that nothing reaches, one a row, and then one more on every tenth row."""

    class Params(Strategy.Params):
        orders: int = param(2000, ge=1, help="open orders")

    columns = ("ema12",)

    def __init__(self, params):
        super().__init__(params)
        self._left = params.orders
        self._row = 0

    def on_signal(self, signal, context):  # noqa: ARG002 - every row will do
        self._row += 1
        if self._left:
            self._left -= 1
        elif self._row % 10:
            return None
        price = Decimal(1000 + self._row % 1000) / 1000
        return context.buy(
            "0.001", because="far away", order_type=OrderType.LIMIT, limit_price=price, time_in_force=TimeInForce.GTC
        )


def plugins():
    module = ModuleType("stops")

    @hookimpl
    def register_strategies(register):
        register("stops", Stops)
        register("crowd", Crowd)

    module.register_strategies = register_strategies
    return module


def walks(symbols, bars):
    """Open, high, low, close (rounded to the cent) and volume of random walks: shape (5, bars, symbols)."""
    rng = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 4e-4, (bars, symbols)), axis=0))
    opened = np.concatenate([np.full((1, symbols), 100.0), close[:-1]])
    wick = np.abs(rng.normal(0, 3e-4, (2, bars, symbols)))
    high, low = np.maximum(opened, close) * (1 + wick[0]), np.minimum(opened, close) * (1 - wick[1])
    volume = rng.integers(100, 10_000, (bars, symbols)).astype(float)
    return np.stack([opened.round(2), high.round(2), low.round(2), close.round(2), volume])


def names(symbols):
    return [f"S{number:03}" for number in range(symbols)]


def write_tape(path, ohlcv):
    _, bars, symbols = ohlcv.shape
    times = np.datetime64("2024-01-01T00:00:00", "ns") + np.arange(bars) * np.timedelta64(60, "s")
    table = {
        "symbol": pa.DictionaryArray.from_arrays(np.tile(np.arange(symbols, dtype=np.int32), bars), names(symbols)),
        "event_ts": pa.array(np.repeat(times, symbols)).cast(pa.timestamp("ns", "UTC")),
        **dict(zip(("open", "high", "low", "close", "volume"), ohlcv.reshape(5, -1), strict=True)),
    }
    pq.write_table(pa.table(table), path)


def run(tape, symbols, strategies, use, params):
    """CPU seconds of one backtest, and its result."""
    entries = [
        f"  - {{name: s{number:02}, use: {use}, base_timeframe: 1Min, params: {json.dumps(params)}, "
        f"symbols: {json.dumps(names(symbols)[number::strategies])}}}"
        for number in range(strategies)
    ]
    catalog = "\n".join([
        "version: 1",
        "pipelines:",
        "  trading:",
        f"    source: {{use: replay, params: {{paths: [{json.dumps(str(tape))}]}}}}",
        "    stages: [{use: indicators, params: {columns: [ema12], calendars: {"
        + ", ".join(f"{name}: 24/7" for name in names(symbols)) + "}}}]",
        '    broker: {use: simulated, params: {cash: "10000000", fees: {"*": {bps: "1"}}}}',
        "strategies:",
        *entries,
    ])  # fmt: skip
    catalog = load_catalog({"bench.yaml": catalog})
    host = PluginHost.load(catalog.plugins.allow, extra=[("benchmark", plugins())])
    generation = tape_generation(catalog, host=host)
    began = cpu()
    result = run_backtest(generation).result
    return cpu() - began, result


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def report(case, seconds, rows, **more):
    line = {"case": case, "rows": rows, "cpu_s": round(seconds, 2), "us_per_row": round(seconds / rows * 1e6, 2)}
    print(json.dumps(line | more), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--bars", type=int, default=8000)
    parser.add_argument("--strategies", type=int, default=20)
    parser.add_argument("--many", type=int, default=2000, help="open orders in one symbol (%(default)s)")
    args = parser.parse_args()
    ohlcv = walks(args.symbols, args.bars)
    rows = args.symbols * args.bars
    with tempfile.TemporaryDirectory() as folder:
        tape, alone = Path(folder) / "walks.parquet", Path(folder) / "alone.parquet"
        write_tape(tape, ohlcv)
        write_tape(alone, ohlcv[:, :, :1])
        run(alone, 1, 1, "stops", {"stops": True})  # warm: file cache, compiled kernels
        without, result = run(tape, args.symbols, args.strategies, "stops", {"stops": False})
        report("without open orders", without, rows, orders=result.orders)
        ours, result = run(tape, args.symbols, args.strategies, "stops", {"stops": True})
        report("with stops", ours, rows, orders=result.orders, ratio=round(ours / without, 2))
        if args.many:
            few, result = run(alone, 1, 1, "crowd", {"orders": 1})
            report("one open order", few, args.bars, orders=result.orders)
            many, result = run(alone, 1, 1, "crowd", {"orders": min(args.many, args.bars // 2)})
            report(f"{result.orders} open orders", many, args.bars, orders=result.orders)
        if not RIVALS.exists():
            print(json.dumps({"skipped": "nautilus_trader: .venv-rivals is missing (make bench makes it)"}))
            return
        np.save(Path(folder) / "walks.npy", ohlcv)
        command = [str(RIVALS), str(Path(__file__).parent / "rivals.py"), "nautilus_trader: stops"]
        done = subprocess.run([*command, str(Path(folder) / "walks.npy")], capture_output=True, text=True, check=True)
        rival = json.loads(done.stdout.splitlines()[-1])["seconds"]
        report("nautilus_trader", rival, rows, torghut_is_faster=round(rival / ours, 1))


if __name__ == "__main__":
    main()

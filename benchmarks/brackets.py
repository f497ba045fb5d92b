"""What an entry with a bracket costs in a replay, against a plain order, and how much memory an order takes.

    .venv/bin/python benchmarks/brackets.py [--orders 1000] [--repeat 5]

One symbol, a bar a minute, which goes one up and one down. A strategy makes an order at each row: a plain one at the market, to buy or to
close in turn; or an entry with a stop and a take-profit that is reached in the bar that fills it, so that the stop is canceled.
The replay without orders is subtracted. Times are of this process's CPU, the median of so many runs by turns; memory is what
Python has allocated when a replay of ten times as many orders ends, against the end of one of these, for each order: with its audit
in memory, as a backtest has it, and in SQLite, as a run has it.
"""

import argparse
import gc
import json
import statistics
import tempfile
import tracemalloc
from pathlib import Path
from types import ModuleType

import numpy as np
from stops import cpu, write_tape

from torghut_core import Strategy, hookimpl, param
from torghut_core.audit.sql import SqlAuditStore
from torghut_core.plugin_host import PluginHost
from torghut_core.research import load_catalog, run_backtest, tape_generation


class Bracketed(Strategy):
    """Makes an order at each row."""

    class Params(Strategy.Params):
        kind: str = param("plain", help="plain, bracket or none")

    columns = ("ema12",)

    def on_signal(self, signal, context):  # noqa: ARG002 - every row will do
        if self.params.kind == "none":
            return None
        if self.params.kind == "bracket":
            return context.buy(1, because="row", stop_loss=90, take_profit="100.5")
        return context.buy(1, because="row") if context.is_flat else context.close(because="row")


def plugins():
    module = ModuleType("brackets")
    module.register_strategies = hookimpl(lambda register: register("bracketed", Bracketed))
    return module


def flat(bars):
    """Open, high, low, close and volume of bars that go one up and one down: shape (5, bars, 1)."""
    return np.stack([np.full((bars, 1), value) for value in (100.0, 101.0, 99.0, 100.0, 1000.0)])


def run(tape, kind, database=None):
    """CPU seconds of a replay, its orders, and the bytes that are allocated while its result is there; its audit is in memory, or in a file."""
    catalog = load_catalog({
        "bench.yaml": "version: 1\npipelines:\n  trading:\n"
        f"    source: {{use: replay, params: {{paths: [{json.dumps(str(tape))}]}}}}\n"
        '    stages: [{use: indicators, params: {columns: [ema12], calendars: {S000: "24/7"}}}]\n'
        '    broker: {use: simulated, params: {cash: "10000000"}}\n'
        f"strategies:\n  - {{name: one, use: bracketed, base_timeframe: 1Min, symbols: [S000], params: {{kind: {kind}}}}}\n"
    })  # fmt: skip
    host = PluginHost.load(catalog.plugins.allow, extra=[("benchmark", plugins())])
    generation = tape_generation(catalog, host=host)
    began = cpu()
    backtest = run_backtest(generation, audit=database and SqlAuditStore(database))
    seconds = cpu() - began
    gc.collect()
    return seconds, backtest.result.orders, tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=1000, help="plain orders, and brackets (%(default)s)")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    kinds = ("none", "plain", "bracket")
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few.parquet", Path(folder) / "many.parquet"
        write_tape(few, flat(args.orders + 1))
        write_tape(many, flat(10 * args.orders + 1))
        run(few, "bracket")  # warm: file cache, compiled kernels
        times = {kind: [] for kind in kinds}
        for _ in range(args.repeat):
            for kind in kinds:
                times[kind].append(run(few, kind)[0])
        none, plain, bracket = (statistics.median(times[kind]) for kind in kinds)
        each = {"plain": (plain - none) / args.orders * 1e6, "bracket": (bracket - none) / args.orders * 1e6}
        for kind, microseconds in each.items():
            tracemalloc.start()
            _, orders_few, bytes_few = run(few, kind)
            _, orders_many, bytes_many = run(many, kind)
            tracemalloc.stop()
            line = {"case": kind, "us_each": round(microseconds), "orders": orders_few}
            line["bytes_per_order"] = round((bytes_many - bytes_few) / (orders_many - orders_few))
            tracemalloc.start()
            _, _, bytes_few = run(few, kind, Path(folder) / f"{kind}-few.sqlite")
            _, _, bytes_many = run(many, kind, Path(folder) / f"{kind}-many.sqlite")
            tracemalloc.stop()
            line["bytes_per_order_in_sqlite"] = round((bytes_many - bytes_few) / (orders_many - orders_few))
            print(json.dumps(line), flush=True)
        print(json.dumps({"bracket_of_plain": round(each["bracket"] / each["plain"], 2)}))


if __name__ == "__main__":
    main()

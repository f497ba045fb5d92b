"""`ema-cross` on 500 symbols with one purse, by `decide` and row by row, against vectorbt.

    .venv/bin/python benchmarks/portfolio.py [--symbols 500] [--bars 8000] [--skip-rows]

One-minute bars of random walks (seed 7), the symbols' bars of each minute one after the other; a unit of each symbol while EMA(12) is
above EMA(26), bought and sold at the next open, fee 1 bp. Times are of this process's CPU, from the first batch on. vectorbt gets the
same bars as frames that are made before its clock starts, in `.venv-rivals` (`make bench` makes it); its time is the least of three
calls after a first one, which compiles. Both have to come to the same value, to the cent.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
from stops import RIVALS, cpu, names, report, walks, write_tape
from torghut_strategies.ema_cross import EmaCross

from torghut_core import Strategy, hookimpl
from torghut_core.plugin_host import PluginHost
from torghut_core.research import load_catalog, run_backtest, tape_generation

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay, params: {paths: [%s]}}
    stages: [{use: indicators, params: {columns: [ema12, ema26], calendars: %s}}]
    broker: {use: simulated, params: {cash: "100000000", fees: {"*": {bps: "1"}}}}
strategies:
  - {name: cross, use: %s, base_timeframe: 1Min, symbols: %s, params: {quantity: "1"}}
"""


class ByRow(EmaCross):
    """The same rule, asked for each row."""

    decide = Strategy.decide


def plugins():
    module = ModuleType("portfolio")

    @hookimpl
    def register_strategies(register):
        register("ema-cross-by-row", ByRow)

    module.register_strategies = register_strategies
    return module


def run(tape, symbols, use):
    """CPU seconds of one backtest, and its result."""
    listed = names(symbols)
    calendars = dict.fromkeys(listed, "24/7")
    catalog = load_catalog({"bench.yaml": CATALOG % tuple(map(json.dumps, (str(tape), calendars, use, listed)))})
    host = PluginHost.load(catalog.plugins.allow, extra=[("benchmark", plugins())])
    generation = tape_generation(catalog, host=host)
    began = cpu()
    result = run_backtest(generation).result
    return cpu() - began, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--bars", type=int, default=8000)
    parser.add_argument("--skip-rows", action="store_true", help="by `decide` alone")
    args = parser.parse_args()
    ohlcv = walks(args.symbols, args.bars)
    rows = args.symbols * args.bars
    with tempfile.TemporaryDirectory() as folder:
        tape, few, rival = Path(folder) / "walks.parquet", Path(folder) / "few.parquet", None
        write_tape(tape, ohlcv)
        write_tape(few, ohlcv[:, :40])
        run(few, args.symbols, "ema-cross")  # warm: file cache, compiled kernels
        if RIVALS.exists():
            np.save(Path(folder) / "walks.npy", ohlcv[[0, 3]])
            command = [
                str(RIVALS),
                str(Path(__file__).parent / "rivals.py"),
                "vectorbt",
                str(Path(folder) / "walks.npy"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rival = json.loads(done.stdout.splitlines()[-1])
            report("vectorbt", rival["seconds"], rows, equity=rival["equity"])
        else:
            print(json.dumps({"skipped": "vectorbt: .venv-rivals is missing (make bench makes it)"}))
        for use in ("ema-cross", "ema-cross-by-row")[: 1 if args.skip_rows else 2]:
            seconds, result = run(tape, args.symbols, use)
            more = {"orders": result.orders, "equity": round(float(result.final_equity), 2)}
            if rival is not None:
                more["times_vectorbt"] = round(seconds / rival["seconds"], 1)
            report(use, seconds, rows, **more)


if __name__ == "__main__":
    main()

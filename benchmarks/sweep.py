"""Compiled backtests against vectorbt: 1,024 parameter sets, the same with stops and take-profits, a purse over 500 symbols, long tapes.

    .venv/bin/python benchmarks/sweep.py [--bars TAPE.parquet] [--rivals PYTHON] [--symbols 500] [--length 8000]

A set buys a unit where RSI(14) is below one level and sells it where it is above another one, at the next bar's open, for a fee of 1 bp:
32 x 32 pairs of levels, on the bars of the tape (by default 21,659 bars of a random walk). With brackets an entry has a stop 1 % below the
close and a take-profit 2 % above it. The purse is that of `portfolio.py`. Times are of this process's CPU, after a first set, with the tape
read; `reading` has what that took. vectorbt gets the same bars as frames that are made before its clock starts, in `.venv-rivals` (`make
bench` makes it), the least of three calls after a first one, which compiles. Without stops both come to the same money, to the cent.
"""

import argparse
import json
import resource
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
from portfolio import CATALOG as PURSE
from stops import RIVALS, cpu, names, walks, write_tape

from torghut_core import Strategy, hookimpl, param
from torghut_core.features import rsi
from torghut_core.plugin_host import PluginHost
from torghut_core.research import load_catalog, run_backtest, tape_generation
from torghut_core.research.compiled import Simulator

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay, params: {paths: [%s]}}
    stages: [{use: indicators, params: {columns: [ema12], calendars: %s}}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "1"}}, time_in_force: gtc}}
strategies:
  - {name: band, use: rsi-band, base_timeframe: 1Min, symbols: [%s], params: %s}
"""
LEVELS = [(20 + row * 0.5, 55 + column * 0.8) for row in range(32) for column in range(32)]


class RsiBand(Strategy):
    """Holds a unit from where the index of relative strength is low to where it is high."""

    class Params(Strategy.Params):
        low: float = param(30, help="buy below, RSI points")
        high: float = param(70, help="sell above, RSI points")
        stop: float = param(0, help="distance of the stop, part of the close; 0 for none")
        profit: float = param(0, help="distance of the take-profit, part of the close; 0 for none")

    def features(self):
        return {"strength": rsi(14)}

    def decide(self, columns):
        params = self.params
        targets = np.where(columns.strength < params.low, 1.0, np.where(columns.strength > params.high, 0.0, np.nan))
        legs = {}
        if params.stop:
            legs = {
                "stop_loss": columns.close * (1 - params.stop),
                "take_profit": columns.close * (1 + params.profit),
            }
        return targets, "the band", legs


def plugins():
    module = ModuleType("sweep")

    @hookimpl
    def register_strategies(register):
        register("rsi-band", RsiBand)

    module.register_strategies = register_strategies
    return module


def generation(tape, symbol, host, **params):
    given = (json.dumps(str(tape)), json.dumps({symbol: "24/7"}), json.dumps(symbol), json.dumps(params))
    return tape_generation(load_catalog({"sweep.yaml": CATALOG % given}), host=host)


def strength(close):
    """The index of relative strength over 14 changes, seeded with their mean; NaN before."""
    change = np.diff(close)
    found = np.full(len(close), np.nan)
    up, down = np.maximum(change[:14], 0).mean(), np.maximum(-change[:14], 0).mean()
    for place in range(14, len(close)):
        if place > 14:
            up = (up * 13 + max(change[place - 1], 0)) / 14
            down = (down * 13 + max(-change[place - 1], 0)) / 14
        found[place] = 100 * up / (up + down) if up + down else 0
    return found


def rival(python, case, data):
    """CPU seconds of vectorbt on a case, and its equity; None where it is not installed."""
    if not Path(python).exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "data.npy", data)
        command = [str(python), str(Path(__file__).parent / "rivals.py"), case, str(Path(folder) / "data.npy")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(case, seconds, against, **more):
    if against is not None:
        more |= {"vectorbt": round(against["seconds"], 3), "times_vectorbt": round(seconds / against["seconds"], 3)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"case": case, "seconds": round(seconds, 3), **more, "peak_mb": peak}), flush=True)


def sweep(simulator, **params):
    """CPU seconds of all sets, and their runs."""
    simulator.run({"band": {"low": 30.0, "high": 70.0, **params}})
    began = cpu()
    runs = [simulator.run({"band": {"low": low, "high": high, **params}}) for low, high in LEVELS]
    return cpu() - began, runs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=Path, help="a tape of one symbol's one-minute bars")
    parser.add_argument("--rivals", default=RIVALS, help="the Python that has vectorbt")
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--length", type=int, default=8000, help="bars of each of these symbols")
    parser.add_argument("--long", type=int, nargs="*", default=[50_000, 500_000], help="bars of one symbol")
    args = parser.parse_args()
    host = PluginHost.load(extra=[("sweep", plugins())])
    with tempfile.TemporaryDirectory() as folder:
        tape = args.bars or Path(folder) / "walk.parquet"
        if args.bars is None:
            write_tape(tape, walks(1, 21_659))
        table = pq.read_table(tape).sort_by("event_ts")
        symbol, ohlc = str(table["symbol"][0]), [np.array(table[name]) for name in ("open", "high", "low", "close")]
        data = np.array([*ohlc, strength(ohlc[3])]).T
        simulator = Simulator(generation(tape, symbol, host), host)
        for case, params in (("sweep", {}), ("brackets", {"stop": 0.01, "profit": 0.02})):
            seconds, runs = sweep(simulator, **params)
            against = rival(args.rivals, f"vectorbt: {case}", data)
            more = {"fills": sum(run.filled for run in runs), "by_loop": sum(bool(run.needs_loop) for run in runs)}
            more["equity"] = round(sum(run.final_equity for run in runs if not run.needs_loop), 2)
            if against is not None:
                more["vectorbt_equity"] = against["equity"]
            report(f"1,024 sets x {len(data)} bars, {case}", seconds, against, **more)
            low, high = LEVELS[500]
            began = cpu()
            result = run_backtest(generation(tape, symbol, host, low=low, high=high, **params)).result
            same = abs(float(result.final_equity) - runs[500].final_equity) < 0.005
            report(f"one of them by the loop, {case}", cpu() - began, None, same_to_the_cent=same)
        purse(args, folder, host)
        for bars in args.long:
            write_tape(tape := Path(folder) / "long.parquet", walks(1, bars))
            began = cpu()
            simulator = Simulator(generation(tape, names(1)[0], host), host)
            reading = cpu() - began
            seconds, runs = sweep(simulator)
            report(
                f"1,024 sets x {bars} bars",
                seconds,
                None,
                reading=round(reading, 2),
                us_a_bar=round(1e6 * seconds / 1024 / bars, 4),
            )


def purse(args, folder, host):
    """A purse over many symbols."""
    listed, ohlcv = names(args.symbols), walks(args.symbols, args.length)
    write_tape(tape := Path(folder) / "purse.parquet", ohlcv)
    given = (json.dumps(str(tape)), json.dumps(dict.fromkeys(listed, "24/7")), "ema-cross", json.dumps(listed))
    began = cpu()
    simulator = Simulator(tape_generation(load_catalog({"purse.yaml": PURSE % given}), host=host), host)
    reading = cpu() - began
    began = cpu()
    simulator.run()
    first, times = cpu() - began, []
    for _ in range(3):
        began = cpu()
        run = simulator.run()
        times.append(cpu() - began)
    against = rival(args.rivals, "vectorbt", ohlcv[[0, 3]])
    more = {
        "reading": round(reading, 2),
        "first_with_features": round(first, 2),
        "orders": run.orders,
        "equity": round(run.final_equity, 2),
    }
    if against is not None:
        more["vectorbt_equity"] = against["equity"]
    report(f"{args.symbols} symbols x {args.length} bars, one purse", min(times), against, **more)


if __name__ == "__main__":
    main()

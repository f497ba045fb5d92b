"""What a set of a sweep costs with all its figures: in compiled code and by the loop, on one worker, on two, and on Ray's.

    .venv/bin/python benchmarks/sweep_ways.py [--sets 200]

A set is a pair of levels of RSI(14) on 21,659 bars of a random walk, as in `sweep.py`. CPU time of this process and of its
workers, milliseconds a set, and seconds by the clock; of Ray's workers, which are not children of this process, by the clock alone. Ray is
left out where `torghut-ray` is not installed (`pip install ./scale/ray`).
"""

import argparse
import json
import os
import resource
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

from stops import walks, write_tape

from torghut_core.research import open_sweep

PLUGIN = """
import numpy as np
from torghut_core import Strategy, hookimpl, param
from torghut_core.features import rsi


class Levels(Strategy):
    class Params(Strategy.Params):
        low: float = param(30, help="buy below it, points")
        high: float = param(70, help="sell above it, points")

    def features(self):
        return {"rsi": rsi(14)}

    def decide(self, columns):
        return np.where(columns.rsi < self.params.low, 1.0, np.where(columns.rsi > self.params.high, 0.0, np.nan)), "level"


@hookimpl
def register_strategies(register):
    register("levels", Levels)
"""

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay, params: {bar_step: 1Min}}
    stages: [{use: indicators}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "1"}}}}
strategies: [{name: levels, use: levels, base_timeframe: 1Min, symbols: [S000]}]
"""


def cpu():
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(folder, workers, sets, *more):
    """The way, and what a set costs after a first round; of the loop's workers that round, and their start, are in the CPU time."""
    axes = ["params.low=20:60:0.1", "params.high=40:90:0.1", *more]
    began = cpu()
    with open_sweep(folder / "catalog.yaml", [folder / "tape.parquet"], axes, workers=workers) as sweep:
        list(sweep.evaluate(sets[:8]))
        opened, at = cpu(), time.perf_counter()
        trials = list(sweep.evaluate(sets))
        seconds = time.perf_counter() - at
        assert all(trial.outcome == "done" for trial in trials)
    figures = {
        "way": sweep.way.partition(", because")[0],
        "seconds": round(seconds, 2),
        "sets_per_second": round(len(sets) / seconds, 1),
    }
    if "://" not in workers:
        figures |= {
            "opened_cpu_s": round(opened - began, 2),
            "cpu_ms_a_set": round(1e3 * (cpu() - opened) / len(sets), 2),
        }
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    count = parser.parse_args().sets
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tape(folder / "tape.parquet", walks(1, 21_659))
        (folder / "catalog.yaml").write_text(CATALOG)
        (folder / "levels.py").write_text(PLUGIN)
        os.environ["TORGHUT_PLUGIN_PATH"] = name
        sets = [{"params.low": 20 + 0.1 * (n % 100), "params.high": 60 + 0.2 * (n // 10)} for n in range(count)]
        ways = ["1", "2", *(["ray://local"] if entry_points(group="torghut.workers", name="ray") else [])]
        for workers in ways:
            print(json.dumps(measured(folder, workers, sets)))
        for workers in ways:
            print(json.dumps(measured(folder, workers, sets[: count // 5], "cooldown_seconds=0")))


if __name__ == "__main__":
    main()

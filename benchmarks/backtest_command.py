"""`torghut backtest`, from the command to the page: a process of its own each time, on one-minute bars of a random walk.

    .venv/bin/python benchmarks/backtest_command.py [--bars 500000] [--timeframe 15Min] [--runs 3]

The strategy is ema-cross at the timeframe: at 15Min it trades 1,149 times in 500,000 bars, at 1Min 17,898 times. Processor time of the process
(user and system) and wall time, medians; where the machine is shared, processor time is the one to read.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TORGHUT = Path(sys.executable).with_name("torghut")
CATALOG = """
version: 1
pipelines:
  trading:
    source: {{use: replay}}
    stages: [{{use: resample, params: {{timeframes: [{timeframe}]}}}}, {{use: indicators, params: {{columns: [ema12, ema26]}}}}]
    broker: {{use: simulated, params: {{cash: "1000000", fees: {{"*": {{bps: "1"}}}}, slippage: {{"*": {{bps: "1"}}}}}}}}
strategies:
  - {{name: cross, use: ema-cross, base_timeframe: {timeframe}, symbols: [WALK], params: {{quantity: "1"}}}}
"""


def write_tape(path, bars):
    """Write one-minute bars of a random walk, seed 7."""
    close = (100 * np.exp(np.cumsum(np.random.default_rng(7).normal(0, 5e-4, bars)))).round(2)
    opens = np.concatenate([close[:1], close[:-1]])
    columns = {
        "open": opens,
        "high": np.maximum(opens, close) + 0.02,
        "low": np.minimum(opens, close) - 0.02,
        "close": close,
        "volume": np.full(bars, 100.0),
    }
    times = pa.array((1_600_000_000 + 60 * np.arange(bars)) * 10**9).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"symbol": ["WALK"] * bars, "event_ts": times, **columns}), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=int, default=500_000)
    parser.add_argument("--timeframe", default="15Min")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        write_tape(here / "bars.parquet", given.bars)
        (here / "catalog.yaml").write_text(CATALOG.format(timeframe=given.timeframe))
        command = [TORGHUT, "backtest", "bars.parquet", "--catalog", "catalog.yaml"]
        cpu, wall = [], []
        for number in range(given.runs + 1):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, cwd=here, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if number:  # the first one compiles
                cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
                wall.append(time.perf_counter() - began)
        print(
            f"{given.bars:,} bars, {given.timeframe}: processor {statistics.median(cpu):.2f} s"
            f" ({min(cpu):.2f} to {max(cpu):.2f}), wall {statistics.median(wall):.2f} s ({min(wall):.2f} to {max(wall):.2f})"
        )


if __name__ == "__main__":
    main()

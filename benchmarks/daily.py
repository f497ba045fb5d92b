"""Daily bars of 500 symbols over 20 years through the loop, stores on disk: what a bar costs that spans a day.

    .venv/bin/python benchmarks/daily.py [--years 20] [--symbols 500] [--runs 3]

The tape is a random walk (seed 7); the catalog computes all indicators, and a strategy trades one symbol. What is timed is the run
from its first batch to the last row stored, in a fresh state directory; `memory` is the same with stores in memory, and
`cpu` the processor time of the process. `--symbols 1` is the case in which each day has a single row.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAYS_A_YEAR = 252

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay, params: {paths: [%s], bar_step: 1Day}}
    stages: [{use: indicators, params: {}}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "10"}}}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Day, symbols: [S000], params: {quantity: "1"}}
"""


def write_tape(path, symbols, years):
    """Bars of weekdays, by day and symbol; the number of them."""
    names = [f"S{number:03}" for number in range(symbols)]
    days = np.busday_offset("2004-01-01", np.arange(years * DAYS_A_YEAR), roll="forward")
    rng = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (len(days), symbols)), axis=0))
    opened = np.vstack([np.full((1, symbols), 100.0), close[:-1]])
    high, low = np.maximum(opened, close) * 1.002, np.minimum(opened, close) * 0.998
    times = np.repeat(days.astype("datetime64[ns]"), symbols)
    table = {
        "symbol": pa.array(np.tile(names, len(days))).dictionary_encode(),
        "event_ts": pa.array(times).cast(pa.timestamp("ns", "UTC")),
        **{name: column.ravel() for name, column in zip(("open", "high", "low", "close"), (opened, high, low, close), strict=True)},
        "volume": np.full(len(times), 1_000.0),
    }  # fmt: skip
    pq.write_table(pa.table(table), path)
    return len(times)


def main():
    from torghut_core.research import load_catalog, open_replay, run_backtest, tape_generation

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tape, catalog = Path(folder) / "daily.parquet", Path(folder) / "daily.yaml"
        bars = write_tape(tape, args.symbols, args.years)
        catalog.write_text(CATALOG % json.dumps(str(tape)), encoding="utf-8")
        for number in range(args.runs):
            state = Path(folder) / f"state{number}"
            for case in ("disk", "memory"):
                if case == "disk":
                    with open_replay(catalog, [], state) as job:
                        seconds, cpu, done = timed(job.run)
                else:
                    generation = tape_generation(load_catalog(catalog))
                    seconds, cpu, done = timed(lambda generation=generation: run_backtest(generation))
                line = {
                    "case": case, "bars": bars, "seconds": round(seconds, 2), "cpu": round(cpu, 2),
                    "bars_per_second": round(bars / seconds), "digest": done.result.digest[:16],
                }  # fmt: skip
                if case == "disk":
                    files = [each for each in state.rglob("*") if each.is_file()]
                    line |= {"files": len(files), "bytes_a_bar": sum(each.stat().st_size for each in files) // bars}
                print(json.dumps(line), flush=True)


def timed(call):
    """Seconds by the clock, processor time, and what it returned."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    done = call()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


if __name__ == "__main__":
    main()

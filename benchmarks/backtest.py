"""`ema-cross` on 500,000 one-minute bars through the loop, bar by bar, with fills and fees, against the peers.

    make bench                                            # or, one by one:
    .venv/bin/python benchmarks/backtest.py [--runs 5] [--rival backtesting.py ...]

The tape is a random walk (seed 7) written to Parquet. What is timed is the whole run from the first batch: reading,
indicators, strategy, gates, one rule, fills, positions, audit in memory. Rivals get the same bars as arrays or
frames made before their clock starts.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BARS = 500_000
RIVALS = Path(__file__).parent.parent / ".venv-rivals" / "bin" / "python"

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay, params: {paths: [%s]}}
    stages: [{use: indicators, params: {columns: [ema12, ema26]}}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "10"}}}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Min, symbols: [WALK], params: {quantity: "1"}}
"""


def walk():
    """Open, high, low, close (rounded to the cent) and volume of a random walk: shape (BARS, 5)."""
    rng = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 4e-4, BARS)))
    opened = np.concatenate([[100.0], close[:-1]])
    wick = np.abs(rng.normal(0, 3e-4, (2, BARS)))
    high = np.maximum(opened, close) * (1 + wick[0])
    low = np.minimum(opened, close) * (1 - wick[1])
    prices = np.column_stack([opened, high, low, close]).round(2)
    return np.column_stack([prices, rng.integers(100, 10_000, BARS).astype(float)])


def write_tape(path, ohlcv):
    start = np.datetime64("2024-01-01T00:00:00", "ns")
    times = start + np.arange(len(ohlcv)) * np.timedelta64(60, "s")
    columns = dict(zip(("open", "high", "low", "close", "volume"), ohlcv.T, strict=True))
    table = {
        "symbol": pa.array(["WALK"] * len(ohlcv)).dictionary_encode(),
        "event_ts": pa.array(times).cast(pa.timestamp("ns", "UTC")),
        **{name: np.ascontiguousarray(values) for name, values in columns.items()},
    }
    pq.write_table(pa.table(table), path)


def run_torghut(tape):
    from torghut_core.research import load_catalog, run_backtest, tape_generation

    catalog = load_catalog({"bench.yaml": CATALOG % json.dumps(str(tape))})
    result = run_backtest(tape_generation(catalog)).result
    return result.seconds, float(result.final_equity), result.orders


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rival", action="append", default=None)
    args = parser.parse_args()
    ohlcv = walk()
    with tempfile.TemporaryDirectory() as folder:
        tape = Path(folder) / "walk.parquet"
        write_tape(tape, ohlcv)
        np.save(Path(folder) / "walk.npy", ohlcv)
        runs = [run_torghut(tape) for _ in range(args.runs)]
        ours = statistics.median(seconds for seconds, _, _ in runs)
        print(json.dumps({
            "case": "torghut", "bars": BARS, "seconds": round(ours, 3), "bars_per_second": round(BARS / ours),
            "equity": round(runs[0][1], 2), "orders": runs[0][2],
        }))  # fmt: skip
        if not RIVALS.exists():
            print(json.dumps({"skipped": "rivals: .venv-rivals is missing (make bench makes it)"}))
            return
        for rival in args.rival or ["backtesting.py", "nautilus_trader", "backtrader"]:
            command = [str(RIVALS), str(Path(__file__).parent / "rivals.py"), rival, str(Path(folder) / "walk.npy")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            line = json.loads(done.stdout.splitlines()[-1])
            line["bars_per_second"] = round(BARS / line["seconds"])
            line["torghut_is_faster"] = round(line["seconds"] / ours, 1)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

"""The whole loop on a real tape: 500,000 trades, all stages, signal store, `macd-rsi`, risk, broker, audit on disk.

    .venv/bin/python benchmarks/loop.py [--runs 5]

Each run is a process of its own, `torghut replay ... --json` into a fresh state directory. `start_up` is what the
process took besides the loop (imports, catalog, checking the tape, opening and closing the stores). Memory is the
peak of the process, for the tape once and for the same tape four times over, one after the other in time.

Last, five million trades through microbars, features and one strategy that is shown each second, row by row: what the process takes of the
processor beyond that for half a million, which leaves out its start, and counts that the tape is read once before to be checked.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
TAPE = ROOT / "catalog" / "tapes" / "es_20130901_20130903.parquet"
TORGHUT = Path(sys.executable).parent / "torghut"
CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages:
      - {use: microbars}
      - {use: resample, params: {timeframes: [1Min]}}
      - {use: indicators, params: {calendars: {ES: 24/7}}}
    broker: {use: simulated, params: {cash: "100000", fees: {"*": {bps: "1"}}}}
strategies:
  - {name: macd-rsi, use: macd-rsi, base_timeframe: 1Sec, symbols: [ES], params: {quantity: "1"}}
risk: [{use: max-notional}, {use: buying-power}, {use: stale-price}]
"""


FEATURES = """
version: 1
plugins: {allow: ["*"]}
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}, {use: indicators, params: {columns: [], calendars: {ES: 24/7}}}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "1"}}}}
strategies: [{name: crossing, use: crossing, base_timeframe: 1Sec, symbols: [ES]}]
risk: [{use: max-notional}, {use: buying-power}, {use: stale-price}]
"""
CROSSING = """
from torghut_core import Strategy, hookimpl
from torghut_core.features import close, cross_above, cross_below, ema, rsi, sma


class Crossing(Strategy):
    def features(self):
        fast, slow = ema(close, 120), ema(close, 480)
        return {"up": cross_above(fast, slow), "down": cross_below(fast, slow), "strength": rsi(close, 14), "mean": sma(close, 60)}

    def on_signal(self, signal, context):
        if signal.up and context.is_flat and signal.strength > 50:
            return context.buy(1, because="up")
        return context.close(because="down") if signal.down and context.is_long else None


@hookimpl
def register_strategies(register):
    register("crossing", Crossing)
"""


def repeated(tape, times, path):
    """The tape, `times` times, each a week after the one before."""
    table = pq.read_table(tape)
    column = table.schema.get_field_index("event_ts")
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for week in range(times):
            moved = table["event_ts"].cast(pa.int64()).to_numpy() + week * 7 * 86400 * 10**9
            shifted = pa.array(moved).cast(table.schema.field(column).type)
            writer.write_table(table.set_column(column, table.schema.field(column), shifted), row_group_size=100_000)


def run(tape, folder, text=CATALOG):
    catalog = folder / "bench.yaml"
    catalog.write_text(text)
    state = tempfile.mkdtemp(dir=folder)
    command = [str(TORGHUT), "replay", str(tape), "--catalog", str(catalog), "--state", state, "--json"]
    began, used = time.perf_counter(), os.times().children_user
    child = subprocess.Popen(["/usr/bin/env", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = 0
    status = Path(f"/proc/{child.pid}/status")
    while child.poll() is None:
        try:
            lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peak = max(peak, int(lines[0].split()[1]) // 1024 if lines else 0)
        except OSError:
            pass
        time.sleep(0.02)
    out = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"torghut replay failed with {child.returncode}")
    result = json.loads(out)
    result["wall"] = time.perf_counter() - began
    result["cpu"] = os.times().children_user - used
    result["peak_mb"] = peak
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(TAPE, folder)  # warm: file cache, compiled kernels
        runs = [run(TAPE, folder) for _ in range(args.runs)]
        middle = {
            key: statistics.median(r[key] for r in runs) for key in ("seconds", "events_per_second", "wall", "peak_mb")
        }
        print(json.dumps({
            "case": "loop", "events": runs[0]["events"], "microbars": runs[0]["microbars"], "orders": runs[0]["orders"],
            "events_per_second": round(middle["events_per_second"]),
            "start_up": round(statistics.median(r["wall"] - r["seconds"] for r in runs), 2),
            "wall": round(middle["wall"], 2), "peak_mb": middle["peak_mb"],
        }))  # fmt: skip
        four = folder / "four.parquet"
        repeated(TAPE, 4, four)
        long = run(four, folder)
        print(json.dumps({
            "case": "loop, tape four times", "events": long["events"], "events_per_second": long["events_per_second"],
            "peak_mb": long["peak_mb"], "peak_ratio": round(long["peak_mb"] / middle["peak_mb"], 2),
        }))  # fmt: skip
        plugins = folder / "plugins"
        plugins.mkdir()
        (plugins / "crossing.py").write_text(CROSSING)
        os.environ["TORGHUT_PLUGIN_PATH"] = str(plugins)
        ten = folder / "ten.parquet"
        repeated(TAPE, 10, ten)
        run(TAPE, folder, FEATURES)
        short, long = ([run(tape, folder, FEATURES) for _ in range(3)] for tape in (TAPE, ten))
        cpu = statistics.median(r["cpu"] for r in long) - statistics.median(r["cpu"] for r in short)
        print(json.dumps({
            "case": "features, 5 M trades", "events": long[0]["events"], "microbars": long[0]["microbars"],
            "orders": long[0]["orders"], "events_per_cpu_second": round((long[0]["events"] - short[0]["events"]) / cpu),
            "peak_mb": [statistics.median(r["peak_mb"] for r in each) for each in (short, long)],
        }))  # fmt: skip


if __name__ == "__main__":
    main()

"""`torghut data import` of a CSV of bars, in order of time and newest first, and `data inspect`; against pandas' own reader and writer.

    .venv/bin/python benchmarks/data.py [--rows 2000000]

Each is a process of its own. Seconds are the processor's (user); memory is what the process has of its own at most (RssAnon), which leaves
out what it has mapped of a file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

TORGHUT = Path(sys.executable).parent / "torghut"
PANDAS = """
import sys, pandas as pd
frame = pd.read_csv(sys.argv[1])
frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="ms", utc=True)
frame.sort_values("timestamp").to_parquet(sys.argv[2], compression="zstd")
"""


def made(folder, rows):
    """Two files with the same bars of a minute: oldest first, and newest first."""
    rng = np.random.default_rng(1)
    price = np.round(np.abs(100 + np.cumsum(rng.normal(0, 0.01, rows))) + 1, 2)
    times = 946_684_800_000 + np.arange(rows) * 60_000
    columns = {"open": price, "high": np.round(price + 0.05, 2), "low": np.round(price - 0.05, 2), "close": price}
    table = pa.table({"timestamp": times, **columns, "volume": rng.integers(1, 1000, rows)})
    paths = folder / "oldest.csv", folder / "newest.csv"
    pyarrow.csv.write_csv(table, paths[0])
    pyarrow.csv.write_csv(table.take(pa.array(np.arange(rows)[::-1])), paths[1])
    return paths


def run(*command):
    """CPU seconds, and the most memory of its own, MB."""
    before = os.times()
    child = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{child.pid}/status"), 0
    while child.poll() is None:
        try:
            lines = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
            peak = max(peak, int(lines[0].split()[1]) // 1024 if lines else 0)
        except OSError:
            pass
        time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"{command} failed with {child.returncode}")
    return round(os.times().children_user - before.children_user, 2), peak


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        oldest, newest = made(folder, rows)
        out = folder / "tape.parquet"
        options = ("--symbol", "X", "--out", out)
        cases = {
            "import, oldest first": (TORGHUT, "data", "import", oldest, *options),
            "import, newest first": (TORGHUT, "data", "import", newest, *options),
            "inspect": (TORGHUT, "data", "inspect", out, "--calendar", "24/7"),
            "pandas, oldest first": (sys.executable, "-c", PANDAS, oldest, folder / "pandas.parquet"),
        }
        for case, command in cases.items():
            seconds, peak = run(*command)
            print(
                json.dumps(
                    {
                        "case": case,
                        "rows": rows,
                        "cpu": seconds,
                        "us_a_row": round(seconds / rows * 1e6, 2),
                        "peak_mb": peak,
                    }
                )
            )


if __name__ == "__main__":
    main()

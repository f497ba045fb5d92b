"""What the signal store costs the loop: 80,000 microbars and 80,000 signals, embedded, into a fresh directory.

    .venv/bin/python benchmarks/store.py [--runs 5]

Each run is a process of its own. `open` imports the client and the engine and makes the tables. `write` is the time
that the calling thread spends inside `write`; `flush` what it then waits; `added` is what a loop that has work of its
own (Python that holds the interpreter lock, 0.5 s of it) takes longer with the store than without, from the first
write to the end of the flush. Reading and exporting follow, from unmerged parts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from torghut_core.model.market import SIGNAL_COLUMNS, Bars, Batch, Signals, SymbolTable
from torghut_core.signals import open_signal_store
from torghut_core.timestamps import SECOND

ROWS, BATCH_ROWS, WORK_S = 80_000, 4_096, 0.5
FIRST = 1_378_072_800 * SECOND


def batches():
    """Batches as the stages make them: one symbol, a microbar and a signal a second."""
    symbols = SymbolTable()
    number, chance = symbols.number("ES"), np.random.default_rng(7)
    series = symbols.series(number, SECOND)
    made = []
    for start in range(0, ROWS, BATCH_ROWS):
        n = min(BATCH_ROWS, ROWS - start)
        event_ts = FIRST + (start + np.arange(n)) * SECOND
        head = {
            "at": start + np.arange(n),
            "event_ts": event_ts,
            "symbol": np.full(n, number),
            "seq": event_ts // SECOND,
            "step": np.full(n, SECOND),
            "series": np.full(n, series),
        }
        close = 1640 + chance.normal(0, 5, n).round(2)
        prices = dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), close)
        batch = Batch.of(symbols, start, event_ts + SECOND)
        batch.microbars = Bars.from_columns(**head, **prices, count=np.ones(n, np.int64))
        batch.signals = Signals.from_columns(**head, close=close, **{c: chance.normal(size=n) for c in SIGNAL_COLUMNS})
        made.append(batch)
    return made


def work(seconds):
    """Count for so long, in Python: a loop that gives the interpreter lock away only when it is asked to."""
    ends, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < ends:
        count += 1
    return count


def count_to(count):
    while count:
        time.perf_counter()
        count -= 1


def measure():
    clock = time.perf_counter
    made = batches()
    steps = work(WORK_S) // len(made)
    began = clock()
    for _ in made:
        count_to(steps)
    alone = clock() - began
    result = {}

    def timed(name, action):
        began = clock()
        value = action()
        result[name] = clock() - began
        return value

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "signals"
        store = timed("open", lambda: open_signal_store(directory, microbars_ttl_days=None, signals_ttl_days=None))
        write = 0.0
        first = clock()
        for batch in made:
            count_to(steps)
            began = clock()
            store.write(batch)
            write += clock() - began
        result["write"] = write
        timed("flush", store.flush)
        result["added"] = clock() - first - alone
        assert store.counts() == {"microbars": ROWS, "signals": ROWS}
        rows = timed("read 5 min", lambda: store.bars("ES", "PT1S", FIRST, FIRST + 300 * SECOND)).num_rows
        assert rows == 300
        timed("latest", lambda: (store.bars("ES", limit=1), store.signals("ES", limit=1)))
        assert timed("export", lambda: store.export("signals", f"{folder}/signals.parquet")) == ROWS
        timed("close", store.close)
        timed("open again", lambda: open_signal_store(directory, microbars_ttl_days=None)).close()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="measure in this process and print JSON")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure()))
        return
    command = [sys.executable, __file__, "--once"]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(options.runs)]
    print(f"{'ms':12} {'median':>8} {'lowest':>8} {'highest':>8}")
    for name in runs[0]:
        values = [1000 * run[name] for run in runs]
        print(f"{name:12} {statistics.median(values):8.1f} {min(values):8.1f} {max(values):8.1f}")


if __name__ == "__main__":
    main()

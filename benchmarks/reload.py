"""Reload under load: 500 symbols, 200,000 trades a second, and every second a swap.

    .venv/bin/python benchmarks/reload.py [--seconds 60]

`torghut run` itself, with its watchers, stores on disk and admin API, on a source that has 1,000 trades ready every 5 ms.
After a warm-up it trades so many seconds undisturbed (the baseline) and as many while its catalog or a plugin's file is
written every second, in turn: parameters of a strategy that warms up from the signal store, a strategy added or taken
out, limits, code with state, a catalog that means the same (no swap). Then it ends by itself.

Every trade has a number. `lost` and `doubled` are counted where the engine takes batches, in the microbars' trade counts
and in the stored microbars; all three have to agree. `late` is how long after they were ready 1,000 trades were traded;
`excess` is `late` less the baseline's median at the same place in the second, because every second the bars of all
symbols come out at once. `pause` is what a reload takes of the loop's own thread: `begin` and `apply`.
"""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType

import numpy as np

from torghut_core import Batch, Source, SymbolTable, Trades, hookimpl, param
from torghut_core.installation.settings import Settings
from torghut_core.plugin_host import PluginHost
from torghut_core.runtime.run import open_run

SECOND = 1_000_000_000
SYMBOLS = [f"S{number:03}" for number in range(500)]
TRADES = 1000
TICK = 5_000_000
"""Every so many ns `TRADES` trades are ready."""
WARM_UP = 15

CODE = """
from torghut_core import Strategy, hookimpl

class Tally(Strategy):
    state = ("rows",)
    columns = ("ema12",)

    def __init__(self, params):
        super().__init__(params)
        self.rows = {{}}

    def on_signal(self, signal, context):
        self.rows[signal.symbol] = self.rows.get(signal.symbol, 0) + 1
        return None

@hookimpl
def register_strategies(register):
    register("tally", Tally)

VERSION = {version}
"""


class Paced(Source):
    """Trades of all symbols in turn, by the clock."""

    class Params(Source.Params):
        seconds: int = param(120, ge=1, help="how long it lasts")

    def __init__(self, params):
        super().__init__(params)
        self.began = 0  # on the monotonic clock, ns
        self.ticks = self.params.seconds * SECOND // TICK
        self._symbols = SymbolTable()
        self._symbol = np.tile([self._symbols.number(name) for name in SYMBOLS], TRADES // len(SYMBOLS))
        self._noise = np.random.default_rng(1).normal(0, 0.0002, 100_000)

    async def batches(self, size):
        at_most = size // TRADES
        self.began, wall = time.monotonic_ns(), time.time_ns() // SECOND * SECOND
        tick = 0
        while tick < self.ticks:
            wait = self.began + (tick + 1) * TICK - time.monotonic_ns()
            await asyncio.sleep(max(0, wait / SECOND))
            due = (time.monotonic_ns() - self.began) // TICK - tick
            if due > 0:
                count = min(due, at_most, self.ticks - tick)
                yield self._batch(tick, count, wall)
                tick += count

    def _batch(self, tick, count, wall):
        first, n = tick * TRADES, count * TRADES
        number = np.arange(first, first + n)
        trades = Trades.empty(n)
        trades.at[:] = trades.seq[:] = number
        trades.trade_key[:] = number + 1
        trades.event_ts[:] = wall + number * (TICK // TRADES)
        trades.symbol[:] = np.tile(self._symbol, count)
        swing = np.sin((tick * TICK / SECOND + trades.symbol) / (10 + trades.symbol % 17))
        trades.price[:] = (100 + trades.symbol) * (1 + 0.01 * swing + self._noise[number % len(self._noise)])
        trades.size[:] = 1
        return Batch.of(self._symbols, first, trades.event_ts.copy(), trades)


def paced_module():
    module = ModuleType("paced")
    module.register_sources = hookimpl(lambda register: register("paced", Paced))
    return module


def catalog(seconds, lookback=10, notional=5000, has_more=False, comment=""):
    """The catalog's text; all strategies trade all symbols."""
    symbols = ", ".join(SYMBOLS)
    more = f"  - {{name: more, use: mean-reversion, base_timeframe: 1Sec, symbols: [{symbols}]}}\n" if has_more else ""
    return f"""version: 1
{comment}
pipelines:
  trading:
    source: {{use: paced, params: {{seconds: {seconds}}}}}
    stages: [{{use: microbars}}, {{use: indicators}}]
    broker: {{use: simulated, params: {{cash: "100000000"}}}}
strategies:
  - name: momentum
    use: tsmom
    base_timeframe: 1Sec
    symbols: [{symbols}]
    params: {{lookback: {lookback}, rebalance_band: "0.9"}}
    max_notional_per_trade: "{notional}"
  - {{name: slow, use: tsmom, base_timeframe: 1Sec, symbols: [{symbols}], params: {{lookback: 30, rebalance_band: "0.9"}}}}
  - {{name: tally, use: tally, base_timeframe: 1Sec, symbols: [{symbols}]}}
{more}risk: [{{use: max-notional}}, {{use: buying-power}}]
"""


class Measured:
    """A run on `Paced`, with a stopwatch at each step."""

    def __init__(self, run):
        self.run = run
        self.source = run.source
        self.engine = run.engine
        self.steps = []  # of each batch: first tick, ticks, when its step began and ended, ns
        self.calls = {"begin": [], "plan": [], "apply": []}  # when each ended and what it took, ns
        self.gaps = self.bars = 0
        self._stop = 0
        run.loop.step = self._timed(run.loop.step)
        run.engine.step = self._counted(run.engine.step)
        for name, took in self.calls.items():
            setattr(run.reloader, name, self._noted(getattr(run.reloader, name), took))

    def _timed(self, step):
        def timed(batch):
            began = time.monotonic_ns()
            step(batch)
            self.steps.append((batch.start // TRADES, len(batch) // TRADES, began, time.monotonic_ns()))

        return timed

    def _counted(self, step):
        def counted(batch):
            numbers = batch.trades.seq
            if len(numbers):  # the last one is the clock tick that drains the stages
                self.gaps += int(numbers[0] != self._stop) + int((np.diff(numbers) != 1).sum())
                self._stop = int(numbers[-1]) + 1
            self.bars += int(batch.microbars.count.sum())
            step(batch)

        return counted

    def _noted(self, call, took):
        def noted(*args, **kwargs):
            began = time.monotonic_ns()
            try:
                return call(*args, **kwargs)
            finally:
                ended = time.monotonic_ns()
                took.append((ended, ended - began))

        return noted

    def execute(self, start):
        """Run it to its end, and see what it has stored."""
        self.run.execute(start)
        self.stored = int(np.sum(self.run.signals.bars()["count"].to_numpy()))
        self.outcomes = [dict(row) for row in self.run.audit.rows("catalog_generations")]
        self.problems = list(self.run.reloader.status.problems)


def bring(load):
    """What is loaded, and the source of this file."""

    def loaded(*arguments, **options):
        return load(*arguments, **options | {"extra": [("paced", paced_module())]})

    return loaded


def disturb(run, path, module, seconds, total, ended):
    """Write something new every second of the second half; tell what was there before and after it."""
    while not run.source.began:
        time.sleep(0.01)
    lookback, notional, has_more, comment = 10, 5000, False, ""
    seen = [0] * 2
    for number in range(seconds):
        at = run.source.began + (WARM_UP + seconds + number) * SECOND + SECOND // 3
        ended.wait(max(0, (at - time.monotonic_ns()) / SECOND))
        if number == 0:
            seen[0] = footprint()
        kind = number % 5
        if kind == 0:
            lookback = 21 - lookback
        elif kind == 1:
            has_more = not has_more
        elif kind == 2:
            notional = 9000 - notional
        elif kind == 3:
            module.write_text(CODE.format(version=number))
            continue
        else:
            comment = f"# {number}"
        path.write_text(catalog(total, lookback, notional, has_more, comment))
    ended.wait(1.0)
    seen[1] = footprint()
    return seen


def footprint():
    """Resident memory (MB), threads and modules of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"rss_mb": pages * 4096 // 2**20, "threads": threading.active_count(), "modules": len(sys.modules),
            "files": len(list(Path("/proc/self/fd").iterdir()))}  # fmt: skip


def spread(values):
    """Median, 99th percentile and largest, ms."""
    values = np.asarray(values) / 1e6
    middle, high = np.percentile(values, [50, 99]) if len(values) else (0, 0)
    return {"p50": round(float(middle), 2), "p99": round(float(high), 2), "max": round(float(values.max(initial=0)), 2)}


def lateness(run):
    """By tick: how long after it was ready it was traded, and how long the step took that it was in, ns."""
    late, took = np.zeros(run.source.ticks), np.zeros(run.source.ticks)
    for tick, count, began, ended in run.steps:
        for each in range(tick, tick + count):
            late[each] = ended - (run.source.began + (each + 1) * TICK)
            took[each] = ended - began
    return late, took


def pauses(begin, apply, **_):
    """Of each reload, what it took of the loop's thread in all: `apply`, and the `begin` that its plan began with."""
    return [ns + next((took for begun, took in reversed(begin) if begun < at), 0) for at, ns in apply]


def measure(seconds, folder):
    total = WARM_UP + 2 * seconds + 1
    path, plugins = folder / "catalog.yaml", folder / "plugins"
    plugins.mkdir()
    path.write_text(catalog(total))
    (plugins / "bench_tally.py").write_text(CODE.format(version=-1))
    settings = Settings(trading_enabled=True, torghut_plugin_path=str(plugins))
    PluginHost.load = bring(PluginHost.load)
    collections, began = [], [0]

    def collected(phase, _info):
        now = time.monotonic_ns()
        if phase == "stop":
            collections.append((now, now - began[0]))
        began[0] = now

    gc.callbacks.append(collected)
    ended, seen, helpers = threading.Event(), [], []

    def start(_url):
        work = lambda: seen.extend(disturb(run, path, plugins / "bench_tally.py", seconds, total, ended))  # noqa: E731
        helpers.append(threading.Thread(target=work, daemon=True))
        helpers[0].start()

    with open_run(path, folder / "state", port=0, settings=settings) as opened:
        run = Measured(opened)
        run.execute(start)
    ended.set()
    helpers[0].join()
    gc.callbacks.remove(collected)
    return run, seen, collections


def report(run, seen, collections, seconds):
    totals = run.engine.totals
    sent = run.source.ticks * TRADES
    rest = totals.late + totals.duplicates + totals.excluded
    late, took = lateness(run)
    second = SECOND // TICK
    half = seconds * second
    start = WARM_UP * second
    parts = {"baseline": slice(start, start + half), "swaps": slice(start + half, start + 2 * half)}
    usual = np.median(late[parts["baseline"]].reshape(seconds, second), axis=0)
    for name, part in parts.items():
        first = run.source.began + part.start * TICK
        last = run.source.began + part.stop * TICK
        calls = {key: [call for call in calls if first <= call[0] < last] for key, calls in run.calls.items()}
        during = {key: [ns for _, ns in found] for key, found in calls.items()}
        print(json.dumps({
            "case": name, "seconds": seconds, "events_per_second": TRADES * second,
            "late_ms": spread(late[part]), "excess_ms": spread(late[part] - np.tile(usual, seconds)),
            "pause_ms": spread(pauses(**calls)), "step_ms": spread(took[part]), "begin_ms": spread(during["begin"]), "apply_ms": spread(during["apply"]),
            "plan_ms": spread(during["plan"]), "reloads": len(during["apply"]),
            "gc_ms": spread([ns for at, ns in collections if first <= at < last]),
        }))  # fmt: skip
    numbers = [row["outcome"] for row in run.outcomes]
    print(json.dumps({
        "case": "books", "sent": sent, "events": totals.events, "lost": sent - totals.events + run.gaps,
        "doubled": totals.duplicates, "in_microbars": run.bars, "stored": run.stored, "uncounted": rest,
        "agree": sent == totals.events == run.bars + rest == run.stored + rest and not run.gaps,
        "generations": len(numbers), "degraded": numbers.count("degraded"), "decisions": totals.decisions,
        "fills": totals.fills, "failures": totals.failures, "problems": run.problems, "before": seen[0], "after": seen[1],
    }))  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        report(*measure(seconds, Path(name)), seconds)


if __name__ == "__main__":
    main()

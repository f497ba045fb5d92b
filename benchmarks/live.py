"""Market data, live, in one process: from the socket to the broker's door, and whether memory stays flat.

    .venv/bin/python benchmarks/live.py [--seconds 60] [--rate 5000] [--symbols 3] [--simulated]
    .venv/bin/python benchmarks/live.py --soak [--minutes 20] [--rate 20000]

`torghut run` itself, with its stores on disk, watchers and admin API, on the source `alpaca` against the authoring kit's
fake of Alpaca's market data in a process of its own; stages `microbars` and `indicators`. Ends by itself.

The first form has a strategy that buys on every signal, and the broker `alpaca` against the kit's fake venue in another
process: the time is taken when a frame is read from the socket (of the frames that were taken together the oldest), and
when the broker is asked to submit, after decision, rules and the commit of the intent. The second has a strategy that never decides, and prints the
process's memory each minute.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import numpy as np
from torghut_brokers.alpaca import Alpaca as AlpacaBroker
from torghut_brokers.simulated import Simulated as SimulatedBroker
from torghut_sources.alpaca.inbox import Inbox

from torghut_core import Strategy, hookimpl
from torghut_core.installation.settings import Settings
from torghut_core.plugin_host import PluginHost
from torghut_core.runtime.run import open_run

VENUE = """
import sys
from decimal import Decimal
from torghut_testing.alpaca import FakeAlpaca, FakeVenue

with FakeAlpaca(FakeVenue(Decimal(10**12))) as fake:
    for name in sys.argv[1:]:
        fake.venue.set_price(name, Decimal(100))
    print(fake.url, flush=True)
    sys.stdin.readline()
"""

READ = deque(maxlen=200_000)
OLDEST = [0]
CALLED: list[tuple[int, int]] = []


def note_arrivals():
    """Let the inbox say when the oldest of the frames that are taken together was read."""
    put, take = Inbox.put, Inbox.take

    def noted_put(self, frame, at):
        READ.append(time.perf_counter_ns())
        put(self, frame, at)

    def noted_take(self, most):
        frames = take(self, most)
        if frames:
            OLDEST[0] = READ[0]
            for _ in frames:
                READ.popleft()
        return frames

    Inbox.put, Inbox.take = noted_put, noted_take


class Eager(Strategy):
    """Buys on every row, and says when its event was read."""

    def on_signal(self, signal, context):  # noqa: ARG002 - every row will do
        return context.buy(1, because=str(OLDEST[0]))


class Idle(Strategy):
    """Looks at every row, and does nothing."""

    columns = ("ema12",)

    def on_signal(self, signal, context):  # noqa: ARG002 - no row will do
        return None


class Timed:
    """A broker, and when it was asked to submit each order."""

    def submit(self, intent):
        CALLED.append((time.perf_counter_ns(), intent.decision_hash))
        return super().submit(intent)


class TimedAlpaca(Timed, AlpacaBroker):
    """See `Timed`."""


class TimedSimulated(Timed, SimulatedBroker):
    """See `Timed`."""


def plugins():
    module = ModuleType("live_benchmark")

    def brokers(register):
        register("timed-alpaca", TimedAlpaca)
        register("timed-simulated", TimedSimulated)

    def strategies(register):
        register("eager", Eager)
        register("idle", Idle)

    module.register_brokers = hookimpl(brokers)
    module.register_strategies = hookimpl(strategies)
    return module


def bring(load):
    def loaded(*arguments, **options):
        return load(*arguments, **options | {"extra": [("benchmark", plugins())]})

    return loaded


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=int, help="messages a second (5,000; soak 20,000)")
    parser.add_argument("--symbols", type=int, default=3)
    parser.add_argument("--simulated", action="store_true", help="trade on the simulated broker")
    parser.add_argument("--soak", action="store_true", help="watch the memory, and trade nothing")
    given = parser.parse_args()
    rate = given.rate or (20_000 if given.soak else 5_000)
    seconds = given.minutes * 60 if given.soak else given.seconds
    symbols = [f"C{number:02}/USD" for number in range(given.symbols)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = [part for name in symbols for part in ("--synthetic", f"{name}=100")]
        count = str(round(rate * seconds))
        feed = start(stack, ["-m", "torghut_testing.alpaca_data", *made, "--rate", str(rate), "--count", count])
        urls = json.loads(feed.stdout.readline())
        os.environ |= {
            "ALPACA_KEY_ID": "fake-key",
            "ALPACA_SECRET_KEY": "fake-secret",
            "ALPACA_MARKET_TYPE": "crypto",
            "ALPACA_STREAM_URL": urls["url"],
            "ALPACA_BASE_URL": urls["rest_url"],
        }
        broker = "{use: timed-simulated, params: {cash: '1e12'}}"
        if not given.soak and not given.simulated:
            venue = start(stack, ["-c", VENUE, *symbols])
            broker = f"{{use: timed-alpaca, params: {{url: '{venue.stdout.readline().strip()}'}}}}"
        use = "idle" if given.soak else "eager"
        catalog = folder / "catalog.yaml"
        catalog.write_text(
            "version: 1\npipelines:\n  trading:\n    source: {use: alpaca}\n"
            "    stages: [{use: microbars}, {use: indicators}]\n"
            f"    broker: {broker}\nstrategies:\n"
            + "".join(
                f"  - {{name: {use}-{first}, use: {use}, base_timeframe: 1Sec, symbols: {json.dumps(symbols[first::4])}}}\n"
                for first in range(min(4, len(symbols)))
            )
            + "risk:\n  - {use: max-notional, params: {max_notional_per_trade: '100000'}}\n  - {use: no-shorts}\n"
        )
        note_arrivals()
        PluginHost.load = bring(PluginHost.load)
        with open_run(catalog, folder / "state", port=0, settings=Settings(trading_enabled=True)) as run:
            over = threading.Event()
            watch = threading.Thread(target=observe, args=(run, feed, seconds, over), daemon=True)
            watch.start()
            run.execute()
            over.set()
        print(run.summary)
        if not given.soak:
            because = {row["decision_hash"]: int(row["rationale"]) for row in audit_of(folder, run.account_label)}
            late = np.array([(at - because[key]) / 1e6 for at, key in CALLED if key in because])
            p50, p99 = np.percentile(late, [50, 99])
            print(
                f"socket read to broker call: {len(late):,} orders, p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {late.max():.2f} ms"
            )


def audit_of(folder, account):
    from torghut_core.audit import SqlAuditStore

    audit = SqlAuditStore(folder / "state" / "audit.db")
    try:
        return audit.decisions(account)
    finally:
        audit.close()


def start(stack, arguments):
    process = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def observe(run, feed, seconds, over):
    """Print memory and counts each minute; stop the run with the last message, before a tick makes decisions of its own."""
    began = time.monotonic()

    def stop():
        feed.stdout.readline()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    while not over.wait(min(60, seconds)):
        lines = Path("/proc/self/status").read_text().splitlines()
        rss = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        metrics = run.source.metrics()
        print(
            f"{time.monotonic() - began:6.0f} s: {run.engine.totals.events:,} events, {rss / 1024:,.0f} MB, {cpu:,.0f} s of CPU, "
            f"lag {metrics['ws_lag_ms']} ms, reconnects {metrics['ws_reconnects_total']:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

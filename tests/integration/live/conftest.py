"""A venue on loopback, pipelines that read it, and their expected rows: those of the same tape, read in order."""

import asyncio
import json
import os
import time
from contextlib import aclosing, closing
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.alpaca.source import Alpaca
from torghut_sources.stages.indicators import Indicators
from torghut_sources.stages.microbars import Microbars
from torghut_sources.tape.source import Replay
from torghut_testing.alpaca_data import event_of, synthetic

from support.processes import Running
from support.waiting import PATIENCE, until_async
from torghut_core import Connection, parse_timestamp
from torghut_core.admin.readiness import Readiness
from torghut_core.audit import SqlAuditStore
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.universe import StaticUniverse
from torghut_core.signals import MemorySignalStore, Selection
from torghut_core.signals.rows import arrow_schema

PRICES = {"BTC/USD": 60_000.0, "ETH/USD": 3_000.0}
T0 = 1_760_000_000_000_000_000
SECOND = 1_000_000_000

QUICK = {
    "history_lag_ms": 2,
    "ping_s": 0.08,
    "stale_after_s": 1.0,
    "answer_s": 0.5,
    "crowded_wait_s": 0.03,
    "stable_after_s": 0,
    "tick_ms": 0,
    "backfill_max_s": 1e9,
}
"""Times of the source that fit a venue on loopback; a tape has no pace, so there are no ticks between its events."""


class Tape:
    """Trades and quotes in order, and the rows that stages make of them."""

    def __init__(self, messages, folder):
        self.messages = list(messages)
        self.events = [event_of(message) for message in self.messages]
        self.symbols = tuple(sorted({message["S"] for message in self.messages}))
        folder.mkdir(parents=True)
        paths = [folder / "trades.parquet", folder / "quotes.parquet"]
        self.paths = [str(path) for path in paths]
        for path, kind in zip(paths, "tq", strict=True):
            pq.write_table(_columns([message for message in self.messages if message["T"] == kind]), path)
        store = MemorySignalStore()
        source = Replay(Replay.Params(paths=self.paths))
        asyncio.run(Deriver(source, stages(), store).run())
        self.rows = rows_of(store)

    def __len__(self):
        return len(self.messages)


def _columns(messages):
    """The columns of a tape, of trades or of quotes."""
    named = {"S": "symbol", "p": "price", "s": "size", "i": "trade_id", "x": "exchange"}
    named |= {"bp": "bid_price", "bs": "bid_size", "ap": "ask_price", "as": "ask_size"}
    rows = [
        {"event_ts": parse_timestamp(message["t"])} | {named[key]: message[key] for key in named if key in message}
        for message in messages
    ]
    table = pa.Table.from_pylist(rows)
    return table.set_column(0, "event_ts", table["event_ts"].cast(pa.timestamp("ns", "UTC")))


def stages():
    """What every pipeline of these tests derives."""
    return [Microbars(Microbars.Params()), Indicators(Indicators.Params())]


def rows_of(store, until=None):
    """What is stored, by table, but for when it came; of windows that end by `until`, ns."""
    found = {}
    for table in ("microbars", "signals"):
        names = [name for name in arrow_schema(table).names if name != "ingest_ts"]
        rows = store.select(table, names, Selection()).to_pylist()
        found[table] = sorted(rows, key=lambda row: (row["event_ts"], row["symbol"], row["window_size"]))
    if until is not None:
        found = {table: [row for row in rows if row["window_end"].value <= until] for table, rows in found.items()}
    return found


class Looked(Alpaca):
    """The source, whose gates are looked at before and after each batch, as `torghut run` does.

    `given` has for each batch its events (first, stop) and the gates that were closed when it was given out.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.readiness = Readiness(self.gates)
        self.given = []
        self._is_over = False

    async def batches(self, size):
        async with aclosing(super().batches(size)) as stream:
            async for batch in stream:
                closed = tuple(name for name, gate in self.readiness.poll().items() if gate is not None)
                self.given.append((batch.start, batch.stop, closed))
                yield batch
                if not self._is_over:
                    self.readiness.poll()

    def close(self):
        """It is enough; what the gates say of that is of no interest."""
        self._is_over = True
        super().close()

    @property
    def is_filled(self):
        """Whether every gate is open but that of freshness, which closes when a tape is over."""
        return all(gate is None for name, gate in self.readiness.poll().items() if name != "freshness")


class Clock:
    """The venue's time: that of the last event that happened. A tape without a pace has no other."""

    def __init__(self, now=T0):
        self.now = now

    def __call__(self):
        return self.now

    def run(self, events):
        """The events, each as it happens."""
        for event in events:
            self.now = event.at
            yield event


def source_of(market, symbols, kind=Looked, asset_class="crypto", wall=time.time_ns, **params):
    """A connected source."""
    settings = AlpacaSettings(
        alpaca_market_type=asset_class,
        alpaca_stream_url=market.url,
        alpaca_base_url=market.rest_url,
        reconnect_base_ms=5,
        reconnect_max_ms=40,
    )
    made = kind(Alpaca.Params(**QUICK | params), settings, wall=wall)
    keys = {"ALPACA_KEY_ID": market.key, "ALPACA_SECRET_KEY": market.secret}
    made.connect(Connection(False, lambda name: SecretStr(keys[name]), StaticUniverse(symbols)))
    return made


async def derived(source, *parts):
    """The rows that come of a source: it is closed after what is played, when every gap is filled.

    `parts` are called one after the other, each when all of the one before has come; each gives the events by then.

    Returns
    -------
    The store's rows, and the deriver.
    """
    store = MemorySignalStore()
    deriver = Deriver(source, stages(), store)
    try:
        async with asyncio.timeout(PATIENCE):
            work = asyncio.create_task(deriver.run(64))
            for part in parts:
                count = part()
                await until_async(lambda count=count: deriver.totals.events >= count and source.is_filled, tasks=[work])
            source.close()
            await work
    except TimeoutError:
        raise AssertionError(f"{deriver.totals}; closed: {source.readiness.reasons()}; {source.metrics()}") from None
    return rows_of(store), deriver


def environment_of(market, **others):
    """What a process needs to reach a venue."""
    return {
        "ALPACA_MARKET_TYPE": "crypto",
        "ALPACA_STREAM_URL": market.url,
        "ALPACA_BASE_URL": market.rest_url,
        "ALPACA_KEY_ID": market.key,
        "ALPACA_SECRET_KEY": market.secret,
        "RECONNECT_BASE_MS": "20",
        "RECONNECT_MAX_MS": "200",
        "TRADING_STATIC_SYMBOLS": ",".join(PRICES),
    } | others


class Torghut(Running):
    """A torghut command as a process, with its catalog and its state directory."""

    def __init__(self, command, folder, catalog, environment):
        self._catalog = folder / f"{command}.yaml"
        self._catalog.write_text(json.dumps(catalog))
        super().__init__(folder, folder / f"{command}-state", name=command, env=environment)
        self.name = command

    def start(self):
        """Start it, and do not wait."""
        return super().start(self.name, "--catalog", self._catalog, "--state", self.state, "--port", 0)

    def begin(self):
        """Start it, and wait until its probes listen."""
        assert self.start().listens(), self.log
        return self

    def get(self, path):
        """Status of an answer, and what it says."""
        status, text = self.ask(path)
        return status, json.loads(text) if text.startswith("{") else text

    @property
    def gates(self):
        """The reason of each gate that is closed, by name."""
        return {
            name: reason for name, reason in self.get("/readyz")[1]["gates"].items() if reason and reason is not True
        }

    def metric(self, name, label=""):
        """A number; 0 where there is none."""
        return super().metric(name, label) or 0.0

    @property
    def is_ready(self):
        """Whether every gate is open."""
        return self.get("/readyz")[0] == 200

    def until(self, is_so):
        """Wait until something is so, while it runs; what it was then."""
        return super().until(is_so, lambda: self.get("/readyz"))


@pytest.fixture(scope="session")
def live(tmp_path_factory):
    """What the tests of this folder share."""
    return SimpleNamespace(
        PRICES=PRICES, QUICK=QUICK, T0=T0, SECOND=SECOND,
        Tape=Tape, Clock=Clock, rows_of=rows_of, source_of=source_of, derived=derived, stages=stages, Looked=Looked, environment_of=environment_of,
        tape=lambda *arguments, **options: Tape(
            synthetic(*arguments, **options), tmp_path_factory.mktemp("tape") / "files"
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tape(live):
    """Twelve seconds of two pairs, with many events in a moment."""
    return live.tape(PRICES, rate=25, seed=7, start=T0, count=300)


@pytest.fixture(scope="session")
def recent(live):
    """The same of some minutes ago: a store forgets what is old."""
    return live.tape(PRICES, rate=25, seed=7, start=(time.time_ns() // SECOND - 600) * SECOND, count=300)


BUYER = '''
"""Buys on every row."""
from torghut_core import Strategy, hookimpl


class Buyer(Strategy):
    def on_signal(self, signal, context):
        return context.buy(1, because="a row")


@hookimpl
def register_strategies(register):
    register("buyer", Buyer)
'''


@pytest.fixture
def bought(tmp_path):
    """What of a strategy that buys on every row came about."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "buyer.py").write_text(BUYER)

    def strategies(*symbols):
        """Of a catalog."""
        entry = {"name": "buyer", "use": "buyer", "base_timeframe": "1Sec", "symbols": symbols}
        broker = {"use": "simulated", "params": {"cash": "1000000000"}}
        return {"version": 1, "pipelines": {"trading": {"broker": broker}}, "strategies": [entry]}

    def between(since, until):
        """What was said to decisions of loop times [since, until): codes that denied one, and ``allowed``."""
        with closing(SqlAuditStore(tmp_path / "run-state" / "audit.db")) as audit:
            decisions = [row for row in audit.rows("trade_decisions") if since <= row["decided_at"] < until]
        found = set()
        for decision in decisions:
            codes = {each["code"] for each in decision["verdicts"] if each["outcome"] == "deny"}
            found |= codes or {decision["status"]}
        return found

    environment = {"TRADING_ENABLED": "true", "TORGHUT_PLUGIN_PATH": str(plugins)}
    return SimpleNamespace(strategies=strategies, between=between, environment=environment)


@pytest.fixture
def torghut(tmp_path):
    """Makes torghut processes with catalogs, and ends them."""
    made = []

    def make(command, catalog, environment):
        process = Torghut(command, tmp_path, catalog, environment)
        made.append(process)
        return process

    yield make
    for process in made:
        process.kill()


@pytest.fixture(autouse=True)
def only_ours(monkeypatch):
    """No setting of who runs the tests."""
    for name in list(os.environ):
        if name.startswith(("ALPACA_", "KAFKA_", "TRADING_", "TA_", "TOPIC_", "JANGAR_")):
            monkeypatch.delenv(name)

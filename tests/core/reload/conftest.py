"""A trading loop that a test drives: it trades bars and applies catalogs by calls."""

from decimal import Decimal

import msgspec
import numpy as np
import pytest
from torghut_testing import bar_batch

from torghut_core import Strategy, param
from torghut_core.audit import MemoryAuditStore
from torghut_core.catalog import load, load_draft
from torghut_core.errors import CatalogError
from torghut_core.generation import build
from torghut_core.model.market import Signals
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost
from torghut_core.reload.reloader import Reloader
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import MINUTE
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_623_400_000_000_000
SYMBOLS = ("ES", "BTC/USD")

PIPELINE = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}]
    broker: {use: simulated}
"""


class Flip(Strategy):
    """Buys and closes by turns, and counts rows; `rows` is its only state."""

    state = ("rows",)

    class Params(Strategy.Params):
        quantity: Decimal = param("1", gt=0, help="units per entry")
        every: int = param(1, ge=1, help="rows between two decisions")
        fail: str = param("", help="how to misbehave")
        last: int = param(1_000_000, ge=1, help="rows of a symbol after which it raises")
        warmup: int = param(0, ge=0, help="rows before it is warm")

    def __init__(self, params):
        super().__init__(params)
        self.rows = {}

    @property
    def warmup(self):
        return self.params.warmup

    def on_signal(self, signal, context):
        rows = self.rows[signal.symbol] = self.rows.get(signal.symbol, 0) + 1
        if rows > self.params.last:
            raise RuntimeError("that was the last")
        if self.params.fail:
            return misbehave(self.params.fail, context)
        if rows % self.params.every or context.working:
            return None
        if context.is_flat:
            return context.buy(self.params.quantity, because=f"row {rows}")
        return context.close(because=f"row {rows}")


def misbehave(how, context):
    if how == "always":
        return context.buy(1, because="why not")
    if how == "raise":
        raise RuntimeError("no idea")
    if how == "number":
        return 1
    if how == "list":
        return [context.buy(1, because="x")] * 1_000_000
    if how == "nan":
        return context.buy("NaN", because="x")
    if how == "endless":
        return context.buy("Infinity", because="x")
    if how == "symbol":
        return msgspec.structs.replace(context.buy(1, because="x"), symbol="NOPE")
    if how == "float":
        return msgspec.structs.replace(context.buy(1, because="x"), quantity=1.5)
    raise AssertionError(how)


class Live:
    """An engine on minute bars, with a reloader."""

    def __init__(self, text, host, load_host=None):
        self.audit = MemoryAuditStore()
        self.signals = MemorySignalStore()
        self.gates = Gates(trading_enabled=True, price_max_age_ns=10**18)
        generation = build(load({"trading.yaml": text}), host)
        number = self.audit.record_generation(generation.to_record(), "start", "started")
        self.account = self.audit.new_account("live")
        self.troubles = 0
        self.engine = Engine(
            generation.numbered(number), self.account, self.audit, self.gates, on_trouble=self._trouble
        )
        self.reloader = Reloader(
            self.engine, self.audit, self.signals, self.gates, host,
            load_host or (lambda allow, before: before), defaults=Limits(), actor="start",
        )  # fmt: skip
        self._minute = 0
        self._symbols = None
        self._position = 0

    def _trouble(self):
        self.troubles += 1

    @property
    def status(self):
        return self.reloader.status

    def batch(self, minutes=5, symbols=SYMBOLS):
        """The next bars."""
        rows = []
        for minute in range(self._minute, self._minute + minutes):
            random = np.random.default_rng(minute)
            for symbol in symbols:
                price = round(float(random.uniform(90, 110)), 2)
                rows.append((symbol, START + minute * MINUTE, price, price + 1, price - 1, price, 100.0))
        self._minute += minutes
        batch = bar_batch(rows, "1Min", symbols=self._symbols, start=self._position)
        self._symbols = batch.symbols
        self._position = batch.stop
        bars = batch.bars
        head = {name: getattr(bars, name) for name in ("at", "event_ts", "symbol", "seq", "step", "series")}
        batch.signals = Signals.from_columns(
            **head, ema12=bars.close, macd_hist=bars.close, rsi14=bars.close, close=bars.close
        )
        batch.microbars = bars
        return batch

    def trade(self, minutes=5):
        """Trade some bars; return the number of decisions."""
        before = self.engine.totals.decisions
        batch = self.batch(minutes)
        self.signals.write(batch)
        batch.microbars = type(batch.bars).empty()
        self.engine.step(batch)
        self.audit.commit()
        return self.engine.totals.decisions - before

    def apply(self, files, actor="me", releases=True):
        """Apply a catalog, as the watcher does: the texts of its files, or one text."""
        files = {"trading.yaml": files} if isinstance(files, str) else files
        try:
            draft = load_draft(files)
            for _ in range(10):
                plan = self.reloader.plan(draft, self.reloader.begin(), releases=releases)
                if self.reloader.apply(plan, actor):
                    return self.status
        except CatalogError as error:
            self.reloader.refuse(error)
            return self.status
        raise AssertionError("no plan held")

    def decisions(self, strategy):
        """Return a strategy's decisions: symbol, time, action, quantity, reason and status."""
        self.audit.commit()
        return [
            (row["symbol"], row["event_ts"], row["action"], row["params"]["quantity"], row["rationale"], row["status"])
            for row in self.audit.decisions(self.account)
            if row["strategy_id"] == strategy
        ]

    @property
    def denied(self):
        """Codes of the verdicts that denied decisions so far."""
        self.audit.commit()
        rows = self.audit.decisions(self.account, status="denied")
        return {verdict["code"] for row in rows for verdict in row["verdicts"] if verdict["outcome"] == "deny"}

    def held(self, strategy, symbol="ES"):
        """Return the units that a strategy holds."""
        return self.engine.books.positions[strategy, symbol].quantity


@pytest.fixture(scope="session")
def flip_module(plugin_module, fake_classes):
    """The fakes, with a simulated broker that fills, and a strategy that trades."""
    from torghut_brokers.simulated import Simulated

    hooks = {hook: dict(brought) for hook, brought in fake_classes.items()}
    hooks["register_strategies"]["flip"] = Flip
    hooks["register_brokers"] = {"simulated": Simulated}
    return plugin_module("fakes", hooks)


@pytest.fixture(scope="session")
def flip_host(flip_module):
    """The host of that module."""
    return PluginHost([("fakes", flip_module)])


@pytest.fixture(scope="session")
def live_of(flip_host):
    """Make a `Live` of the whole text of a catalog: for laws, which make many."""
    return lambda text: Live(text, flip_host)


@pytest.fixture
def live(flip_host):
    """Make a `Live` of the text of some strategies."""

    def make(strategies="", head=PIPELINE, host=flip_host, **options):
        return Live(head + strategies, host, **options)

    return make

"""Laws of the whole loop, on random tapes: how the stream is cut changes nothing, and nothing looks ahead."""

import asyncio
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torghut_core import catalog as catalogs
from torghut_core.audit import MemoryAuditStore
from torghut_core.engine import Engine
from torghut_core.generation import build
from torghut_core.plugin_host import PluginHost
from torghut_core.risk import Gates
from torghut_core.runner import Loop
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import SECOND, format_timestamp

START = 1_767_623_400 * SECOND
CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay, params: {paths: %s}}
    stages:
      - {use: microbars, params: {max_out_of_order_ms: 500}}
      - {use: resample, params: {timeframes: [1Min]}}
      - {use: indicators}
    broker: {use: simulated, params: {cash: "10000", fee_bps: "1", slippage_bps: "2", latency_ms: 300}}
strategies:
  - {name: reversion, use: mean-reversion, base_timeframe: 1Sec, symbols: ["BTC/USD", "ETH/USD"], params: {quantity: "2"}}
  - {name: trend, use: ema-cross, base_timeframe: 1Sec, symbols: ["BTC/USD"], cooldown_seconds: 3}
  - {name: hold, use: buy-and-hold, base_timeframe: 1Min, symbols: ["ETH/USD"], max_notional_per_trade: "150"}
risk: [{use: buying-power}, {use: no-shorts}]
"""


@pytest.fixture(scope="module")
def host():
    return PluginHost.load()


def envelope(channel, symbol, event_ts, ingest_ts, seq, payload):
    stamp = format_timestamp(event_ts)
    return json.dumps(
        {
            "ingest_ts": format_timestamp(ingest_ts), "event_ts": stamp, "feed": "test", "channel": channel,
            "symbol": symbol, "seq": seq, "is_final": True, "source": "test", "version": 1,
            "payload": {**payload, "t": stamp},
        }
    )  # fmt: skip


def tape(seed, events):
    """Lines of a recorded feed: trades and quotes of two symbols, late, doubled and at equal times now and then."""
    random = np.random.default_rng(seed)
    moment, price = START, {"BTC/USD": 100.0, "ETH/USD": 50.0}
    lines = []
    for seq in range(events):
        moment += int(random.choice([0, 40, 200, 900, 2500], p=[0.2, 0.3, 0.3, 0.15, 0.05])) * 1_000_000
        symbol = str(random.choice(["BTC/USD", "ETH/USD"]))
        price[symbol] = round(price[symbol] * (1 + random.normal(0, 2e-3)), 2)
        if random.random() < 0.3:
            quote = {"bp": price[symbol] - 0.01, "bs": 3.0, "ap": price[symbol] + 0.01, "as": 2.0}
            lines.append(envelope("quotes", symbol, moment, moment, seq, quote))
            continue
        late = int(random.choice([0, 300, 1500], p=[0.85, 0.1, 0.05])) * 1_000_000
        trade = {"i": seq, "p": price[symbol], "s": float(random.integers(1, 5))}
        line = envelope("trades", symbol, moment - late, moment, seq, trade)
        lines += [line, line] if random.random() < 0.05 else [line]
    return lines


def run(host, folder, lines, size):
    path = folder / "tape.jsonl"
    path.write_text("\n".join(lines) + "\n")
    generation = build(catalogs.load({"laws.yaml": CATALOG % json.dumps([str(path)])}), host)
    audit, store = MemoryAuditStore(), MemorySignalStore()
    engine = Engine(generation, "laws-1", audit, Gates(trading_enabled=True))
    asyncio.run(Loop(generation, engine, audit, store).run(size))
    return engine, audit, store


def books(engine, store):
    totals = engine.totals
    counts = (totals.events, totals.late, totals.duplicates, totals.microbars, totals.signals, totals.denials)
    tables = [store.bars().to_pydict(), store.signals().to_pydict()]
    return engine.digest, engine.account(), counts, json.dumps(tables, default=str)


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([1, 2, 7, 64, 333]))
def test_any_batch_size_gives_the_same_books(host, tmp_path_factory, seed, size):
    """Decisions, orders, fills, microbars and signals are the same to the bit however the stream is cut."""
    folder, lines = tmp_path_factory.mktemp("laws"), tape(seed, 600)
    whole, _, stored = run(host, folder, lines, 65_536)
    parts, _, cut = run(host, folder, lines, size)
    assert whole.totals.fills > 0
    assert books(whole, stored) == books(parts, cut)


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), cut=st.integers(100, 500))
def test_later_events_change_nothing_earlier(host, tmp_path_factory, seed, cut):
    """Decisions and fills up to a moment are the same whatever comes after it."""
    folder, lines = tmp_path_factory.mktemp("ahead"), tape(seed, 600)
    head = lines[:cut]
    until = START + 10**18
    for line in head:
        until = json.loads(line)["ingest_ts"]
    _, one, _ = run(host, folder, head + lines[cut:], 50)
    _, two, _ = run(host, folder, head + tape(seed + 1, 900)[cut + 250 :], 50)

    def known(audit):
        decided = [row for row in audit.decisions() if format_timestamp(row["decided_at"]) < until]
        filled = [row for row in audit.fills() if format_timestamp(row["event_ts"]) < until]
        kept = ("strategy_id", "symbol", "event_ts", "decided_at", "action", "params", "status", "verdicts", "signal")
        told = ("symbol", "side", "event_ts", "quantity", "price", "fee")
        return [[row[name] for name in kept] for row in decided], [[row[name] for name in told] for row in filled]

    assert known(one) == known(two)


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_every_trade_is_in_a_bar_or_counted_out(host, tmp_path_factory, seed):
    """Trades in = trades in bars + late + duplicates + excluded."""
    lines = tape(seed, 600)
    engine, _, store = run(host, tmp_path_factory.mktemp("count"), lines, 65_536)
    trades = sum('"channel": "trades"' in line for line in lines)
    seconds = store.bars(window_size="PT1S")
    totals = engine.totals
    assert trades == sum(seconds["count"].to_pylist()) + totals.late + totals.duplicates + totals.excluded


def test_cash_and_positions_add_up_to_equity(host, tmp_path):
    """The broker's equity is the cash of all fills and what is held at the last price."""
    engine, audit, _ = run(host, tmp_path, tape(7, 900), 65_536)
    cash = engine.account().cash
    spent = sum(
        (
            fill["price"] * fill["quantity"] * (1 if fill["side"] == "buy" else -1) + fill["fee"]
            for fill in audit.fills()
        ),
        start=type(cash)(0),
    )
    assert cash == 10_000 - spent
    held = {symbol for (_, symbol), position in engine.positions.items() if position.quantity}
    assert held == {symbol for symbol, position in engine._broker.positions().items() if position.quantity}

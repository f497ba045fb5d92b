"""Laws of the whole loop, on random tapes: how the stream is cut changes nothing, and nothing looks ahead."""

import asyncio
import dataclasses
import json
from functools import partial
from operator import itemgetter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core import catalog as catalogs
from torghut_core.audit import MemoryAuditStore
from torghut_core.generation import build
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost
from torghut_core.reload.reloader import Reloader
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import SECOND, format_timestamp
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import Loop

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
    broker: {use: simulated, params: {cash: "10000", fees: {"*": {bps: "1"}}, slippage: {"*": {bps: "2"}}, latency_ms: 300}}
instruments:
  "BTC/USD": {asset_class: crypto, tick_size: "0.05", quantity_step: "0.25", min_notional: 20, multiplier: 2, margin: 0.5}
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


def run(host, folder, lines, size, text=CATALOG, swaps=()):
    """Replay the lines; `swaps` are (event, text of a catalog, host of the plugins to take then)."""
    path = folder / "tape.jsonl"
    path.write_text("\n".join(lines) + "\n")
    paths = json.dumps([str(path)])
    generation = build(catalogs.load({"laws.yaml": text % paths}), host)
    audit, store, gates = MemoryAuditStore(), MemorySignalStore(), Gates(trading_enabled=True)
    engine = Engine(generation, "laws-1", audit, gates)
    hosts = [host]
    reloader = Reloader(engine, audit, store, gates, host, lambda _allow, _before: hosts[-1], defaults=Limits())

    def swap(text, host):
        hosts.append(host)
        plan = reloader.plan(catalogs.load_draft({"laws.yaml": text % paths}), reloader.begin(), releases=True)
        assert reloader.apply(plan, "law")
        assert not reloader.status.problems

    stops = [(event, partial(swap, text, host)) for event, text, host in sorted(swaps, key=itemgetter(0))]
    asyncio.run(Loop(generation, engine, audit, store).run(size, stops=stops))
    return engine, audit, store


def reinstalled(host, number):
    """The same plugins, as if their strategies and rules had been installed anew."""
    other = PluginHost()
    other.registry = {
        kind: {
            name: dataclasses.replace(each, code_digest=f"{number}") if kind in ("strategy", "risk rule") else each
            for name, each in named.items()
        }
        for kind, named in host.registry.items()
    }
    return other


def reordered(text):
    """The catalog with comments, its strategies and keys in another order, and quotes around a number."""
    head, _, rest = text.partition("strategies:\n")
    *strategies, risk = rest.rstrip().splitlines()
    return f"# moved\n{risk}\nstrategies:\n" + "\n".join(strategies[::-1]).replace('"2"', "2") + "\n" + head


EQUIVALENT = st.tuples(st.integers(0, 700), st.booleans(), st.booleans())


@examples(15)
@given(
    seed=st.integers(0, 10_000), swaps=st.lists(EQUIVALENT, min_size=1, max_size=4), size=st.sampled_from([7, 65_536])
)
def test_swap_to_an_equivalent_catalog_changes_nothing(host, tmp_path_factory, seed, swaps, size):
    """Wherever it happens: other order, comments, the same code installed anew; the books are the same to the bit."""
    folder, lines = tmp_path_factory.mktemp("swap"), tape(seed, 600)
    plain, _, stored = run(host, folder, lines, 65_536)
    made = [
        (event, reordered(CATALOG) if is_moved else CATALOG, reinstalled(host, event) if is_new else host)
        for event, is_moved, is_new in swaps
    ]
    swapped, _, kept = run(host, folder, lines, size, swaps=made)
    assert books(plain, stored) == books(swapped, kept)


FREE = CATALOG.partition("risk:")[0]
MORE = '  - {name: more, use: ema-cross, base_timeframe: 1Sec, symbols: ["ETH/USD", "BTC/USD"]}\n'


@examples(10)
@given(seed=st.integers(0, 10_000), event=st.integers(0, 650))
def test_unrelated_strategy_changes_no_decision_of_the_others(host, tmp_path_factory, seed, event):
    """Added in the middle of the tape, it trades beside the others, who decide as if it were not there."""
    folder, lines = tmp_path_factory.mktemp("more"), tape(seed, 600)
    _, alone, _ = run(host, folder, lines, 65_536, FREE)
    engine, beside, _ = run(host, folder, lines, 65_536, FREE, [(event, FREE + MORE, host)])
    kept = ("strategy_id", "symbol", "event_ts", "decided_at", "action", "params", "status", "rationale")

    def decided(audit):
        return [[row[name] for name in kept] for row in audit.decisions() if row["strategy_id"] != "more"]

    assert decided(alone) == decided(beside)
    assert "more" in engine.totals.strategies


CHANGED = FREE.replace(
    "name: reversion, use: mean-reversion", "name: reversion, on_remove: flatten, use: mean-reversion"
)


@examples(10)
@given(seed=st.integers(0, 10_000), event=st.integers(50, 550), size=st.sampled_from([1, 7, 64]))
def test_swap_does_not_depend_on_the_batch_size(host, tmp_path_factory, seed, event, size):
    """A strategy taken out with a position is closed at the same row, and all books are the same, in any batches."""
    folder, lines = tmp_path_factory.mktemp("cut"), tape(seed, 600)
    gone = "\n".join(line for line in CHANGED.splitlines() if "name: reversion" not in line) + "\n"
    swaps = [(event, gone, host)]
    whole, _, stored = run(host, folder, lines, 65_536, CHANGED, swaps)
    parts, _, cut = run(host, folder, lines, size, CHANGED, swaps)
    assert books(whole, stored) == books(parts, cut)


def books(engine, store):
    totals = engine.totals
    counts = (totals.events, totals.late, totals.duplicates, totals.microbars, totals.signals, totals.denials)
    tables = [store.bars().to_pydict(), store.signals().to_pydict()]
    return engine.digest, engine.account(), counts, json.dumps(tables, default=str)


@examples(12)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([1, 2, 7, 64, 333]))
def test_any_batch_size_gives_the_same_books(host, tmp_path_factory, seed, size):
    """Decisions, orders, fills, microbars and signals are the same to the bit however the stream is cut."""
    folder, lines = tmp_path_factory.mktemp("laws"), tape(seed, 600)
    whole, _, stored = run(host, folder, lines, 65_536)
    parts, _, cut = run(host, folder, lines, size)
    assert whole.totals.fills > 0
    assert books(whole, stored) == books(parts, cut)


@examples(8)
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


@examples(8)
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
            engine.generation.instruments[fill["symbol"]].notional(fill["quantity"], fill["price"])
            * (1 if fill["side"] == "buy" else -1)
            + fill["fee"]
            for fill in audit.fills()
        ),
        start=type(cash)(0),
    )
    assert cash == 10_000 - spent
    held = {symbol for (_, symbol), position in engine.books.positions.items() if position.quantity}
    assert held == {symbol for symbol, position in engine._broker.positions().items() if position.quantity}

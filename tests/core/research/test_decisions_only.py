"""Stored signals through the decision engine: what strategies decide, and no order."""

import asyncio
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.errors import InputError, TapeError
from torghut_core.installation.settings import Settings
from torghut_core.plugin_host import PluginHost
from torghut_core.research import load_catalog, run_backtest, tape_generation
from torghut_core.research.stored.decisions import StoredReplay, open_stored_replay
from torghut_core.research.stored.fixtures import read_fixtures
from torghut_core.research.stored.window import Window, stored_generation
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import MINUTE, SECOND, format_timestamp
from torghut_core.trading.engine import Reach

T0 = 1_767_623_400 * SECOND
ROWS = 600
TEXT = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}, {use: resample, params: {timeframes: [1Min]}}, {use: indicators}]
    broker: {use: simulated, params: {cash: "1000000"}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Min, symbols: [WALK], params: {quantity: "1"}}
  - {name: reversion, use: mean-reversion, base_timeframe: 1Min, symbols: [WALK]}
"""
WHOLE = Window(T0, T0 + ROWS * MINUTE)


@pytest.fixture(scope="module")
def host():
    return PluginHost.load(["torghut-*"])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """What a replay of trades that rise and fall leaves in a signal store."""
    tape = tmp_path_factory.mktemp("tape") / "walk.parquet"
    price = (100 + 5 * np.sin(np.arange(ROWS) / 25)).round(2)
    times = pa.array(T0 + np.arange(ROWS) * MINUTE).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(
        pa.table({"symbol": ["WALK"] * ROWS, "event_ts": times, "price": price, "size": np.ones(ROWS)}), tape
    )
    kept = MemorySignalStore()
    run_backtest(tape_generation(load_catalog({"walk.yaml": TEXT}), [tape]), signals=kept)
    return kept


def decide(store, host, window=WHOLE, text=TEXT, reach=Reach.PROPOSED, **choice):
    generation = stored_generation(load_catalog({"walk.yaml": text}), host, store, window, **choice)
    decisions = []
    done = StoredReplay(generation, store, window, reach, Settings()).run(decisions.append)
    return done, decisions


def keys(decisions):
    return [(each["strategy_id"], each["event_ts"], each["action"], each["decision_hash"]) for each in decisions]


def test_it_decides_and_sends_nothing(store, host):
    """There are decisions and no order: orders and fills are 0, and there is no equity."""
    done, decisions = decide(store, host)
    assert {each["strategy_id"] for each in decisions} == {"cross", "reversion"}
    assert len(decisions) == done.result["decisions"] > 10
    assert (done.result["orders"], done.result["fills"], done.result["denied"]) == (0, 0, 0)
    assert done.result["final_equity"] is None
    assert done.result["events"] == done.result["signals"]
    assert {each["status"] for each in decisions} == {"allowed"}


def test_a_window_continues_where_the_one_before_ended(store, host):
    """Two halves decide what the whole does: features and strategies are shown the store's past before the first row."""
    middle = T0 + 313 * MINUTE
    _, whole = decide(store, host)
    _, first = decide(store, host, Window(T0, middle))
    _, second = decide(store, host, Window(middle, WHOLE.until))
    assert keys(first) + keys(second) == keys(whole)
    assert {each["event_ts"] < format_timestamp(middle) for each in first} == {True}


@pytest.mark.parametrize("page", [1, 7, 100])
def test_pages_of_any_size_decide_the_same(store, host, page):
    """The store is read in pages, each as long a part of the window as holds about a page."""
    _, whole = decide(store, host)
    generation = stored_generation(load_catalog({"walk.yaml": TEXT}), host, store, WHOLE)
    generation.source.params.__dict__["batch"] = page
    decisions = []
    StoredReplay(generation, store, WHOLE, Reach.PROPOSED, Settings()).run(decisions.append)
    assert keys(decisions) == keys(whole)


def test_risk_judges_only_where_it_is_asked_to(store, host):
    """With risk applied a rule shrinks or denies; without it the decisions are as the strategies propose them."""
    text = TEXT.replace('quantity: "1"}', 'quantity: "1"}, max_notional_per_trade: "1"')
    free, proposed = decide(store, host, text=text)
    judged, decisions = decide(store, host, text=text, reach=Reach.JUDGED)
    assert free.result["decisions"] == judged.result["decisions"]
    assert keys(proposed) == keys(decisions)
    assert {len(each["verdicts"]) for each in proposed} == {0}
    cut = [each["strategy_id"] for each in decisions if "shrink" in [said["outcome"] for said in each["verdicts"]]]
    assert set(cut) == {"cross"}
    assert judged.result["orders"] == 0


def test_limit_and_symbol_choose_rows(store, host):
    """At most so many rows are read, and none of a symbol that nobody trades."""
    done, _ = decide(store, host, limit=50)
    assert done.result["events"] == 50
    with pytest.raises(InputError, match="no strategy of the catalog trades ES"):
        decide(store, host, symbols=["ES"])


def test_a_strategy_without_rows_is_named_with_the_reason(store, host):
    """What cannot be known of the stored bars is said, strategy by strategy."""
    done, _ = decide(
        store,
        host,
        text=TEXT.replace(
            "base_timeframe: 1Min, symbols: [WALK], params", "base_timeframe: 5Min, symbols: [WALK], params"
        ),
    )
    assert list(done.starved) == ["cross"]
    assert "5Min" in done.starved["cross"]


def test_a_signal_without_a_bar_is_left_out_and_counted(host):
    """Nothing is decided without a price."""
    rows = MemorySignalStore()
    _fixture(rows, [_envelope(0), _envelope(1) | {"channel": "signals"}])
    done, _ = decide(rows, host, Window(T0, T0 + 10 * SECOND))
    assert done.result["events"] == 0
    assert list(done.skipped.values()) == [2]


def _envelope(second, **payload):
    start = format_timestamp(T0 + second * SECOND)
    window = {"size": "PT1S", "step": "PT1S", "start": start, "end": format_timestamp(T0 + (second + 1) * SECOND)}
    payload = payload or {"macd": {"macd": 1.0, "signal": 0.5, "hist": 0.5}, "ema": {"ema12": 2.0, "ema26": 1.0}}
    return {"symbol": "WALK", "event_ts": start, "seq": 5, "window": window, "payload": payload}


def _fixture(store, rows, key="WALK:"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(f"{key}{json.dumps(row)}\n" for row in rows))
        read_fixtures([path], store)


def test_a_fixture_holds_rows_of_the_tables_or_envelopes():
    """Lines as `kcat -K:` prints them, and rows as ClickHouse prints them, come to the same rows."""
    bar = {"o": 1.0, "h": 2.0, "l": 1.0, "c": 1.5, "v": 10.0, "vwap": 1.4, "count": 3}
    keyed, flat = MemorySignalStore(), MemorySignalStore()
    _fixture(keyed, [_envelope(0), _envelope(0, **bar)])
    head = {"symbol": "WALK", "event_ts": "2026-01-05 14:30:00.000000000", "seq": 5, "window_size": "PT1S"}
    signal = {"macd": 1.0, "signal": 0.5, "hist": 0.5, "ema12": 2.0, "ema26": 1.0}
    _fixture(flat, [head | signal, head | bar], key="")
    assert keyed.signals().to_pylist() == flat.signals().to_pylist()
    assert keyed.bars().to_pylist() == flat.bars().to_pylist()
    assert keyed.signals().num_rows == keyed.bars().num_rows == 1


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "line 2"),
        ('{"symbol": "WALK"}', "event_ts"),
        ('{"symbol": "WALK", "event_ts": "2026-01-05"}', "RFC 3339"),
        ('{"symbol": "WALK", "event_ts": "2026-01-05 14:30:00"}', "neither prices"),
    ],
)
def test_a_bad_line_of_a_fixture_is_named(tmp_path, line, what):
    """File, line and what a line has to be."""
    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(TapeError, match=what) as caught:
        read_fixtures([path], MemorySignalStore())
    assert "rows.jsonl: line 2" in str(caught.value)


def test_bounds_are_utc_or_have_a_zone():
    """A day and a time without a zone are UTC; nothing between two bounds is an error that says so."""
    assert Window.parse("2026-01-05T14:30:00", "2026-01-05T10:30:00-05:00", 0) == (T0, T0 + 3600 * SECOND)
    assert Window.parse("2026-01-05", "", T0).until == T0
    with pytest.raises(InputError, match="--end tomorrow"):
        Window.parse("2026-01-05", "tomorrow", 0)
    with pytest.raises(InputError, match="nothing lies between"):
        Window.parse("2026-01-06", "2026-01-05", 0)


def test_it_reads_fixtures_without_any_store(tmp_path):
    """A catalog and a file of rows are enough."""
    (tmp_path / "walk.yaml").write_text(TEXT)
    bar = {"o": 1.0, "h": 2.0, "l": 1.0, "c": 1.5, "v": 10.0, "vwap": 1.4, "count": 3}
    rows = [_envelope(second, **part) for second in range(3) for part in ({}, bar)]
    (tmp_path / "rows.jsonl").write_text("".join(f"WALK:{json.dumps(row)}\n" for row in rows))
    text = TEXT.replace("1Min, symbols", "1Sec, symbols")
    (tmp_path / "walk.yaml").write_text(text)
    with open_stored_replay(
        tmp_path / "walk.yaml",
        tmp_path / "state",
        Window(T0, T0 + MINUTE),
        fixtures=[tmp_path / "rows.jsonl"],
        settings=Settings(),
    ) as job:
        assert job.run().result["events"] == 3
    assert not (tmp_path / "state").exists()


def test_the_source_stops_where_the_window_does(store, host):
    """A row that became known after the end is never given."""
    generation = stored_generation(load_catalog({"walk.yaml": TEXT}), host, store, Window(T0, T0 + 90 * SECOND))

    async def ends():
        return [end async for batch in generation.source.batches(3) for end in batch.bars.end.tolist()]

    assert max(asyncio.run(ends())) <= T0 + 90 * SECOND

"""A backtest is a replay that keeps nothing, and tells what came out of it."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.errors import InputError
from torghut_core.installation.settings import Settings
from torghut_core.research import load_catalog, open_replay, run_backtest, tape_generation
from torghut_core.research.belief.judge import Answer
from torghut_core.timestamps import HOUR, MINUTE, SECOND

T0 = 1_767_623_400 * SECOND
TEXT = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: indicators, params: {columns: [ema12, ema26]}}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "10"}}}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Min, symbols: [WALK], params: {quantity: "1"}}
"""


@pytest.fixture
def tape(tmp_path):
    """Bars of a minute that rise and fall."""
    close = (100 + 5 * np.sin(np.arange(600) / 25)).round(2)
    columns = dict.fromkeys(("open", "high", "low", "close"), close) | {"volume": np.full(600, 100.0)}
    times = pa.array(T0 + np.arange(600) * MINUTE).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"symbol": ["WALK"] * 600, "event_ts": times, **columns}), tmp_path / "walk.parquet")
    return tmp_path / "walk.parquet"


def run(tape, text=TEXT, **options):
    return run_backtest(tape_generation(load_catalog({"walk.yaml": text}), [tape]), **options)


def test_it_comes_to_what_the_replay_comes_to(tape, tmp_path):
    """In memory or in a state directory, the same catalog and tape give the same digest."""
    pytest.importorskip("chdb", reason="the embedded signal store is torghut[embedded]")
    (tmp_path / "walk.yaml").write_text(TEXT)
    with open_replay(tmp_path / "walk.yaml", [tape], tmp_path / "state", settings=Settings()) as replay:
        written = replay.run()
    ours = run(tape, batch_size=7)

    assert ours.result.fills > 5
    assert ours.result.digest == written.result.digest
    assert [fill["price"] for fill in ours.fills()] == [fill["price"] for fill in written.fills()]


def test_a_replay_without_a_store_comes_to_the_same(tape, tmp_path):
    """`--no-store` keeps no microbars and signals and changes no decision, also where a swap needs history to warm up with."""
    pytest.importorskip("chdb", reason="the embedded signal store is torghut[embedded]")
    text = TEXT.replace("columns: [ema12, ema26]", "")
    (tmp_path / "walk.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text(text + "  - {name: late, use: tsmom, base_timeframe: 1Min, symbols: [WALK]}\n")
    digests = set()
    for is_stored in (True, False):
        state = tmp_path / f"state-{is_stored}"
        swaps = [(300, tmp_path / "other.yaml")]
        with open_replay(tmp_path / "walk.yaml", [tape], state, swaps=swaps, is_stored=is_stored) as replay:
            done = replay.run()
            assert done.signal_rows().num_rows == 600
        assert done.totals.strategies["late"].decisions
        assert (state / "signals").exists() == is_stored
        digests.add(done.result.digest)
    assert len(digests) == 1


def test_a_replay_without_an_installed_store_says_so_in_a_line(tape, tmp_path, monkeypatch, capsys):
    """`torghut[standard]` alone replays: it needs no embedded store, and says once that nothing is stored."""
    monkeypatch.setitem(sys.modules, "chdb", None)
    (tmp_path / "walk.yaml").write_text(TEXT)
    with open_replay(tmp_path / "walk.yaml", [tape], tmp_path / "state", settings=Settings()) as replay:
        done = replay.run()

    assert done.result.digest == run(tape).result.digest
    assert not (tmp_path / "state" / "signals").exists()
    assert capsys.readouterr().err.count("torghut[embedded]") == 1


@pytest.mark.parametrize("multiplier", [1, 50])
def test_its_curve_ends_where_the_result_does(tape, multiplier):
    """Equity over time comes from fills, bars and multipliers alone, and meets the books at the end."""
    done = run(tape, f"{TEXT}instruments: {{WALK: {{calendar: 24/7, multiplier: {multiplier}}}}}\n")
    curve = done.curve()

    assert curve.equity[0] == float(done.starting_cash)
    assert curve.equity[-1] == pytest.approx(float(done.result.final_equity))
    assert len(curve.event_ts) >= 600
    profits = sum(trip.profit for trip in done.round_trips())
    assert abs(profits) > multiplier
    assert profits == sum(held.realized_pnl - held.fees for held in done.positions.values() if not held.quantity)


def test_interest_and_liquidations_are_in_its_figures_and_on_its_page(tmp_path):
    """A position on margin over two nights, until a crash: the curve ends where the books do, in batches of any size."""
    close = np.where(np.arange(60) < 50, 100.0, 60.0)
    columns = dict.fromkeys(("open", "high", "low", "close"), close) | {"volume": np.full(60, 1e6)}
    times = pa.array(T0 + np.arange(60) * HOUR).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"symbol": ["WALK"] * 60, "event_ts": times, **columns}), tmp_path / "walk.parquet")
    text = (
        TEXT.replace("1Min", "1Hour").replace("ema-cross", "buy-and-hold").replace('quantity: "1"', 'quantity: "19000"')
    )
    text = text.replace("cash:", "interest: {loan_pct: 36}, leverage: alpaca, cash:")
    done = run(tmp_path / "walk.parquet", text, batch_size=7)

    figures = done.statistics
    assert figures["interest"] == pytest.approx(float(done.totals.interest))
    assert figures["interest"] > 1_000
    assert figures["final_equity"] == pytest.approx(float(done.result.final_equity))
    own = [fill for fill in done.fills() if fill["decision_hash"] == ""]
    assert own[0]["because"].startswith("liquidation: equity ")
    assert done.totals.liquidations == len(own) == 1
    page = done.page(tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(words in page for words in ("Interest paid", "The broker closed positions for want of margin"))
    whole = run(tmp_path / "walk.parquet", text)
    charges = [[(row["at"], row["symbol"], row["fees"]) for row in each.interest()] for each in (done, whole)]
    assert whole.result.digest == done.result.digest
    assert charges[0] == charges[1]


def test_a_catalog_that_trades_nothing_is_refused(tape):
    """Without a trading pipeline there is nothing to backtest."""
    text = TEXT.replace("trading:", "forwarder:")
    with pytest.raises(InputError, match="trading"):
        tape_generation(load_catalog({"walk.yaml": text}), [Path(tape)])


def test_a_span_is_traded_as_the_whole_tape_is_from_there(tape):
    """Before `since` features warm up and nothing is traded, after `until` nothing is read: in between the same fills."""
    whole = run(tape)
    flat_from = whole.round_trips()[0].exited_at  # of a bar: its start
    since, until = flat_from + MINUTE, T0 + 400 * MINUTE
    done = run(tape, since=since, until=until)

    expected = [fill for fill in whole.fills() if since < fill["event_ts"] + MINUTE <= until]
    terms = ("event_ts", "side", "quantity", "price", "because")
    assert len(expected) > 2
    assert [[fill[name] for name in terms] for fill in done.fills()] == [
        [fill[name] for name in terms] for fill in expected
    ]
    ends = done.bars()["event_ts"].to_numpy() + MINUTE
    assert since < ends[0] <= since + MINUTE
    assert ends[-1] == until == done.ended_at
    assert done.began_at == since


def test_a_span_is_the_same_for_any_batch_size(tape):
    """Where batches end changes neither the warm-up nor the end."""
    since, until = T0 + 101 * MINUTE, T0 + 399 * MINUTE
    runs = [run(tape, since=since, until=until, batch_size=size) for size in (1, 7, 100, 65_536)]
    assert len({done.result.digest for done in runs}) == 1
    assert len({(done.result.fills, done.ended_at, done.bars().num_rows) for done in runs}) == 1
    assert runs[0].result.fills


def test_a_span_before_the_tape_is_empty(tape):
    """Nothing is read, and nothing fails."""
    done = run(tape, until=T0)
    assert (done.result.events, done.result.fills, done.bars().num_rows) == (0, 0, 0)
    assert done.statistics["final_equity"] == 1_000_000


def test_ten_hours_are_too_little_to_tell_from_luck(tape):
    """A run says how far it can be believed; the more was tried, the less."""
    done = run(tape)
    alone, best_of_many = done.belief(), done.belief(trials=1_000)
    assert alone.answer is Answer.UNKNOWN
    assert alone.trades == len(done.round_trips())
    assert best_of_many.trials == 1_000

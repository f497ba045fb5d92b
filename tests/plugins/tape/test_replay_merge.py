"""Several tapes become one stream, in the order in which things became known."""

import heapq
import tempfile
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.tape.merge import merge
from torghut_sources.tape.source import Replay

from support.effort import examples
from torghut_core import Bars, Batch, Quotes, SymbolTable, TapeError, Trades

MINUTE = 60_000_000_000
KINDS = ("bars", "quotes", "trades")
TABLES = {"bars": Bars, "quotes": Quotes, "trades": Trades}
NAMES = ("MSFT", "AAPL", "BTC/USD")


def stream_of(symbols, events, cuts):
    """Events (known, kind, symbol, seq) of one tape as batches, cut where `cuts` says."""
    edges = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    for start, stop in pairwise(edges):
        part = list(enumerate(events[start:stop], start))
        tables = {}
        for kind in KINDS:
            rows = [(at, *event) for at, event in part if event[1] == kind]
            if rows:
                tables[kind] = TABLES[kind].from_columns(
                    at=[row[0] for row in rows],
                    event_ts=[row[1] for row in rows],
                    symbol=[symbols.number(row[3]) for row in rows],
                    seq=[row[4] for row in rows],
                )
        yield Batch.of(symbols, start, np.array([event[0] for _, event in part]), **tables)


def events_of(symbols, batches):
    """What a merged stream holds: (position, known, kind, symbol, seq)."""
    found = []
    for batch in batches:
        for kind in KINDS:
            table = getattr(batch, kind)
            known = batch.now[table.at - batch.start].tolist()
            names = [symbols.names[number] for number in table.symbol]
            found += zip(table.at.tolist(), known, [kind] * len(table), names, table.seq.tolist(), strict=True)
            assert (np.diff(table.at) > 0).all()
    return sorted(found)


def reference(streams):
    """The merge in words: take the least of the next events, by (known, kind, symbol, seq), then by stream."""
    order = {kind: number for number, kind in enumerate(KINDS)}
    heads = [((e[0], order[e[1]], e[2], e[3]), number, 0) for number, events in enumerate(streams) for e in events[:1]]
    heapq.heapify(heads)
    merged = []
    while heads:
        _, number, index = heapq.heappop(heads)
        merged.append((len(merged), *streams[number][index]))
        if index + 1 < len(streams[number]):
            e = streams[number][index + 1]
            heapq.heappush(heads, ((e[0], order[e[1]], e[2], e[3]), number, index + 1))
    return merged


events = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(KINDS), st.sampled_from(NAMES), st.integers(0, 3)), max_size=12
).map(lambda rows: sorted(rows, key=lambda row: row[0]))


@examples(300)
@given(st.lists(st.tuples(events, st.lists(st.integers(0, 99), max_size=6)), min_size=1, max_size=4))
def test_merge_is_the_least_next_event_however_streams_are_cut(tapes):
    """The vectorised merge equals the one in words, on any streams full of equal times, in any pieces."""
    symbols = SymbolTable()
    merged = merge([stream_of(symbols, rows, cuts) for rows, cuts in tapes])
    assert events_of(symbols, merged) == reference([rows for rows, _ in tapes])


def test_events_of_one_instant_stand_bars_quotes_trades_then_by_symbol_and_seq(kit, tmp_path):
    """The order of equals is a rule and not the order of the command line."""
    kit.write_parquet(
        tmp_path / "trades.parquet",
        [kit.trade(MINUTE, seq=2), kit.trade(MINUTE, seq=4), kit.trade(MINUTE, seq=1, symbol="MSFT")],
    )
    kit.write_parquet(tmp_path / "more.parquet", [kit.trade(MINUTE, seq=3), kit.trade(MINUTE, seq=0, symbol="MSFT")])
    kit.write_parquet(
        tmp_path / "quotes.parquet", [kit.quote(MINUTE, seq=9, symbol="ZM"), kit.quote(MINUTE + 1, seq=0)]
    )
    kit.write_parquet(tmp_path / "bars.parquet", [kit.bar(-1, seq=0), kit.bar(0, seq=1)])
    names = ["trades.parquet", "more.parquet", "quotes.parquet", "bars.parquet"]
    expected = [
        (kit.T0, "bars", "AAPL", 0),
        (kit.T0 + MINUTE, "bars", "AAPL", 1),
        (kit.T0 + MINUTE, "quotes", "ZM", 9),
        (kit.T0 + MINUTE, "trades", "AAPL", 2),
        (kit.T0 + MINUTE, "trades", "AAPL", 3),
        (kit.T0 + MINUTE, "trades", "AAPL", 4),
        (kit.T0 + MINUTE, "trades", "MSFT", 0),
        (kit.T0 + MINUTE, "trades", "MSFT", 1),
        (kit.T0 + MINUTE + 1, "quotes", "AAPL", 0),
    ]
    for order in (names, names[::-1]):
        assert kit.play(*(tmp_path / name for name in order)).events == expected


def test_one_tape_keeps_its_order_also_among_equals(kit, tmp_path):
    """A recording is not sorted again: what was seen first comes first."""
    rows = [kit.trade(symbol="MSFT", seq=5), kit.trade(symbol="AAPL", seq=4), kit.trade(symbol="MSFT", seq=3)]
    kit.write_parquet(tmp_path / "tape.parquet", rows)
    kit.write_parquet(tmp_path / "later.parquet", [kit.trade(1, symbol="ES", seq=0)])
    own = [("trades", "MSFT", 5), ("trades", "AAPL", 4), ("trades", "MSFT", 3)]
    assert [event[1:] for event in kit.play(tmp_path / "tape.parquet").events] == own
    both = kit.play(tmp_path / "tape.parquet", tmp_path / "later.parquet")
    assert [event[1:] for event in both.events] == [*own, ("trades", "ES", 0)]


def test_bar_is_merged_at_its_end(kit, tmp_path):
    """No trade inside the minute, nor one at its very end, comes after the minute's bar was known too early."""
    kit.write_parquet(tmp_path / "bars.parquet", [kit.bar(0), kit.bar(1)])
    kit.write_parquet(tmp_path / "trades.parquet", [kit.trade(t) for t in (0, MINUTE - 1, MINUTE, 2 * MINUTE + 1)])
    stream = kit.play(tmp_path / "bars.parquet", tmp_path / "trades.parquet")
    assert [event[1] for event in stream.events] == ["trades", "trades", "bars", "trades", "bars", "trades"]
    assert (stream.now - kit.T0).tolist() == [0, MINUTE - 1, MINUTE, MINUTE, 2 * MINUTE, 2 * MINUTE + 1]


@pytest.mark.parametrize("names", [("minutes", "fives"), ("fives", "minutes")], ids=" ".join)
def test_shorter_of_bars_that_end_together_comes_first(kit, tmp_path, names):
    """Whatever the order of the files: a longer one that came first would have told what happened in the shorter."""
    kit.write_parquet(tmp_path / "minutes.parquet", [kit.bar(minute) for minute in range(10)])
    kit.write_parquet(tmp_path / "fives.parquet", [kit.bar(0), kit.bar(5)])
    steps = [
        int(step) // MINUTE for step in kit.play(*(tmp_path / f"{name}.parquet" for name in names)).table("bars").step
    ]
    assert steps == [1, 1, 1, 1, 1, 5, 1, 1, 1, 1, 1, 5]


@pytest.mark.parametrize("rows_per_group", [2, 1000])
def test_symbols_that_follow_one_another_in_a_parquet_file_are_merged(kit, tmp_path, rows_per_group):
    """A file of one symbol after the other, each in its order of time, replays like a file in order of time."""
    rows = [kit.bar(minute, symbol=symbol, seq=minute) for symbol in ("MSFT", "AAPL", "ES") for minute in range(5)]
    kit.write_parquet(tmp_path / "by_symbol.parquet", rows, row_group_size=rows_per_group)
    stream = kit.play(tmp_path / "by_symbol.parquet")
    assert stream.events == sorted(stream.events)
    assert len(stream.events) == 15


def test_order_and_types_of_columns_do_not_matter_to_symbols_that_follow_one_another(kit, tmp_path):
    """Columns in any order, and text kept as a dictionary of each row group, are what they say."""
    rows = [kit.trade(i, symbol=symbol, seq=i, trade_id=i, exchange="D") for symbol in ("MSFT", "ES") for i in range(6)]
    kit.write_parquet(tmp_path / "plain.parquet", rows)
    table = pq.read_table(tmp_path / "plain.parquet")
    table = table.select(table.column_names[::-1])
    for name in ("symbol", "exchange"):
        table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    with pq.ParquetWriter(tmp_path / "other.parquet", table.schema) as writer:
        for start in range(0, 12, 4):
            writer.write_table(table.slice(start, 4).unify_dictionaries())
    kit.assert_same(kit.play(tmp_path / "other.parquet"), kit.play(tmp_path / "plain.parquet"))


def test_symbols_that_follow_one_another_leave_no_file_behind(kit, tmp_path, monkeypatch):
    """The copy in which they are merged goes with the replay, also with one that is broken off."""
    kit.write_parquet(tmp_path / "a.parquet", [kit.trade(i, symbol=s) for s in ("A", "B") for i in range(9)])
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "room"))
    kit.play(tmp_path / "a.parquet", size=1, limit=3)
    assert not list((tmp_path / "room").iterdir())


def test_symbols_that_follow_one_another_without_room_to_merge_them_are_reported(kit, tmp_path, monkeypatch):
    """The fix is a sorted file, or room."""
    kit.write_parquet(tmp_path / "a.parquet", [kit.trade(i, symbol=s) for s in ("A", "B") for i in range(9)])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(TapeError, match="sort the file by event_ts, or free space in the folder for temporary files"):
        kit.play(tmp_path / "a.parquet")


def test_late_events_of_a_recording_stay_where_they_arrived(kit, tmp_path):
    """A late trade is merged at the time that its recording had reached, not before what was seen earlier."""
    late = [kit.trade(5, seq=0, ingest_ts=1), kit.trade(2, seq=1, ingest_ts=2), kit.trade(9, seq=2, ingest_ts=3)]
    kit.write_parquet(tmp_path / "late.parquet", late)
    kit.write_parquet(tmp_path / "quotes.parquet", [kit.quote(3), kit.quote(7)])
    stream = kit.play(tmp_path / "late.parquet", tmp_path / "quotes.parquet")
    assert [(known - kit.T0, kind) for known, kind, _, _ in stream.events] == [
        (3, "quotes"),
        (5, "trades"),
        (2, "trades"),
        (7, "quotes"),
        (9, "trades"),
    ]
    assert (stream.now - kit.T0).tolist() == [3, 5, 5, 7, 9]


def test_loop_time_does_not_fall_from_block_to_block(kit, tmp_path):
    """A late event that opens a block of the file still stands at the time that was reached before it."""
    rows = [kit.trade(i, ingest_ts=i) for i in range(65_536)] + [kit.trade(5, ingest_ts=65_536)]
    kit.write_parquet(tmp_path / "tape.parquet", rows)
    assert (kit.play(tmp_path / "tape.parquet").now[-2:] - kit.T0).tolist() == [65_535, 65_535]


@pytest.fixture(scope="module")
def mixed(kit, tmp_path_factory):
    """A few hundred events in four files, with many equal times."""
    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(1)

    def times(n):
        return np.sort(rng.integers(0, 50, n)).tolist()

    kit.write_parquet(folder / "a.parquet", [kit.trade(t, seq=i, symbol="ES") for i, t in enumerate(times(200))])
    kit.write_csv(
        folder / "b.csv", [kit.trade(t, seq=i, symbol=NAMES[i % 3], trade_id=i) for i, t in enumerate(times(150))]
    )
    kit.write_jsonl(folder / "c.jsonl", [kit.envelope("quotes", kit.quote(t, seq=i)) for i, t in enumerate(times(100))])
    kit.write_parquet(folder / "d.parquet", [kit.bar(m, symbol=s) for s in NAMES for m in range(-4, 2)])
    paths = [folder / name for name in ("a.parquet", "b.csv", "c.jsonl", "d.parquet")]
    return paths, kit.play(*paths)


@examples(40)
@given(size=st.integers(1, 500))
def test_batch_size_changes_nothing(kit, mixed, size):
    """Positions, order, times and numbers are the same however many events a batch may have."""
    paths, whole = mixed
    assert len(whole.now) == 468
    kit.assert_same(kit.play(*paths, size=size), whole)


def test_loop_time_never_falls_and_positions_have_no_gap(mixed):
    """Batches join up, and time in them runs one way."""
    _, whole = mixed
    assert (np.diff(whole.now) >= 0).all()
    assert [batch.start for batch in whole.batches] == np.cumsum([0, *map(len, whole.batches)])[:-1].tolist()
    assert whole.events == sorted(whole.events, key=lambda event: event[0])


@examples(20)
@given(first=st.integers(1, 200), batches=st.integers(1, 4), then=st.integers(1, 500))
def test_replay_resumes_at_its_cursor(kit, mixed, first, batches, then):
    """Stopping anywhere and going on in a new process gives the stream that was never stopped."""
    paths, whole = mixed
    begun = kit.play(*paths, size=first, limit=batches)
    fresh = Replay(begun.source.params)
    fresh.seek(begun.source.cursor())
    rest = kit.play(size=then, source=fresh)
    if rest.batches:
        begun.batches += rest.batches
    kit.assert_same(begun, whole)

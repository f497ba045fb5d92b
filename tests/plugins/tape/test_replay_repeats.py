"""Bars that tapes have twice count once: overlapping files, a file named twice, a bar that comes again."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples

MINUTE = 60_000_000_000
T0 = 1_717_596_000 * 1_000_000_000


def bar(minute, price=100.0, symbol="BTC/USD"):
    names = dict.fromkeys(("open", "high", "low", "close"), price)
    return {"symbol": symbol, "event_ts": T0 + minute * MINUTE, **names, "volume": 1.0}


def starts(stream):
    """(symbol, minute, close) of each bar."""
    bars, names = stream.table("bars"), stream.batches[0].symbols.names
    minutes = ((bars.event_ts - T0) // MINUTE).tolist()
    return list(zip([names[number] for number in bars.symbol], minutes, bars.close.tolist(), strict=True))


def counted(stream):
    return sum(batch.duplicates for batch in stream.batches)


def test_overlap_of_two_files_counts_once(kit, tmp_path):
    """A minute that both files have is given out once; the other copy is counted."""
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    kit.write_csv(a, [bar(n, 100.0) for n in range(6)])
    kit.write_csv(b, [bar(n, 100.0) for n in range(3, 9)])
    stream = kit.play(a, b)
    assert [minute for _, minute, _ in starts(stream)] == list(range(9))
    assert counted(stream) == 3


def test_file_named_twice_is_as_named_once(kit, tmp_path):
    """All of the second copy is counted, also at the end."""
    path = tmp_path / "a.csv"
    kit.write_csv(path, [bar(n) for n in range(5)])
    stream = kit.play(path, path)
    assert (starts(stream), counted(stream)) == (starts(kit.play(path)), 5)


@given(
    st.lists(st.tuples(st.sampled_from(["BTC/USD", "ETH/USD"]), st.integers(0, 9)), min_size=2, max_size=40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 40),
)
@examples(60)
def test_each_bar_comes_once_however_the_stream_is_cut(kit, rows, cut, size, position):
    """Bars out = bars in - duplicates, rising in each series; batches of any size, and a replay resumed anywhere, agree."""
    rows = sorted(rows, key=lambda row: row[1])
    rows = [*rows[:1], (rows[0][0], 10), *rows[1:]] if len({minute for _, minute in rows}) < 2 else rows
    parts = [sorted(part, key=lambda row: row[1]) for part in (rows[: cut % len(rows) + 1], rows[cut % len(rows) :])]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.csv" for n in range(2)]
        for path, part in zip(paths, parts, strict=True):
            kit.write_csv(path, [bar(minute, symbol=symbol) for symbol, minute in part])
        whole, cut_up = kit.play(*paths, bar_step="1Min"), kit.play(*paths, bar_step="1Min", size=size)
        found = starts(whole)
        assert len(found) == len(set(found)) == sum(map(len, parts)) - counted(whole)
        assert {row[:2] for row in found} == set(map(tuple, [row for part in parts for row in part]))
        kit.assert_same(whole, cut_up)
        assert counted(whole) == counted(cut_up)
        source = kit.source(*paths, bar_step="1Min")
        source.seek({"position": position % len(whole.now)})
        rest = kit.play(source=source)
        at = rest.batches[0].start
        bars = whole.table("bars")
        np.testing.assert_array_equal(rest.table("bars").ints, bars.take(bars.at >= at).ints)


def print_(second, price=100.0, size=1.0, **more):
    return {"symbol": "SPY", "event_ts": T0 + second * 1_000_000_000, "price": price, "size": size, **more}


def test_overlap_of_trades_counts_once(kit, tmp_path):
    """Trades without ids that two tapes have are one; two equal ones of a tape stay two."""
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    kit.write_csv(a, [print_(0), print_(1), print_(1), print_(2, 101.0)])
    kit.write_csv(b, [print_(1), print_(1), print_(1), print_(2, 102.0), print_(3)])
    stream = kit.play(a, b)
    trades = stream.table("trades")
    assert ((trades.event_ts - T0) // 1_000_000_000).tolist() == [0, 1, 1, 1, 2, 2, 3]
    assert (trades.price.tolist()[4:6], counted(stream)) == ([101.0, 102.0], 2)


def test_trades_with_ids_of_their_own_are_no_overlap(kit, tmp_path):
    """Equal prints with different ids are different trades."""
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    kit.write_csv(a, [print_(0, trade_id=1), print_(1, trade_id=2)])
    kit.write_csv(b, [print_(1, trade_id=3), print_(1, trade_id=2)])
    assert (len(kit.play(a, b).table("trades")), counted(kit.play(a, b))) == (3, 1)


def test_trades_with_numbers_of_their_own_are_no_overlap(kit, tmp_path):
    """Where tapes have `seq`, and no ids, equal prints are one trade only with equal numbers."""
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    kit.write_csv(a, [print_(0, seq=1), print_(1, seq=2)])
    kit.write_csv(b, [print_(1, seq=2), print_(1, seq=3)])
    assert kit.play(a, b).table("trades").seq.tolist() == [1, 2, 3]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([100.0, 101.0])), min_size=1, max_size=30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(1, 30),
)
@examples(60)
def test_tape_in_two_overlapping_parts_is_the_whole(kit, rows, start, stop, size):
    """Cut at times that overlap, and played together in batches of any size, a tape is what it was in one."""
    rows = sorted(rows)
    second_of = [second for second, _ in rows]
    first = [row for row in rows if row[0] <= second_of[max(start, stop) % len(rows)]]
    rest = [row for row in rows if row[0] >= second_of[min(start, stop) % len(rows)]]
    rest = rest if set(rows) <= {*first, *rest} and len(rest) + len(first) >= len(rows) else rows
    with tempfile.TemporaryDirectory() as folder:
        whole, a, b = (Path(folder) / f"{name}.csv" for name in ("whole", "a", "b"))
        for path, part in ((whole, rows), (a, first), (b, rest)):
            kit.write_csv(path, [print_(*row) for row in part])
        stream, expected = kit.play(a, b, size=size), kit.play(whole)
    assert sorted(stream.table("trades").price.tolist()) == sorted(expected.table("trades").price.tolist())
    assert stream.table("trades").event_ts.tolist() == expected.table("trades").event_ts.tolist()
    assert counted(stream) == len(first) + len(rest) - len(rows)


def test_overlap_of_quotes_counts_once(kit, tmp_path):
    """So are quotes that two tapes have."""
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    kit.write_csv(a, [kit.quote(0), kit.quote(1), kit.quote(2)])
    kit.write_csv(b, [kit.quote(1), kit.quote(2), kit.quote(3)])
    stream = kit.play(a, b)
    assert (len(stream.table("quotes")), counted(stream)) == (4, 2)


@given(
    st.lists(st.sampled_from([0, 0, 0, 1]), min_size=2, max_size=30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(1, 30),
)
@examples(60)
def test_tape_cut_between_rows_of_one_time_is_the_whole(kit, waits, start, stop, size):
    """Trades and quotes of one time keep their order where one file ends, and another begins, among them."""
    seconds = np.cumsum(waits).tolist()
    trades = [print_(second, 100 + place) for place, second in enumerate(seconds)]
    quotes = [kit.quote(second, bid_size=1.0 + place) for place, second in enumerate(seconds)]
    start, stop = sorted((start % len(waits), stop % len(waits)))
    with tempfile.TemporaryDirectory() as folder:

        def played(name, *parts, size=65_536):
            paths = []
            for number, part in enumerate(parts):
                for kind, made in (("t", trades), ("q", quotes)):
                    paths.append(Path(folder) / f"{name}{number}{kind}.csv")
                    kit.write_csv(paths[-1], made[part])
            return kit.play(*paths, size=size)

        whole = played("whole", slice(None))
        parts = played("part", slice(0, stop + 1), slice(start, None), size=size)
    for kind, column in (("trades", "price"), ("quotes", "bid_size")):
        one, two = whole.table(kind), parts.table(kind)
        assert getattr(one, column).tolist() == getattr(two, column).tolist()
        assert (np.diff(two.seq) > 0).all()
    assert counted(parts) == 2 * (stop + 1 - start)


def test_place_of_a_repeated_quote_comes_after_it(kit, tmp_path):
    """So a window that this time closes has the quote, as without the overlap."""
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    kit.write_csv(a, [kit.quote(0), kit.quote(10), kit.quote(20)])
    kit.write_csv(b, [kit.quote(20), kit.quote(30)])
    assert kit.play(a, b).table("quotes").at.tolist() == [0, 1, 2, 4]

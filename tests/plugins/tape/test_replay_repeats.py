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

"""A tape that is followed as it grows gives the stream of the complete one, each line as soon as it is ended."""

import asyncio
import contextlib
import tracemalloc
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torghut_sources.tape.source import Replay

from support.effort import examples
from support.waiting import PATIENCE
from torghut_core import InputError, TapeError

MB = 1 << 20
MINUTE = 60_000_000_000
POLL = 0.02
HEADER = b"symbol,event_ts,price,size\n"


class WrittenOut(Exception):
    """All was written, and all was read."""


class Writer:
    """The one that writes a tape: at each pause of its follower it does the next thing."""

    def __init__(self, path, writes):
        self.path = path
        self.slept = []
        self._writes = iter(writes)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        if seconds:
            write = next(self._writes, None)
            if write is None:
                raise WrittenOut
            if callable(write):
                write(self.path)
            else:
                with self.path.open("ab") as file:
                    file.write(write)


class Followed:
    """What a follower got, and after how many pauses each batch came."""

    def __init__(self, path, writes, *, size=65_536, cursor=None, **params):
        self.writer = Writer(path, writes)
        self.source = Replay(Replay.Params(paths=[str(path)], follow=True, **params), sleep=self.writer.sleep)
        if cursor is not None:
            self.source.seek(cursor)
        self.batches = []
        self.arrivals = []
        with contextlib.suppress(WrittenOut):
            asyncio.run(self._read(size))

    async def _read(self, size):
        self.source.check()
        async with aclosing(self.source.batches(size)) as batches:
            async for batch in batches:
                assert 0 < len(batch) <= size
                self.batches.append(batch)
                self.arrivals.append((sum(seconds > 0 for seconds in self.writer.slept), len(batch)))


def described(batches):
    """Every position with all that a stream says of it, numbers as the text that they stand for."""
    rows_of_all = []
    for batch in batches:
        symbols = batch.symbols
        rows = {}
        for kind in ("trades", "quotes", "bars"):
            table = getattr(batch, kind)
            for i, at in enumerate(table.at.tolist()):
                row = [kind, symbols.names[table.symbol[i]], int(table.event_ts[i]), int(table.seq[i])]
                row += [repr(value) for value in table.floats[:, i].tolist()]
                if kind == "trades":
                    row += [symbols.conditions[table.conditions[i]], int(table.trade_key[i])]
                if kind == "bars":
                    series = int(table.series[i])
                    row += [symbols.names[symbols.series_symbol[series]], symbols.series_step[series]]
                    row += [int(table.step[i]), int(table.count[i])]
                rows[at] = row
        places = range(batch.start, batch.stop)  # that of a bar that came before has no row
        assert set(rows) <= set(places)
        assert len(places) == len(rows) + batch.duplicates
        rows_of_all += [(at, now, *rows.get(at, ())) for at, now in zip(places, batch.now.tolist(), strict=True)]
    return rows_of_all


def cut(data, content):
    """Bytes as pieces, cut anywhere; the first may be empty."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8), label="cuts"))
    return [content[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def line(after=0, price=1):
    """A trade as a line of CSV, `after` seconds past the start."""
    return f"ES,2026-01-05T14:30:{after:02}Z,{price},1\n".encode()


SYMBOLS = st.sampled_from(["ES", "AAPL", "BTC/USD"])
VALUES = {
    "trades": {
        "price": st.sampled_from([1.0, 2.5, -1.0]),  # a bad one among them
        "exchange": st.sampled_from(["D", "K"]),
        "conditions": st.sampled_from([None, "@", "@,I"]),
        "trade_id": st.sampled_from([None, 7, 8]),
    },
    "quotes": {"bid_price": st.sampled_from([99.0, None, -1.0])},
    "bars": {"close": st.sampled_from([11.0, 10.0, 99.0])},
}


@st.composite
def rows(draw, kinds):
    """Pairs (kind, row) in order of time but for a few, some of them bad."""
    now, pairs = 1_767_623_400_000_000_000, []
    for seq in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([0, 1, MINUTE, -1]))
        kind = draw(st.sampled_from(kinds))
        own = {name: draw(values) for name, values in VALUES[kind].items()}
        pairs.append((kind, {"symbol": draw(SYMBOLS), "event_ts": now, "seq": seq} | own))
    return pairs


def complete(kit, pairs):
    """The rows with all columns that they have to have."""
    make = {"trades": kit.trade, "quotes": kit.quote, "bars": kit.bar}
    return [(kind, make[kind]() | row) for kind, row in pairs]


def content_of(kit, path, pairs):
    """The rows as the bytes of a tape."""
    if path.suffix == ".csv":
        kit.write_csv(path, [row for _, row in pairs])
    else:
        kit.write_jsonl(path, [kit.envelope(kind, row, MINUTE if kind == "bars" else None) for kind, row in pairs])
    return path.read_bytes()


def with_junk(data, content):
    """Now and then a line that is no row."""
    lines = content.splitlines(keepends=True)
    junk = st.sampled_from([b"\n", b"\r\n", b"junk\n", b"{}\n", b'"\n', b"\xff\n", b'ES,x,"1\n'])
    for each in data.draw(st.lists(junk, max_size=2), label="junk"):
        lines.insert(data.draw(st.integers(1, len(lines)), label="at"), each)
    return b"".join(lines)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("tape.jsonl", ["trades", "quotes", "bars"]),
        ("tape.csv", ["trades"]),
        ("tape.csv", ["quotes"]),
        ("tape.csv", ["bars"]),
    ],
)
@examples(60)
@given(data=st.data())
def test_growing_tape_is_the_stream_of_the_complete_one(kit, tmp_path_factory, name, kinds, data):
    """However the bytes of a file came, its events, their times, and what is said of bad rows are the same."""
    pairs = complete(kit, data.draw(rows(kinds)))
    path = tmp_path_factory.mktemp("follow") / name
    content = with_junk(data, content_of(kit, path, pairs))
    for mode in ("skip", "fail"):
        params = {"on_bad_row": mode, "bar_step": "1Min" if kinds == ["bars"] else None}
        path.write_bytes(content)
        expected = attempt(lambda params=params: kit.play(path, size=1, **params))
        first, *others = cut(data, content)
        path.write_bytes(first)
        size = data.draw(st.sampled_from([1, 2, 100]), label="size")
        got = attempt(lambda params=params, writes=others, size=size: Followed(path, writes, size=size, **params))
        if isinstance(expected, str):
            assert got == expected
        else:
            assert described(got.batches) == described(expected.batches)
            assert got.source.skipped == expected.source.skipped


def attempt(read):
    """What it gives, or what the tape's error says."""
    try:
        return read()
    except TapeError as error:
        return str(error)


def test_appended_line_comes_after_one_pause(tmp_path):
    """Nothing is held back until a block or a batch is full."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(0))
    followed = Followed(path, [line(1), b"", b"", line(2) + line(3)])
    assert followed.arrivals == [(0, 1), (1, 1), (4, 2)]


def test_pauses_are_polls_at_the_end_and_turns_for_others_before(tmp_path):
    """There is no busy loop at the end, and no pause where there is more to read."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(0))
    assert Followed(path, [b"", line(1)]).writer.slept == [0, POLL, POLL, 0, POLL]


def test_partly_written_line_waits_for_its_end(tmp_path):
    """A number that is half written is not a number."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(0, price=1)[:-3])
    followed = Followed(path, [b",", b"12", b"5\n" + line(1)[:5]])
    assert followed.arrivals == [(3, 1)]
    assert followed.batches[0].trades.size.tolist() == [125.0]


def test_quote_that_is_left_open_is_a_bad_row(tmp_path):
    """The end of what is there does not close it, as it does not in the middle of a tape."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(0))
    with pytest.raises(TapeError, match="line 3: not a line of CSV: unexpected end of data"):
        Followed(path, [line(1, price=1)[:-2] + b'"1\n', line(2)])


def test_tape_may_be_empty_at_first(kit, tmp_path):
    """The writer may start after the reader, and with half a header."""
    for name, writes in (
        ("tape.csv", [HEADER[:10], HEADER[10:], line()]),
        ("tape.jsonl", [kit.envelope("trades", kit.trade()).encode() + b"\n"]),
    ):
        (tmp_path / name).write_bytes(b"")
        assert Followed(tmp_path / name, writes).arrivals == [(len(writes), 1)]


def test_missing_tape_is_an_error(kit, tmp_path):
    """A path that is misspelt is not waited for."""
    with pytest.raises(TapeError, match=r"a\.csv: cannot be read: No such file or directory \(check the path"):
        kit.source(tmp_path / "a.csv", follow=True).check()


def test_check_reads_what_is_there(kit, tmp_path):
    """A bad row stops the start; half a line is none."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(1) + b"ES,")
    kit.source(path, follow=True).check()
    path.write_bytes(HEADER + line(1) + line(0) + b"ES,")
    with pytest.raises(TapeError, match=r"tape\.csv: line 3: event_ts .* is before"):
        kit.source(path, follow=True).check()


def test_check_goes_on_after_a_block_without_events(kit, tmp_path):
    """Two megabytes of what is passed over are not the end of the tape."""
    status = kit.envelope("trades", kit.trade()).encode().replace(b'"trades"', b'"status"')
    kit.write_jsonl(tmp_path / "tape.jsonl", [status] * (2 * MB // len(status)) + [b"junk"])
    with pytest.raises(TapeError, match="line "):
        kit.source(tmp_path / "tape.jsonl", follow=True).check()


def test_total_of_a_followed_tape_is_unknown(kit, tmp_path):
    """How much will be written is unknown, so `total` is None."""
    (tmp_path / "tape.csv").write_bytes(HEADER + line())
    source = kit.source(tmp_path / "tape.csv", follow=True)
    source.check()
    assert source.total is None


@pytest.mark.parametrize("behind", [0, 1, 2, 3])
def test_seek_goes_on_after_the_cursor(tmp_path, behind):
    """A cursor of the growing tape finds its place in what is there by then, and what is written later."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(0))
    first = Followed(path, [line(1)])
    assert first.source.cursor() == {"position": 2}
    path.write_bytes(HEADER + b"".join(map(line, range(behind))))
    second = Followed(path, [*map(line, range(behind, 4))], cursor=first.source.cursor())
    assert second.batches[0].start == 2
    assert sum(len(batch) for batch in second.batches) == 2
    assert second.source.cursor() == {"position": 4}


def truncate(path):
    path.write_bytes(HEADER)


def remove(path):
    path.unlink()


def replace(path):
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes() + line(5))
    other.replace(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [(truncate, "was truncated"), (remove, "was replaced or removed"), (replace, "was replaced or removed")],
)
def test_tape_that_does_more_than_grow_is_an_error(tmp_path, change, said):
    """What was read is not what is there any more; the message names the file and the fix."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(0) + line(1))
    with pytest.raises(TapeError) as caught:
        Followed(path, [line(2), change])
    hint = "only append to a tape that is followed; to follow another file, restart"
    assert str(caught.value) == f"{path}: {said} while it was followed ({hint})"


def test_tape_that_is_moved_away_is_read_to_its_end_first(tmp_path):
    """What was appended just before a log was rotated is not lost."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(0))

    def rotate(path):
        with path.open("ab") as file:
            file.write(line(1))
        path.rename(path.with_suffix(".1"))
        path.write_bytes(HEADER)

    events = []
    source = Replay(Replay.Params(paths=[str(path)], follow=True), sleep=Writer(path, [rotate]).sleep)

    async def read():
        async for batch in source.batches(10):
            events.extend(batch.trades.event_ts.tolist())

    with pytest.raises(TapeError, match="was replaced"):
        asyncio.run(read())
    assert len(events) == 2


@pytest.mark.parametrize("name", ["tape.parquet", "tape.csv.gz", "tape.jsonl.gz", "TAPE.CSV.GZ"])
def test_format_that_does_not_grow_is_refused(kit, tmp_path, name):
    """The message names the file, the reason and what to do."""
    with pytest.raises(TapeError) as caught:
        kit.source(tmp_path / name, follow=True).check()
    suffix = name.lower().removeprefix("tape")
    assert str(caught.value) == (
        f"{tmp_path / name}: cannot be followed: a {suffix} file does not grow line by line "
        "(follow a file that ends in .csv or .jsonl, or leave out follow)"
    )


def test_several_tapes_are_refused(kit, tmp_path):
    """Their order would depend on the hour at which they were written."""
    with pytest.raises(InputError, match=r"follow takes one tape, not 2: .*write one tape, or leave out follow"):
        kit.source(tmp_path / "a.csv", tmp_path / "b.csv", follow=True).check()


@pytest.mark.parametrize("speed", ["1x", "60x"])
def test_pace_of_a_followed_tape_is_refused(speed):
    """It comes as it is written; the error is in the place of `follow`."""
    with pytest.raises(ValidationError, match="use speed max, or leave out follow") as caught:
        Replay.Params(speed=speed, follow=True)
    assert caught.value.errors()[0]["loc"] == ("follow",)


def test_bars_of_csv_need_their_length(kit, tmp_path):
    """What the first rows show of it may be wrong when more are written."""
    kit.write_csv(tmp_path / "tape.csv", [kit.bar(0), kit.bar(5)])
    with pytest.raises(TapeError, match=r"while it grows \(set it, like bar_step: 1Min\)"):
        kit.source(tmp_path / "tape.csv", follow=True).check()
    kit.source(tmp_path / "tape.csv", follow=True, bar_step="1Min").check()


def test_cancellation_ends_the_waiting(kit, tmp_path):
    """With the real clock: others run while the source waits, what they append comes, and cancelling ends it at once."""
    path = tmp_path / "tape.csv"
    path.write_bytes(HEADER + line(0))
    source = kit.source(path, follow=True)

    async def read(came):
        async for batch in source.batches(10):
            for price in batch.trades.price.tolist():
                came.put_nowait(price)

    async def run():
        came = asyncio.Queue()
        reader = asyncio.create_task(read(came))
        assert await asyncio.wait_for(came.get(), PATIENCE) == 1
        with path.open("ab") as file:
            file.write(line(1, price=2))
        assert await asyncio.wait_for(came.get(), PATIENCE) == 2
        reader.cancel()
        done, _ = await asyncio.wait([reader], timeout=PATIENCE)
        assert done
        assert reader.cancelled()

    asyncio.run(run())


def test_memory_does_not_grow_with_a_followed_tape(kit, tmp_path):
    """A followed tape takes the memory of a few blocks, however long it becomes."""
    path = tmp_path / "tape.jsonl"
    path.write_bytes(b"")
    piece = (kit.envelope("trades", kit.trade()).encode() + b"\n") * 1_000
    events = 0

    async def read(source):
        nonlocal events
        with contextlib.suppress(WrittenOut):
            async for batch in source.batches(10_000):
                events += len(batch)

    source = Replay(Replay.Params(paths=[str(path)], follow=True), sleep=Writer(path, [piece] * 15).sleep)
    tracemalloc.start()
    asyncio.run(read(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert events == 15_000
    assert path.stat().st_size > 3 * MB
    assert peak < 3 * MB

"""Every way in which a tape can be bad has a message that names the file, the row, the value and the fix."""

import contextlib
import json
import os
import signal
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.tape import rows
from torghut_sources.tape.source import Replay

from support.effort import examples
from torghut_core import InputError, TapeError

ROW = "fix or remove the row, or replay with --on-bad-row skip"
MINUTE = 60_000_000_000
HEADER = "symbol,event_ts,price,size\n"
GOOD = "ES,2026-01-05T14:30:00Z,1,1\n"


def with_type(name, type_, value):
    """A Parquet tape of one trade whose column has another type."""

    def write(kit, path):
        columns = {
            "symbol": pa.array(["ES"]),
            "event_ts": pa.array([kit.T0], pa.timestamp("ns", "UTC")),
            "price": pa.array([1.0]),
            "size": pa.array([1.0]),
            name: pa.array([value], type_),
        }
        pq.write_table(pa.table(columns), path)

    return write


def with_rows(make, *changes):
    """A tape of good rows, each changed; a column is there when any of them has it."""

    def write(kit, path):
        rows = [getattr(kit, make)(number) | change for number, change in enumerate(changes)]
        names = dict.fromkeys(name for row in rows for name in row)
        rows = [{name: row.get(name) for name in names} for row in rows]
        (kit.write_csv if path.suffix == ".csv" else kit.write_parquet)(path, rows)

    return write


def with_text(text):
    """A tape that is just this text."""
    return lambda kit, path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def with_columns(*names):
    """A Parquet tape with columns of numbers."""
    return lambda kit, path: pq.write_table(pa.table({name: [1.0] for name in names}), path)


def with_names(*names):
    """A Parquet tape whose columns have these names, whatever they hold."""
    return lambda kit, path: pq.write_table(pa.Table.from_arrays([pa.array([1.0]) for _ in names], list(names)), path)


def with_envelopes(*changes, after=b""):
    """A JSONL tape of trades whose envelopes are changed (None takes a field away); `after` follows them raw."""

    def write(kit, path):
        lines = []
        for number, change in enumerate(changes):
            fields = json.loads(kit.envelope("trades", kit.trade(number, seq=number)).encode()) | change
            lines.append(json.dumps({name: value for name, value in fields.items() if value is not None}).encode())
        kit.write_jsonl(path, [*lines, after])

    return write


def cut_off(kit, path):
    kit.write_parquet(path, [kit.trade(i) for i in range(100)])
    path.write_bytes(path.read_bytes()[:-50])


def damaged(kit, path):
    kit.write_parquet(path, [kit.trade(i) for i in range(100)], compression="zstd")
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)


# Found when the tape is checked, before the first event: (case, file, how it is made, message, fix)
UP_FRONT = [
    ("missing file", "a.csv", lambda kit, path: None, "cannot be read: No such file or directory",
     "check the path, which counts from the working directory"),
    ("folder", "a.parquet", lambda kit, path: path.mkdir(), "cannot be read: Is a directory", "name the files in it"),
    ("pipe", "a.csv", lambda kit, path: os.mkfifo(path), "is not a regular file", "write what it gives to a file first"),
    ("device", "a.csv", lambda kit, path: path.symlink_to("/dev/zero"), "is not a regular file",
     "write what it gives to a file first"),
    ("unknown format", "a.xlsx", with_text("x"), "is of an unknown format",
     "use a file that ends in .parquet, .csv, .csv.gz, .jsonl, .jsonl.gz"),
    ("empty Parquet", "a.parquet", with_text(""), "is empty", "name a file with rows in it"),
    ("empty CSV", "a.csv", with_text(""), "is empty", "name a file with rows in it"),
    ("empty JSONL", "a.jsonl", with_text(""), "is empty", "name a file with rows in it"),
    ("no Parquet", "a.parquet", with_text(HEADER + GOOD),
     ("cannot be read: Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet "
     "file."), "the file is damaged or cut off: write it again"),
    ("cut-off Parquet", "a.parquet", cut_off,
     ("cannot be read: Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet "
     "file."), "the file is damaged or cut off: write it again"),
    ("no gzip", "a.csv.gz", with_text(HEADER), "cannot be read: Not a gzipped file (b'sy')",
     "the file is damaged or cut off: write it again"),
    ("Parquet without rows", "a.parquet", lambda kit, path: pq.write_table(
        pa.table({"symbol": pa.array([], pa.string()), "event_ts": pa.array([], pa.timestamp("ns", "UTC")),
                  "price": pa.array([], pa.float64()), "size": pa.array([], pa.float64())}), path),
     "has no rows: there is nothing to replay", "name a file with rows in it"),
    ("CSV without rows", "a.csv", with_text(HEADER), "has no rows: there is nothing to replay",
     "name a file with rows in it"),
    ("CSV without rows or line end", "a.csv", with_text(HEADER.strip()), "has no rows: there is nothing to replay",
     "name a file with rows in it"),
    ("JSONL without rows", "a.jsonl", with_text("\n\n"), "has no rows: there is nothing to replay",
     "name a file with rows in it"),
    ("misspelt column", "a.parquet", with_columns("symbol", "event_ts", "prise", "size"), "column 'price' is missing",
     "rename 'prise' to 'price'"),
    ("misspelt time", "a.csv", with_text("symbol,event_time,price,size\n"), "column 'event_ts' is missing",
     "rename 'event_time' to 'event_ts'"),
    ("missing column", "a.parquet", with_columns("symbol", "event_ts", "bid_price", "bid_size", "ask_price"),
     "column 'ask_size' is missing",
     "quotes have symbol, event_ts, bid_price, bid_size, ask_price, ask_size"),
    ("a vendor's bars", "a.csv", with_text("Date,open,high,low,close,volume\n"), "column 'symbol' is missing",
     "bars have symbol, event_ts, open, high, low, close, volume; `torghut data import` makes a tape of a file for one symbol"),
    ("no columns of ours", "a.csv", with_text("date,factor\n"), "holds no trades, quotes or bars, but date, factor",
     "for example, bars have symbol, event_ts, open, high, low, close, volume"),
    ("semicolons", "a.csv", with_text(HEADER.replace(",", ";")),
     "holds no trades, quotes or bars, but symbol;event_ts;price;size",
     "for example, bars have symbol, event_ts, open, high, low, close, volume"),
    ("no header", "a.csv", with_text('symbol,"event_ts\n' + GOOD), "not a line of CSV: unexpected end of data",
     "write a header with the names of the columns"),
    ("no row of bars", "a.csv", with_text("symbol,event_ts,open,high,low,close,volume\nA\n"),
     "does not show how long its bars are", "set it, like bar_step: 1Min"),
    ("column twice", "a.csv", with_text("symbol,event_ts,price,price,size\n"),
     "column 'price' occurs more than once", "remove all but one"),
    ("column twice in Parquet", "a.parquet", with_names("symbol", "event_ts", "price", "size", "size"),
     "column 'size' occurs more than once", "remove all but one"),
    ("too many columns", "a.csv", with_text(",".join(map(str, range(100_000))) + "\n1\n"), "has 100,000 columns",
     "leave at most 4,096"),
    ("quote bars", "a.parquet", with_columns("symbol", "event_ts", "bid_open", "ask_open"),
     "holds quote bars, which cannot be replayed",
     ("replay its quotes, or rename bid_close and ask_close to bid_price and ask_price and set event_ts to the end of "
     "each interval")),
    ("naive time", "a.parquet", with_type("event_ts", pa.timestamp("ns"), 0), "column 'event_ts' has no time zone",
     "write it as timestamp[ns, UTC]"),
    ("time in milliseconds", "a.parquet", with_type("event_ts", pa.int64(), 1767623400000),
     "column 'event_ts' is of type int64",
     "write it as timestamp[ns, UTC], converting whole seconds or milliseconds"),
    ("time as text", "a.parquet", with_type("event_ts", pa.string(), "2026-01-05T14:30:00Z"),
     "column 'event_ts' is of type string",
     "write it as timestamp[ns, UTC], converting whole seconds or milliseconds"),
    ("price as text", "a.parquet", with_type("price", pa.string(), "1"), "column 'price' is of type string",
     "write it as float64"),
    ("symbol as number", "a.parquet", with_type("symbol", pa.int64(), 1), "column 'symbol' is of type int64",
     "write it as text"),
    ("id as double", "a.parquet", with_type("trade_id", pa.float64(), 1.0), "column 'trade_id' is of type double",
     "write it as int64 or text, which keep all digits"),
    ("seq as double", "a.parquet", with_type("seq", pa.float64(), 1.0), "column 'seq' is of type double",
     "write it as int64"),
    ("flag as text", "a.parquet", with_type("suspicious", pa.string(), "no"), "column 'suspicious' is of type string",
     "write it as bool"),
    ("naive time in CSV", "a.csv", with_text(HEADER + "ES,2026-01-05T14:30:00,1,1\n"),
     "event_ts is '2026-01-05T14:30:00': it must be a time with its zone, from 1677 to 2262, like 2026-01-05T14:30:00.123Z",
     "write event_ts with date, time and zone"),
    ("time in seconds in CSV", "a.csv", with_text(HEADER + "ES,1767623400,1,1\nES,1767623401,1,1\n"),
     "event_ts is '1767623400': it must be a time with its zone, from 1677 to 2262, like 2026-01-05T14:30:00.123Z",
     "write event_ts with date, time and zone"),
    ("one bar", "a.parquet", with_rows("bar", {}), "does not show how long its bars are", "set it, like bar_step: 1Min"),
    ("one bar in CSV", "a.csv", with_rows("bar", {}), "does not show how long its bars are",
     "set it, like bar_step: 1Min"),
]  # fmt: skip

# Found when the row comes by: (case, file, how it is made, place, message, fix)
ROWS = [
    ("null price", "a.parquet", with_rows("trade", {}, {"price": None}), 1, "price is missing", ROW),
    ("NaN price", "a.parquet", with_rows("trade", {"price": float("nan")}), 0,
     "price is nan: it must be a positive number", ROW),
    ("infinite price", "a.parquet", with_rows("trade", {"price": float("inf")}), 0,
     "price is inf: it must be a positive number", ROW),
    ("negative price", "a.parquet", with_rows("trade", {}, {}, {"price": -1.5}), 2,
     "price is -1.5: it must be a positive number", ROW),
    ("zero size", "a.parquet", with_rows("trade", {}, {"size": 0.0}), 1, "size is 0.0: it must be a positive number",
     ROW),
    ("null time", "a.parquet", with_rows("trade", {}, {"event_ts": None}), 1, "event_ts is missing", ROW),
    ("time out of range", "a.parquet", with_type("event_ts", pa.timestamp("ms", "UTC"), 10**14), 0,
     "event_ts is 100000000000000: it must be a time with its zone, from 1677 to 2262, like 2026-01-05T14:30:00.123Z", ROW),
    ("null symbol", "a.parquet", with_rows("trade", {}, {"symbol": None}), 1, "symbol is missing", ROW),
    ("lower-case symbol", "a.parquet", with_rows("trade", {}, {"symbol": "aapl"}), 1,
     "symbol is 'aapl': it must be a symbol of A-Z, 0-9 and . _ / -, at most 32 long", ROW),
    ("null seq", "a.parquet", with_rows("trade", {"seq": 0}, {"seq": None}), 1, "seq is missing", ROW),
    ("unsorted", "a.parquet", with_rows("trade", {}, {}, {"event_ts": 1767623400000000000}), 2,
     "event_ts 2026-01-05T14:30:00Z is before 2026-01-05T14:30:00.000000001Z, that of an earlier row",
     "sort the file by event_ts"),
    ("unsorted, symbols mixed", "a.parquet",
     with_rows("trade", {"symbol": "B"}, {"symbol": "A"}, {"symbol": "B", "event_ts": 1767623400000000000}), 2,
     "event_ts 2026-01-05T14:30:00Z is before 2026-01-05T14:30:00.000000001Z, that of an earlier row",
     "sort the file by event_ts"),
    ("unsorted arrival", "a.parquet", with_rows("trade", {"ingest_ts": 2}, {"ingest_ts": 1}), 1,
     "ingest_ts 1970-01-01T00:00:00.000000001Z is before 1970-01-01T00:00:00.000000002Z, that of an earlier row",
     "sort the file by ingest_ts"),
    ("negative bid", "a.parquet", with_rows("quote", {"bid_price": -1.0}), 0,
     "bid_price is -1.0: it must be a positive number", ROW),
    ("negative ask size", "a.parquet", with_rows("quote", {}, {"ask_size": -1.0}), 1,
     "ask_size is -1.0: it must be zero or a positive number", ROW),
    ("high below low", "a.parquet", with_rows("bar", {}, {}, {"high": 8.0}), 2, "high is 8.0: it must not be below low",
     ROW),
    ("open outside", "a.parquet", with_rows("bar", {}, {"open": 13.0}), 1,
     "open is 13.0: it must be between low and high", ROW),
    ("close outside", "a.parquet", with_rows("bar", {}, {"close": 8.9}), 1,
     "close is 8.9: it must be between low and high", ROW),
    ("negative volume", "a.parquet", with_rows("bar", {}, {"volume": -1.0}), 1,
     "volume is -1.0: it must be zero or a positive number", ROW),
    ("vwap of nothing", "a.parquet", with_rows("bar", {}, {"vwap": 0.0}), 1, "vwap is 0.0: it must be a positive number",
     ROW),
    ("negative count", "a.parquet", with_rows("bar", {}, {"trade_count": -1}), 1,
     "trade_count is -1: it must be zero or a positive number", ROW),
    ("text for a price", "a.csv", with_text(HEADER + GOOD + "ES,2026-01-05T14:30:00Z,1O,1\n"), 3,
     "price is '1O': it must be a number", ROW),
    ("text for an optional number", "a.csv", with_rows("bar", {}, {"vwap": "none"}), 3,
     "vwap is 'none': it must be a number", ROW),
    ("empty price", "a.csv", with_text(HEADER + GOOD + "ES,2026-01-05T14:30:00Z,,1\n"), 3, "price is missing", ROW),
    ("one naive time", "a.csv", with_text(HEADER + GOOD + "ES,2026-01-05T14:30:00,1,1\n"), 3,
     "event_ts is '2026-01-05T14:30:00': it must be a time with its zone, from 1677 to 2262, like 2026-01-05T14:30:00.123Z", ROW),
    ("seq of halves", "a.csv", with_rows("trade", {"seq": 0}, {"seq": 1.5}), 3, "seq is '1.5': it must be a whole number",
     ROW),
    ("seq beyond int64", "a.csv", with_rows("trade", {"seq": 0}, {"seq": 2**63}), 3,
     "seq is '9223372036854775808': it must be below 2^63", ROW),
    ("no flag", "a.csv", with_rows("trade", {"suspicious": "maybe"}), 2,
     "suspicious is 'maybe': it must be true or false", ROW),
    ("unsorted CSV", "a.csv", with_rows("trade", {}, {}, {"event_ts": 1767623400000000000}), 4,
     "event_ts 2026-01-05T14:30:00Z is before 2026-01-05T14:30:00.000000001Z, that of an earlier row",
     "sort the file by event_ts"),
    ("too few fields", "a.csv", with_text(HEADER + GOOD + "\n" + GOOD + "ES,2026-01-05T14"), 5,
     "has 2 fields, the header 4", ROW),
    ("too many fields", "a.csv", with_text(HEADER + GOOD.strip() + ",9\r\n"), 2, "has 5 fields, the header 4", ROW),
    ("open quotes", "a.csv", with_text(HEADER + GOOD + '"ES,2026-01-05T14:30:00Z,1,1\n' + GOOD), 3,
     "not a line of CSV: unexpected end of data", ROW),
    ("no UTF-8", "a.csv", with_text(HEADER.encode() + GOOD.encode() + GOOD.encode().replace(b"ES", b"\xff")), 3,
     "not a line of CSV: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte", ROW),
    ("broken JSON", "a.jsonl", with_envelopes({}, after=b'{"ingest_ts": "2026'), 2,
     "not an envelope: Input data was truncated", ROW),
    ("CSV in JSONL", "a.jsonl", with_text(HEADER + GOOD), 1,
     "not an envelope: JSON is malformed: invalid character (byte 0)", ROW),
    ("envelope without seq", "a.jsonl", with_envelopes({}, {}, {"seq": None}), 3,
     "not an envelope: Object missing required field `seq`", ROW),
    ("Alpaca message without envelope", "a.jsonl", with_text('{"T":"t","S":"ES","p":1,"s":1}'), 1,
     "not an envelope: Object missing required field `ingest_ts`", ROW),
    ("payload of another channel", "a.jsonl", with_envelopes({}, {"channel": "quotes", "payload": {"bp": 1}}), 2,
     "not a payload of channel 'quotes': Object missing required field `t`", ROW),
    ("misspelt channel", "a.jsonl", with_envelopes({}, {"channel": "trade"}), 2, "unknown channel 'trade'",
     "write 'trades'"),
    ("unknown channel", "a.jsonl", with_envelopes({"channel": "news"}), 1, "unknown channel 'news'",
     "use bars, quotes, trades"),
    ("zero price in a payload", "a.jsonl", with_envelopes({"payload": {"p": 0, "s": 1, "t": "2026-01-05T14:30:00Z"}}), 1,
     "price is 0.0: it must be a positive number", ROW),
    ("bad symbol in an envelope", "a.jsonl", with_envelopes({}, {"symbol": "a b"}), 2,
     "symbol is 'a b': it must be a symbol of A-Z, 0-9 and . _ / -, at most 32 long", ROW),
    ("unsorted JSONL", "a.jsonl", with_envelopes({}, {"ingest_ts": "2026-01-05T14:29:00Z"}), 2,
     "ingest_ts 2026-01-05T14:29:00Z is before 2026-01-05T14:30:00Z, that of an earlier row",
     "sort the file by ingest_ts"),
    ("bar without window", "a.jsonl", lambda kit, path: kit.write_jsonl(path, [kit.envelope("bars", kit.bar())]), 1,
     "step is missing", ROW),
    ("nothing but signals", "a.jsonl", with_envelopes({"channel": "status"}), None, "has nothing to replay",
     "name a file with trades, quotes or bars in it"),
]  # fmt: skip


def by_case(cases):
    return pytest.mark.parametrize("case", cases, ids=[case[0] for case in cases])


def unit(path):
    return "row" if path.suffix == ".parquet" else "line"


@by_case(UP_FRONT)
@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
def test_tape_that_cannot_be_replayed_is_refused_before_the_first_event(kit, tmp_path, case, on_bad_row):
    """`check` finds it, whatever is done with bad rows, and says how to fix it."""
    _, name, write, message, hint = case
    path = tmp_path / name
    write(kit, path)
    source = Replay(Replay.Params(paths=[str(path)], on_bad_row=on_bad_row))
    with pytest.raises(TapeError) as caught:
        source.check()
    error = caught.value
    place = "" if error.row is None else f": {unit(path)} {error.row}"
    assert str(error) == f"{path}{place}: {message} ({hint})"


@by_case(ROWS)
def test_bad_row_stops_the_replay_at_its_place(kit, tmp_path, case):
    """`check` raises before the first event, and `batches` at the row; file, row, value and fix are in the message."""
    _, name, write, place, message, hint = case
    path = tmp_path / name
    write(kit, path)
    where = "" if place is None else f": {unit(path)} {place}"
    with pytest.raises(TapeError) as checked:
        Replay(Replay.Params(paths=[str(path)])).check()
    with pytest.raises(TapeError) as played:
        kit.play(path)
    assert str(checked.value) == str(played.value) == f"{path}{where}: {message} ({hint})"


@by_case([case for case in ROWS if case[3] is not None])
def test_skipped_bad_row_is_left_out_and_counted(kit, tmp_path, case):
    """With ``on_bad_row: skip`` the others are replayed, and the row is counted with its place."""
    _, name, write, place, _, _ = case
    path = tmp_path / name
    write(kit, path)
    stream = kit.play(path, on_bad_row="skip")
    (reason, count), *more = stream.source.skipped.items()
    assert not more or place == 1  # CSV in JSONL: every line is bad in its own way
    assert count >= 1
    assert reason.startswith(f"{path}: ")
    assert reason.endswith(f", first in {unit(path)} {place}")


def test_skipping_leaves_exactly_the_good_rows(kit, tmp_path):
    """What is left is the stream of a tape that never had the bad rows, with the row numbers of the file."""
    rows = [kit.trade(i, seq=i, symbol="ES" if i % 2 else "NQ") for i in range(300)]
    bad = {7: {"price": -1.0}, 8: {"price": None}, 100: {"size": 0.0}, 250: {"event_ts": kit.T0}, 299: {"symbol": "?"}}
    kit.write_parquet(tmp_path / "bad.parquet", [row | bad.get(i, {}) for i, row in enumerate(rows)])
    kit.write_parquet(tmp_path / "good.parquet", [row for i, row in enumerate(rows) if i not in bad])
    stream = kit.play(tmp_path / "bad.parquet", on_bad_row="skip")
    kit.assert_same(stream, kit.play(tmp_path / "good.parquet"))
    path = tmp_path / "bad.parquet"
    assert stream.source.skipped == {
        f"{path}: price must be a positive number, first in row 7": 2,
        f"{path}: size must be a positive number, first in row 100": 1,
        f"{path}: event_ts is before that of an earlier row, first in row 250": 1,
        f"{path}: symbol must be a symbol of A-Z, 0-9 and . _ / -, at most 32 long, first in row 299": 1,
    }


def test_time_of_a_bad_row_rejects_no_other(kit, tmp_path):
    """A row that is skipped cannot make those after it look late."""
    rows = [kit.trade(0), kit.trade(10**15, price=-1.0), kit.trade(1), kit.trade(2)]
    kit.write_parquet(tmp_path / "a.parquet", rows)
    stream = kit.play(tmp_path / "a.parquet", on_bad_row="skip")
    assert (stream.now - kit.T0).tolist() == [0, 1, 2]
    assert list(stream.source.skipped.values()) == [1]


def test_skipped_rows_are_counted_over_the_whole_tape_and_once(kit, tmp_path):
    """Blocks add up to one count with the first place, and playing again does not count again."""
    bad = {3, 65_000, 66_000, 69_999}
    rows = [kit.trade(i, **({"size": 0.0} if i in bad else {})) for i in range(70_000)]
    kit.write_parquet(tmp_path / "a.parquet", rows)
    source = kit.source(tmp_path / "a.parquet", on_bad_row="skip")
    expected = {f"{tmp_path / 'a.parquet'}: size must be a positive number, first in row 3": 4}
    for _ in range(2):
        assert len(kit.play(source=source).now) == 70_000 - len(bad)
        assert source.skipped == expected
        source.seek({"position": 0})


def test_row_that_is_out_of_order_with_the_block_before_is_found(kit, tmp_path):
    """Blocks are read apart and checked as one tape."""
    rows = [kit.trade(i) for i in range(65_536)] + [kit.trade(65_534)]
    kit.write_parquet(tmp_path / "a.parquet", rows)
    with pytest.raises(TapeError, match=r"row 65536: event_ts .* is before .*, that of an earlier row"):
        kit.play(tmp_path / "a.parquet")


def test_first_bad_row_is_reported_whatever_is_wrong_with_later_ones(kit, tmp_path):
    """The reason that is checked first is not the one that stands first in the file."""
    rows = [kit.trade(), kit.trade(size=0.0), kit.trade(symbol="?"), kit.trade()]
    kit.write_parquet(tmp_path / "a.parquet", rows)
    with pytest.raises(TapeError, match=r"row 1: size is 0\.0"):
        kit.play(tmp_path / "a.parquet")


def test_events_before_a_bad_row_in_an_earlier_block_are_given_out(kit, tmp_path):
    """A tape is checked as it is read: a bad row far behind does not delay what comes before."""
    rows = [kit.trade(i) for i in range(70_000)]
    rows[-1]["price"] = 0.0
    kit.write_parquet(tmp_path / "a.parquet", rows)
    with pytest.raises(TapeError, match=r"row 69999: price is 0\.0"):
        kit.play(tmp_path / "a.parquet")
    assert len(kit.play(tmp_path / "a.parquet", limit=1).now) == 65_536


@pytest.fixture(scope="module")
def good_tapes(kit, tmp_path_factory):
    """Bytes of good tapes by name, and a folder for bad ones."""
    folder = tmp_path_factory.mktemp("good")
    trades = [kit.trade(i, seq=i, exchange="D", conditions="@,I", trade_id=i, suspicious=False) for i in range(12)]
    bars = [kit.bar(i, vwap=10.0, trade_count=3) for i in range(6)]
    kit.write_csv(folder / "trades.csv", trades)
    kit.write_csv(folder / "bars.csv", bars)
    kit.write_csv(folder / "trades.csv.gz", trades)
    kit.write_parquet(folder / "trades.parquet", trades)
    kit.write_jsonl(
        folder / "both.jsonl",
        [kit.envelope("trades", row) for row in trades] + [kit.envelope("bars", row, MINUTE) for row in bars],
    )
    return {path.name: path.read_bytes() for path in folder.iterdir()}, folder


@examples(300)
@given(data=st.data())
def test_any_bytes_are_events_or_a_tape_error(kit, good_tapes, data):
    """Whatever happened to a file, the replay says so in its own words, and never with an error of a library."""
    tapes, folder = good_tapes
    name = data.draw(st.sampled_from(sorted(tapes)))
    content = tapes[name]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 10)))
        junk = data.draw(
            st.sampled_from([b"", b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"-", b"nan", b"1e400", b"9" * 25, b"{"])
        )
        content = content[:start] + junk + content[stop:]
    path = folder / f"bad_{name}"
    path.write_bytes(content)
    for mode in ("fail", "skip"):
        with contextlib.suppress(TapeError):
            kit.play(path, on_bad_row=mode)


def test_text_of_a_parquet_file_that_is_no_utf8_is_reported(kit, tmp_path):
    """Text is checked before it is used."""
    symbols = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"A\xff")])
    times = pa.array([kit.T0], pa.timestamp("ns", "UTC"))
    pq.write_table(
        pa.table({"symbol": symbols, "event_ts": times, "price": [1.0], "size": [1.0]}), tmp_path / "a.parquet"
    )
    with pytest.raises(TapeError, match=r"cannot be read: .*UTF8"):
        kit.play(tmp_path / "a.parquet")


def test_damaged_pages_are_reported_when_they_are_read(kit, tmp_path):
    """A Parquet file whose footer is whole and whose data is not says that it is damaged."""
    damaged(kit, tmp_path / "a.parquet")
    with pytest.raises(TapeError, match=r"a\.parquet: cannot be read: .* \(the file is damaged or cut off"):
        kit.play(tmp_path / "a.parquet")


def test_cut_off_gzip_is_reported(kit, tmp_path):
    """A half-copied archive is not half a tape."""
    kit.write_csv(tmp_path / "a.csv.gz", [kit.trade(i, price=1 + i / 7) for i in range(50_000)])
    data = (tmp_path / "a.csv.gz").read_bytes()
    (tmp_path / "a.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(TapeError, match="Compressed file ended before the end-of-stream marker"):
        kit.play(tmp_path / "a.csv.gz", on_bad_row="skip")


def test_file_without_permission_is_reported(kit, tmp_path, monkeypatch):
    """The fix is a right, not a path."""
    kit.write_parquet(tmp_path / "a.parquet", [kit.trade()])

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    with pytest.raises(TapeError, match=r"Permission denied \(give the user that runs torghut read access to it\)"):
        kit.play(tmp_path / "a.parquet")


def test_replay_without_tapes_is_refused(kit):
    """The message says where tapes are named."""
    with pytest.raises(InputError, match="no tapes to replay: name them in `paths`, or on the command line"):
        Replay(Replay.Params()).check()


def test_blank_lines_and_bad_lines_do_not_shift_line_numbers(kit, tmp_path):
    """The line in the message is the one that an editor shows, however many blocks lie before it."""
    lines = [HEADER.strip(), *([GOOD.strip(), ""] * 40_000), "ES,2026-01-05T14:30:00Z,1,-4"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert len("\n".join(lines)) > 1 << 20
    with pytest.raises(TapeError, match="line 80002: size is '-4'"):
        kit.play(tmp_path / "a.csv")


def test_signals_while_a_tape_is_read_are_the_process_s_own(tmp_path):
    """SIGTERM in the middle of a read reaches the process's handler, and the read goes on."""
    path, came, is_over = tmp_path / "a.csv", [], threading.Event()
    path.write_text(HEADER + "".join(GOOD for _ in range(40_000)))

    def send():
        while not is_over.wait(0.0005):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    sender = threading.Thread(target=send)
    sender.start()
    try:
        while not came:
            Replay(Replay.Params(paths=[str(path)])).check()
    finally:
        is_over.set()
        sender.join()
        signal.signal(signal.SIGTERM, before)


def test_error_that_no_check_foresaw_names_the_tape(kit, tmp_path, monkeypatch):
    """Whatever reading a tape raises is an error with its path, and no traceback."""
    path = tmp_path / "a.csv"
    path.write_text(HEADER + GOOD)
    monkeypatch.setattr(rows, "_numbers", lambda _: {}["column"])
    with pytest.raises(TapeError, match=r"a\.csv: cannot be read: KeyError"):
        Replay(Replay.Params(paths=[str(path)])).check()

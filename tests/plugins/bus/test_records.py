"""Records become the same rows that a tape of them gives, or a reason why not."""

import asyncio

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.bus import records
from torghut_sources.bus.records import read, read_marks
from torghut_sources.tape.rows import BARS, KINDS, QUOTES, TRADES
from torghut_sources.tape.source import Replay

from torghut_core import BarPayload, Envelope, SymbolTable, TradePayload, Window, time_message

from .conftest import T0, bar, message, quote, trade


def odd_trade(number, **others):
    payload = TradePayload(**{"price": 2.5, "size": 1e-9, "event_ts": T0 + number, **others})
    return message("trades", payload, number, "ES")


TAPE = [
    trade(0),
    odd_trade(1, trade_id=2**62 + 1, exchange="V", conditions=("@", "F")),
    odd_trade(2, trade_id="52983525029461"),
    odd_trade(3, trade_id=52983525029461),
    odd_trade(4, trade_id="abc-7", exchange="K"),
    odd_trade(5),
]


def replayed(tmp_path, messages):
    path = tmp_path / "tape.jsonl"
    path.write_bytes(b"\n".join(each.value for each in messages) + b"\n")

    async def run():
        return [batch async for batch in Replay(Replay.Params(paths=[str(path)])).batches(100)]

    (batch,) = asyncio.run(run())
    return batch


@pytest.mark.parametrize(
    ("kind", "messages"),
    [(TRADES, TAPE), (QUOTES, [quote(0), quote(1, "ES")]), (BARS, [bar(0), bar(1, "ES")])],
    ids=["trades", "quotes", "bars"],
)
def test_columns_are_those_of_a_tape(tmp_path, kind, messages):
    """Every column, the identity of trades among them, is what a replay of the same envelopes gives."""
    tape = replayed(tmp_path, messages)
    symbols = SymbolTable()
    decoded = read(kind, [each.value for each in messages], symbols)
    expected = getattr(tape, kind.name)
    assert decoded.poison == []
    assert decoded.places.tolist() == list(range(len(messages)))
    assert symbols.names == tape.symbols.names
    assert symbols.conditions == tape.symbols.conditions
    for column in {*expected.INT_COLUMNS, *expected.FLOAT_COLUMNS} - {"at", "series"}:
        np.testing.assert_array_equal(getattr(decoded.table, column), getattr(expected, column), err_msg=column)


def changed(message, **fields):
    """A message with other fields, None for a missing one."""
    envelope = {**msgspec.json.decode(message.value), **fields}
    return msgspec.json.encode({name: value for name, value in envelope.items() if value is not None})


STEPLESS = Envelope(
    ingest_ts=T0, event_ts=T0, feed="crypto", channel="bars", symbol="ES", seq=1, is_final=True, source="test",
    payload=BarPayload(open=1, high=1, low=1, close=1, volume=1, event_ts=T0),
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value"),
        (b"", "no value"),
        (b"\x00\x00\x00\x00\x07abc", "Avro"),
        (b"{", "not an envelope"),
        (b"[1]", "not an envelope"),
        (b"\xff\xfe", "not an envelope"),
        (changed(trade(1), payload=None), "payload"),
        (
            changed(trade(1), payload={"p": None, "s": 1, "t": "2026-01-05T14:30:00Z"}),
            "not a payload of channel 'trades'",
        ),
        (changed(trade(1), event_ts="2026-01-05T14:30:00"), "zone"),
        (changed(trade(1), symbol="btc usd"), "symbol is 'btc usd'"),
        (changed(trade(1), channel="tardes"), "channel 'tardes' is unknown"),
        (quote(1).value, "channel 'quotes' belongs on another topic"),
        (trade(1).value.replace(b'"p":2', b'"p":-2'), "price is -2.0"),
        (trade(1).value.replace(b'"s":0.5', b'"s":0'), "size is 0.0"),
    ],
)
def test_poison_says_why(value, reason):
    """What cannot be used is named with its reason, and the records around it are read."""
    decoded = read(TRADES, [trade(0).value, value, trade(2).value], SymbolTable())
    ((place, said),) = decoded.poison
    assert place == 1
    assert reason in said
    assert decoded.places.tolist() == [0, 2]
    assert decoded.table.price.tolist() == [1.0, 3.0]


def test_bar_has_to_say_how_long_it_is():
    """A bar without its window is poison, not a bar of a guessed length."""
    decoded = read(BARS, [bar(0).value, STEPLESS.encode()], SymbolTable())
    ((place, said),) = decoded.poison
    assert (place, said) == (1, "step is missing")
    assert decoded.table.step.tolist() == [60_000_000_000]


def test_what_has_no_columns_is_counted():
    """Statuses and bars that may still change are skipped, and how many is known."""
    status = changed(trade(1), channel="status", payload={"anything": 1})
    assert read(TRADES, [status, trade(2).value, status], SymbolTable()).skipped == {"status": 2}
    decoded = read(BARS, [bar(0, is_final=False).value], SymbolTable())
    assert (len(decoded.table), decoded.skipped, decoded.poison) == (0, {"bars": 1}, [])


def test_windows_may_be_of_any_length():
    """A bar is as long as its window says."""
    start, length = T0, 90_000_000_000
    envelope = msgspec.structs.replace(STEPLESS, window=Window.of(start, length))
    assert read(BARS, [envelope.encode()], SymbolTable()).table.step.tolist() == [length]


DIGITS = 5_000 * b"9"
DEEP = 20_000 * b"["
ENDLESS = {
    "window of a trillion days": (BARS, b'"PT1M"', b'"P999999999999D"'),
    "window of 5,000 digits": (BARS, b'"PT1M"', b'"P' + DIGITS + b'D"'),
    "window just beyond 64 bits": (BARS, b'"PT1M"', b'"PT9223372036.854775808S"'),
    "nested too deeply": (TRADES, b'"p":2', b'"p":' + DEEP),
    "nested where nobody reads": (TRADES, b'"seq":1', b'"seq":1,"more":' + DEEP + 20_000 * b"]"),
    "price of 5,000 digits": (TRADES, b'"p":2', b'"p":1e' + DIGITS),
    "id of 5,000 digits": (TRADES, b'"seq":1', b'"seq":' + DIGITS),
    "price that is no number": (TRADES, b'"p":2', b'"p":NaN'),
    "price that is infinite": (TRADES, b'"p":2', b'"p":1e999999999'),
    "text that is not UTF-8": (TRADES, b'"BTC/USD"', b'"\xff\xfe"'),
    "half a character": (TRADES, b'"BTC/USD"', rb'"\ud800"'),
    "year 9999": (TRADES, b'"event_ts":"2026', b'"event_ts":"9999'),
    "year 0": (TRADES, b'"event_ts":"2026', b'"event_ts":"0000'),
    "bar that ends after 2262": (BARS, b'"event_ts":"2026-02-02T02:41:00', b'"event_ts":"2262-04-11T23:47:00'),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_poison_is_a_reason_whatever_the_decoder_raises(case):
    """A record at which a decoder fails or a number overflows is put aside, and the records around it are read."""
    kind, old, new = ENDLESS[case]
    make = bar if kind is BARS else trade
    value = make(1).value.replace(old, new)
    assert value != make(1).value, make(1).value
    decoded = read(kind, [make(0).value, value, make(2).value], SymbolTable())
    ((place, reason),) = decoded.poison
    assert (place, decoded.places.tolist()) == (1, [0, 2])
    assert reason


def test_row_that_no_check_foresaw_is_poison(monkeypatch):
    """A record whose conversion raises anything is put aside with what was raised; the others are read, in order."""
    convert = records._columns

    def fails(kind, wires):
        if any(wire.seq == 1 for wire in wires):
            raise KeyError("no such column")
        return convert(kind, wires)

    monkeypatch.setattr(records, "_columns", fails)
    decoded = read(TRADES, [trade(0).value, trade(1).value, b"{", trade(2).value], SymbolTable())
    assert decoded.places.tolist() == [0, 3]
    assert [place for place, _ in decoded.poison] == [1, 2]
    assert "KeyError: 'no such column'" in decoded.poison[0][1]


@pytest.mark.parametrize(
    "value",
    [b"[" * 20_000, b"{", b"\xff", b'{"channel":"status"}', time_message(T0, T0).value.replace(b'"time"', DEEP)],
    ids=["deep", "cut off", "not UTF-8", "no mark", "deep payload"],
)
def test_poison_among_time_marks_is_a_reason(value):
    """What cannot be read among statuses is put aside, and the marks around it count."""
    mark = time_message(T0, T0).value
    found = read_marks([mark, value, mark])
    assert found.places.tolist() == [0, 2]
    assert [place for place, _ in found.poison] == [1]


@given(st.sampled_from(["trades", "quotes", "bars"]), st.data())
def test_damage_is_never_fatal(name, data):
    """However a record is damaged, it becomes a row, is counted, or is poison with a reason; its neighbours are read."""
    whole = {"trades": trade(1), "quotes": quote(1), "bars": bar(1)}[name].value
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=3)):
        damaged[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3) | st.just(b"9" * 30))
    decoded = read(KINDS[name], [whole, bytes(damaged), whole], SymbolTable())
    assert len(decoded.table) == len(decoded.places) >= 2
    assert len(decoded.places) + len(decoded.poison) + decoded.skipped.total() == 3
    assert all(place == 1 and reason for place, reason in decoded.poison)


def test_numbers_beyond_all_bounds_are_poison():
    """A number that no column can hold is a reason to put the record aside, not to stop."""
    huge = bar(1).value.replace(b'"n":4', b'"n":' + b"9" * 40)
    values = [huge, trade(1).value.replace(b'"seq":1', b'"seq":' + b"9" * 40)]
    assert len(read(BARS, values[:1], SymbolTable()).poison) == 1
    assert len(read(TRADES, values[1:], SymbolTable()).poison) == 1

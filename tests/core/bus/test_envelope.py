"""The envelope keeps what it is given, ignores what it does not know, and says what is missing."""

import json
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torghut_core.bus.envelope import (
    PAYLOADS,
    BarPayload,
    Envelope,
    MicrobarPayload,
    QuotePayload,
    SignalsPayload,
    StatusPayload,
    TradePayload,
    Window,
)
from torghut_core.errors import InputError
from torghut_core.model.market import SIGNAL_COLUMNS, window_size

ALPACA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "alpaca"

times = st.integers(-(2**62), 2**62)
texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
some = st.one_of(st.none(), numbers)
windows = st.builds(Window, size=texts, step=texts, start=times, end=times)
payloads = {
    "trades": st.builds(
        TradePayload,
        trade_id=st.one_of(st.none(), st.integers(0, 2**64 - 1), texts),
        price=numbers,
        size=numbers,
        event_ts=times,
        exchange=st.one_of(st.none(), texts),
        conditions=st.one_of(st.none(), st.lists(texts).map(tuple)),
    ),
    "quotes": st.builds(QuotePayload, bid_price=some, bid_size=some, ask_price=some, ask_size=some, event_ts=times),
    "bars": st.builds(
        BarPayload,
        open=numbers,
        high=numbers,
        low=numbers,
        close=numbers,
        volume=numbers,
        vwap=some,
        count=st.one_of(st.none(), st.integers(0, 2**62)),
        event_ts=times,
    ),
    "microbars": st.builds(
        MicrobarPayload,
        open=numbers,
        high=numbers,
        low=numbers,
        close=numbers,
        volume=numbers,
        vwap=some,
        count=st.integers(0, 2**62),
        event_ts=times,
    ),
    "signals": st.dictionaries(st.sampled_from(SIGNAL_COLUMNS), numbers).map(SignalsPayload.of),
    "ta-status": st.builds(
        StatusPayload,
        watermark_lag_ms=st.integers(0, 2**62),
        last_event_ts=st.one_of(st.none(), times),
        status=texts,
        heartbeat=st.integers(0, 2**62),
    ),
    "status": st.dictionaries(texts, st.one_of(texts, st.integers(-(2**53), 2**53), st.none())),
}
envelopes = st.sampled_from(sorted(payloads)).flatmap(
    lambda channel: st.builds(
        Envelope,
        ingest_ts=times,
        event_ts=times,
        feed=texts,
        channel=st.just(channel),
        symbol=texts,
        seq=st.integers(0, 2**63 - 1),
        is_final=st.booleans(),
        source=texts,
        window=st.one_of(st.none(), windows),
        payload=payloads[channel],
        version=st.integers(1, 9),
    )
)


def wire(**changes):
    """A trade as it travels, with some fields changed; None takes a field away."""
    fields = {
        "ingest_ts": "2026-01-05T14:30:00.250Z",
        "event_ts": "2026-01-05T14:30:00.000000001Z",
        "feed": "iex",
        "channel": "trades",
        "symbol": "AAPL",
        "seq": 7,
        "is_final": True,
        "source": "torghut-ws",
        "payload": {"i": 3447222699101865076, "p": 126.55, "s": 1.0, "t": "2026-01-05T14:30:00.000000001Z"},
        "version": 1,
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def test_every_channel_of_ours_has_a_generator():
    """The round trip below leaves no payload type out."""
    assert PAYLOADS.keys() <= payloads.keys()


@given(envelopes)
def test_encode_then_decode_gives_the_same_envelope(envelope):
    """What is written is read back equal, to the nanosecond and to the last digit."""
    assert Envelope.decode(envelope.encode()) == envelope


@given(envelopes)
def test_what_is_written_is_a_fixed_point(envelope):
    """Reading and writing again gives the same bytes, so a message can be passed on any number of times."""
    data = envelope.encode()
    assert Envelope.decode(data).encode() == data


def test_wire_form_has_short_names_and_text_times():
    """The JSON of a trade is what other programs of the system read and write."""
    fields = wire()
    assert json.loads(Envelope.decode(json.dumps(fields)).encode()) == fields


def test_times_keep_nanoseconds_whatever_their_digits_and_zone():
    """Nine digits, five digits, none, and another zone are the same clock."""
    for text, ns in [
        ("2026-01-05T14:30:00.000000001Z", 1767623400000000001),
        ("2026-01-05T14:30:00.25Z", 1767623400250000000),
        ("2026-01-05T14:30:00Z", 1767623400000000000),
        ("2026-01-05T09:30:00.25-05:00", 1767623400250000000),
    ]:
        assert Envelope.decode(json.dumps(wire(event_ts=text))).event_ts == ns


def test_unknown_fields_are_ignored_and_not_written():
    """A newer sender may add fields, outside and inside the payload; they do not come out again."""
    fields = wire(beyond=1)
    fields["payload"]["tks"] = "S"
    assert b"beyond" not in Envelope.decode(json.dumps(fields)).encode()
    assert b"tks" not in Envelope.decode(json.dumps(fields)).encode()


def test_trade_id_beyond_double_precision_is_exact():
    """Alpaca prints ids above 2**53; neither reading nor writing rounds them."""
    envelope = Envelope.decode(json.dumps(wire()))
    assert envelope.payload.trade_id == 3447222699101865076
    assert b"3447222699101865076" in envelope.encode()


def test_version_is_written_and_a_missing_window_is_not():
    """`window` is optional on the wire, `version` is for those who read."""
    written = json.loads(Envelope.decode(json.dumps(wire(version=None))).encode())
    assert written["version"] == 1
    assert "window" not in written


def test_missing_side_of_a_quote_is_null_on_the_wire():
    """A one-sided quote names all its fields, so that null cannot be taken for forgotten."""
    quote = QuotePayload(ask_price=2.0, ask_size=1.0, event_ts=0)
    fields = json.loads(
        msgspec.structs.replace(Envelope.decode(json.dumps(wire())), channel="quotes", payload=quote).encode()
    )
    assert fields["payload"] == {"bp": None, "bs": None, "ap": 2.0, "as": 1.0, "t": "1970-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not an envelope: Input data was truncated"),
        (b'{"feed": "iex"', "not an envelope: Input data was truncated"),
        (b"{} {}", "not an envelope: Object missing required field `ingest_ts`"),
        (b"[]", "not an envelope: Expected `object`, got `array`"),
        (json.dumps(wire(seq=None)), "not an envelope: Object missing required field `seq`"),
        (json.dumps(wire(seq="7")), "not an envelope: Expected `int`, got `str` - at `$.seq`"),
        (json.dumps(wire(seq=2**63)), "not an envelope: Expected `int` <= 9223372036854775807 - at `$.seq`"),
        (
            json.dumps(wire(event_ts=1767623400)),
            "not an envelope: expected RFC 3339 text, got 1767623400 - at `$.event_ts`",
        ),
        (
            json.dumps(wire(event_ts="2026-01-05T14:30:00")),
            (
                "not an envelope: '2026-01-05T14:30:00' is not an RFC 3339 timestamp with a zone, "
                "like 2026-01-05T14:30:00.123Z - at `$.event_ts`"
            ),
        ),
        (
            json.dumps(wire(event_ts="9999-01-05T14:30:00Z")),
            (
                "not an envelope: '9999-01-05T14:30:00Z' is beyond what 64 bits of nanoseconds hold (1677 to 2262) "
                "- at `$.event_ts`"
            ),
        ),
        (
            json.dumps(wire(payload={"p": "1", "s": 1, "t": "2026-01-05T14:30:00Z"})),
            "not a payload of channel 'trades': Expected `float`, got `str` - at `$.p`",
        ),
        (
            json.dumps(wire(channel="bars")),
            "not a payload of channel 'bars': Object missing required field `o`",
        ),
        (
            json.dumps(wire()).encode().replace(b"AAPL", b"\xff"),
            "not an envelope: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
    ],
)
def test_what_is_no_envelope_is_refused_with_its_place(data, said):
    """Every way to be wrong is an `InputError` that names the field."""
    with pytest.raises(InputError) as caught:
        Envelope.decode(data)
    assert str(caught.value) == said


def test_signals_payload_nests_every_column_of_ta_signals():
    """Flat row to payload and back loses no column, and the nesting is the documented one."""
    row = {column: float(number) for number, column in enumerate(SIGNAL_COLUMNS)}
    payload = SignalsPayload.of(row)
    assert payload.row() == row
    assert json.loads(msgspec.json.encode(payload)) == {
        "macd": {"macd": 0.0, "signal": 1.0, "hist": 2.0},
        "ema": {"ema12": 3.0, "ema26": 4.0},
        "rsi14": 5.0,
        "boll": {"mid": 6.0, "upper": 7.0, "lower": 8.0},
        "vwap": {"session": 9.0, "w5m": 10.0},
        "imbalance": {"spread": 11.0, "bid_px": 12.0, "ask_px": 13.0, "bid_sz": 14.0, "ask_sz": 15.0},
        "vol_realized": {"w60s": 16.0},
    }


def test_signal_without_value_is_null_and_never_zero():
    """A column that is not warm is absent from the row again."""
    payload = SignalsPayload.of({"rsi14": math.nan, "ema12": 0.0})
    assert payload.rsi14 is None
    assert payload.row() == {"ema12": 0.0}


@given(st.integers(1, 10**6).map(lambda n: n * 1_000_000_000) | st.integers(1, 10**12))
def test_window_length_is_what_the_step_was(step):
    """The text of a window's size gives the step back."""
    assert Window.of(0, step).length == step


@pytest.mark.parametrize("size", ["", "P", "PT", "1m", "PT0S", "P1M", "PT-1S", "PT1.1234567890S"])
def test_window_size_that_is_no_duration_is_refused(size):
    """Months have no length, and nothing is no length."""
    with pytest.raises(InputError, match="is not an ISO 8601 duration"):
        Window(size=size, step=size, start=0, end=0).length  # noqa: B018 - a property that raises


def test_window_size_agrees_with_the_signal_store():
    """A window says its size in the words of ``window_size``."""
    assert Window.of(0, 86_400_000_000_000).size == window_size(86_400_000_000_000) == "P1D"


@pytest.mark.shared
@pytest.mark.skipif(not ALPACA.exists(), reason="the recorded data is not beside the project")
@pytest.mark.parametrize("file", ["market_data_stocks_v2.json", "market_data_crypto_v1beta3.json"])
def test_recorded_alpaca_messages_are_payloads(file):
    """A venue's trade, quote or bar goes into an envelope as it is, and keeps its numbers."""
    channels = {"t": "trades", "q": "quotes", "b": "bars"}
    seen = set()
    for case in json.loads((ALPACA / file).read_text()):
        messages = case["message"] if isinstance(case["message"], list) else [case["message"]]
        for message in messages:
            channel = channels.get(message.get("T"))
            if channel and "t" in message:  # one fixture leaves its time out
                payload = Envelope.decode(json.dumps(wire(channel=channel, payload=message))).payload
                short = {field.name: field.encode_name for field in msgspec.structs.fields(type(payload))}
                assert all(
                    getattr(payload, name) == message[key]
                    for name, key in short.items()
                    if key in message and key not in "tc"
                )
                seen.add(channel)
    assert seen == set(channels.values())


@pytest.mark.parametrize("size", ["P999999999999D", f"P{5_000 * '9'}D", "PT9223372036.854775808S", "PT0S", "P106752D"])
def test_window_is_no_longer_than_64_bits_hold(size):
    """A length that no column can hold is refused as a text that is no duration."""
    with pytest.raises(InputError, match="is not an ISO 8601 duration"):
        _ = Window(size=size, step=size, start=0, end=0).length
    assert Window(size="PT9223372036.854775807S", step="", start=0, end=0).length == 2**63 - 1


@pytest.mark.parametrize("channel", ["trades", "status"])
@pytest.mark.parametrize("value", ["[" * 20_000, '{"a":' * 20_000, "9" * 5_000 + "x", "1e5x"])
def test_payload_that_ends_a_decoder_is_no_envelope(channel, value):
    """JSON that nests too deeply, or is no JSON at all, is an error of the input like any other."""
    text = (
        '{"ingest_ts": "2026-01-05T14:30:00Z", "event_ts": "2026-01-05T14:30:00Z", "feed": "", "symbol": "ES", "seq": 1,'
        f'"channel": "{channel}", "is_final": true, "source": "x", "payload": {value}}}'
    )
    with pytest.raises(InputError, match=r"^not an envelope|^not a payload"):
        Envelope.decode(text)

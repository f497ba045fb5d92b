"""Avro says what JSON says: the same envelope comes out, whichever way it travelled."""

import contextlib
import io
import json
import types
import typing

import fastavro
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torghut_core.bus.envelope import PAYLOADS, Envelope, Nanoseconds, TradePayload, Window
from torghut_core.bus.registry import RegistryError
from torghut_core.bus.schema import CHANNELS, AvroCodec, schema_text
from torghut_core.errors import InputError

LEAVES = {
    Nanoseconds: st.integers(-(2**62), 2**62),
    int: st.integers(0, 2**62),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=8),
    bool: st.booleans(),
    types.NoneType: st.none(),
}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def values(type_):
    """Anything that a field of this type may hold."""
    if type_ in LEAVES:
        return LEAVES[type_]
    if typing.get_origin(type_) is tuple:
        return st.lists(values(typing.get_args(type_)[0]), max_size=4).map(tuple)
    if typing.get_origin(type_) in (types.UnionType, typing.Union):
        return st.one_of(*(values(one) for one in typing.get_args(type_)))
    return st.builds(type_, **{field.name: values(field.type) for field in msgspec.structs.fields(type_)})


def envelopes_of(channel, **fields):
    """Envelopes of a channel, with some fields fixed."""
    texts, times = LEAVES[str], LEAVES[Nanoseconds]
    parts = {
        "ingest_ts": times,
        "event_ts": times,
        "feed": texts,
        "channel": st.just(channel),
        "symbol": texts,
        "seq": st.integers(0, 2**63 - 1),
        "is_final": st.booleans(),
        "source": texts,
        "window": st.none() | values(Window),
        "payload": values(PAYLOADS[channel]) if channel in PAYLOADS else json_values,
        "version": st.integers(1, 9),
    }
    return st.builds(Envelope, **parts | {name: st.just(value) for name, value in fields.items()})


envelopes = st.sampled_from(CHANNELS).flatmap(envelopes_of)


def trade(**changes):
    """A trade with some of its payload changed."""
    payload = {"trade_id": 7, "price": 126.55, "size": 1.0, "event_ts": 1767623400000000001} | changes
    return Envelope(
        ingest_ts=1767623400250000000,
        event_ts=1767623400000000001,
        feed="iex",
        channel="trades",
        symbol="AAPL",
        seq=7,
        is_final=True,
        source="torghut-ws",
        payload=TradePayload(**payload),
    )


class Books:
    """A registry in memory: what the codec asks of one."""

    def __init__(self, **changed):
        self.texts = {
            number: changed.get(channel, schema_text(channel)) for number, channel in enumerate(CHANNELS, 256)
        }
        self.asked = []

    def find(self, subject, schema):
        self.asked.append(subject)
        return next((id_ for id_, text in self.texts.items() if text == schema), None)

    def schema(self, id_):
        self.asked.append(id_)
        if id_ not in self.texts:
            raise RegistryError("not-found", f"no schema {id_}")
        return self.texts[id_]


codec = AvroCodec(Books())


@given(envelopes)
@example(trade(conditions=("@", "I")))
@example(trade(trade_id=2**63))
@example(trade(trade_id=2**64 - 1))
@example(trade(trade_id="52983525029461"))
def test_avro_and_json_give_the_same_envelope(envelope):
    """An envelope is equal to itself after Avro, after JSON, and after both in either order."""
    from_avro = codec.decode(codec.encode(envelope))
    from_json = Envelope.decode(envelope.encode())
    assert from_avro == from_json == envelope
    assert from_avro.encode() == envelope.encode()
    assert codec.encode(from_json) == codec.encode(envelope)


@given(envelopes)
def test_other_readers_see_the_fields_of_the_json_form(envelope):
    """A plain Avro reader gets the same names and values as a JSON reader, times as numbers of nanoseconds."""
    data = codec.encode(envelope)
    schema = fastavro.parse_schema(json.loads(schema_text(envelope.channel)))
    record = fastavro.schemaless_reader(io.BytesIO(data[5:]), schema, None)
    wire = json.loads(envelope.encode())
    assert set(wire) <= set(record)
    assert record["event_ts"] == envelope.event_ts
    assert record["symbol"] == wire["symbol"]
    if envelope.channel == "status":
        assert msgspec.json.decode(record["payload"]) == envelope.payload
    else:
        assert set(wire["payload"]) <= set(record["payload"])


def test_wire_format_is_the_registrys():
    """A zero, the id in four bytes with the highest first, then the record: what every client of a registry reads."""
    assert codec.encode(trade())[:5] == bytes([0, 0, 0, 1, 0])


def test_nanoseconds_and_ids_beyond_double_precision_are_exact():
    """Neither the last digit of a time nor that of an id is rounded."""
    decoded = codec.decode(codec.encode(trade(trade_id=3447222699101865077)))
    assert decoded.event_ts == decoded.payload.event_ts == 1767623400000000001
    assert decoded.payload.trade_id == 3447222699101865077


def test_registry_is_asked_once_for_each_channel_and_id():
    """After the first message nothing waits for the registry."""
    books = Books()
    mine = AvroCodec(books, topic_of=lambda channel: f"sim.{channel}")
    for _ in range(3):
        mine.decode(mine.encode(trade()))
    assert books.asked == ["sim.trades-value", 256]


def test_schemas_can_be_loaded_before_sending():
    """After `load` a sender asks the registry nothing more; a schema that is not registered fails in `load`."""
    books = Books()
    mine = AvroCodec(books)
    mine.load(["trades", "quotes"])
    before = list(books.asked)
    mine.load(["trades"])
    mine.encode(trade())
    assert books.asked == before == ["torghut.trades.v1-value", "torghut.quotes.v1-value"]
    with pytest.raises(RegistryError, match=r"bars\.avsc is not registered"):
        AvroCodec(Books(bars='"string"')).load()


def test_unregistered_schema_is_an_error_with_a_hint():
    """A sender does not invent an id: the error names schema, subject and the command that registers it."""
    with pytest.raises(RegistryError, match=r"trades.avsc is not registered as torghut.trades.v1-value \(run"):
        AvroCodec(Books(trades='"string"')).encode(trade())


def test_json_is_read_too_while_a_topic_changes_over():
    """A reader need not know when the sender began with Avro."""
    assert codec.decode(trade().encode()) == trade()


def older(channel, drop=(), **add):
    """The schema of a channel as another version: without some payload fields, or with more of them."""
    schema = json.loads(schema_text(channel))
    payload = next(field for field in schema["fields"] if field["name"] == "payload")["type"]
    payload["fields"] = [field for field in payload["fields"] if field["name"] not in drop]
    payload["fields"] += [{"name": name, "type": type_} for name, type_ in add.items()]
    return schema


def written(schema, envelope, **more):
    """A message as a program with another version of the schema writes it."""
    buffer = io.BytesIO()
    record = msgspec.to_builtins(envelope, enc_hook=int)
    record["payload"] |= more
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), record, disable_tuple_notation=True)
    return b"\0\0\0\1\0" + buffer.getvalue()


def test_what_an_older_schema_wrote_is_read_with_defaults():
    """A field that the writer did not have is as if it had not been given."""
    schema = older("trades", drop=("x", "c"))
    reader = AvroCodec(Books(trades=json.dumps(schema)))
    assert reader.decode(written(schema, trade())) == trade()


def test_what_a_newer_schema_adds_is_ignored():
    """A newer sender may add fields, as in JSON."""
    schema = older("trades", tks="string")
    reader = AvroCodec(Books(trades=json.dumps(schema)))
    assert reader.decode(written(schema, trade(), tks="S")) == trade()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", r"begins with b'', neither JSON nor"),
        (b"\0\0\0\1", "neither JSON nor a zero"),
        (b"\1\0\0\1\0", "neither JSON nor a zero"),
        (codec.encode(trade())[:-1], r"not an envelope of schema trades.avsc: EOFError"),
        (codec.encode(trade()) + b"\0", "trades.avsc: 1 bytes are left over"),
        (b"\0\0\0\1\1" + codec.encode(trade())[5:], "not an envelope of schema quotes.avsc"),
        (codec.encode(trade()).replace(b"trades", b"quotes"), "its channel is 'quotes'"),
    ],
)
def test_what_is_no_message_is_refused(data, said):
    """Every way to be wrong is an `InputError`, fit for a dead-letter topic."""
    with pytest.raises(InputError, match=said):
        codec.decode(data)


@given(st.binary(max_size=80), st.sampled_from(range(256, 256 + len(CHANNELS))))
@example(b"\xff" * 80, 256)
@example(b"\x02\x02" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" * 4, 256)
def test_garbage_is_refused_and_nothing_else_is_raised(data, id_):
    """Whatever the bytes, a poison message is an `InputError` or an envelope that can be written."""
    try:
        envelope = codec.decode(b"\0" + id_.to_bytes(4, "big") + data)
    except InputError:
        return
    codec.encode(envelope)


@given(envelopes, st.integers(5, 200), st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_read(envelope, place, byte):
    """A damaged message never raises anything but `InputError`."""
    data = bytearray(codec.encode(envelope))
    data[min(place, len(data) - 1)] = byte
    with contextlib.suppress(InputError):
        codec.decode(bytes(data))


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, '{"type":"array","items":' * 2_000 + '"int"' + "}" * 2_000, "{}", "1", "{", '"torghut.Trades"'],
)
def test_schema_that_nobody_can_read_is_no_envelope(text):
    """A message whose schema nests without end, or is none, is refused as one of another program's."""
    books = Books()
    books.texts[256] = text
    with pytest.raises(InputError, match="schema 256 is not one of torghut's"):
        AvroCodec(books).decode(b"\0\0\0\1\0abc")


def test_schema_of_others_is_no_envelope():
    """The error for a message of a foreign schema on our topic says so."""
    with pytest.raises(
        InputError, match=r"schema 256 is not one of torghut's: .*which other program writes to this topic"
    ):
        AvroCodec(Books(trades='{"type": "record", "name": "Other", "fields": []}')).decode(b"\0\0\0\1\0x")


def test_channel_without_a_schema_is_named():
    """What has no schema cannot be sent as Avro; the channels that have one are listed."""
    with pytest.raises(InputError, match=r"channel 'orders' has no Avro schema.*trades, quotes"):
        codec.encode(msgspec.structs.replace(trade(), channel="orders"))


@pytest.mark.parametrize("changes", [{"trade_id": 10**38}, {"event_ts": 2**63}, {"exchange": 1}])
def test_number_beyond_the_schema_is_refused(changes):
    """A value that Avro cannot hold is an error, never another value."""
    with pytest.raises(InputError, match=r"not an envelope of schema trades.avsc"):
        codec.encode(trade(**changes))


# The files and the structs.

AVRO = {"double": {float}, "long": {int}, "int": {int}, "boolean": {bool}, "string": {str}, "null": {types.NoneType}}


def kinds(avro):
    """The Python types of an Avro type: a struct's fields as a dict."""
    if isinstance(avro, list):
        return set().union(*map(kinds, avro))
    if isinstance(avro, str):
        return AVRO[avro]
    if avro["type"] == "record":
        return {avro["name"]}
    if avro["type"] == "array":
        return {tuple}
    if avro.get("logicalType") == "decimal":
        return {int}
    return kinds(avro["type"])


def kinds_of(type_):
    """The same of a struct's field."""
    if typing.get_origin(type_) in (types.UnionType, typing.Union):
        return set().union(*map(kinds_of, typing.get_args(type_)))
    if typing.get_origin(type_) in (tuple, typing.Annotated):
        return {tuple} if typing.get_origin(type_) is tuple else kinds_of(typing.get_args(type_)[0])
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return {type_.__name__}
    return {int} if type_ is Nanoseconds else {type_}


def disagreements(record, struct, place):
    """Where a record schema and a struct differ: names and order, types with null, defaults; down to every record."""
    fields = msgspec.structs.fields(struct)
    names = [field["name"] for field in record["fields"]]
    if names != [field.encode_name for field in fields]:
        yield f"{place}: {names}"
        return
    for avro, field in zip(record["fields"], fields, strict=True):
        inner = f"{place}.{avro['name']}"
        if avro["name"] != "payload" and kinds(avro["type"]) != kinds_of(field.type):
            yield f"{inner}: {kinds(avro['type'])} and {kinds_of(field.type)}"
        default = msgspec.NODEFAULT if field.default is msgspec.NODEFAULT else msgspec.to_builtins(field.default)
        if avro.get("default", msgspec.NODEFAULT) != default:
            yield f"{inner}: default {avro.get('default')} and {default}"
        options = [field.type, *typing.get_args(field.type)]
        structs = [one for one in options if isinstance(one, type) and issubclass(one, msgspec.Struct)]
        records = (
            [one for one in avro["type"] if isinstance(one, dict)] if isinstance(avro["type"], list) else [avro["type"]]
        )
        for one in structs:
            yield from disagreements(records[0], one, inner)


@pytest.mark.parametrize("channel", CHANNELS)
def test_schema_file_agrees_with_the_structs(channel):
    """A schema has the fields of the struct in their order, their types with null where the struct has None, and their defaults."""
    schema = json.loads(schema_text(channel))
    assert list(disagreements(schema, Envelope, channel)) == []
    payload = next(field for field in schema["fields"] if field["name"] == "payload")["type"]
    if channel == "status":
        assert payload == "string"
    else:
        assert payload["name"] == PAYLOADS[channel].__name__
        assert list(disagreements(payload, PAYLOADS[channel], f"{channel}.payload")) == []


def test_a_schema_that_differs_is_noticed():
    """The comparison above is not blind: a lost null, a wrong type, a missing field and a wrong default are each found."""

    def found(change):
        schema = json.loads(schema_text("quotes"))
        payload = next(field for field in schema["fields"] if field["name"] == "payload")["type"]
        change({field["name"]: field for field in payload["fields"]}, payload["fields"])
        return list(disagreements(payload, PAYLOADS["quotes"], "quotes"))

    assert found(lambda by_name, _: by_name["bp"].update(type="double"))
    assert found(lambda by_name, _: by_name["bp"].update(type=["null", "long"]))
    assert found(lambda by_name, _: by_name["bp"].update(default=0.0))
    assert found(lambda _, fields: fields.pop())
    assert not found(lambda *_: None)


def test_every_payload_has_a_schema():
    """No channel of ours is without one."""
    assert set(PAYLOADS) < set(CHANNELS)

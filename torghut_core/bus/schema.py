"""Avro: the schema of each topic, envelopes as Avro messages, and whether a new schema can replace an old one.

The schemas are the files in ``schemas/``, one for each channel; ``schemas/released/`` has those of the last release. Their
fields are those of the JSON form, so both forms decode to the same `Envelope`. Two things differ. Times are `long`,
nanoseconds: JSON has RFC 3339 text for people, and because JavaScript would round the numbers; in Avro a long is exact, a
third as long, and has one spelling. It has no logical type: readers that know one would turn it into microseconds. And the
payload of ``status``, which is any JSON, is its text.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from torghut_core.bus.envelope import PAYLOADS, Envelope
from torghut_core.bus.registry import Registry, RegistryError
from torghut_core.bus.topics import Topics
from torghut_core.errors import InputError, SettingsError, StateError
from torghut_core.files import read_file

if TYPE_CHECKING:
    from avro.schema import Schema

SCHEMAS = Path(__file__).parent / "schemas"

_NAMES = {
    "trades": "torghut.Trades",
    "quotes": "torghut.Quotes",
    "bars": "torghut.Bars",
    "status": "torghut.Status",
    "microbars": "torghut.Microbars",
    "signals": "torghut.Signals",
    "ta-status": "torghut.TaStatus",
}
CHANNELS = tuple(_NAMES)
"""The channels that have a schema: ``CHANNEL.avsc``."""

_MAGIC = 0
_LARGEST_SCHEMA = 1 << 20
_HEAD = struct.Struct(">BI")
_LONG = 2**63


def schema_text(channel: str) -> str:
    """The text of a channel's schema.

    Raises
    ------
    InputError : the channel has none.
    """
    if channel not in _NAMES:
        raise InputError(f"channel {channel!r} has no Avro schema (there is one of {', '.join(CHANNELS)})")
    return (SCHEMAS / f"{channel}.avsc").read_text(encoding="utf-8")


class AvroCodec:
    """Envelopes as Avro in the registry's wire format: a zero, the schema's id in four bytes, the record.

    The first use of a channel or id asks the registry and may wait for it; from then on nothing waits. A sender calls
    `load` first, so that it waits, or fails, then.

    Parameters
    ----------
    registry : where schemas and their ids are kept.
    topic_of : the topic of a channel, whose schema is the subject ``TOPIC-value``; None: as `Topics` say.

    Raises
    ------
    SettingsError : fastavro is not installed.
    """

    def __init__(self, registry: Registry, topic_of: Callable[[str], str] | None = None) -> None:
        try:
            import fastavro
        except ModuleNotFoundError as error:
            raise SettingsError(f"Avro: {error} (install torghut[avro], or unset SCHEMA_REGISTRY_URL)") from None
        self._registry = registry
        self._topic_of = topic_of or Topics.read().of
        self._fastavro = fastavro
        self._heads: dict[str, bytes] = {}
        self._writers: dict[int, tuple[str, Any]] = {}
        self._schemas = {
            channel: fastavro.parse_schema(msgspec.json.decode(schema_text(channel))) for channel in CHANNELS
        }

    def load(self, channels: Iterable[str] = CHANNELS) -> None:
        """Ask for the ids under which these channels are written.

        Raises
        ------
        InputError : a channel has no schema.
        RegistryError : a schema is not registered, or the registry does not answer.
        """
        for channel in channels:
            if channel not in self._heads:
                self._head(channel)

    def encode(self, envelope: Envelope[Any]) -> bytes:
        """An envelope as a message.

        Raises
        ------
        InputError : its channel has no schema, or a number is too large for the schema.
        RegistryError : the schema is not registered, or the registry does not answer.
        """
        channel = envelope.channel
        head = self._heads.get(channel) or self._head(channel)
        buffer = io.BytesIO()
        buffer.write(head)
        try:
            self._fastavro.schemaless_writer(
                buffer, self._schemas[channel], _record(envelope), disable_tuple_notation=True
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"not an envelope of schema {channel}.avsc: {error}") from error
        return buffer.getvalue()

    def decode(self, data: bytes) -> Envelope[Any]:
        """Read a message of any version that this schema can read; JSON too, so that a topic may switch to Avro meanwhile.

        Raises
        ------
        InputError : not such a message; for JSON see `Envelope.decode`.
        RegistryError : the registry does not know the id, or does not answer.
        """
        if data[:1] == b"{":
            return Envelope.decode(data)
        if len(data) < _HEAD.size or data[0] != _MAGIC:
            raise InputError(f"not an envelope: begins with {data[:5]!r}, neither JSON nor a zero and a schema's id")
        channel, writer = self._writer(_HEAD.unpack_from(data)[1])
        buffer = io.BytesIO(data)
        buffer.seek(_HEAD.size)
        try:
            record = self._fastavro.schemaless_reader(buffer, writer, self._schemas[channel])
            envelope = _envelope(channel, record)
        except Exception as error:  # whatever the bytes are
            raise InputError(f"not an envelope of schema {channel}.avsc: {type(error).__name__}: {error}") from error
        rest = len(data) - buffer.tell()
        if rest:
            raise InputError(f"not an envelope of schema {channel}.avsc: {rest} bytes are left over")
        return envelope

    def _head(self, channel: str) -> bytes:
        text = schema_text(channel)
        subject = _subject(self._topic_of(channel))
        id_ = self._registry.find(subject, text)
        if id_ is None:
            raise RegistryError(
                "not-found", f"{channel}.avsc is not registered as {subject} (run `torghut schema register`)"
            )
        head = self._heads[channel] = _HEAD.pack(_MAGIC, id_)
        return head

    def _writer(self, id_: int) -> tuple[str, Any]:
        found = self._writers.get(id_)
        if found is None:
            text = self._registry.schema(id_)
            try:
                schema: Any = self._fastavro.parse_schema(msgspec.json.decode(text))
                channel = {name: channel for channel, name in _NAMES.items()}[schema["name"]]
            except Exception as error:  # whatever another program has registered
                raise InputError(
                    f"schema {id_} is not one of torghut's: {error} (find out which other program writes to this topic)"
                ) from error
            found = self._writers[id_] = channel, schema
        return found


def _subject(topic: str) -> str:
    return f"{topic}-value"


def _record(envelope: Envelope[Any]) -> Any:
    """An envelope as fastavro writes it: names as on the wire, times as numbers."""
    if envelope.channel not in PAYLOADS:
        text = msgspec.json.encode(envelope.payload).decode()
        return msgspec.to_builtins(msgspec.structs.replace(envelope, payload=text), enc_hook=int)
    record = msgspec.to_builtins(envelope, enc_hook=int)
    if envelope.channel == "trades":
        id_ = record["payload"].get("i")
        if isinstance(id_, int) and not -_LONG <= id_ < _LONG:
            record["payload"]["i"] = Decimal(id_)
    return record


def _envelope(channel: str, record: Any) -> Envelope[Any]:
    """An envelope from a record that fastavro has read."""
    if record["channel"] != channel:
        raise ValueError(f"its channel is {record['channel']!r}")
    if channel not in PAYLOADS:
        record["payload"] = msgspec.json.decode(record["payload"])
    elif channel == "trades" and isinstance(record["payload"]["i"], Decimal):
        record["payload"]["i"] = int(record["payload"]["i"])
    envelope: Envelope[Any] = msgspec.convert(record, _TYPES[channel], dec_hook=_time)
    return envelope


_TYPES: dict[str, Any] = {channel: Envelope[PAYLOADS.get(channel, Any)] for channel in CHANNELS}  # type: ignore[misc]
for _type in _TYPES.values():
    msgspec.json.Decoder(_type)  # now: two threads that are the first to ask msgspec for a type end the process


def _time(type_: type, value: Any) -> Any:
    return type_(value)


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """One reason why a schema cannot replace the one before.

    `file` is that of the new schema, `against` names the schema that it was compared with, `field` is a dotted path
    (``payload.p``; "" for the whole). `code` is one of ``missing``, ``unreadable``, ``name-changed``, ``type-changed``,
    ``field-added-without-default``, ``field-removed-without-default``, ``enum-symbol-removed``.
    """

    file: str
    against: str
    field: str
    code: str
    message: str
    hint: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.field}" if self.field else self.file
        return f"{place}: {self.message}, against {self.against} ({self.hint})"


def check_schemas(registry: Registry | None = None, *, folder: Path = SCHEMAS) -> list[SchemaProblem]:
    """Compare each schema with the newest version in the registry, or without one with that of the last release.

    By the registry's rule BACKWARD: a reader with the new schema can read messages of the old one. And one rule beyond it: a
    field without a default is not removed, because a reader with the old schema could not read the new messages.

    Parameters
    ----------
    folder : of the schemas, with those of the last release in its folder ``released``.

    Returns
    -------
    Problems in order of file and field; a schema that was never registered, or released, has none.

    Raises
    ------
    SettingsError : the library ``avro`` is not installed.
    RegistryError : the registry does not answer.
    """
    released, topics = folder / "released", Topics.read()
    names = {f"{channel}.avsc" for channel in CHANNELS}
    if registry is None:
        names = {path.name for path in [*folder.glob("*.avsc"), *released.glob("*.avsc")]}
    problems = []
    for name in sorted(names):
        if registry is not None:
            subject = _subject(topics.of(name.removesuffix(".avsc")))
            version = registry.latest(subject)
            against = f"{subject} version {version.version}" if version else subject
            old = version.schema if version else None
        else:
            old = _text(released / name)
            against = "the last release"
        new = _text(folder / name)
        if new is None:
            problems.append(SchemaProblem(name, against, "", "missing", "the file is missing", "put it back"))
        else:
            problems += compare(name, new, against, old)
    return problems


def register_schemas(registry: Registry) -> dict[str, int]:
    """Register every schema under its subject; return the id by subject. A schema that is registered keeps its id.

    Raises
    ------
    InputError : a schema cannot replace the registered one (see `check_schemas`); then nothing is registered.
    RegistryError : the registry refuses, or does not answer; the schemas before that one are registered.
    """
    problems = check_schemas(registry)
    if problems:
        raise InputError("\n".join(map(str, problems)))
    topics = Topics.read()
    subjects = {channel: _subject(topics.of(channel)) for channel in CHANNELS}
    return {subject: registry.register(subject, schema_text(channel)) for channel, subject in subjects.items()}


def compare(file: str, new: str, against: str, old: str | None) -> list[SchemaProblem]:
    """Why the schema text `new` cannot replace `old` (None: there is none); see `check_schemas`."""
    schemas = []
    for text, what, hint in (
        (new, "it", "write Avro's JSON"),
        (old, against, "another program registered it: choose another topic"),
    ):
        if text is not None:
            try:
                schemas.append(_parse(text))
            except ValueError as error:
                return [SchemaProblem(file, against, "", "unreadable", f"{what} is not an Avro schema: {error}", hint)]
    if len(schemas) < 2:
        return []
    found = list(_differences(schemas[0], schemas[1], ""))
    return [SchemaProblem(file, against, field, *rest) for field, *rest in found]


def _text(path: Path) -> str | None:
    try:
        return read_file(path, _LARGEST_SCHEMA).decode()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror} (check its permissions)") from error


def _parse(text: str) -> Schema:
    try:
        from avro.errors import AvroException
        from avro.schema import parse
    except ModuleNotFoundError as error:
        raise SettingsError(f"schemas cannot be compared: {error} (install torghut[avro])") from None
    try:
        return parse(text)
    except (AvroException, ValueError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from None


_Difference = tuple[str, str, str, str]
"""Field, code, message, fix."""


def _differences(new: Any, old: Any, path: str) -> Iterator[_Difference]:
    """The problems that avro's checker finds, by field.

    The checker names the kind of problem, but of a record only the numbers of its fields, and of a union nothing about the
    records in it. So this descends to where the two schemas differ, and runs the checker there.
    """
    if new.type == old.type == "record" and _has_name_of(new, old):
        yield from _fields(new, old, path)
    elif new.type == old.type == "array":
        yield from _differences(new.items, old.items, f"{path}[]")
    elif new.type == old.type == "map":
        yield from _differences(new.values, old.values, f"{path}{{}}")
    elif "union" in (new.type, old.type):
        for branch in _branches(old):
            twin = next((one for one in _branches(new) if _is_twin(one, branch)), None)
            if twin is not None:
                yield from _differences(twin, branch, path)
            elif _incompatibility(new, branch):
                yield path, "type-changed", f"is {_word(new)} and no longer accepts {_word(branch)}", _KEEP_TYPE
    else:
        kind = _incompatibility(new, old)
        if kind == "missing_enum_symbols":
            gone = ", ".join(symbol for symbol in old.symbols if symbol not in new.symbols)
            hint = "keep it, or give the enum a default"
            yield path, "enum-symbol-removed", f"{gone} is no longer among its symbols", hint
        elif kind == "name_mismatch":
            hint = f"keep the name, or give it the alias {old.fullname}"
            yield path, "name-changed", f"is named {new.fullname}, and was {old.fullname}", hint
        elif kind:
            yield path, "type-changed", f"is {_word(new)}, and was {_word(old)}", _KEEP_TYPE


_KEEP_TYPE = "keep the type, and add a new field with a default beside it"


def _fields(new: Any, old: Any, path: str) -> Iterator[_Difference]:
    was = {field.name: field for field in old.fields}
    for field in new.fields:
        inner = f"{path}.{field.name}" if path else field.name
        names = [name for name in (field.name, *(field.props.get("aliases") or ())) if name in was]
        if names:
            yield from _differences(field.type, was.pop(names[0]).type, inner)
        elif not field.has_default:
            yield inner, "field-added-without-default", "is new and has no default", "give it one, such as null"
    for name, field in was.items():
        if not field.has_default:
            yield (
                f"{path}.{name}" if path else name,
                "field-removed-without-default",
                "was removed, and readers with the old schema need it",
                "keep it; release it with a default first, and remove it in the release after that",
            )


def _branches(schema: Any) -> Sequence[Any]:
    return schema.schemas if schema.type == "union" else (schema,)


def _is_twin(new: Any, old: Any) -> bool:
    """Whether a branch of a union is the new version of a branch of the old union."""
    if new.type != old.type:
        return False
    return new.type in ("array", "map") or (new.type in ("record", "enum", "fixed") and _has_name_of(new, old))


def _has_name_of(new: Any, old: Any) -> bool:
    from avro.compatibility import schema_name_equals

    return schema_name_equals(new, old)


def _incompatibility(new: Any, old: Any) -> str:
    """Why a reader with `new` cannot read messages of `old`, in the checker's words; "" where it can."""
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # avro's
    result = checker.get_compatibility(new, old)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return ""
    return str(result.incompatibilities[0].value)


def _word(schema: Any) -> str:
    if schema.type == "union":
        return " or ".join(map(_word, schema.schemas))
    if schema.type == "array":
        return f"array of {_word(schema.items)}"
    if schema.type == "map":
        return f"map of {_word(schema.values)}"
    return str(getattr(schema, "fullname", schema.type))

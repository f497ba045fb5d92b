"""Inputs that nobody would send, and everything that reads them: catalogs, envelopes, records of Avro, tapes, frames.

Each target reads one input made from a seed, and returns what should not be: an exception that is not an error of that kind
of input, a good neighbour that was lost, a problem that only a containment of last resort found. As a script it runs any
number of inputs, with the longest CPU time that one took:

    python tests/fuzz/fuzzer.py --inputs 1000000 --seconds 600
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from torghut_sources import Replay
from torghut_sources.alpaca.wire import Wire
from torghut_sources.bus.avro import Avro
from torghut_sources.bus.records import read, read_marks, refuse_ahead
from torghut_sources.tape.rows import KINDS

from torghut_core import Envelope, InputError, RegistryError, SymbolTable
from torghut_core.bus.schema import CHANNELS, schema_text
from torghut_core.catalog import load_draft
from torghut_core.catalog.loading import UNFORESEEN
from torghut_core.errors import CatalogError

SECONDS_EACH = 5.0
"""CPU seconds within which every input has to be read, on a machine at a third of its speed."""

BIG = 5_000 * "9"
NUMBERS = [
    *("0", "-0", "1", "-1", "90_", "1__000", "1_000", "_1", "1_", "010", "0x1F", "0b1", "0o7", "1:30", "190:20:30.15"),
    *(
        "1.0e+999999999",
        "1e999999999",
        "1e-999999999",
        "1.0e-999999999",
        ".5",
        "5.",
        ".",
        "._1",
        "+.e+1",
        "-.inf",
        ".nan",
    ),
    *("NaN", "Infinity", "-Infinity", "1e308", "1e309", "5e-324", "9007199254740993", "9223372036854775807"),
    *(
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        BIG,
        f"{BIG}.{BIG}",
    ),
]
TEXTS = [
    *(
        '""',
        '"\\u0000"',
        '"\\ud800"',
        '"\\udfff\\ud800"',
        '"\\U00110000"',
        '"\\uFFFE"',
        '"a\\nb"',
        '"\\x"',
        "null",
        "true",
    ),
    *(
        "[]",
        "{}",
        "[[]]",
        '{"a":1}',
        "~",
        "yes",
        "<<",
        "=",
        "!!int 1",
        "!!binary x",
        "*a",
        "&a 1",
        "!x!y z",
        "@",
        "`",
        "%",
    ),
    *(
        ">",
        "|",
        "|-2",
        "- a",
        "? a",
        ": ",
        "\t",
        "\x85",
        "\u2028",
        "\ufeff",
        "\x00",
        "\x7f",
        "# ",
        "--- ",
        "...",
        "'",
        '"',
    ),
    *('"2026-01-05"', f'"{BIG}"'),
]
TIMES = [
    *("1677-09-21T00:12:43Z", "1677-09-21T00:12:44Z", "2261-01-01T00:00:00Z", "2262-04-11T23:47:16.854775807Z"),
    *("2262-04-11T23:47:16.854775808Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "99999-01-01T00:00:00Z"),
    *("2026-01-05T14:30:60Z", "2026-02-30T00:00:00Z", "2026-01-05T14:30:00", "2026-01-05T14:30:00.0000000001Z", ""),
]
DURATIONS = [
    "P999999999999D",
    f"P{BIG}D",
    "PT9223372036.854775808S",
    "P106752D",
    "PT0S",
    "P",
    "PT",
    "P1DT",
    "pt1m",
    "PT1.5S",
]
DEEP = ["[" * 20_000, '{"a":' * 20_000, "[" * 20_000 + "]" * 20_000, '{"a":' * 20_000 + "1" + "}" * 20_000]

CATALOG = """\
version: 1
mode: merge
on_invalid: halt
plugins: {allow: ["torghut-*", "acme-alpha>=1.2,<2"]}
pipelines:
  trading:
    source: {use: replay, params: {paths: [tape.parquet], speed: max}}
    stages: [{use: microbars}, {use: indicators, params: {nested: {a: [1, 2.50, null]}}}]
    broker: {use: simulated, params: {cash: "100000"}}
strategies:
  - name: macd-rsi-default
    use: macd-rsi
    version: ">=0.1"
    enabled: false
    base_timeframe: 1Sec
    symbols: ["BTC/USD"]
    params: {rsi_buy: 35.5}
    max_notional_per_trade: "1000"
    max_position_pct_equity: 0.05
    cooldown_seconds: 60
    on_remove: handover
risk: [{use: max-notional}]
observers: [{use: listener}]
"""
T0 = "2026-01-05T14:30:00Z"
HEAD = {
    "ingest_ts": "2026-01-05T14:30:00.25Z",
    "event_ts": T0,
    "feed": "iex",
    "symbol": "ES",
    "seq": 7,
    "is_final": True,
    "source": "ws",
}
ENVELOPES = [
    HEAD | {"channel": "trades", "payload": {"i": 5, "p": 1.5, "s": 1, "t": T0, "x": "V", "c": ["@"]}},
    HEAD | {"channel": "quotes", "payload": {"bp": 1.5, "bs": 1, "ap": 2, "as": 3, "t": T0}},
    HEAD
    | {
        "channel": "bars",
        "window": {"size": "PT1M", "step": "PT1M", "start": T0, "end": "2026-01-05T14:31:00Z"},
        "payload": {"o": 1, "h": 2, "l": 1, "c": 2, "v": 5, "vw": 1.5, "n": 3, "t": T0},
    },
    HEAD | {"channel": "status", "symbol": "*", "payload": {"type": "time", "ends": {"torghut.trades": 5}}},
    HEAD
    | {"channel": "ta-status", "payload": {"watermark_lag_ms": 1, "last_event_ts": T0, "status": "ok", "heartbeat": 2}},
]
FRAMES = [
    {"T": "t", "S": "AAPL", "i": 96921, "x": "D", "p": 126.55, "s": 1, "t": T0, "c": ["@", "I"]},
    {"T": "q", "S": "AMD", "bp": 87.66, "bs": 1, "ap": 87.68, "as": 4, "t": T0},
    {"T": "b", "S": "SPY", "o": 2.0, "h": 4.0, "l": 1.0, "c": 3.0, "v": 9, "n": 4, "vw": 2.5, "t": T0},
    {"T": "s", "S": "AAPL", "sc": "H", "sm": "Trading Halt", "rc": "T12", "rm": "News", "t": T0, "z": "C"},
    {"T": "x", "S": "AAPL", "i": 5, "p": 1, "s": 1, "t": T0},
    {"T": "success", "msg": "connected"},
    {"T": "error", "code": 400, "msg": "no"},
    {"T": "subscription", "trades": ["AAPL"], "quotes": []},
]


class Unexpected(Exception):
    """Something that should not have come of an input."""


def mutated(rng: random.Random, data: bytes, tokens: list[str]) -> bytes:
    """The bytes with some of them cut, doubled, replaced, or a token put in."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        if rng.random() < 0.8:
            end = min(end, at + rng.randint(0, 12))
        kind = rng.randrange(6)
        if kind == 0:
            middle = b""
        elif kind == 1:
            middle = data[at:end] * 2
        elif kind == 2:
            middle = rng.randbytes(rng.randint(1, 4))
        elif kind == 3:
            middle = bytes([rng.randrange(256)]) * rng.choice((1, 1, 2, 300))
        else:
            middle = rng.choice(tokens).encode(errors="surrogatepass")
        data = data[:at] + middle + data[end:]
    return data


def odd_json(rng: random.Random, value: object) -> bytes:
    """JSON in which one value, somewhere, is another than it should be."""
    places: list[tuple[dict, str]] = []
    value = json.loads(json.dumps(value))

    def walk(inner: object) -> None:
        if isinstance(inner, dict):
            for key, below in inner.items():
                places.append((inner, key))
                walk(below)
        elif isinstance(inner, list):
            for below in inner:
                walk(below)

    walk(value)
    odd = {}
    for number in range(rng.choice((1, 1, 2))):
        owner, key = rng.choice(places)
        kind = rng.randrange(100)
        if kind == 0:
            owner.pop(key, None)
            continue
        mark = f"@{number}@"
        owner[key] = mark
        fitting = TIMES if key in ("t", "event_ts", "ingest_ts", "start", "end") else DURATIONS if key == "size" else ()
        likely = [f'"{each}"' for each in fitting] if rng.random() < 0.7 else []
        odd[mark] = rng.choice(DEEP) if kind == 1 else rng.choice(likely or (*NUMBERS, *TEXTS))
    text = json.dumps(value)
    for mark, token in odd.items():
        text = text.replace(f'"{mark}"', token)
    return text.encode(errors="surrogatepass")


def catalog(rng: random.Random) -> None:
    """Bytes, events and values of YAML: a draft, or problems that name the file."""
    if rng.random() < 0.5:
        lines = CATALOG.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        key, colon, _ = lines[at].partition(": ")
        lines[at] = f"{key}{colon}{rng.choice((*NUMBERS, *TEXTS))}\n"
        data = "".join(lines).encode(errors="surrogatepass")
    else:
        data = mutated(rng, CATALOG.encode(), [*NUMBERS, *TEXTS, *("{" * 50, "[" * 50, "- " * 50)])
    try:
        draft = load_draft({"c.yaml": data.decode(errors="replace")})
        str(draft.catalog.digest)
        problems = draft.problems
    except CatalogError as error:
        problems = error.problems
        str(error).encode()
    for problem in problems:
        if problem.hint == UNFORESEEN:
            raise Unexpected(f"{problem} of {data!r}")


def envelope(rng: random.Random) -> None:
    """A record between two good ones: rows of those two, and of it a row or a reason."""
    base = rng.choice(ENVELOPES)
    good = json.dumps(base).encode()
    data = mutated(rng, good, [*NUMBERS, *TEXTS]) if rng.random() < 0.3 else odd_json(rng, base)
    kind = KINDS.get(str(base["channel"]))
    if kind is None:
        marks = refuse_ahead(read_marks([good, data, good]), 2**62, 0)
        found = len(marks.places) + len(marks.poison) + sum(marks.skipped.values())
        lost = {0, 2} & {place for place, _ in marks.poison}
    else:
        rows = refuse_ahead(read(kind, [good, data, good], SymbolTable()), 2**62, 0)
        found = len(rows.places) + len(rows.poison) + sum(rows.skipped.values())
        lost = {0, 2} & {place for place, _ in rows.poison}
    if found != 3 or lost:
        raise Unexpected(f"{found} of 3 records, lost {lost}, beside {data[:500]!r}")
    try:
        Envelope.decode(data).encode()
    except InputError as error:
        str(error).encode(errors="backslashreplace")


class _Schemas:
    def __init__(self) -> None:
        self.texts = {number: schema_text(channel) for number, channel in enumerate(CHANNELS, 1)}

    def find(self, subject: str, text: str) -> int | None:
        del subject
        return next((number for number, each in self.texts.items() if each == text), None)

    def schema(self, id_: int) -> str:
        if id_ not in self.texts:
            raise RegistryError("not-found", f"no schema {id_}")
        return self.texts[id_]

    def close(self) -> None:
        pass


_AVRO = Avro(_Schemas(), str)  # type: ignore[arg-type]
_RECORDS: list[bytes] = []


def avro(rng: random.Random) -> None:
    """A message of Avro, with lengths that lie: JSON or a reason."""
    if not _RECORDS:
        _AVRO._codec.load(CHANNELS)
        _RECORDS.extend(_AVRO.encoded(Envelope.decode(json.dumps(each))) for each in ENVELOPES)
    good = rng.choice(_RECORDS)
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(5, len(data)) if rng.random() < 0.95 else rng.randrange(5)
        lie = rng.choice(
            (b"\xff" * 9 + b"\x01", b"\xfe\xff\xff\xff\x0f", b"\x80" * 20, b"\x01", b"\x00", rng.randbytes(3))
        )
        data[at : at + rng.choice((0, 1, len(lie)))] = lie
    data = data[: rng.randint(0, len(data))] if rng.random() < 0.2 else data
    values, unreadable = _AVRO._decode([good, bytes(data), good])
    if set(unreadable) - {1} or len(values) != 3:
        raise Unexpected(f"a good record was lost beside {bytes(data)!r}")


def tape(rng: random.Random) -> None:
    """A file of market data, good or not: rows, or an error that names the file."""
    ending = rng.choice((".csv", ".csv", ".jsonl", ".parquet"))
    if ending == ".csv":
        data = _csv(rng)
    elif ending == ".jsonl":
        lines = [odd_json(rng, each) if rng.random() < 0.2 else json.dumps(each).encode() for each in ENVELOPES]
        data = b"\n".join(lines)
    else:
        data = _parquet(rng)
    if rng.random() < 0.4:
        data = mutated(rng, data, [*NUMBERS, *TEXTS, *TIMES, "," * 3, "\r\n", "\n" * 3])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tape{ending}"
        path.write_bytes(data)
        params = {"paths": [str(path)], "on_bad_row": rng.choice(("skip", "fail"))}
        params |= rng.choice(({}, {"bar_step": "1Min"}, {"bar_step": "1Day"}))
        source = Replay(Replay.Params(**params))

        async def play() -> None:
            async for _ in source.batches(100):
                pass

        try:
            source.check()
            asyncio.run(play())
        except InputError as error:
            if "report it" in str(error):
                raise Unexpected(f"{error} of {data[:2000]!r}") from error


def _csv(rng: random.Random) -> bytes:
    names = rng.choice(
        (
            ["symbol", "event_ts", "price", "size", "seq", "trade_id", "conditions", "suspicious"],
            ["symbol", "event_ts", "ingest_ts", "bid_price", "bid_size", "ask_price", "ask_size"],
            ["symbol", "event_ts", "open", "high", "low", "close", "volume", "vwap", "trade_count"],
        )
    )
    lines = [",".join(names)]
    for number in range(rng.randint(0, 4)):
        fields = ["ES", f"2026-01-05T14:3{number}:00Z", *("1" for _ in names[2:])]
        if "ingest_ts" in names:
            fields[2] = fields[1]
        if rng.random() < 0.5:
            fields[rng.randrange(len(fields))] = rng.choice((*NUMBERS, *TEXTS, *TIMES))
        lines.append(",".join(fields))
    return "\n".join(lines).encode(errors="surrogatepass")


ARROW = [
    (pa.uint64(), [2**63, 1]),
    (pa.int64(), [-(2**63), 2**63 - 1]),
    (pa.float16(), [1.0, None]),
    (pa.float64(), [float("nan"), float("inf")]),
    (pa.decimal128(38, 0), [10**37, 1]),
    (pa.decimal256(76, 10), [1, None]),
    (pa.string(), ["7", "007"]),
    (pa.string_view(), ["ES", "0x7"]),
    (pa.large_string(), ["ES", None]),
    (pa.binary(), [b"\xff", b""]),
    (pa.timestamp("ns", "UTC"), [-(2**63) + 1, 2**63 - 1]),
    (pa.timestamp("s", "UTC"), [2**40, -(2**40)]),
    (pa.timestamp("us"), [1, 2]),
    (pa.date32(), [1, 2]),
    (pa.bool_(), [True, None]),
    (pa.null(), [None, None]),
    (pa.list_(pa.int64()), [[1], None]),
    (pa.dictionary(pa.int8(), pa.string()), ["ES", None]),
]


def _parquet(rng: random.Random) -> bytes:
    times = pa.array([1_767_623_400_000_000_000, 1_767_623_460_000_000_000], pa.timestamp("ns", "UTC"))
    names = [
        "symbol",
        "event_ts",
        "price",
        "size",
        "seq",
        "trade_id",
        "exchange",
        "conditions",
        "suspicious",
        "ingest_ts",
    ]
    columns = [pa.array(["ES", "ES"]), times, pa.array([1.0, 2.0]), pa.array([1.0, 2.0]), pa.array([1, 2])]
    columns += [pa.array([1, 2]), pa.array(["V", "V"]), pa.array(["@", "@"]), pa.array([True, False]), times]
    if rng.random() < 0.3:
        names = ["symbol", "event_ts", "open", "high", "low", "close", "volume", "vwap", "trade_count"]
        columns = [*columns[:2], *(pa.array([1.0, 1.0]) for _ in names[2:])]
    for _ in range(rng.choice((1, 1, 2))):
        type_, values = rng.choice(ARROW)
        columns[rng.randrange(len(columns))] = pa.array(values, type_)
    if rng.random() < 0.05:
        names[-1] = names[2]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names), file)
    return file.getvalue()


def frame(rng: random.Random) -> None:
    """A frame of Alpaca's: events, control messages and complaints; the good frame beside it keeps its event."""
    encoding = rng.choice(("json", "msgpack"))
    wire = Wire(encoding)  # type: ignore[arg-type]
    some = rng.choices(FRAMES, k=rng.choice((1, 2, 3)))
    good = json.dumps(FRAMES[:1]).encode()
    data = mutated(rng, json.dumps(some).encode(), [*NUMBERS, *TEXTS]) if rng.random() < 0.3 else odd_json(rng, some)
    if encoding == "msgpack":
        good = msgspec.msgpack.encode(FRAMES[:1])
        data = mutated(
            rng, msgspec.msgpack.encode(some), ["\x81" * 3000, "\xdd\xff\xff\xff\xff", "\xd7\xff" + "\x7f" * 8]
        )
    received = wire.read([data, good])
    if not len(received.events):
        raise Unexpected(f"the good frame was lost beside {data[:500]!r}")
    events = received.events
    events.known_ts()
    batch = events.batch(SymbolTable(), 0, 0, 0)
    if len(batch) and int(batch.now[0]) < 0:
        raise Unexpected(f"the loop's time is before 1970 after {data[:500]!r}")
    for message in events.messages(feed="iex", source="ws", seq=0, ingest_ts=0):
        Envelope.decode(message.value)


TARGETS = {"catalog": catalog, "envelope": envelope, "avro": avro, "tape": tape, "frame": frame}


def run(name: str, inputs: range) -> tuple[float, int]:
    """Read one input for each seed in `inputs`; the longest CPU time that one took, seconds, and its seed.

    Raises
    ------
    Unexpected : of the first input that is not read as it should be; it names the seed.
    """
    slowest = 0.0, inputs.start
    target = TARGETS[name]
    for seed in inputs:
        if seed % 64 == 0 or seed == inputs.start:
            faulthandler.dump_traceback_later(64 * SECONDS_EACH, exit=True, file=sys.__stderr__)  # of a call that hangs
        rng = random.Random(f"{name}-{seed}")
        began = time.process_time()
        try:
            target(rng)
        except Exception as error:
            raise Unexpected(f"{name}, seed {seed}: {type(error).__name__}: {error!s:.3000}") from error
        slowest = max(slowest, (time.process_time() - began, seed))
    faulthandler.cancel_dump_traceback_later()
    return slowest


PARTS = {"avro": 45, "frame": 30, "envelope": 23, "tape": 1, "catalog": 1}
"""How many of a hundred inputs go to each target: those that are read faster get more."""


def main() -> None:
    """Run as many inputs as are asked for, or as fit into the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=600.0, help="stop after this time")
    given = parser.parse_args()
    began, done, slowest = time.monotonic(), Counter(), {}
    while done.total() < given.inputs and time.monotonic() - began < given.seconds:
        for name, part in PARTS.items():
            first = given.seed + done[name]
            found = run(name, range(first, first + part))
            slowest[name] = max(slowest.get(name, (0.0, 0)), found)
            done[name] += part
    for name, (seconds, seed) in slowest.items():
        sys.stdout.write(f"{name:9}{done[name]:>9,} inputs, slowest {1e3 * seconds:8.1f} ms (seed {seed})\n")
    sys.stdout.write(f"{done.total():,} inputs in {time.monotonic() - began:.0f} s, from seed {given.seed}\n")


if __name__ == "__main__":
    main()

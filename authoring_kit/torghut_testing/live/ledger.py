"""What is in Kafka and in the signal store: read there, not reported by the processes that wrote it."""

# ruff: noqa: S608 - statements are made of names and numbers of our own
from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from torghut_core import MILLISECOND, Envelope

if TYPE_CHECKING:
    from confluent_kafka import Consumer

_KEY = "symbol, event_ts, window_size, seq"
_CHUNK = 5000


class Topic(msgspec.Struct):
    """The records of a topic.

    Attributes
    ----------
    records : all of them.
    once : without copies: records with the same symbol, time and payload as an earlier one.
    lags_ms : from an event at the venue to its envelope, milliseconds, without copies.
    """

    records: int = 0
    once: int = 0
    lags_ms: list[float] = []


class KafkaLedger:
    """Reads topics from their beginning, independently of consumer groups, also while they are written.

    Parameters
    ----------
    bootstrap : brokers.
    topics : partitions by topic.

    Attributes
    ----------
    topics : their records, counted.
    lanes : symbols by the number of their partition.
    """

    def __init__(self, bootstrap: str, topics: Mapping[str, int]) -> None:
        from confluent_kafka import Consumer, TopicPartition

        self.topics = {topic: Topic() for topic in topics}
        self.lanes: dict[int, set[str]] = {}
        self._known: set[bytes] = set()
        self._places = [TopicPartition(topic, number, 0) for topic, count in topics.items() for number in range(count)]
        self._consumer: Consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "ledger",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
                "log_level": 0,
            }
        )
        self._consumer.assign(self._places)

    def read(self) -> None:
        """Read everything that is there now.

        Raises
        ------
        TimeoutError : the brokers do not deliver it.
        """
        there = sum(self._end(place) for place in self._places)
        until = time.monotonic() + 30
        while (left := there - sum(topic.records for topic in self.topics.values())) > 0:
            if time.monotonic() > until:
                raise TimeoutError(f"{left} records are in Kafka and cannot be read")
            for message in self._consumer.consume(min(left, _CHUNK), 0.2):
                if message.error() is None:
                    symbol = self._count(self.topics[message.topic() or ""], message.value() or b"")
                    self.lanes.setdefault(message.partition() or 0, set()).add(symbol)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _end(self, place: Any) -> int:
        bounds = self._consumer.get_watermark_offsets(place, 10)
        if bounds is None:
            raise TimeoutError(f"no broker says where {place.topic} ends")
        return int(bounds[1])

    def _count(self, topic: Topic, value: bytes) -> str:
        topic.records += 1
        envelope: Envelope[Any] = Envelope.decode(value)
        content = f"{envelope.channel} {envelope.symbol} {envelope.event_ts} {envelope.payload}"
        identity = hashlib.blake2b(content.encode(), digest_size=16).digest()
        if identity not in self._known:
            self._known.add(identity)
            topic.once += 1
            topic.lags_ms.append((envelope.ingest_ts - envelope.event_ts) / MILLISECOND)
        return envelope.symbol


class StoreLedger:
    """Queries a signal store over HTTP.

    Attributes
    ----------
    seen : when each signal (symbol, start of its window in ns) was first seen, wall time in ns, and the window's end.
    """

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self.seen: dict[tuple[str, int], tuple[int, int]] = {}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def refresh(self) -> None:
        """Note the signals that are new since the last call."""
        since = max((start for _, start in self.seen), default=0) - 10_000_000_000
        rows = self._rows(
            "SELECT DISTINCT symbol, toUnixTimestamp64Nano(event_ts), toUnixTimestamp64Nano(window_end)"
            f" FROM torghut.ta_signals WHERE toUnixTimestamp64Nano(event_ts) >= {since}"
        )
        now = time.time_ns()
        for symbol, start, end in rows:
            self.seen.setdefault((symbol, int(start)), (now, int(end)))

    def counts(self) -> dict[str, int]:
        """Rows of ``microbars`` and ``signals``, each key once, and the ``trades`` in those microbars."""
        bars = f"SELECT count FROM torghut.ta_microbars ORDER BY {_KEY}, ingest_ts DESC LIMIT 1 BY {_KEY}"
        signals = f"SELECT 1 FROM torghut.ta_signals LIMIT 1 BY {_KEY}"
        (microbars, trades), *_ = self._rows(f"SELECT count(), sum(count) FROM ({bars})")
        (signal_rows,), *_ = self._rows(f"SELECT count() FROM ({signals})")
        return {"microbars": int(microbars), "trades": int(trades), "signals": int(signal_rows)}

    def table(self, name: str) -> Sequence[bytes]:
        """The rows of a table in order of their keys, each key once, as JSON without ``ingest_ts``."""
        latest = f"SELECT * FROM {name} ORDER BY {_KEY}, ingest_ts DESC LIMIT 1 BY {_KEY}"
        return self._query(
            f"SELECT * EXCEPT (ingest_ts) FROM ({latest}) ORDER BY {_KEY} FORMAT JSONEachRow"
        ).splitlines()

    def _rows(self, sql: str) -> list[list[str]]:
        return [line.split("\t") for line in self._query(f"{sql} FORMAT TabSeparated").decode().splitlines()]

    def _query(self, sql: str) -> bytes:
        self._connection.request("POST", "/", sql.encode())
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the signal store answered {content.decode(errors='replace').strip()}")
        return content


def digest(rows: Sequence[bytes]) -> str:
    """The sha256 of rows, the same for the same rows."""
    return hashlib.sha256(b"\n".join(rows)).hexdigest()


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile; empty where there are no values.

    Examples
    --------
    >>> quantiles([3.0, 1.0, 2.0])
    {'p50': 2.0, 'p99': 3.0}
    """
    if not values:
        return {}
    ordered = sorted(values)
    return {f"p{share}": round(ordered[min(len(ordered) * share // 100, len(ordered) - 1)], 1) for share in (50, 99)}
